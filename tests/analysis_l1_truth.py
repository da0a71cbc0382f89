"""The exact solution and gradient of a small analysis-l1 instance, by a conic solver and one linear system.

Shares nothing with the methods under test: Clarabel through cvxpy's own front end gives the sign pattern, the saddle
system of problems/README.md in numpy gives (x*, u) and (p, a), and the certificate is checked.
"""

from __future__ import annotations

from typing import NamedTuple

import cvxpy as cp
import numpy as np

from problems.analysis_l1 import AnalysisL1


class Truth(NamedTuple):
    """One sample: x*, its certificate, the adjoint pair, the loss and dL/dW."""

    x: np.ndarray
    u: np.ndarray
    p: np.ndarray
    a: np.ndarray
    loss: float
    gradient: np.ndarray
    margin: float


def solve(problem: AnalysisL1, W: np.ndarray, sample: int = 0) -> Truth:
    """Raises AssertionError where the pattern that Clarabel finds fails its certificate."""
    y, x_true = problem.y[sample].numpy(), problem.x_true[sample].numpy()
    k, n = W.shape
    c = 1.0 if problem.settings.fidelity == "half" else 2.0
    A = np.eye(n) if problem.A is None else problem.A.numpy()
    x = cp.Variable(n)
    objective = cp.Minimize(c / 2 * cp.sum_squares(A @ x - y) + cp.norm1(W @ x))
    cp.Problem(objective).solve(solver="CLARABEL", tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)

    z = W @ x.value
    zero = np.abs(z) < 1e-5 * max(1.0, np.abs(z).max())
    u = np.where(zero, 0.0, np.sign(z))
    W0, H = W[zero], c * A.T @ A
    saddle = np.block([[H, W0.T], [W0, np.zeros((len(W0), len(W0)))]])
    solution = np.linalg.solve(saddle, np.concatenate([c * A.T @ y - W.T @ u, np.zeros(len(W0))]))
    x_star, u[zero] = solution[:n], solution[n:]
    z = W @ x_star
    margin = min(np.abs(z[~zero]).min(initial=np.inf), (1 - np.abs(u[zero])).min(initial=np.inf))
    assert np.array_equal(np.sign(z[~zero]), u[~zero])
    assert margin > 0

    g = x_star - x_true
    adjoint = np.linalg.solve(saddle, np.concatenate([g, np.zeros(len(W0))]))
    p, a = adjoint[:n], np.zeros(k)
    a[zero] = adjoint[n:]
    return Truth(x_star, u, p, a, 0.5 * float(g @ g), -(np.outer(u, p) + np.outer(a, x_star)), margin)
