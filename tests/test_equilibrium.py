"""The deep-equilibrium gradient against differences of the bilevel loss, and its linear solvers against LAPACK."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from first_order_truth import AffineGame, build, game_loss, pairings, relative, slopes, upper_loss
from smooth_truth import SmoothGame, smooth_loss
from torch import Tensor

from methods import _adjoint_system
from methods.equilibrium import Equilibrium
from methods.solvers.admm import Admm
from methods.solvers.contract import FirstOrder
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.pdhg import Pdhg
from methods.unrolled_reverse import UnrolledReverse
from problems.contract import Problem, Theta

ADJOINTS = {"neumann": _adjoint_system.neumann, "anderson": _adjoint_system.anderson, "gmres": _adjoint_system.gmres}
STATIONARY = [solver(tolerance=1e-12) for solver in (Admm, DualPgd, Pdhg)]
BY_NAME = pytest.mark.parametrize("solver", STATIONARY, ids=lambda solver: type(solver).__name__)


def gradient(method: Equilibrium, problem: Problem) -> Theta:
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    assert solution.converged
    return method.hypergradient(prepared, theta, solution)


@pytest.mark.parametrize("transform", ["dct", "gaussian"])
def test_every_solver_and_adjoint_gives_the_bilevel_gradient(transform: str) -> None:
    problem = build(n=64, transform=transform, scale=0.2, pairs=3)
    theta = problem.theta0()
    truth = slopes(upper_loss(problem), theta, h=2e-4)
    methods = [Equilibrium()]
    methods += [Equilibrium(solver=solver, adjoint=adjoint) for solver in STATIONARY for adjoint in ADJOINTS]
    for method in methods:
        G = gradient(method, problem)
        # The adjoint's residual is 1e-10 and (I - J)^-1 at most some tens here; the truth is good to 1e-10.
        assert relative(pairings(G), truth) <= 1e-8, method


@pytest.mark.parametrize("solver", [DualPgd(tolerance=1e-13), Pdhg(tolerance=1e-13)], ids=["DualPgd", "Pdhg"])
def test_a_game_whose_every_part_depends_on_theta(solver: FirstOrder) -> None:
    problem = AffineGame.sample(n=6, pairs=3)
    theta = problem.theta0()
    truth = slopes(game_loss(problem), theta, h=1e-3)
    G = gradient(Equilibrium(solver=solver), problem)
    assert relative(pairings(G), truth) <= 1e-9  # the adjoint's residual is 1e-10


@BY_NAME
def test_one_step_is_the_derivative_of_one_step(solver: FirstOrder) -> None:
    """By definition: unroll a single step from the fixed point, held constant."""
    problem = build(n=12, k=10, transform="gaussian", scale=0.2, pairs=2)
    theta, method, one = (
        problem.theta0(),
        Equilibrium(solver=solver, adjoint="one_step"),
        UnrolledReverse(solver=solver, steps=1),
    )
    prepared = method.prepare(problem)
    solution = method.solve(prepared, theta)
    unrolled = one.hypergradient(prepared, theta, one.solve(prepared, theta, warm=solution))["W"]
    # The two evaluate the loss on either side of one step, which moves x by the residual, 1e-12, over ||W||.
    assert relative(method.hypergradient(prepared, theta, solution)["W"], unrolled) <= 1e-9


def test_a_batch_is_the_sum_of_its_pairs_and_repeatable() -> None:
    problem = build(n=16, k=20, transform="gaussian", scale=0.2, pairs=3)
    method = Equilibrium()
    whole = gradient(method, problem)["W"]
    singles = sum(gradient(method, problem.subset(slice(i, i + 1)))["W"] for i in range(3))
    assert relative(whole, singles) <= 1e-8  # each with its own residual of 1e-10
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    first, second = (method.hypergradient(prepared, theta, solution)["W"] for _ in range(2))
    assert torch.equal(first, second)


def random_system(size: int, radius: float) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """(product, q, w) with J^T of that 2-norm, three samples, w by LU; the last sample's q is zero."""
    generator = torch.Generator().manual_seed(2)
    A = torch.randn((3, size, size), generator=generator, dtype=torch.float64)
    A *= radius / torch.linalg.matrix_norm(A, 2)[:, None, None]
    q = torch.randn((3, size), generator=generator, dtype=torch.float64)
    q[2] = 0.0
    w = torch.linalg.solve(torch.eye(size, dtype=torch.float64) - A, q)
    return lambda w: (A @ w[..., None])[..., 0], q, w


