"""The game iterations, and the gradients through them, against dense Newton steps on the definition of the game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from first_order_truth import AffineGame, Evaluate, pairings, relative, slopes
from game_truth import l1_equilibrium, offset_weights, pair_weights, smooth_equilibrium, softmax_weights

from methods.active_set_adjoint import ActiveSetAdjoint
from methods.contract import Method
from methods.equilibrium import Equilibrium
from methods.minimizer import Minimizer
from methods.smoothed_implicit import SmoothedImplicit
from methods.solvers.barzilai_borwein import BarzilaiBorwein
from methods.solvers.contract import FirstOrder, Point
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.extragradient import Extragradient
from methods.solvers.game_gradient import GameGradient
from methods.solvers.pdhg import Pdhg
from methods.solvers.scheduled_gradient import ScheduledGradient
from methods.unrolled_forward import UnrolledForward
from methods.unrolled_reverse import UnrolledReverse
from problems.contract import Structure, Theta, kkt_residual, scales
from problems.penalties import Quadratic
from problems.tv_game import Settings, TvGame

SOLVERS = {
    "gradient": GameGradient(),
    "gradient-1.9": GameGradient(step=1.9),
    "extragradient": Extragradient(),
    "barzilai_borwein": BarzilaiBorwein(),
    "barzilai_borwein-long": BarzilaiBorwein(form="long"),
}
BY_SOLVER = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())

GAMES: dict[str, dict[str, Any]] = {
    "ring": {"n": 12},
    "ring-symmetric": {"n": 12, "symmetric": True},
    "ring-strong": {"n": 12, "ratio": 30.0, "alpha": 8.0},
    "grid": {"graph": "grid", "n": 9},
    "bilateral": {"graph": "grid", "n": 9, "weights": "bilateral", "reach": 2, "alpha": 8.0},
    "non-local": {"graph": "grid", "n": 9, "weights": "non_local", "scale": 0.3, "alpha": 8.0},
    "learned alpha": {"n": 12, "learn_alpha": True},
}
EXACT_GAMES: dict[str, dict[str, Any]] = {
    "ring": {"n": 9, "penalty": "l1", "pairs": 1},
    "ring-strong": {"n": 9, "penalty": "l1", "ratio": 10.0, "pairs": 1},
    "pairs": {"graph": "grid", "n": 9, "penalty": "l1", "weights": "pair", "scale": 0.04},
}
BY_GAME = pytest.mark.parametrize("game", GAMES)


def build(**settings: Any) -> TvGame:
    return TvGame.build(Settings(**settings))


def weights_of(problem: TvGame) -> Callable[[Theta], np.ndarray]:
    """theta -> A, by the definition."""
    if problem.settings.weights == "pair":
        starts, ends = problem.graph.starts, problem.graph.ends
        return lambda theta: pair_weights(problem.graph.n, starts.numpy(), ends.numpy(), theta["a"].numpy())
    if "a" in problem.theta0():
        return lambda theta: offset_weights(problem.settings, theta["a"].numpy())
    noise = np.random.default_rng([problem.settings.seed, 4]).normal(size=problem.graph.n)
    guide = problem.x_true[0].numpy() + problem.settings.noise * noise
    return lambda theta: softmax_weights(problem.settings, guide, theta[problem.weights.name].numpy())


def smooth_loss(problem: TvGame) -> Evaluate:
    """theta -> (L, where phi'' jumps), by Newton steps."""
    weights = weights_of(problem)

    def evaluate(theta: Theta) -> tuple[float, torch.Tensor]:
        A, alpha = weights(theta), float(theta.get("alpha", torch.tensor(problem.settings.alpha)))
        found = np.stack([smooth_equilibrium(A, y, alpha) for y in problem.y.numpy()])
        inside = np.abs(alpha * (found[:, :, None] - found[:, None])) < 1
        return 0.5 * float(((found - problem.x_true.numpy()) ** 2).sum()), torch.from_numpy(inside)

    return evaluate


def l1_loss(problem: TvGame) -> Evaluate:
    """theta -> (L, flat pairs)."""
    weights = weights_of(problem)

    def evaluate(theta: Theta) -> tuple[float, torch.Tensor]:
        found = [l1_equilibrium(weights(theta), y) for y in problem.y.numpy()]
        x = np.stack([x for x, _ in found])
        flat = torch.from_numpy(np.stack([flat for _, flat in found]))
        return 0.5 * float(((x - problem.x_true.numpy()) ** 2).sum()), flat

    return evaluate


@cache
def smooth_slopes(game: str) -> torch.Tensor:
    problem = build(**GAMES[game])
    return slopes(smooth_loss(problem), problem.theta0(), h=1e-4, count=3)


@cache
def exact_slopes(game: str) -> torch.Tensor:
    problem = build(**EXACT_GAMES[game])
    return slopes(l1_loss(problem), problem.theta0(), h=1e-4, count=2)


def gradient(method: Method, problem: Any) -> Theta:
    assert method.refusal(problem) is None
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    assert solution.converged is not False  # None: a number of steps was asked for
    return method.hypergradient(prepared, theta, solution)


@BY_GAME
@BY_SOLVER
def test_limit_is_the_equilibrium(game: str, solver: FirstOrder) -> None:
    problem = build(**GAMES[game])
    theta = problem.theta0()
    solved = solver.model_copy(update={"tolerance": 1e-13}).solve(problem, theta)
    assert solved.converged
    assert float(kkt_residual(problem, solved.x, solved.u, theta, scales(problem, theta)).max()) <= 1e-13
    A = weights_of(problem)(theta)
    expected = np.stack([smooth_equilibrium(A, y, problem.settings.alpha) for y in problem.y.numpy()])
    # A residual of 1e-13 |y|, |y| < 2, moves x by no more, as the Jacobian's inverse has maximum norm 1.
    np.testing.assert_allclose(solved.x.numpy(), expected, rtol=0, atol=2e-13)
    assert solver.solve(problem, theta, Point(solved.x, solved.u)).iterations == 0


@pytest.mark.parametrize(
    "settings", [{"n": 16, "ratio": 100.0}, {"graph": "grid", "n": 16, "weights": "pair"}], ids=str
)
@pytest.mark.parametrize("step", [0.3, 1.0])
def test_gradient_contracts_in_the_maximum_norm(settings: dict[str, Any], step: float) -> None:
    """Every step brings x closer by 1 - eta, or more, in the maximum norm, however asymmetric the weights."""
    problem = build(**settings)
    theta = problem.theta0()
    iteration = GameGradient(step=step).bind(problem, theta)
    equilibrium = GameGradient(tolerance=1e-14).solve(problem, theta).x
    state = iteration.start()
    # eta from two points without interaction: a constant x pays F alone.
    flat = torch.ones_like(problem.y)
    eta = float(((flat - iteration.step(iteration.start(Point(flat, flat))).x) / (flat - problem.y)).mean())
    assert 0 < eta < step
    distance = (state.x - equilibrium).abs().amax(1)
    for _ in range(60):
        state = iteration.step(state)
        now = (state.x - equilibrium).abs().amax(1)
        assert (now <= (1 - eta) * distance + 1e-14).all()
        distance = now


def test_extragradient_settles_where_the_gradient_circles() -> None:
    """F(x) = R x - y, R a quarter turn: the iterates' factors are |1 - i eta| > 1 and |1 - i eta - eta^2| < 1."""
    turning = Turn.build(Settings(n=4, penalty="quadratic", scale=1e-9, pairs=1))
    origin = torch.linalg.solve(turn_matrix(4), turning.y[0])[None]

    def distances(solver: FirstOrder) -> np.ndarray:
        iteration = solver.bind(turning, turning.theta0())
        state = iteration.start()
        found = [state.x]
        for _ in range(50):
            state = iteration.step(state)
            found.append(state.x)
        return torch.stack([(x - origin).norm() for x in found]).numpy()

    eta = 0.5 / 1.02  # L = 1, rounded up by 2 %
    # the coupling of 1e-9 is all that the formula leaves out, and it acts 50 times
    ratio = distances(GameGradient(step=0.5))[-1] / distances(GameGradient(step=0.5))[0]
    assert ratio == pytest.approx(abs(1 - 1j * eta) ** 50, rel=1e-6)
    ratio = distances(Extragradient(step=0.5))[-1] / distances(Extragradient(step=0.5))[0]
    assert ratio == pytest.approx(abs(1 - 1j * eta - eta**2) ** 50, rel=1e-6)
    assert abs(1 - 1j * eta - eta**2) < 1 < abs(1 - 1j * eta)


