"""Which rows of K x* vanish: read from the primal-dual pair, without a threshold; and what a threshold must exceed."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from problems.contract import Problem

Array = TypeVar("Array", np.ndarray, Tensor)


def cosupport(Kx: Array, u: Array, scale: float | Array) -> Array:
    """True where |(Kx)_i| / scale < 1 - |u_i|, entry by entry; Kx, u and the result have the same shape.

    At an exact solution one of the two sides is zero. With a residual of r they are told apart wherever the margin, of
    whichever side is not zero, exceeds r; a row with no margin on either side is a kink and counts as support.
    `scale` is the size that Kx can have, such as ||K|| ||y||.
    """
    return abs(Kx) < scale * (1.0 - abs(u))


def refusal_below_rounding(gamma: float, problem: Problem) -> str | None:
    """Why a threshold on u, or on K x where that is of the size of one, is too small for the float type."""
    dtype = next(iter(problem.theta0().values())).dtype
    resolved = 10 * torch.finfo(dtype).eps
    if gamma >= resolved:
        return None
    return f"gamma = {gamma:g} is below what {dtype} resolves: set gamma to {resolved:.0e} or more"
