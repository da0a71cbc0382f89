"""A theta that is not finite, or far too large: methods end soon, and blame neither their rows nor their settings."""

from __future__ import annotations

import re

import pytest
import torch

from methods.active_set_adjoint import ActiveSetAdjoint
from methods.blorc import Blorc
from methods.contract import Method
from methods.dual_boundary import DualBoundary
from methods.equilibrium import Equilibrium
from methods.finite_differences import STEPS, FiniteDifferences
from methods.piggyback import Piggyback
from methods.sign_splitting import SignSplitting
from methods.smoothed_implicit import SmoothedImplicit
from methods.unrolled_reverse import UnrolledReverse
from problems.analysis_l1 import AnalysisL1, Settings

PROBLEM = AnalysisL1.build(Settings(n=6, transform="dct", scale=0.2))
METHODS: list[Method] = [
    ActiveSetAdjoint(),
    Blorc(),
    DualBoundary(),
    Equilibrium(),
    Piggyback(),
    SignSplitting(),
    SmoothedImplicit(),
    SmoothedImplicit(smoothing="corner_rounded"),
    SmoothedImplicit(hessian="cg"),
    SmoothedImplicit(solve_by="accelerated_gradient", max_steps=1000),
    UnrolledReverse(steps=20),
]
BLAME = re.compile("depend|raise adjoint_steps|positive-definite|not SPD", re.IGNORECASE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_is_not_finite_is_not_called_anything_else(method: Method, value: float) -> None:
    theta = {"W": PROBLEM.theta0()["W"].clone()}
    theta["W"][0, 0] = value
    prepared = method.prepare(PROBLEM)
    said, exact = "", False
    try:
        solution = method.solve(prepared, theta)
        gradient = method.hypergradient(prepared, theta, solution)["W"]
        exact = bool(solution.converged and gradient.isfinite().all())
    except (ArithmeticError, RuntimeError) as error:
        said = str(error)
    if value != 1e308:  # where a method may have an answer, and rows be too unlike in size for one
        assert not exact
        assert not said or "finite" in said
        assert not BLAME.search(said)


def test_a_matrix_that_is_not_finite_is_not_called_indefinite() -> None:
    from methods.solvers._affine import factorised

    assert factorised(torch.full((2, 2), torch.nan), PROBLEM)(torch.ones(1, 2)).isnan().all()


def test_differences_in_single_precision_take_a_step_of_that_precision() -> None:
    """At 1e-6 they were off by 2 %. Central differences of unit size: (3 eps / 2)^(2/3) = 3e-5 is the least."""
    exact = Blorc()
    prepared = exact.prepare(PROBLEM)
    R = exact.hypergradient(prepared, PROBLEM.theta0(), exact.solve(prepared, PROBLEM.theta0()))["W"]
    errors = {}
    for dtype in STEPS:
        problem, method = PROBLEM.to("cpu", dtype), FiniteDifferences()
        own = method.prepare(problem)
        G = method.hypergradient(own, problem.theta0(), method.solve(own, problem.theta0()))["W"]
        assert G.dtype == dtype
        errors[dtype] = float((G.double() - R).norm() / R.norm())
    assert errors[torch.float32] < 3e-4
    assert errors[torch.float64] < 1e-8