@BY_GAME
@pytest.mark.parametrize(
    "method",
    [
        Equilibrium(solver=GameGradient(tolerance=1e-14), adjoint_tolerance=1e-12),
        Equilibrium(solver=Extragradient(tolerance=1e-14), adjoint_tolerance=1e-12),
        Equilibrium(solver=GameGradient(tolerance=1e-14), adjoint="neumann", adjoint_tolerance=1e-12),
        Minimizer(),
        UnrolledReverse(solver=GameGradient(), steps=400),
    ],
    ids=["equilibrium", "equilibrium-extra", "equilibrium-neumann", "minimizer", "unrolled"],
)
def test_hypergradient_of_smooth_games(game: str, method: Method) -> None:
    # Differences are good to h^4 and to 1e-15 / h of L, about 1e-11; the methods to 1e-12.
    assert relative(pairings(gradient(method, build(**GAMES[game])), count=3), smooth_slopes(game)) <= 1e-8


@pytest.mark.parametrize("solver", [Extragradient(), BarzilaiBorwein()], ids=["extragradient", "barzilai_borwein"])
def test_hypergradient_of_the_others_unrolled(solver: FirstOrder) -> None:
    method = UnrolledReverse(solver=solver, steps=600)
    # As above; after 600 steps what is left of the start is below 1e-10.
    assert relative(pairings(gradient(method, build(**GAMES["ring"])), count=3), smooth_slopes("ring")) <= 1e-8


