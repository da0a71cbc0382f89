"""patch_game against its definition, patch by patch, and against what its docstring claims."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
import torch
from patch_truth import Game, gradient, own_derivatives

from methods.minimizer import Minimizer
from methods.solvers.barzilai_borwein import BarzilaiBorwein
from methods.solvers.contract import FirstOrder
from methods.solvers.extragradient import Extragradient
from methods.solvers.game_gradient import GameGradient
from methods.solvers.scheduled_gradient import ScheduledGradient
from methods.unrolled_reverse import UnrolledReverse
from problems.contract import Structure, Theta, input_sha256
from problems.patch_game import PatchGame, Settings, _group_bounds
from problems.penalties import MoreauL1

STEP = 1e-5
"""Of central differences: h^2 of third derivatives of size 10 is 1e-9, rounding of costs of size 1 over h 1e-11."""
SLOPE = 1e-8

SMALL = {"side": 4, "patch": 2, "atoms": 3, "seed": 3}
KINDS = {
    "variance": {},
    "sparse coding": {"variance": 0.0},
    "untied": {"untied": True, "variance": 0.0},
    "always": {"normalise": "always"},
    "untied always": {"normalise": "always", "untied": True},
    "never": {"normalise": "never"},
    "group": {"group": 0.02},
    "symmetric": {"group": 0.02, "symmetric": True},
    "refreshed": {"group": 0.02, "refreshes": 1},
    "scheduled": {"group": 0.02, "iterations": 4},
    "overcomplete": {"atoms": 6},
}
BY_KIND = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS.keys())


def build(**settings) -> PatchGame:
    return PatchGame.build(Settings(**{**SMALL, **settings}))


def truth(problem: PatchGame, pair: int = 0) -> Game:
    theta = {name: value.numpy() for name, value in problem.theta0().items()}
    return Game(problem.settings, problem.y[pair].numpy(), problem.guide[pair].numpy(), theta)


def pseudo_gradient(problem: PatchGame, x: torch.Tensor, theta: Theta) -> torch.Tensor:
    assert isinstance(problem.penalty, MoreauL1)
    return problem.F(x, theta) + problem.M(problem.penalty.derivative(problem.K(x, theta)), theta)


def some_codes(problem: PatchGame, size: float = 0.3) -> torch.Tensor:
    """Entries on both sides of every corner of the envelopes, none within STEP of one."""
    generator = torch.Generator().manual_seed(0)
    return size * torch.randn((problem.batch, *problem.x_shape), dtype=torch.float64, generator=generator)


def own_terms(problem: PatchGame, x: torch.Tensor) -> np.ndarray:
    """H of pair 1 from costs alone; of an untied C from the printed formula."""
    game, Z = truth(problem, 1), x[1].reshape(-1, problem.settings.atoms).numpy()
    expected = own_derivatives(game.cost, Z, STEP)
    if problem.settings.untied:
        tied = own_derivatives(game.of_data, Z, STEP)
        residuals = np.array([game.D @ z - game.cut(game.y, j) for j, z in enumerate(Z)])
        expected = expected - tied + residuals @ game.C
    return expected.ravel()


@pytest.mark.parametrize("settings", [kind for kind in KINDS.values() if "symmetric" not in kind], ids=str)
def test_every_player_follows_its_own_derivative(settings):
    """F + M phi'(K x) is d cost_j / d z_j, with the others' codes held; the average moves with z_j."""
    problem = build(**settings)
    x = some_codes(problem)
    found = pseudo_gradient(problem, x, problem.theta0())[1].numpy()
    assert found == pytest.approx(own_terms(problem, x), abs=SLOPE)


def test_symmetric_players_follow_the_potential():
    """The sum of all groups, the data and sparsity terms, and the squared deviations weighted by 1 - 1/N."""
    problem = build(group=0.02, symmetric=True)
    game, x = truth(problem), some_codes(problem)
    covered = np.bincount(problem.places.flatten().numpy())
    gamma = np.exp(game.theta["log_variance"][0])

    def potential(Z: np.ndarray) -> float:
        players, picture = range(len(Z)), game.picture(Z)
        deviation = sum(
            float(game.cut(1 - 1 / covered, j) @ (game.theta["W"] @ Z[j] - game.cut(picture, j)) ** 2) for j in players
        )
        own = sum(game.of_data(Z, j) + game.of_sparsity(Z, j) + game.of_group(Z, j) for j in players)
        return own + 0.5 * gamma * deviation

    found = pseudo_gradient(problem, x, problem.theta0())[0].numpy()
    expected = gradient(potential, x[0].reshape(-1, problem.settings.atoms).numpy(), STEP).ravel()
    assert found == pytest.approx(expected, abs=10 * SLOPE)  # the potential is ten times a cost
    alone = pseudo_gradient(build(group=0.02), x, problem.theta0())[0].numpy()
    assert np.abs(alone - expected).max() > 1e-3


@BY_KIND
def test_minimisation_is_claimed_where_the_jacobian_is_symmetric(settings):
    problem = build(**settings)
    x, theta = some_codes(problem), problem.theta0()
    maps = problem.linearise(x, theta)
    F_x, K, M = maps.F_x.dense(), maps.K.dense()[0], maps.M.dense()[0]
    skew = float((F_x - F_x.mT).abs().max())
    claimed = Structure.MINIMISATION in problem.structure
    assert claimed == (skew <= 1e-14 and torch.equal(K, M.T))  # entries of size 1, sums of 4
    if Structure.UNIQUE in problem.structure:
        assert float(torch.linalg.eigvalsh(0.5 * (F_x + F_x.mT)).min()) > 0.0
    assert (Structure.UNIQUE in problem.structure) == (problem.settings.atoms <= problem.settings.patch**2)


def test_an_asymmetric_group_that_may_not_be_monotone_is_not_unique():
    """mu alpha = 4 against an eigenvalue below 1; all players paying for all groups is convex whatever mu."""
    assert Structure.UNIQUE not in build(group=0.2).structure
    assert Structure.UNIQUE in build(group=0.2, symmetric=True).structure


@pytest.mark.parametrize("symmetric", [False, True])
def test_group_bounds_hold_at_codes_of_all_sizes(symmetric):
    """The difference of two games' Jacobians is the group's alone."""
    problem, without = build(group=0.02, symmetric=symmetric), build()
    theta, alpha = problem.theta0(), problem.settings.alpha
    steepest, lack = (alpha * bound for bound in _group_bounds(problem))
    for size in (1e-3, 0.03, 0.1, 1.0):
        x = some_codes(problem, size)
        G = problem.linearise(x, theta).F_x.dense() - without.linearise(x, theta).F_x.dense()
        assert float(torch.linalg.matrix_norm(G, 2).max()) <= steepest + 1e-14  # rounding of entries of size 1
        assert float(torch.linalg.eigvalsh(0.5 * (G + G.mT)).min()) >= -lack - 1e-14


def test_picture_and_loss_are_those_of_the_definition():
    """And g_x and g_W its derivatives."""
    problem = build()
    x, theta = some_codes(problem), problem.theta0()
    pictures = [truth(problem, pair).picture(x[pair].reshape(-1, 3).numpy()) for pair in range(problem.batch)]
    assert problem.reconstruct(x, theta).numpy() == pytest.approx(np.stack(pictures), abs=1e-15)  # means of size 1
    expected = 0.5 * np.sum((np.stack(pictures) - problem.x_true.numpy()) ** 2)
    assert float(problem.loss(x, theta)) == pytest.approx(expected, rel=1e-14)
    leaves = {"x": x.clone().requires_grad_(), "W": theta["W"].clone().requires_grad_()}
    loss = problem.loss(leaves["x"], {**theta, "W": leaves["W"]})
    of_x, of_W = torch.autograd.grad(loss, (leaves["x"], leaves["W"]))
    g_x, g_theta = problem.loss_gradient(x, theta)
    torch.testing.assert_close(g_x, of_x, rtol=0, atol=1e-15)
    torch.testing.assert_close(g_theta["W"], of_W, rtol=0, atol=1e-14)
    assert all(not value.any() for name, value in g_theta.items() if name != "W")


def test_similarity_is_a_softmax_over_the_window():
    problem = build(group=0.02, reach=1.0, kappa=3.0)
    a = problem.similarity(problem.theta0()["kappa"])
    for pair in range(problem.batch):
        assert a[pair].numpy() == pytest.approx(truth(problem, pair).similarity, abs=1e-14)  # distances of size 10
    assert int((a[0] > 0).sum(1).max()) == 5


def test_normalising_always_makes_the_scale_of_d_irrelevant():
    """And so the gradient orthogonal to D; where D has norm 1 already, `start` is the same lower level."""
    problem = build(normalise="always", untied=True)
    theta, x = problem.theta0(), some_codes(problem)
    larger = {**theta, "D": 7.0 * theta["D"], "C": 0.2 * theta["C"]}
    torch.testing.assert_close(problem.F(x, theta), problem.F(x, larger), rtol=0, atol=1e-14)
    method = Minimizer()
    slopes = method.hypergradient(method.prepare(problem), theta, method.solve(method.prepare(problem), theta))
    for name in ("C", "D"):
        size = float(slopes[name].norm() * theta[name].norm())
        assert abs(float((slopes[name] * theta[name]).sum())) <= 1e-9 * size  # the solver stops at 1e-10
        assert size > 1e-3

    start = build(normalise="start", untied=True)
    C, D = start.dictionaries(start.theta0())
    assert [float(torch.linalg.matrix_norm(part, 2)) for part in (C, D)] == pytest.approx([1.0, 1.0], rel=1e-15)
    torch.testing.assert_close(start.F(x, start.theta0()), problem.F(x, theta), rtol=0, atol=1e-14)
    never = build(normalise="never")
    assert torch.equal(never.theta0()["D"], problem.theta0()["D"])
    assert float(torch.linalg.matrix_norm(never.theta0()["D"], 2)) > 1.05


def test_untied_c_at_d_is_tied():
    untied, tied = build(untied=True, group=0.02), build(group=0.02)
    x, theta = some_codes(tied), tied.theta0()
    assert torch.equal(untied.F(x, {**theta, "C": theta["D"]}), tied.F(x, theta))
    p = some_codes(tied, 1.0).flip(1)
    parts = untied.pullback(p, torch.zeros_like(x), x, torch.zeros_like(x), {**theta, "C": theta["D"]})
    whole = tied.pullback(p, torch.zeros_like(x), x, torch.zeros_like(x), theta)
    torch.testing.assert_close(parts["C"] + parts["D"], whole["D"], rtol=0, atol=1e-13)  # sums of 50 terms


def test_refreshed_takes_the_similarity_from_the_codes():
    problem = build(group=0.02)
    theta, x = problem.theta0(), some_codes(problem)
    renewed = problem.refreshed(x, theta)
    assert torch.equal(renewed.guide, problem.reconstruct(x, theta))
    assert torch.equal(renewed.y, problem.y)
    assert not torch.equal(renewed.similarity(theta["kappa"]), problem.similarity(theta["kappa"]))
    once, twice = build(group=0.02, refreshes=1), build(group=0.02, refreshes=2)
    solved = GameGradient().solve(problem, theta)
    # 24 steps leave what the refresh is about: the guide is nearer to the equilibrium's picture than y is.
    settled = problem.reconstruct(solved.x, theta)
    assert float((once.guide - settled).norm()) < 0.1 * float((problem.y - settled).norm())
    assert len({input_sha256(each) for each in (problem, once, twice)}) == 3


SOLVERS: list[FirstOrder] = [
    GameGradient(),
    Extragradient(),
    BarzilaiBorwein(),
    BarzilaiBorwein(form="long"),
    ScheduledGradient(),
]


@pytest.mark.parametrize("settings", [{"untied": True}, {"group": 0.02, "iterations": 3}], ids=str)
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_game_solvers_reach_the_equilibrium(solver, settings):
    """Where every player's own derivative vanishes, by the costs alone."""
    problem = build(**settings)
    assert solver.refusal(problem) is None
    solved = solver.solve(problem, problem.theta0())
    assert solved.converged
    assert np.abs(own_terms(problem, solved.x)).max() <= SLOPE


