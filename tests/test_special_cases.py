"""Where the papers give x* and its derivative in closed form (readings.md J.25, J.26)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.active_set_adjoint import ActiveSetAdjoint
from methods.blorc import Blorc
from methods.solvers.active_set import ActiveSet
from methods.torch_closed_form import TorchClosedForm
from problems.analysis_l1 import AnalysisL1, Settings

EXACT = [Blorc(), ActiveSetAdjoint(), TorchClosedForm()]


def instance(W, y, x_true):
    W, y, x_true = (torch.as_tensor(np.asarray(value), dtype=torch.float64) for value in (W, y, x_true))
    return replace(AnalysisL1.build(Settings(n=W.shape[1])), W=W, y=y, x_true=x_true)


@pytest.mark.parametrize("method", EXACT, ids=lambda method: type(method).__name__)
@given(w=st.floats(-2, 2), y=st.floats(0.01, 2), x_true=st.floats(-1, 1))
def test_scalar_case(method, w, y, x_true):
    """J.25: x* = y - |w| where |w| < y, else 0; the loss's slope is -sign(w) (x* - x_true), or 0."""
    if min(abs(w), abs(abs(w) - y)) < 1e-6:
        return  # the kinks at w = 0, -y and y
    problem = instance([[w]], [[y]], [[x_true]])
    prepared = method.prepare(problem)
    solution = method.solve(prepared, problem.theta0())
    x = max(y - abs(w), 0.0)
    slope = -np.sign(w) * (x - x_true) if abs(w) < y else 0.0
    assert float(solution.x) == pytest.approx(x, abs=1e-14)
    assert float(method.hypergradient(prepared, problem.theta0(), solution)["W"]) == pytest.approx(slope, abs=1e-13)


@given(n=st.integers(1, 24), weight=st.floats(0.01, 1.0), seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_orthogonal_case(n, weight, seed):
    """J.26: W = lambda Q with Q Q^T = I gives x* = Q^T S_lambda(Q y)."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    y = rng.normal(size=(2, n))
    solved = ActiveSet().solve(problem := instance(weight * Q, y, np.zeros_like(y)), problem.theta0())
    code = y @ Q.T
    expected = (np.sign(code) * np.maximum(np.abs(code) - weight, 0)) @ Q
    assert solved.converged
    # rounding of a product of n terms of size |y|, a few times over
    assert np.abs(solved.x.numpy() - expected).max() <= 1e-13 * max(1.0, np.abs(y).max()) * n


@pytest.mark.parametrize("method", EXACT, ids=lambda method: type(method).__name__)
def test_gradient_in_the_weight_of_an_orthogonal_transform(method):
    """Along W = lambda Q, dL/dlambda = -sum over the support of sign(c_i) (c*_i - c_true_i), with c = Q y."""
    rng = np.random.default_rng(1)
    Q, weight = np.linalg.qr(rng.normal(size=(12, 12)))[0], 0.6
    y, x_true = rng.normal(size=(1, 12)), rng.normal(size=(1, 12))
    problem = instance(weight * Q, y, x_true)
    prepared = method.prepare(problem)
    gradient = method.hypergradient(prepared, problem.theta0(), method.solve(prepared, problem.theta0()))["W"].numpy()
    code, target = (y @ Q.T)[0], (x_true @ Q.T)[0]
    shrunk = np.sign(code) * np.maximum(np.abs(code) - weight, 0)
    support = np.abs(code) > weight
    expected = -(np.sign(code) * (shrunk - target))[support].sum()
    assert (gradient * Q).sum() == pytest.approx(expected, abs=1e-12)  # rounding of 144 terms of size one


def test_no_row_and_every_row_on_the_cosupport():
    rng = np.random.default_rng(2)
    y, x_true = rng.normal(size=(1, 6)), rng.normal(size=(1, 6))
    for weight, expected_rows in ((1e-3, 0), (1e3, 6)):
        problem = instance(weight * np.eye(6), y, x_true)
        gradients = []
        for method in EXACT:
            prepared = method.prepare(problem)
            solution = method.solve(prepared, problem.theta0())
            assert int((solution.x @ problem.W.T).abs().lt(1e-12).sum()) == expected_rows
            gradients.append(method.hypergradient(prepared, problem.theta0(), solution)["W"])
        assert all(torch.allclose(gradients[0], other, atol=1e-13) for other in gradients)


def test_ill_conditioned_cosupport_takes_the_pivoted_route():
    """PEERS.md: cond(W0) = 1e6 ruins a Gram matrix (error 1e10), QR keeps 5e-11."""
    rng = np.random.default_rng(3)
    n, m = 16, 8
    left, right = (np.linalg.qr(rng.normal(size=size))[0] for size in ((m, m), (n, n)))
    W0 = left @ np.diag(np.logspace(0, -6, m)) @ right[:m]
    g = rng.normal(size=n)
    from methods.solvers._active_set_compiled import factor_of

    exact = left @ np.diag(np.logspace(0, 6, m)) @ right[:m] @ g
    # the conditioning times the rounding is 1e-10, with room for constants
    a = factor_of(torch.from_numpy(W0), np.ones((1, m), bool)).adjoint(torch.from_numpy(g)[None])[1][0].numpy()
    assert np.linalg.norm(a - exact) <= 1e-9 * np.linalg.norm(exact)


@pytest.mark.parametrize("transform", ["dct", "gaussian", "finite_difference", "identity"])
@pytest.mark.parametrize("k", [10, 16, 32])
def test_active_set_is_certified_or_says_so(transform, k):
    problem = AnalysisL1.build(Settings(n=16, k=k, transform=transform, scale=0.3, pairs=8, seed=1))
    solved = ActiveSet().solve(problem, problem.theta0())
    W, x, u = problem.W, solved.x, solved.u
    assert solved.converged
    assert (u.abs() <= 1).all()
    # the duality gap of min 1/2 |x - y|^2 + |Wx|_1: zero exactly at a solution
    primal = 0.5 * ((x - problem.y) ** 2).sum(1) + (x @ W.T).abs().sum(1)
    dual = 0.5 * (problem.y**2).sum(1) - 0.5 * ((problem.y - u @ W) ** 2).sum(1)
    assert (primal - dual).abs().max() <= 1e-11


def test_warm_start_takes_one_step():
    problem = AnalysisL1.build(Settings(n=32, transform="dct", scale=0.2, pairs=4))
    cold = ActiveSet().solve(problem, problem.theta0())
    from methods.solvers.contract import Point

    warm = ActiveSet().solve(problem, problem.theta0(), Point(cold.x, cold.u))
    assert warm.iterations == 1
    assert torch.allclose(warm.x, cold.x, atol=1e-14)
