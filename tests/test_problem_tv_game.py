"""tv_game against its definition, closed forms and other makes of solver."""

from __future__ import annotations

import itertools

import cvxpy as cp
import numpy as np
import pydantic
import pytest
import torch
from game_truth import distances, l1_equilibrium, offset_weights, smooth_equilibrium, softmax_weights

from methods.solvers.active_set import ActiveSet
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.game_gradient import GameGradient
from problems._game_uniqueness import has_one_equilibrium
from problems.contract import Structure, input_sha256, kkt_residual, scales
from problems.tv_game import Settings, TvGame

SMALL = [
    {"n": 7},
    {"n": 9, "reach": 2},
    {"graph": "grid", "n": 16},
    {"graph": "grid", "n": 16, "reach": 1.5, "weights": "bilateral"},
    {"graph": "grid", "n": 25, "reach": 2, "weights": "non_local"},
    {"n": 10, "reach": 2, "weights": "non_local", "symmetric": True},
    {"n": 8, "weights": "pair"},
    {"n": 8, "penalty": "quadratic"},
    {"n": 8, "learn_alpha": True},
    {"n": 8, "iterations": 3},
    {"n": 8, "penalty": "l1"},
    {"n": 8, "penalty": "l1", "symmetric": True, "weights": "pair"},
    {"n": 8, "instance": "continuum"},
]


def build(**settings) -> TvGame:
    return TvGame.build(Settings(**settings))


def name_of(settings: dict) -> str:
    return "-".join(str(value) for value in settings.values())


EVERY = pytest.mark.parametrize("settings", SMALL, ids=name_of)


@EVERY
def test_every_pair_of_neighbours_is_there_once(settings):
    problem = build(**settings)
    apart = distances(problem.settings)
    found = {frozenset(pair) for pair in zip(problem.graph.starts.tolist(), problem.graph.ends.tolist(), strict=True)}
    near = {
        frozenset(pair)
        for pair in itertools.combinations(range(problem.graph.n), 2)
        if apart[pair] <= problem.settings.reach
    }
    assert found == near
    assert problem.graph.k == len(near)
    j, k = problem.graph.starts.numpy(), problem.graph.ends.numpy()
    assert problem.graph.squared_length.numpy() == pytest.approx(apart[j, k] ** 2, abs=1e-15)


@EVERY
def test_k_and_m_are_those_of_the_definition(settings):
    """(K x)_e = x_j - x_k, M[j, e] = a_jk, M[k, e] = -a_kj, entry by entry; a row of K times its own factor."""
    problem = build(**settings)
    theta = problem.theta0()
    a_jk, a_kj = (part.numpy() for part in problem.weights.of(theta[problem.weights.name]))
    maps = problem.linearise(problem.y, theta)
    K, M = maps.K.dense()[0].numpy(), maps.M.dense()[0].numpy()
    minimisation = Structure.MINIMISATION in problem.structure
    for e, (j, k) in enumerate(zip(problem.graph.starts, problem.graph.ends, strict=True)):
        row, column = np.zeros(problem.graph.n), np.zeros(problem.graph.n)
        row[j], row[k], column[j], column[k] = 1.0, -1.0, a_jk[e], -a_kj[e]
        factor = a_jk[e] if minimisation else float(theta["alpha"][-1]) if "alpha" in theta else 1.0
        assert np.array_equal(K[e], factor * row)
        assert np.array_equal(M[:, e], column)
    assert np.array_equal(M, K.T) == minimisation
    v, w = torch.randn_like(problem.y), torch.randn((problem.batch, problem.graph.k), dtype=torch.float64)
    for map_ in (maps.K, maps.M):
        left, right = (v, w) if map_ is maps.K else (w, v)
        ahead, back = (map_.matvec(left) * right).sum(), (left * map_.rmatvec(right)).sum()
        assert float(ahead) == pytest.approx(float(back), rel=1e-13)  # sums of about 40 terms of size 1


