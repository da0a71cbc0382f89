"""Unrolled gradients against differences of the bilevel loss, a hand-written iteration, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from first_order_truth import AffineGame, build, game_loss, pairings, relative, slopes, upper_loss
from smooth_truth import SmoothGame, smooth_loss

from methods.contract import Solution
from methods.solvers._affine import dual_curvature
from methods.solvers.accelerated_gradient import AcceleratedGradient
from methods.solvers.admm import Admm
from methods.solvers.contract import FirstOrder, Point
from methods.solvers.dual_fista import DualFista
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.gradient_descent import GradientDescent
from methods.solvers.pdhg import Pdhg
from methods.unrolled_forward import UnrolledForward
from methods.unrolled_reverse import UnrolledReverse
from problems.contract import Problem, Theta

SOLVERS = [Admm(), DualPgd(), DualFista(), Pdhg()]
BY_NAME = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)


def gradient(method: UnrolledReverse | UnrolledForward, problem: Problem, theta: Theta | None = None) -> Theta:
    theta = theta or problem.theta0()
    prepared = method.prepare(problem)
    return method.hypergradient(prepared, theta, method.solve(prepared, theta))


@pytest.mark.parametrize("transform", ["dct", "gaussian"])
@pytest.mark.parametrize(
    "method",
    [UnrolledReverse(), *(UnrolledReverse(solver=solver) for solver in (Admm(), DualPgd(), Pdhg()))],
    ids=["default", "Admm", "DualPgd", "Pdhg"],
)
def test_the_converged_gradient_is_that_of_the_bilevel_problem(method: UnrolledReverse, transform: str) -> None:
    problem = build(n=64, transform=transform, scale=0.2, pairs=3)
    theta = problem.theta0()
    G = gradient(method, problem)
    truth = slopes(upper_loss(problem), theta, h=2e-4)
    # Differences: h^4 = 1e-12 and rounding 1e-15 / h, both some 1e-10 of a slope. The default's 500 steps: 1e-8.
    assert relative(pairings(G), truth) <= 1e-8


def test_few_steps_give_the_gradient_of_the_few_step_problem() -> None:
    """Differences of a projected gradient iteration written out in numpy, its step size held fixed."""
    problem = build(n=12, k=9, transform="gaussian", scale=0.3, pairs=3)
    theta, solver, steps = problem.theta0(), DualPgd(), 5
    s = 2 * solver.step / dual_curvature(problem, theta)
    y, x_true = problem.y.numpy(), problem.x_true.numpy()

    def loss(W: np.ndarray) -> float:
        u = np.zeros((3, 9))
        for _ in range(steps):
            u = np.clip(u + s * (y - u @ W) @ W.T, -1, 1)
        return 0.5 * float(((y - u @ W - x_true) ** 2).sum())

    G = gradient(UnrolledReverse(solver=solver, steps=steps), problem)["W"].numpy()
    W, h = theta["W"].numpy(), 1e-5
    differences = np.empty_like(W)
    for index in np.ndindex(*W.shape):
        e = np.zeros_like(W)
        e[index] = h
        differences[index] = (loss(W + e) - loss(W - e)) / (2 * h)
    # Central differences: h^2 = 1e-10 and rounding 1e-16 / h = 1e-11, both times numbers of order one.
    np.testing.assert_allclose(G, differences, rtol=0, atol=1e-8)


@BY_NAME
@pytest.mark.parametrize("forward", ["identity", "blur"])
def test_forward_mode_is_reverse_mode(solver: FirstOrder, forward: str) -> None:
    problem = build(n=12, k=10, transform="gaussian", forward=forward, scale=0.2, pairs=2)
    reverse = gradient(UnrolledReverse(solver=solver, steps=40), problem)["W"]
    tangents = gradient(UnrolledForward(solver=solver, steps=40, chunk_size=50), problem)["W"]  # 120 = 50 + 50 + 20
    assert relative(tangents, reverse) <= 1e-12  # rounding, over 40 steps


@pytest.mark.parametrize("solver", [DualPgd(), Pdhg()], ids=["DualPgd", "Pdhg"])
def test_both_modes_on_a_game_with_two_variables(solver: FirstOrder) -> None:
    """F, K, M and the loss all depend on theta; truth: differences of L at 1e-14."""
    problem = AffineGame.sample(n=6, pairs=3)
    theta = problem.theta0()
    truth = slopes(game_loss(problem), theta, h=1e-3)
    for method in (UnrolledReverse(solver=solver, steps=200), UnrolledForward(solver=solver, steps=200)):
        G = gradient(method, problem)
        assert set(G) == {"c", "d"}
        assert relative(pairings(G), truth) <= 1e-9  # rounding of 1e-14 over h, and h^4


@BY_NAME
def test_a_batch_is_the_sum_of_its_pairs(solver: FirstOrder) -> None:
    problem = build(n=12, k=10, transform="gaussian", scale=0.2, pairs=3)
    method = UnrolledReverse(solver=solver, steps=60)
    singles = sum(gradient(method, problem.subset(slice(i, i + 1)))["W"] for i in range(3))
    assert relative(gradient(method, problem)["W"], singles) <= 1e-12  # rounding


@pytest.mark.parametrize("method", [UnrolledReverse(steps=80), UnrolledForward(steps=80)], ids=["reverse", "forward"])
def test_a_gradient_can_be_asked_for_twice(method: UnrolledReverse | UnrolledForward) -> None:
    problem = build(n=8, transform="gaussian", scale=0.2, pairs=2)
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    x = solution.x.clone()
    first, second = (method.hypergradient(prepared, theta, solution)["W"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(solution.x, x)
    assert not solution.x.requires_grad
    assert solution.iterations == 80


@BY_NAME
def test_a_warm_start_continues(solver: FirstOrder) -> None:
    """One step from a converged point: x stays, and the two modes agree."""
    problem = build(n=12, k=10, transform="gaussian", scale=0.2, pairs=2)
    theta = problem.theta0()
    point = solver.solve(problem, theta)
    one = [method(solver=solver, steps=1) for method in (UnrolledReverse, UnrolledForward)]
    found = []
    for method in one:
        prepared = method.prepare(problem)
        warm = method.solve(prepared, theta, warm=Solution(point.x, point.u, point.iterations))
        torch.testing.assert_close(warm.x, point.x, rtol=0, atol=1e-8)  # residual 1e-10, over ||W||
        found.append(method.hypergradient(prepared, theta, warm)["W"])
    assert relative(found[1], found[0]) <= 1e-12  # rounding


def test_differences_from_a_warm_state_that_is_held_constant() -> None:
    """ADMM's state holds K x: three of its steps from a state that stays while theta moves, with rho fixed."""
    problem, solver = build(n=12, k=10, transform="gaussian", scale=0.2, pairs=2), Admm(rho=5.0)
    theta, method = problem.theta0(), UnrolledReverse(solver=solver, steps=3)
    solved = solver.solve(problem, theta)
    first = solver.bind(problem, theta).start(Point(solved.x, solved.u))

    def evaluate(at: Theta) -> tuple[float, torch.Tensor]:
        iteration, state = solver.bind(problem, at), first
        for _ in range(3):
            state = iteration.step(state)
        return float(problem.loss(iteration.primal(state), at)), iteration.dual(state).abs() < 1

    prepared = method.prepare(problem)
    G = method.hypergradient(prepared, theta, method.solve(prepared, theta, warm=Solution(solved.x, solved.u, 0)))
    # h^4 = 1e-12 and rounding 1e-16 / h, both relative to a slope near 1e-1.
    assert relative(pairings(G), slopes(evaluate, theta, h=1e-3)) <= 1e-8


