"""The exact code, Jacobian and gradients of small lassos in numpy, their signs from Clarabel and proved here.

Shares nothing with the code under test: the conic solver gives the support, normal equations on it the code.
"""

from __future__ import annotations

from typing import NamedTuple

import cvxpy as cp
import numpy as np
import torch

from problems.synthesis_lasso import Settings, SynthesisLasso


class Code(NamedTuple):
    """One sample: z*, its certificate, the support, and how far it is from a kink."""

    z: np.ndarray
    u: np.ndarray
    support: np.ndarray
    margin: float


def build(**settings: object) -> SynthesisLasso:
    return SynthesisLasso.build(Settings.model_validate(settings))


def matrices(problem: SynthesisLasso) -> tuple[np.ndarray, np.ndarray]:
    """(A, D)."""
    A = np.eye(problem.D.shape[0]) if problem.A is None else problem.A.numpy()
    return A, problem.D.numpy()


def solve(problem: SynthesisLasso, sample: int = 0) -> Code:
    """Raises AssertionError where the pattern that Clarabel finds fails its certificate."""
    A, D = matrices(problem)
    B, y, weight = A @ D, problem.y[sample].numpy(), problem.settings.weight
    z = cp.Variable(B.shape[1])
    cone = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(B @ z - y) + weight * cp.norm1(z)))
    cone.solve(solver="CLARABEL", tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
    on = np.abs(z.value) > 1e-6
    signs = np.sign(z.value[on])
    code, u = np.zeros(B.shape[1]), B.T @ y / weight
    code[on] = np.linalg.solve(B[:, on].T @ B[:, on], B[:, on].T @ y - weight * signs)
    u = B.T @ (y - B @ code) / weight
    assert np.array_equal(np.sign(code[on]), signs)
    margin = min(np.abs(code[on]).min(initial=np.inf), (1 - np.abs(u[~on])).min(initial=np.inf))
    assert margin > 1e-4
    u[on] = signs
    return Code(code, u, on, margin)


def codes(problem: SynthesisLasso) -> torch.Tensor:
    """z* of every sample."""
    return torch.from_numpy(np.stack([solve(problem, sample).z for sample in range(problem.batch)]))


def jacobian(problem: SynthesisLasso, code: Code, sample: int = 0) -> np.ndarray:
    """dz*/dD, (p, m, p): on the support, with A = I, H_SS dz_S = dD_S^T (y - D z) - D_S^T dD z."""
    assert problem.A is None
    D, y, on = problem.D.numpy(), problem.y[sample].numpy(), code.support
    m, p = D.shape
    residual = y - D @ code.z
    pick = np.eye(p)[on]
    right = np.einsum("sj,i->sij", pick, residual) - np.einsum("is,j->sij", D[:, on], code.z)
    J = np.zeros((p, m, p))
    J[on] = np.linalg.solve(D[:, on].T @ D[:, on], right.reshape(len(pick), -1)).reshape(right.shape)
    return J


def gradient(problem: SynthesisLasso) -> np.ndarray:
    """dL/dD with A = I, from the Jacobian: the direct part and J^T g_z."""
    D, total = problem.D.numpy(), np.zeros(tuple(problem.D.shape))
    for sample in range(problem.batch):
        code = solve(problem, sample)
        target = (problem.x_true if problem.settings.loss == "supervised" else problem.y)[sample].numpy()
        misfit = D @ code.z - target
        g_z = D.T @ misfit
        if problem.settings.loss == "lasso":
            g_z = g_z + problem.settings.weight * np.sign(code.z)
        total += np.outer(misfit, code.z) + np.einsum("pij,p->ij", jacobian(problem, code, sample), g_z)
    return total


def relative(found: torch.Tensor | np.ndarray, truth: torch.Tensor | np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(found) - np.asarray(truth)) / np.linalg.norm(np.asarray(truth)))
