"""The minimizer approach against differences of the bilevel loss, which another make of solver evaluates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from first_order_truth import build, pairings, relative, slopes
from smooth_truth import SmoothGame, smooth_loss
from torch import Tensor

from methods._conjugate_gradients import conjugate_gradients
from methods.minimizer import Minimizer
from methods.solvers.contract import Point
from methods.solvers.lbfgs import InverseEstimate, Lbfgs
from methods.solvers.newton_krylov import NewtonKrylov
from problems.contract import Problem, Theta
from problems.penalties import CornerRoundedL1, LogSum, MoreauL1, SmoothPenalty

ADJOINTS = [None, "dense", "kkt", "cg", "preconditioned_cg", "gmres"]
PENALTIES = [CornerRoundedL1(0.1), CornerRoundedL1(0.01), MoreauL1(5.0), MoreauL1(100.0), LogSum(2.0)]
STEPS = {MoreauL1: 1e-3}
"""Of the differences, 1e-4 elsewhere: h^4 times the fifth derivative, and rounding of 1e-15 / h."""
BY_GAME = pytest.mark.parametrize("game", [False, True], ids=["minimisation", "game"])


def gradient(method: Minimizer, problem: Problem) -> Theta:
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    assert solution.converged
    return method.hypergradient(prepared, theta, solution)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@BY_GAME
def test_every_adjoint_gives_the_bilevel_gradient(penalty: SmoothPenalty, game: bool) -> None:
    problem = SmoothGame.sample(game=game, penalty=penalty)
    truth = slopes(smooth_loss(problem), problem.theta0(), h=STEPS.get(type(penalty), 1e-4))
    methods = [Minimizer(adjoint=adjoint) for adjoint in ADJOINTS]
    runs = [method for method in methods if method.refusal(problem) is None]
    assert len(runs) == (4 if game else 6)
    for method in runs:
        # The differences are good to 1e-10; the residuals are 1e-12 and 1e-10, magnified by H^-1, at most 10.
        assert relative(pairings(gradient(method, problem)), truth) <= 1e-8, method


@pytest.mark.parametrize("solver", [Lbfgs(), Lbfgs(pairs=3), NewtonKrylov()], ids=repr)
def test_solvers_find_the_same_point_and_stay_there(solver: Lbfgs | NewtonKrylov) -> None:
    problem = SmoothGame.sample()
    theta = problem.theta0()
    solved = solver.solve(problem, theta)
    assert solved.converged
    # r is checked entry by entry, by the formula: 1e-12 times max|y|, below 4.
    u = solved.x @ problem.W.T
    u = u / torch.sqrt(u * u + 0.1**2)
    r = solved.x @ problem.H.T + theta["c"] * solved.x - problem.y + u @ problem.W
    assert float(r.abs().max()) <= 4e-12
    again = solver.solve(problem, theta, Point(solved.x, solved.u))
    assert again.iterations == 0
    assert torch.equal(again.x, solved.x)


def test_a_batch_is_the_sum_of_its_pairs_and_repeatable() -> None:
    """Pairs rest after numbers of steps of their own, and keep what they know of H."""
    problem = SmoothGame.sample(pairs=4)
    problem = replace(problem, y=problem.y * torch.tensor([[1e-3], [1.0], [30.0], [0.1]], dtype=torch.float64))
    for adjoint in ("preconditioned_cg", "quasi_newton"):
        method = Minimizer(adjoint=adjoint)
        singles = sum(gradient(method, problem.subset(slice(i, i + 1)))["W"] for i in range(4))
        # 1e-10 in the adjoint of each. B is one and the same up to rounding of its pairs, which differences magnify.
        assert relative(gradient(method, problem)["W"], singles) <= (1e-8 if adjoint == "preconditioned_cg" else 1e-4)
    method, theta = Minimizer(), problem.theta0()
    prepared = method.prepare(problem)
    solution = method.solve(prepared, theta)
    first, second = (method.hypergradient(prepared, theta, solution)["c"] for _ in range(2))
    assert torch.equal(first, second)


def test_the_estimate_is_that_of_the_textbook_recursion() -> None:
    """B+ = (I - rho s y^T) B (I - rho y s^T) + rho s s^T over the last five pairs, from <s, y> / <y, y> of the last."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn((2, 9, 9), generator=generator, dtype=torch.float64)
    H = A @ A.mT + torch.eye(9, dtype=torch.float64)
    estimate = InverseEstimate(H[..., 0], pairs=5)
    kept: list[list[tuple[Tensor, Tensor]]] = [[], []]
    for step in range(13):
        s = torch.randn((2, 9), generator=generator, dtype=torch.float64)
        s[step % 2] *= float(step % 3 > 0)  # a sample that rests adds nothing
        y = (H @ s[..., None])[..., 0]
        estimate.add(s, y)
        for sample in range(2):
            if s[sample].any():
                kept[sample].append((s[sample], y[sample]))
    r = torch.randn((2, 9), generator=generator, dtype=torch.float64)
    found, eye = estimate.product(r), torch.eye(9, dtype=torch.float64)
    assert [len(pairs) > 5 for pairs in kept] == [True, True]
    for sample, pairs in enumerate(kept):
        s, y = pairs[-1]
        B = (s @ y) / (y @ y) * eye
        for s, y in pairs[-5:]:
            left = eye - torch.outer(s, y) / (s @ y)
            B = left @ B @ left.mT + torch.outer(s, s) / (s @ y)
        torch.testing.assert_close(found[sample], B @ r[sample], rtol=1e-9, atol=0)  # rounding times cond(H), some 100