@pytest.mark.parametrize("graph", ["ring", "grid"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_offsets_are_directions(graph, symmetric):
    """The paper's a_{j-k} (table 1): one number for all pairs of one direction."""
    problem = build(graph=graph, n=16, symmetric=symmetric)
    a = problem.theta0()["a"]
    assert len(a) == {"ring": 1, "grid": 2}[graph] * (1 if symmetric else 2)
    expected = offset_weights(problem.settings, a.numpy())
    assert np.array_equal(matrix_of_weights(problem), expected)
    assert np.array_equal(expected, expected.T) == symmetric


@pytest.mark.parametrize("graph", ["ring", "grid"])
@pytest.mark.parametrize("weights", ["bilateral", "non_local"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_softmax_weights_are_those_of_the_paper(graph, weights, symmetric):
    problem = build(graph=graph, n=16, reach=2, weights=weights, symmetric=symmetric, scale=0.7)
    expected = softmax_weights(problem.settings, guide_of(problem), problem.weights.start.numpy())
    # exp, a sum of up to 12 and a division: a few roundings of numbers below 0.7
    np.testing.assert_allclose(matrix_of_weights(problem), expected, rtol=0, atol=1e-15)
    if not symmetric:
        np.testing.assert_allclose(expected.sum(1), 0.7, rtol=1e-15)
        assert np.abs(expected - expected.T).max() > 0.01


@pytest.mark.parametrize("settings", [{"n": 12}, {"graph": "grid", "n": 16}, {"n": 12, "symmetric": True}], ids=name_of)
def test_laplacian_has_a_closed_form(settings):
    """phi = z^2: x = (I + 2 L)^-1 y with the directed graph Laplacian L = diag(A 1) - A."""
    problem = build(penalty="quadratic", **settings)
    A = offset_weights(problem.settings, problem.theta0()["a"].numpy())
    system = np.eye(len(A)) + 2 * (np.diag(A.sum(1)) - A)
    solved = GameGradient(tolerance=1e-14).solve(problem, problem.theta0())
    assert solved.converged
    # a residual of 3e-14 |y|, |y| < 2, and ||(I + 2 L)^-1||_inf = 1
    np.testing.assert_allclose(solved.x.numpy(), np.linalg.solve(system, problem.y.numpy().T).T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("penalty", ["l1", "moreau", "quadratic"])
def test_symmetric_game_is_the_minimum_of_its_potential(penalty):
    """1/2 |x - y|^2 + sum_e a_e phi(x_j - x_k) (appendix A.2), by an interior-point method of another make."""
    problem = build(graph="grid", n=16, symmetric=True, penalty=penalty, scale=0.15, pairs=1)
    y, a = problem.y[0].numpy(), problem.weights.of(problem.theta0()["a"])[0].numpy()
    x = cp.Variable(16)
    z = x[problem.graph.starts.tolist()] - x[problem.graph.ends.tolist()]
    phi = {"l1": cp.abs(z), "quadratic": cp.square(z), "moreau": 10.0 * cp.huber(z, 1 / 20.0)}[penalty]
    cp.Problem(cp.Minimize(cp.sum_squares(x - y) / 2 + a @ phi)).solve(
        solver="CLARABEL", tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13
    )
    solver = ActiveSet() if penalty == "l1" else GameGradient(tolerance=1e-13)
    found = solver.solve(problem, problem.theta0())
    assert found.converged
    # The minimiser is 1-strongly convex: 1e-13 of the cost are 5e-7 at worst; Clarabel was within 3e-9.
    np.testing.assert_allclose(found.x[0].numpy(), x.value, rtol=0, atol=3e-8)


def test_envelope_approaches_the_absolute_value():
    """The distance of the envelope's equilibrium to the l1 game's falls as 1/alpha."""
    problem = build(n=12, penalty="l1", pairs=1)
    A, y = offset_weights(problem.settings, problem.theta0()["a"].numpy()), problem.y[0].numpy()
    exact, _ = l1_equilibrium(A, y)
    apart = [np.abs(smooth_equilibrium(A, y, alpha) - exact).max() for alpha in (1e2, 1e3, 1e4)]
    assert apart[1] / apart[0] == pytest.approx(0.1, rel=0.2)
    assert apart[2] / apart[1] == pytest.approx(0.1, rel=0.02)


def test_learned_alpha_is_the_same_game():
    """Rows of K times alpha under the envelope of alpha 1 pay as rows of K under that of alpha."""
    fixed, learned = build(alpha=7.0), build(alpha=7.0, learn_alpha=True)
    x = fixed.y
    paid = [
        problem.M(problem.penalty.derivative(problem.K(x, problem.theta0())), problem.theta0())
        for problem in (fixed, learned)
    ]
    torch.testing.assert_close(paid[0], paid[1], rtol=0, atol=1e-16)  # the same products, in another order


@pytest.mark.parametrize(
    ("settings", "claimed"),
    [
        ({}, True),
        ({"weights": "pair", "scale": 0.12}, True),
        ({"graph": "grid"}, True),
        ({"graph": "grid", "symmetric": True, "weights": "pair"}, True),
        ({"graph": "grid", "weights": "pair"}, False),
        ({"graph": "grid", "reach": 1.5}, False),
        ({"reach": 2, "scale": 0.2}, False),
        ({"graph": "grid", "weights": "non_local", "scale": 0.3}, True),
        ({"graph": "grid", "weights": "bilateral", "scale": 0.3, "reach": 2}, True),
    ],
    ids=str,
)
def test_unique_is_claimed_where_it_is_so(settings, claimed):
    """Claimed: dual projection ends at one x from wherever it starts. Not claimed, and a cycle is flat: at several."""
    problem = build(penalty="l1", pairs=1, **settings)
    assert (Structure.UNIQUE in problem.structure) == claimed
    maps = problem.linearise(problem.y, problem.theta0())
    K, M = maps.K.dense()[0], maps.M.dense()[0]
    L = float(torch.linalg.matrix_norm(K @ M, 2))
    u = 2 * torch.rand((6, problem.graph.k), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    turn, offset = (M.T @ K.T) / L, problem.y @ K.T / L
    for _ in range(10_000):
        u = torch.addmm(u + offset, u, turn, alpha=-1).clamp_(-1, 1)
    x = problem.y - u @ M.T
    spread = float((x - x[0]).abs().max())
    assert spread <= 1e-10 if claimed else spread > 1e-4  # linear convergence, long over


@pytest.mark.parametrize(
    "settings",
    [
        {"graph": "grid"},
        {"graph": "grid", "weights": "bilateral", "reach": 1.5},
        {"reach": 3, "weights": "non_local"},
    ],
    ids=name_of,
)
def test_some_asymmetric_games_are_potential_games(settings):
    """log c_j - log c_k = log a_kj - log a_jk has a solution, and has none where weights per offset go round a ring."""

    def defect(problem: TvGame) -> float:
        a_jk, a_kj = (part.numpy() for part in problem.weights.of(problem.theta0()[problem.weights.name]))
        ratio = np.log(a_kj / a_jk)
        assert np.abs(ratio).max() > 0.01
        steps: dict[int, list[tuple[int, float]]] = {player: [] for player in range(problem.graph.n)}
        for j, k, step in zip(problem.graph.starts.tolist(), problem.graph.ends.tolist(), ratio, strict=True):
            steps[j].append((k, -step))
            steps[k].append((j, step))
        log_c, waiting = {0: 0.0}, [0]
        for player in waiting:  # breadth first: it grows on the way
            for other, step in steps[player]:
                if other not in log_c:
                    log_c[other] = log_c[player] + step
                    waiting.append(other)
        return max(abs(log_c[j] + step - log_c[k]) for j, several in steps.items() for k, step in several)

    # Round a cycle of at most seven steps, three to either end and one between: a step is the logarithm, of size 1, of
    # the ratio of two shares, whose exponentials and sums leave 1e-15 of it.
    assert defect(build(n=16, **settings)) <= 7e-15
    assert defect(build(n=16)) > 0.01


def test_unique_is_not_claimed_in_ignorance():
    """All weights positive is part of the proof; a tree is always unique; a batch is as unique as its worst pair."""
    starts, ends = np.array([0, 1, 2]), np.array([1, 2, 3])
    y = np.array([[0.0, 1.0, 0.2, 0.9]])
    assert has_one_equilibrium(starts, ends, np.array([0.3, 0.1, 0.2]), np.array([0.1, 0.4, 0.3]), y)
    assert not has_one_equilibrium(starts, ends, np.array([0.3, 0.1, 0.2]), np.array([0.1, 0.0, 0.3]), y)
    cycle = np.array([0, 1, 2]), np.array([1, 2, 0]), np.full(3, 0.3), np.full(3, 0.1)
    apart, flat = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.01, 0.99])
    assert has_one_equilibrium(*cycle, apart[None])
    assert not has_one_equilibrium(*cycle, flat[None])
    assert not has_one_equilibrium(*cycle, np.stack([apart, flat]))


@pytest.mark.parametrize("n", [3, 8, 33])
def test_continuum_has_two_equilibria_and_claims_none(n):
    problem = build(instance="continuum", n=n)
    theta = problem.theta0()
    assert Structure.UNIQUE not in problem.structure
    u0 = 0.5 * torch.sin(2.0 * torch.arange(n, dtype=torch.float64) + 1.0)[None]
    for t in (-0.5, 0.0, 0.3):
        x, u = torch.full_like(problem.y, 1.0 + 0.2 * t), u0 - t
        # y is one product away from x and u: two roundings of numbers below 1.5.
        assert float(kkt_residual(problem, x, u, theta, scales(problem, theta))) <= 5e-16
        assert float(u.abs().max()) <= 1.0
    maps = problem.linearise(problem.y, theta)
    ranks = [int(torch.linalg.matrix_rank(map_.dense()[0])) for map_ in (maps.K, maps.M)]
    assert ranks == [n - 1, n]
    arrays = (part.numpy() for part in (problem.graph.starts, problem.graph.ends, *problem.weights.of(theta["a"])))
    assert not has_one_equilibrium(*arrays, problem.y.numpy())
    refusal = DualPgd().refusal(problem)
    assert refusal is not None
    assert "unique" in refusal
    assert "symmetric" in refusal


@EVERY
def test_pullback_is_a_derivative(settings):
    """d/dtheta of the pairing that the contract states, by central differences."""
    problem = build(**settings)
    theta, rng = problem.theta0(), np.random.default_rng(0)
    p, x = (torch.from_numpy(rng.normal(size=(problem.batch, problem.graph.n))) for _ in range(2))
    a, u = (torch.from_numpy(rng.normal(size=(problem.batch, problem.graph.k))) for _ in range(2))

    def pairing(theta):
        return float((p * (problem.F(x, theta) + problem.M(u, theta))).sum() + (a * problem.K(x, theta)).sum())

    pulled = problem.pullback(p, a, x, u, theta)
    for name, value in theta.items():
        direction = torch.from_numpy(rng.normal(size=value.shape)) * value
        ahead, behind = ({**theta, name: value + h * direction} for h in (1e-5, -1e-5))
        slope = (pairing(ahead) - pairing(behind)) / 2e-5
        # truncation h^2 of a softmax's third derivative, and rounding of sums of size 10 over h
        assert float((pulled[name] * direction).sum()) == pytest.approx(slope, abs=1e-8)


@EVERY
def test_subsets_moves_and_hash(settings):
    problem = build(**settings)
    if problem.batch > 1:
        one = problem.subset(slice(1, 2))
        assert torch.equal(one.y, problem.y[1:])
        assert torch.equal(one.F(problem.x_true[1:], one.theta0()), problem.x_true[1:] - problem.y[1:])
    single = problem.to("cpu", torch.float32)
    assert {value.dtype for value in single.theta0().values()} == {torch.float32}
    image = single.M(single.K(single.y, single.theta0()), single.theta0())
    assert image.dtype == torch.float32
    double = problem.M(problem.K(problem.y, problem.theta0()), problem.theta0())
    assert torch.linalg.norm(image.double() - double) <= 1e-5 * torch.linalg.norm(double)  # some 1e2 epsilons
    assert input_sha256(problem) == input_sha256(build(**problem.parameters))


def test_different_games_hash_differently():
    kinds = [
        {},
        {"penalty": "l1"},
        {"penalty": "quadratic"},
        {"alpha": 21.0},
        {"seed": 1},
        {"n": 17},
        {"weights": "pair"},
    ]
    hashes = {input_sha256(build(**kind)) for kind in kinds}
    assert len(hashes) == len(kinds)


def test_more_pairs_extend_fewer():
    few, many = (build(graph="grid", n=16, pairs=pairs) for pairs in (2, 5))
    assert torch.equal(few.y, many.y[:2])
    assert torch.equal(few.x_true, many.x_true[:2])
    assert torch.equal(few.theta0()["a"], many.theta0()["a"])


def test_pictures_are_patches_of_real_ones():
    problem = build(graph="grid", n=64, picture="patches", pairs=2)
    assert 0.0 <= float(problem.x_true.min()) < float(problem.x_true.max()) <= 1.0
    assert not torch.equal(problem.x_true[0], problem.x_true[1])


@pytest.mark.parametrize(
    ("settings", "clause"),
    [
        ({"graph": "grid", "n": 15}, "a grid needs n such as"),
        ({"n": 4, "reach": 2}, "lower reach, or raise n"),
        ({"penalty": "l1", "learn_alpha": True}, "set penalty = 'moreau'"),
        ({"penalty": "quadratic", "iterations": 3}, "set penalty = 'moreau'"),
        ({"learn_alpha": True, "iterations": 3}, "leave learn_alpha out"),
        ({"weights": "bilateral"}, "sigma_r"),
        ({"instance": "continuum", "penalty": "moreau", "scale": 0.2}, "leave scale = 0.2 out"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, clause):
    with pytest.raises(pydantic.ValidationError, match=clause):
        Settings(**settings)


def matrix_of_weights(problem: TvGame) -> np.ndarray:
    a_jk, a_kj = problem.weights.of(problem.theta0()[problem.weights.name])
    A = np.zeros((problem.graph.n, problem.graph.n))
    A[problem.graph.starts, problem.graph.ends], A[problem.graph.ends, problem.graph.starts] = a_jk, a_kj
    return A


def guide_of(problem: TvGame) -> np.ndarray:
    """Another noisy take of the picture that the pairs share."""
    assert torch.equal(problem.x_true[0], problem.x_true[1])
    noise = np.random.default_rng([problem.settings.seed, 4]).normal(size=problem.graph.n)
    return problem.x_true[0].numpy() + problem.settings.noise * noise