@pytest.mark.parametrize("adjoint", list(ADJOINTS))
def test_adjoint_solvers_reach_a_contraction_s_solution(adjoint: str) -> None:
    product, q, w = random_system(size=30, radius=0.9)
    found, residual = ADJOINTS[adjoint](product, q, 1e-12, 2000)
    assert residual <= 1e-12
    assert relative(found, w) <= 1e-11  # (I - A)^-1 is at most 1 / (1 - 0.9)
    assert torch.equal(found[2], q[2])


def test_gmres_needs_no_contraction() -> None:
    product, q, w = random_system(size=30, radius=3.0)
    found, residual = _adjoint_system.gmres(product, q, 1e-12, 2000)
    assert residual <= 1e-12
    assert relative(found, w) <= 1e-9  # the condition number is some hundreds
    assert _adjoint_system.neumann(product, q, 1e-12, 200)[1] > 1.0


def test_gmres_restarts() -> None:
    product, q, w = random_system(size=3 * _adjoint_system.RESTART, radius=0.97)
    found, residual = _adjoint_system.gmres(product, q, 1e-13, 1000)
    assert residual <= 1e-13
    assert relative(found, w) <= 1e-11  # (I - A)^-1 is at most 1 / (1 - 0.97)


def test_gmres_ends_after_as_many_products_as_unknowns() -> None:
    """A condition number of 1e6: a basis that lost its orthogonality would need a restart."""
    size, products = 60, 0
    generator = torch.Generator().manual_seed(2)
    left, right = torch.linalg.qr(torch.randn((2, size, size), generator=generator, dtype=torch.float64))[0]
    system = left * torch.logspace(-6, 0, size, dtype=torch.float64) @ right
    w = torch.randn((1, size), generator=generator, dtype=torch.float64)

    def product(w: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return w - w @ system.T

    found, residual = _adjoint_system.gmres(product, w @ system.T, 1e-11, 400)
    assert residual <= 1e-11
    assert products == size + 1  # the last one measures the residual
    assert relative(found, w) <= 1e-8  # the condition number times rounding is 2e-10


def test_gmres_solves_a_singular_system_that_has_a_solution() -> None:
    """I - J is singular where rows of the cosupport are dependent; the right side is in its range."""
    projection = torch.diag(torch.tensor([1.0, 1.0, 0.5, -0.5, 0.2], dtype=torch.float64))
    q = torch.tensor([[0.0, 0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    found, residual = _adjoint_system.gmres(lambda w: w @ projection, q, 1e-12, 50)
    assert residual <= 1e-12
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 2.0, 4 / 3, 3.75]], dtype=torch.float64))


def test_an_adjoint_that_falls_short_says_so() -> None:
    problem = build(n=32, transform="gaussian", scale=0.2)
    method = Equilibrium(adjoint_steps=2)
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    with pytest.raises(RuntimeError, match=r"residual of \d.*1\.0e-10 is required.*adjoint_steps"):
        method.hypergradient(prepared, theta, solution)


def test_a_solver_without_a_fixed_map_is_refused() -> None:
    refusal = Equilibrium(solver="dual_fista").refusal(build(n=8))
    assert refusal is not None
    assert "dual_fista changes its map" in refusal
    assert "solver = 'admm'" in refusal


@pytest.mark.parametrize("game", [False, True], ids=["minimisation", "game"])
def test_smooth_penalties_by_default(game: bool) -> None:
    problem = SmoothGame.sample(game=game)
    truth = slopes(smooth_loss(problem), problem.theta0(), h=1e-4)
    for adjoint in ADJOINTS:
        # The differences are good to 1e-10; the adjoint's 1e-10 is magnified by (I - J)^-1, some hundreds. Neumann's
        # series gains a percent per product on the game, whose extra-gradient keeps 20 % below 1/L.
        method = Equilibrium(adjoint=adjoint, adjoint_steps=3000)
        assert relative(pairings(gradient(method, problem)), truth) <= 1e-7, adjoint


@pytest.mark.parametrize("game", [False, True], ids=["minimisation", "game"])
def test_jacobian_free_descends(game: bool) -> None:
    """Not the gradient, but its slope is negative along minus itself (the review's section 7.2; Fung et al. 2022)."""
    problem = SmoothGame.sample(game=game)
    direction = gradient(Equilibrium(adjoint="one_step"), problem)
    evaluate, theta = smooth_loss(problem), problem.theta0()
    moved = {name: theta[name] - 1e-4 * direction[name] for name in theta}
    assert evaluate(moved)[0] < evaluate(theta)[0]
    assert relative(direction["W"], gradient(Equilibrium(), problem)["W"]) > 0.1