def test_the_shared_inverse_errs_less_with_more_pairs() -> None:
    """An approximation, and a useful one: with 40 pairs of 12 unknowns it knows H in almost every direction."""
    problem = SmoothGame.sample()
    exact = gradient(Minimizer(adjoint="dense"), problem)["W"]
    errors = [
        relative(gradient(Minimizer(adjoint="quasi_newton", solver=Lbfgs(pairs=pairs)), problem)["W"], exact)
        for pairs in (1, 40)
    ]
    assert errors[0] > 0.2
    assert 1e-6 < errors[1] < 0.1


def test_conjugate_gradients_against_lapack() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn((3, 20, 20), generator=generator, dtype=torch.float64)
    H = A @ A.mT / 20 + torch.eye(20, dtype=torch.float64)
    q = torch.randn((3, 20), generator=generator, dtype=torch.float64)
    q[1] = 0.0
    truth, stop = torch.linalg.solve(H, q[..., None])[..., 0], torch.full((3, 1), 1e-12, dtype=torch.float64)

    def product(v: Tensor) -> Tensor:
        return (H @ v[..., None])[..., 0]

    found, residual, taken = conjugate_gradients(product, q, stop, 100)
    assert taken <= 21  # as many as unknowns, and one for rounding
    assert float(residual.max()) <= 1e-12
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-11)  # H^-1 is at most 1
    inverse = torch.linalg.inv(H)
    found, _, taken = conjugate_gradients(product, q, stop, 100, lambda v: (inverse @ v[..., None])[..., 0])
    assert taken <= 2  # one step with the exact inverse, and one for rounding
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-11)


def test_few_products_are_no_gradient() -> None:
    method, problem = Minimizer(adjoint="cg", adjoint_steps=2), SmoothGame.sample()
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    with pytest.raises(RuntimeError, match=r"cg left a residual of \d.*1\.0e-10 is required: raise adjoint_steps"):
        method.hypergradient(prepared, theta, solution)


def test_float32_stays_single() -> None:
    problem = SmoothGame.sample()
    exact = gradient(Minimizer(adjoint="dense"), problem)["W"]
    single = gradient(Minimizer(), problem.to("cpu", torch.float32))["W"]
    assert single.dtype == torch.float32
    assert relative(single.double(), exact) <= 1e-3  # 100 epsilons in x*, magnified by phi'' |H^-1|, some tens


def test_refusals_name_the_remedy() -> None:
    game, sparse = SmoothGame.sample(game=True), build(n=8)
    assert "smooth" in (Minimizer().refusal(sparse) or "")
    assert "set adjoint = 'gmres'" in (Minimizer(adjoint="quasi_newton").refusal(game) or "")
    shared = Minimizer(adjoint="preconditioned_cg", solver="newton_krylov")
    assert "set solver = 'lbfgs'" in (shared.refusal(SmoothGame.sample()) or "")
    assert "lbfgs needs minimisation" in (Minimizer(solver="lbfgs").refusal(game) or "")