def test_the_solver_s_refusal_is_passed_on() -> None:
    game = AffineGame.sample(n=4, pairs=1)
    for method in (UnrolledReverse(solver="dual_fista"), UnrolledForward(solver="dual_fista")):
        assert "dual_fista needs minimisation" in (method.refusal(game) or "")
    assert UnrolledReverse(solver="dual_pgd").refusal(game) is None


def test_solvers_are_written_as_in_a_config() -> None:
    method = UnrolledReverse.model_validate({"solver": {"key": "admm", "rho": 2.0}, "steps": 10})
    assert method.solver == Admm(rho=2.0)
    assert method.model_dump()["solver"] == {"key": "admm", "rho": 2.0}
    with pytest.raises(ValueError, match="did you mean 'dual_pgd'"):
        UnrolledReverse.model_validate({"solver": "dual_pg"})
    with pytest.raises(ValueError, match="FirstOrder"):
        UnrolledReverse.model_validate({"solver": "active_set"})


@pytest.mark.parametrize("game", [False, True], ids=["minimisation", "game"])
def test_smooth_penalties_by_default(game: bool) -> None:
    problem = SmoothGame.sample(game=game)
    truth = slopes(smooth_loss(problem), problem.theta0(), h=1e-4)
    G = gradient(UnrolledReverse(steps=2500 if game else 500), problem)
    assert relative(pairings(G), truth) <= 1e-8  # the differences are good to 1e-10


