"""Both translations to a single level: against the reference families, against BLORC's matrices, and on games."""

from __future__ import annotations

import pytest
from first_order_truth import AffineGame, build, game_loss, pairings, relative, slopes

from methods.active_set_adjoint import ActiveSetAdjoint
from methods.blorc import Blorc
from methods.contract import Method
from methods.dual_boundary import DualBoundary
from methods.sign_splitting import SignSplitting
from methods.solvers.dual_pgd import DualPgd
from problems.contract import Problem, Theta


def gradient(method: Method, problem: Problem) -> Theta:
    prepared, theta = method.prepare(problem), problem.theta0()
    return method.hypergradient(prepared, theta, method.solve(prepared, theta))


@pytest.mark.parametrize("method", [SignSplitting(), DualBoundary()], ids=["signs", "boundary"])
@pytest.mark.parametrize("transform", ["dct", "gaussian"])
def test_one_matrix_with_blorc(method: Method, transform: str) -> None:
    """Section 4.3 of the review, (4.12) to (4.16): for BLORC's problem all are its corollary 3.3."""
    problem = build(n=24, k=20 if transform == "gaussian" else None, transform=transform, scale=0.2)
    blorc = gradient(Blorc(), problem)["W"]
    assert relative(gradient(method, problem)["W"], blorc) <= 1e-11  # rounding, times a condition number below 1e4


@pytest.mark.parametrize("method", [SignSplitting, DualBoundary], ids=["signs", "boundary"])
def test_a_game_whose_every_part_depends_on_theta(method: type[Method]) -> None:
    problem = AffineGame.sample(n=6, pairs=1)
    truth = slopes(game_loss(problem), problem.theta0(), h=1e-3)
    solver = DualPgd(tolerance=1e-13)
    found = gradient(method(solver=solver), problem)
    assert set(found) == {"c", "d"}
    assert relative(pairings(found), truth) <= 1e-8  # the differences are good to 1e-9


def test_dependent_rows_are_reported_or_projected() -> None:
    """Three equal rows of W: on the cosupport K0 has rank one, and x* is unique all the same."""
    problem = build(n=12, k=9, transform="gaussian", scale=1.0)
    W = problem.W.clone()
    W[1] = W[2] = W[0]
    theta, exact = {"W": W}, ActiveSetAdjoint()
    prepared = exact.prepare(problem)
    solution = exact.solve(prepared, theta)
    assert solution.u is not None
    assert float((W @ solution.x[0])[0].abs()) <= 1e-12
    with pytest.raises(RuntimeError, match="rows of K0 depend on each other"):
        SignSplitting().hypergradient(prepared, theta, solution)
    least_norm = exact.hypergradient(prepared, theta, solution)["W"]
    assert relative(DualBoundary().hypergradient(prepared, theta, solution)["W"], least_norm) <= 1e-9  # pinv's cut-off