def test_learned_schedule_is_differentiated():
    """Every alpha_t and eta_t, against central differences of the unrolled loss."""
    problem = build(group=0.02, iterations=4)
    theta = problem.theta0()
    method = UnrolledReverse(solver=ScheduledGradient(), steps=4)
    prepared = method.prepare(problem)
    slopes = method.hypergradient(prepared, theta, method.solve(prepared, theta))

    def loss(theta: Theta) -> float:
        return float(problem.loss(method.solve(prepared, theta).x, theta))

    for name in ("alpha", "eta"):
        for t in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[t] = STEP * theta[name][t]
            ahead, behind = (loss({**theta, name: theta[name] + side * step}) for side in (1.0, -1.0))
            expected = (ahead - behind) / (2 * float(step[t]))
            # phi'' may jump within a step, by a term of that size
            assert float(slopes[name][t]) == pytest.approx(expected, rel=1e-5, abs=SLOPE)
    assert float(slopes["eta"].abs().min()) > 1e-4
    # The first step is from z = 0, where no envelope pulls.
    assert slopes["alpha"][0] == 0.0
    assert float(slopes["alpha"][1:].abs().min()) > 1e-4


@pytest.mark.parametrize("settings", [*KINDS.values(), {"penalty": "l1"}], ids=[*KINDS, "l1"])
def test_subsets_moves_hash_and_pullback(settings):
    problem = build(**settings)
    theta, x = problem.theta0(), some_codes(problem)
    one = problem.subset(slice(1, 2))
    torch.testing.assert_close(one.F(x[1:], theta), problem.F(x, theta)[1:], rtol=0, atol=1e-15)
    single = problem.to("cpu", torch.float32)
    image = single.F(x.float(), single.theta0())
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.double(), problem.F(x, theta), rtol=0, atol=1e-5)  # 100 epsilons
    assert input_sha256(problem) == input_sha256(build(**settings))

    p, a, u = (some_codes(problem, size).flip(1) for size in (0.7, 0.5, 0.9))

    def pairing(theta: Theta) -> float:
        return float((p * (problem.F(x, theta) + problem.M(u, theta))).sum() + (a * problem.K(x, theta)).sum())

    pulled = problem.pullback(p, a, x, u, theta)
    for name, value in theta.items():
        way = torch.cos(torch.arange(value.numel(), dtype=torch.float64)).reshape(value.shape) * value.abs().max()
        ahead, behind = (pairing({**theta, name: value + side * STEP * way}) for side in (1.0, -1.0))
        expected = (ahead - behind) / (2 * STEP)
        # h^2 of third derivatives, and rounding of sums of size 10 over h
        assert float((pulled[name] * way).sum()) == pytest.approx(expected, rel=1e-7, abs=1e-8), name