@pytest.mark.parametrize("solver", [GradientDescent(), AcceleratedGradient()], ids=["plain", "accelerated"])
def test_forward_mode_is_reverse_mode_on_smooth_penalties(solver: FirstOrder) -> None:
    problem = SmoothGame.sample(n=6, k=8)
    reverse = gradient(UnrolledReverse(solver=solver, steps=40), problem)
    tangents = gradient(UnrolledForward(solver=solver, steps=40), problem)
    for name in reverse:
        assert relative(tangents[name], reverse[name]) <= 1e-12  # rounding, over 40 steps


@pytest.mark.parametrize("solver", [GradientDescent(), AcceleratedGradient()], ids=["plain", "accelerated"])
def test_a_smooth_solver_stops_where_its_residual_says(solver: FirstOrder) -> None:
    problem = SmoothGame.sample()
    theta = problem.theta0()
    solved = solver.solve(problem, theta)
    assert solved.converged
    r = problem.F(solved.x, theta) + problem.M(solved.u, theta)
    assert float(r.abs().max()) <= 1e-10 * float(problem.y.abs().max())
    assert torch.equal(solved.u, problem.penalty.derivative(problem.K(solved.x, theta)))


@pytest.mark.parametrize("every", [1, 7, 60, 1000])
@pytest.mark.parametrize("problem", [build(n=12, transform="gaussian", scale=0.2, pairs=2), SmoothGame.sample()])
def test_checkpoints_change_no_number(problem: Problem, every: int) -> None:
    whole = gradient(UnrolledReverse(steps=60), problem)
    method, theta = UnrolledReverse(steps=60, checkpoint_every=every), problem.theta0()
    prepared = method.prepare(problem)
    solution = method.solve(prepared, theta)
    for _ in range(2):  # the way back can be taken twice
        G = method.hypergradient(prepared, theta, solution)
        assert all(torch.equal(G[name], whole[name]) for name in whole)


def test_checkpoints_keep_the_square_root_of_the_states() -> None:
    """Bytes that the graph holds between solve and gradient, by torch's own account of what is saved for backward."""
    problem, held = SmoothGame.sample(n=40, k=60), {}
    for every in (None, 20):
        method, sizes = UnrolledReverse(steps=400, solver=GradientDescent(), checkpoint_every=every), list[int]()

        def weigh(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
            method.solve(method.prepare(problem), problem.theta0())
        held[every] = sum(sizes)
    assert held[20] < held[None] / 10


def test_the_last_steps_alone() -> None:
    """By definition: the steps before them lead to a constant; and the error falls as a plain Neumann series does."""
    problem, solver = SmoothGame.sample(), GradientDescent()
    theta = problem.theta0()
    exact = gradient(UnrolledReverse(solver=solver, steps=2500), problem)["W"]
    G = [
        gradient(UnrolledReverse(solver=solver, steps=1500, last_steps=last), problem)["W"]
        for last in (100, 200, 400, 5000)
    ]
    solved = solver.model_copy(update={"tolerance": 1e-14}).solve(problem, theta)
    warm, restarted = Solution(solved.x, solved.u, 0), UnrolledReverse(solver=solver, steps=100)
    prepared = restarted.prepare(problem)
    by_hand = restarted.hypergradient(prepared, theta, restarted.solve(prepared, theta, warm=warm))["W"]
    assert relative(G[0], by_hand) <= 1e-10  # x moves by the residual
    errors = [relative(each, exact) for each in G]
    assert errors[0] < 0.5
    assert errors[1] < 0.3 * errors[0]
    assert errors[2] < 0.3 * errors[1]
    assert errors[3] <= 1e-10  # more than all of the steps: all of them
