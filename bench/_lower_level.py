"""One pair of training data at one theta as arrays, for the reference alone: read off column by column."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from problems.contract import Problem, Theta

CERTIFICATE = 1e-12
"""Relative residual up to which a solution counts as exact."""
EPS = float(np.finfo(float).eps)

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
        skew, apart = np.abs(self.H - self.H.T).max(), np.abs(self.M - self.K.T)
        return bool(skew <= 1e-14 * np.abs(self.H).max() and (apart <= 1e-14 * np.abs(self.M)).all())

    @cached_property
    def unit(self) -> Unit:
        """The same lower level with everything in its own unit."""
        return Unit.of(self)


@dataclass(frozen=True)
class Unit:
    """The lower level in units of its own: no row of K, column of M or entry of x is larger for its scale alone.

    With x = x~ / units, the rows of K / units divided by their lengths, which no sign of K x notices, and M's columns
    by theirs, which makes |u_i| <= 1 the bound |weights_i u_i| <= weights_i on a force:

        0 in H x~ - b + M (weights dg(K x~)),      H = (H_ij / (units_i units_j)) with a diagonal of about one.

    All units are powers of two, so that nothing is rounded. A zero row keeps its length of zero, in units of one.
    """

    H: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, " n"]
    K: Float[np.ndarray, "k n"]
    M: Float[np.ndarray, "n k"]
    units: Vector
    lengths: Signs
    """Of K's rows."""
    weights: Signs
    """Of M's columns."""
    rounding: float
    """What the entries of H and b may be off by, relatively: nothing where the data term is that of denoising."""

    @classmethod
    def of(cls, level: LowerLevel) -> Unit:
        units = _power_of_two(np.sqrt(np.abs(level.H.diagonal())))
        K, M = level.K / units, level.M / units[:, None]
        lengths, weights = _power_of_two(np.sqrt((K * K).sum(1))), _power_of_two(np.sqrt((M * M).sum(0)))
        H, b = level.H / np.outer(units, units), level.b / units
        rounding = 0.0 if _is_exact(level.H) else EPS
        return cls(H, b, K / lengths[:, None], M / weights, units, lengths, weights, rounding)

    @property
    def size_of_b(self) -> float:
        """What forces are relative to; tiny where b = 0."""
        return max(float(np.abs(self.b).max()), 1e-300)

    @property
    def size_of_x(self) -> float:
        """The size that x can have."""
        return self.size_of_b / float(np.abs(self.H).max())


def _is_exact(H: Float[np.ndarray, "n n"]) -> bool:
    """Whether H is the identity times a power of two: no sum was rounded, neither in H nor in b."""
    return bool(np.array_equal(H, H[0, 0] * np.eye(len(H))) and np.frexp(H[0, 0])[0] == 0.5)


def _power_of_two(sizes: np.ndarray) -> np.ndarray:
    """The nearest one; 1 for zero."""
    exponents = np.log2(np.where(sizes > 0, sizes, 1.0).astype(float)).round().astype(int)
    return np.ldexp(np.ones_like(sizes), exponents)


def F_and_jacobian(problem: Problem, theta: Theta, x: Vector) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """F(x) and F_x(x), row by row and not by `linearise`, which a family may have written itself."""
    point = torch.from_numpy(x)[None].requires_grad_()
    with torch.enable_grad():
        F = problem.F(point, theta)
    rows = torch.eye(len(x), dtype=torch.float64)[:, None]
    return F.detach()[0], torch.autograd.grad(F, point, rows, is_grads_batched=True)[0][:, 0]