def test_what_differs_hashes_differently():
    hashes = {input_sha256(build(**kind)) for kind in [*KINDS.values(), {"penalty": "l1"}, {"alpha": 21.0}]}
    assert len(hashes) == len(KINDS) + 2


def test_more_pairs_extend_fewer():
    few, many = build(pairs=2), build(pairs=4)
    assert torch.equal(few.y, many.y[:2])
    assert torch.equal(few.theta0()["D"], many.theta0()["D"])


def test_a_group_bends_most_at_zero_codes():
    """What lipschitz_constant takes for granted of an F that is not affine, to within the asymmetric part's bound."""
    problem = build(group=0.02)
    origin = torch.zeros((problem.batch, *problem.x_shape), dtype=torch.float64)
    at_zero = torch.linalg.matrix_norm(problem.linearise(origin, problem.theta0()).F_x.dense(), 2)
    for size in (0.03, 0.1, 1.0):
        here = problem.linearise(some_codes(problem, size), problem.theta0()).F_x.dense()
        assert bool((torch.linalg.matrix_norm(here, 2) <= at_zero).all())


@pytest.mark.parametrize(
    ("settings", "clause"),
    [
        ({"patch": 5}, "do not fit"),
        ({"group": 0.1, "penalty": "l1"}, "set penalty = 'moreau'"),
        ({"iterations": 3, "penalty": "l1"}, "set penalty = 'moreau'"),
        ({"symmetric": True}, "set group = 0.02"),
        ({"refreshes": 1}, "set group = 0.02"),
        ({"group": 0.1, "symmetric": True, "untied": True}, "leave symmetric or untied out"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings, clause):
    with pytest.raises(pydantic.ValidationError, match=clause):
        Settings(**{**SMALL, **settings})
