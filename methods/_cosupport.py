"""Which rows of K x* vanish: read from the primal-dual pair, without a threshold; and what a threshold must exceed."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from problems.contract import Problem, Theta, scales

Array = TypeVar("Array", np.ndarray, Tensor)


def cosupport(Kx: Array, u: Array, scale: float | Array) -> Array:
    """True where |(Kx)_i| / scale < 1 - |u_i|, entry by entry; Kx, u and the result have the same shape.

    At an exact solution one of the two sides is zero. With a residual of r they are told apart wherever the margin, of
    whichever side is not zero, exceeds r; a row with no margin on either side is a kink and counts as support.
    `scale` is the size that (Kx)_i can have, row by row: the length of the row of K times the size of y.
    """
    return abs(Kx) < scale * (1.0 - abs(u))


def size_of_rows(problem: Problem, theta: Theta) -> Float[Tensor, "b k"]:
    """What each (K x)_i is relative to: the length of K's own row, times max|F(0)| of the sample. One product with n
    columns."""
    with torch.no_grad():
        y = scales(problem, theta).y[:, None]
        eye = torch.eye(problem.x_shape[0], dtype=y.dtype, device=y.device)
        return y * unit_of(problem.K(eye, theta).norm(dim=0))


def unit_of(length: Tensor) -> Tensor:
    """What a row, or a column, of that length is divided by: nothing where it is zero."""
    return torch.where(length > 0, length, 1.0)


def refusal_below_rounding(gamma: float, problem: Problem) -> str | None:
    """Why a threshold on u, or on K x where that is of the size of one, is too small for the float type."""
    dtype = next(iter(problem.theta0().values())).dtype
    resolved = 10 * torch.finfo(dtype).eps
    if gamma >= resolved:
        return None
    return f"gamma = {gamma:g} is below what {dtype} resolves: set gamma to {resolved:.0e} or more"
