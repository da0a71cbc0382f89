"""One pair of training data at one theta as arrays, for the reference alone: read off column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from problems.contract import Problem, Theta

CERTIFICATE = 1e-12
"""Relative residual up to which a solution counts as exact."""

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "k n"]
Signs = Float[np.ndarray, " k"]


class NoReference(RuntimeError):
    """The lower level could not be solved to the certificate."""


@dataclass(frozen=True)
class LowerLevel:
    """0 in H x - b + M dg(K x), as arrays in long double."""

    H: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, " n"]
    K: Float[np.ndarray, "k n"]
    M: Float[np.ndarray, "n k"]

    @classmethod
    def of(cls, problem: Problem, theta: Theta) -> LowerLevel:
        """The matrices, read off from the problem's own F, K and M."""
        n, k = problem.x_shape[0], problem.u_shape[0]
        dtype = next(iter(theta.values())).dtype
        F, H = F_and_jacobian(problem, theta, np.zeros(n))
        K, M = problem.K(torch.eye(n, dtype=dtype), theta).T, problem.M(torch.eye(k, dtype=dtype), theta).T
        arrays = (part.detach().numpy().astype(np.longdouble) for part in (H, -F, K, M))
        return cls(*arrays)

    @property
    def size_of_b(self) -> float:
        """What the residual of the first equation is relative to; tiny where b = 0."""
        return max(float(np.abs(self.b).max()), 1e-300)

    @property
    def size_of_Kx(self) -> float:
        """What K x is relative to: ||K|| times the size that x can have."""
        return max(float(np.linalg.norm(self.K.astype(float))), 1e-300) * self.size_of_b / float(np.abs(self.H).max())

    @property
    def is_minimisation(self) -> bool:
        """Whether H is symmetric and M = K^T, to rounding: then clipped u and the sign of K x are optimality."""
        skew, apart = np.abs(self.H - self.H.T).max(), np.abs(self.M - self.K.T).max(initial=0.0)
        return bool(skew <= 1e-14 * np.abs(self.H).max() and apart <= 1e-14 * np.abs(self.K).max(initial=0.0))


def F_and_jacobian(problem: Problem, theta: Theta, x: Vector) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """F(x) and F_x(x), row by row and not by `linearise`, which a family may have written itself."""
    point = torch.from_numpy(x)[None].requires_grad_()
    with torch.enable_grad():
        F = problem.F(point, theta)
    rows = torch.eye(len(x), dtype=torch.float64)[:, None]
    return F.detach()[0], torch.autograd.grad(F, point, rows, is_grads_batched=True)[0][:, 0]
