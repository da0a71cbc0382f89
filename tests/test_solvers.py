"""The first-order solvers against another make of solver, closed forms, and the KKT residual recomputed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from first_order_truth import AffineGame, build, clarabel
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.solvers.admm import Admm
from methods.solvers.contract import FirstOrder, Point
from methods.solvers.dual_fista import DualFista
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.pdhg import Pdhg
from problems.contract import kkt_residual, scales

SOLVERS = [Admm(), DualPgd(), DualFista(), Pdhg()]
BY_NAME = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)

INSTANCES = [
    {"n": 16, "k": 12, "transform": "gaussian", "scale": 0.2},
    {"n": 16, "k": 24, "transform": "gaussian", "scale": 0.2, "fidelity": "full"},
    {"n": 24, "transform": "dct", "scale": 0.2, "forward": "gaussian"},
    {"n": 24, "k": 36, "transform": "dct", "scale": 0.1, "forward": "gaussian", "fidelity": "full"},
    {"n": 32, "k": 24, "transform": "gaussian", "scale": 0.2, "forward": "blur"},
    {"n": 64, "k": 48, "transform": "gaussian", "scale": 0.2},
]


@BY_NAME
@pytest.mark.parametrize(
    "instance", INSTANCES, ids=lambda instance: "-".join(str(value) for value in instance.values())
)
def test_solution_is_that_of_an_interior_point_method(solver: FirstOrder, instance: dict) -> None:
    problem = build(pairs=2, **instance)
    theta = problem.theta0()
    solved = solver.model_copy(update={"tolerance": 1e-12}).solve(problem, theta)
    assert solved.converged
    assert float(kkt_residual(problem, solved.x, solved.u, theta, scales(problem, theta)).max()) <= 1e-12
    # Clarabel's x was within 2e-10 of the active sets' here; the residual is magnified by up to 100, by the blur.
    torch.testing.assert_close(solved.x, clarabel(problem), rtol=0, atol=5e-10)


@BY_NAME
@pytest.mark.parametrize("weight", [0.05, 0.4])
def test_orthogonal_transform_is_soft_thresholding(solver: FirstOrder, weight: float) -> None:
    """x* = Q^T soft(Q y, weight) for W = weight * Q (BLORC journal, section 3.2.2; J.26)."""
    problem = build(n=32, transform="dct", scale=weight, pairs=3)
    Q = problem.W / weight
    z = problem.y @ Q.T
    closed = (z - z.clamp(-weight, weight)) @ Q
    solved = solver.solve(problem, problem.theta0())
    # A residual of 1e-10 is relative to ||W|| max|y|, and x follows from it with a factor of at most 1 / ||W||.
    torch.testing.assert_close(solved.x, closed, rtol=0, atol=1e-10 / weight * float(problem.y.abs().max()))


@BY_NAME
@settings(max_examples=10, deadline=None)
@given(y=st.floats(0.1, 2.0), w=st.floats(0.1, 2.0), sign=st.sampled_from([-1.0, 1.0]))
def test_scalar_problem(solver: FirstOrder, y: float, w: float, sign: float) -> None:
    """x* = y - |w| where |w| <= y, else 0 (BLORC journal, section 3.2.1; J.25)."""
    problem = replace(build(n=1, transform="identity"), y=torch.tensor([[y]], dtype=torch.float64))
    solved = solver.solve(problem, {"W": torch.tensor([[sign * w]], dtype=torch.float64)})
    # The residual, 1e-10, is relative to |w| y; x follows from it with a factor of at most y, or 1/|w| beyond the kink.
    assert float(solved.x) == pytest.approx(max(y - w, 0.0), abs=1e-9)


@BY_NAME
def test_full_fidelity_is_half_of_the_transform(solver: FirstOrder) -> None:
    """||x - y||^2 + ||W x||_1 has the minimiser of 1/2 ||x - y||^2 + ||W/2 x||_1 (X.1)."""
    full = build(n=20, k=15, transform="gaussian", fidelity="full", scale=0.4, pairs=2)
    half = build(n=20, k=15, transform="gaussian", fidelity="half", scale=0.2, pairs=2)
    x = [solver.solve(problem, problem.theta0()).x for problem in (full, half)]
    torch.testing.assert_close(
        x[0], x[1], rtol=0, atol=1e-8
    )  # two residuals of 1e-10, over ||W||'s smallest singular value


@BY_NAME
def test_warm_start_takes_no_step_and_stays(solver: FirstOrder) -> None:
    problem = build(n=24, k=18, transform="gaussian", scale=0.2, pairs=3, forward="gaussian")
    theta = problem.theta0()
    solved = solver.solve(problem, theta)
    assert solved.iterations > 0
    assert solver.solve(problem, theta, Point(solved.x, solved.u)).iterations == 0
    iteration = solver.bind(problem, theta)
    state = iteration.step(iteration.start(Point(solved.x, solved.u)))
    torch.testing.assert_close(iteration.primal(state), solved.x, rtol=0, atol=1e-8)  # the residual, over ||W||


@pytest.mark.parametrize("solver", [DualPgd(), Pdhg()], ids=["DualPgd", "Pdhg"])
def test_equilibrium_that_is_no_minimum(solver: FirstOrder) -> None:
    """F_x not symmetric, M not K^T: F(x) + M u = 0 and u in the subdifferential, checked entry by entry."""
    problem = AffineGame.sample(n=12, pairs=4)
    theta = problem.theta0()
    solved = solver.solve(problem, theta)
    stationarity = problem.F(solved.x, theta) + problem.M(solved.u, theta)
    assert float(stationarity.abs().max()) <= 1e-9  # 1e-10 times max|y|, below 4
    differences = problem.K(solved.x, theta)
    moving = differences.abs() > 1e-8
    assert 0 < int(moving.sum()) < moving.numel()
    torch.testing.assert_close(solved.u[moving], differences[moving].sign(), rtol=0, atol=1e-9)
    assert float(solved.u.abs().max()) <= 1.0


@pytest.mark.parametrize("solver", [Admm(), DualFista()], ids=["Admm", "DualFista"])
def test_a_game_is_refused_with_the_remedy(solver: FirstOrder) -> None:
    refusal = solver.refusal(AffineGame.sample(n=4, pairs=1))
    assert refusal is not None
    assert "minimisation" in refusal
    assert "symmetric weights" in refusal


@pytest.mark.parametrize("solver", [Admm(), DualPgd(), DualFista()], ids=["Admm", "DualPgd", "DualFista"])
def test_missing_samples_are_refused(solver: FirstOrder) -> None:
    refusal = solver.refusal(build(n=16, forward="mask"))
    assert refusal is not None
    assert "full column rank" in refusal


@BY_NAME
def test_zero_transform_returns_the_data(solver: FirstOrder) -> None:
    problem = build(n=8, pairs=2, scale=0.0)
    solved = solver.solve(problem, problem.theta0())
    assert solved.converged
    torch.testing.assert_close(solved.x, problem.y, rtol=0, atol=1e-9)  # the residual times max|y|


def test_steps_run_out_without_a_claim() -> None:
    solved = DualPgd(max_steps=3).solve(problem := build(n=32, transform="gaussian", forward="blur"), problem.theta0())
    assert solved.iterations == 3
    assert not solved.converged
    assert solved.residual > 1e-10