def test_forward_and_reverse_unrolling_agree() -> None:
    problem = build(n=12)
    found = [
        gradient(method, problem)["a"]
        for method in (
            UnrolledReverse(solver=Extragradient(), steps=40),
            UnrolledForward(solver=Extragradient(), steps=40),
        )
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-13)  # the same products in another order


@pytest.mark.parametrize("form", ["long", "short"])
def test_barzilai_borwein_steps_are_those_of_the_quadratic(form: Any) -> None:
    """H(x) = J x - y with J = D^T D: ||s||^2 / ||D s||^2 and ||D s||^2 / ||D^T D s||^2 (readings.md X.53)."""
    problem = build(n=8, penalty="quadratic", symmetric=True, pairs=1)
    A, y = offset_weights(problem.settings, problem.theta0()["a"].numpy()), problem.y[0].numpy()
    J = np.eye(8) + 2 * (np.diag(A.sum(1)) - A)
    D = np.linalg.cholesky(J).T
    iteration = BarzilaiBorwein(form=form).bind(problem, problem.theta0())
    first = iteration.step(iteration.start())
    x = [np.zeros(8), first.x[0].numpy()]
    state = first
    for _ in range(4):
        state = iteration.step(state)
        s = x[-1] - x[-2]
        Ds, DDs = D @ s, D.T @ D @ s
        eta = s @ s / (Ds @ Ds) if form == "long" else Ds @ Ds / (DDs @ DDs)
        x.append(x[-1] - eta * (J @ x[-1] - y))
        # rounding of s, a difference that has shrunk by no more than 1e4 after five steps
        np.testing.assert_allclose(state.x[0].numpy(), x[-1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("look_ahead", [False, True])
def test_schedule_is_learned(look_ahead: bool) -> None:
    """dL/d(a, alpha_t, eta_t) of five steps, against differences of the same steps written out in numpy."""
    problem = build(n=10, iterations=5)
    theta = problem.theta0()
    assert [float(theta["alpha"][-1]), len(theta["eta"])] == [20.0, 5]

    def evaluate(theta: Theta) -> tuple[float, torch.Tensor]:
        A, L = offset_weights(problem.settings, theta["a"].numpy()), 0.0
        for y, x_true in zip(problem.y.numpy(), problem.x_true.numpy(), strict=True):
            x = np.zeros_like(y)
            for alpha, eta in zip(theta["alpha"].numpy(), theta["eta"].numpy(), strict=True):
                ahead = x - eta * own_derivatives(A, x, y, alpha)
                x = x - eta * own_derivatives(A, ahead, y, alpha) if look_ahead else ahead
            L += 0.5 * float(np.sum((x - x_true) ** 2))
        return L, torch.zeros(0)

    expected = slopes(evaluate, theta, h=1e-4, count=4)
    solver = ScheduledGradient(look_ahead=look_ahead)
    for method in (UnrolledReverse(solver=solver, steps=5), UnrolledForward(solver=solver, steps=5)):
        # differences: h^4 and 1e-15 / h
        assert relative(pairings(gradient(method, problem), count=4), expected) <= 1e-8
    refusal = Equilibrium(solver=solver).refusal(problem)
    assert refusal is not None
    assert "changes its map" in refusal


def test_schedule_ends_in_the_game_of_its_last_alpha() -> None:
    scheduled, plain = build(n=10, iterations=8), build(n=10)
    solved = ScheduledGradient(tolerance=1e-13).solve(scheduled, scheduled.theta0())
    assert solved.converged
    expected = GameGradient(tolerance=1e-13).solve(plain, plain.theta0()).x
    torch.testing.assert_close(solved.x, expected, rtol=0, atol=4e-13)  # two residuals of 1e-13 |y|
    without = ScheduledGradient(tolerance=1e-13).solve(plain, plain.theta0())
    torch.testing.assert_close(without.x, expected, rtol=0, atol=4e-13)


@pytest.mark.parametrize("game", EXACT_GAMES)
@pytest.mark.parametrize(
    "method",
    [
        ActiveSetAdjoint(solver=DualPgd(tolerance=1e-14)),
        Equilibrium(solver=DualPgd(tolerance=1e-14), adjoint_tolerance=1e-12),
        Equilibrium(solver=Pdhg(tolerance=1e-14), adjoint_tolerance=1e-12),
        UnrolledReverse(solver=DualPgd(), steps=2000),
        SmoothedImplicit(epsilon=1e-12),
    ],
    ids=["active_set_adjoint", "equilibrium-dual_pgd", "equilibrium-pdhg", "unrolled-dual_pgd", "smoothed_implicit"],
)
def test_hypergradient_of_exact_games(game: str, method: Method) -> None:
    """M is not K^T, and the flat pairs form a forest."""
    problem = build(**EXACT_GAMES[game])
    assert Structure.UNIQUE in problem.structure
    assert Structure.MINIMISATION not in problem.structure
    # Differences are good to h^4 and to 1e-15 / h of L, about 1e-11.
    assert relative(pairings(gradient(method, problem), count=2), exact_slopes(game)) <= 1e-8


def test_exact_potential_game_with_dependent_rows_has_its_derivative() -> None:
    """Flat cycles on a grid: u is not unique, K0 and M0 are rank-deficient, x and dL/dtheta are unique all the same."""
    problem = build(graph="grid", n=16, penalty="l1", pairs=1)
    theta = problem.theta0()
    assert Structure.UNIQUE in problem.structure
    solved = DualPgd(tolerance=1e-14).solve(problem, theta)
    on = solved.u[0].abs() < 1
    K0 = problem.linearise(solved.x, theta).K.dense()[0][on]
    assert int(torch.linalg.matrix_rank(K0)) < int(on.sum())

    def evaluate(theta: Theta) -> tuple[float, torch.Tensor]:
        moved = DualPgd(tolerance=1e-14).solve(problem, theta)
        return float(problem.loss(moved.x, theta)), moved.x[0, :, None] - moved.x[0] > 1e-9

    expected = slopes(evaluate, theta, h=1e-4, count=2)
    found = pairings(gradient(ActiveSetAdjoint(solver=DualPgd(tolerance=1e-14)), problem), count=2)
    assert relative(found, expected) <= 1e-7  # a residual of 1e-14 over h


@pytest.mark.parametrize("solver", [GameGradient(), Extragradient()], ids=["gradient", "extragradient"])
def test_exact_games_are_refused_with_the_remedy(solver: FirstOrder) -> None:
    for problem in (build(penalty="l1"), AffineGame.sample(n=4, pairs=1)):
        refusal = solver.refusal(problem)
        assert refusal is not None
        assert "smooth" in refusal
        assert "set" not in refusal or "penalty = 'moreau'" in refusal


def test_float32_stays_single() -> None:
    problem = build(n=12).to("cpu", torch.float32)
    solved = GameGradient().solve(problem, problem.theta0())
    assert solved.converged
    assert solved.x.dtype == torch.float32
    double = GameGradient().solve(build(n=12), build(n=12).theta0())
    torch.testing.assert_close(solved.x.double(), double.x, rtol=0, atol=2e-5)  # 100 epsilons of |y|


def own_derivatives(A: np.ndarray, x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """Every player's, with the envelope of parameter alpha."""
    return x - y + (A * np.clip(alpha * (x[:, None] - x), -1, 1)).sum(1)


def turn_matrix(n: int) -> torch.Tensor:
    """n / 2 quarter turns."""
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    return torch.block_diag(*[quarter] * (n // 2))


class Turn(TvGame):
    """A game that rotates: F(x) = R x - y in the place of x - y."""

    def F(self, x: torch.Tensor, theta: Theta) -> torch.Tensor:
        del theta
        return x @ turn_matrix(x.shape[1]).T - self.y

    @classmethod
    def build(cls, settings: Settings) -> Turn:
        game = cls(**vars(TvGame.build(settings)))
        return replace(game, structure=Structure.AFFINE_F | Structure.SMOOTH, penalty=Quadratic())
