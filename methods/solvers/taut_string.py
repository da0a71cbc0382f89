"""One-dimensional total variation: the taut string."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers import _taut_string_cpu as kernels
from methods.solvers._machine_code import MachineCode
from methods.solvers.contract import Certificate, Factor, Point, Solved, Solver, refuse_unless_met
from problems.contract import Problem, Structure, Theta

CODE = MachineCode(kernels.__name__, "the taut string", 5)
NOT_DIFFERENCES = "needs W = weight * (x[j+1] - x[j]), the first k < n rows of one weight"
REMEDY = "set transform = 'finite_difference', k = n - 1 or less, or solver = 'active_set'"


class TautString(Solver):
    """The exact solution for W = weight * the first k differences, weight of either sign (Davies and Kovac, "Local
    extremes, runs, strings and multiresolution", Annals of Statistics, 2001, section 2; Condat, "A direct algorithm for
    1-D total variation denoising", IEEE Signal Processing Letters, 2013, equations 3 and 4).

    Invariant: with Y the running sums of y and r those of x, F(x) + W^T u = 0 says r_j = Y_j + |weight| u_j, and so
    |u| <= 1 is a tube around Y that r starts and ends in the middle of. x* is the slope of the shortest r in it: a
    string, which bends upwards only at the tube's upper wall (u = 1) and downwards at its lower one (u = -1). A funnel
    from the last bend, its walls the convex hull of the tube's, gives the bends in order. Each piece's value is then
    taken from y itself, and u from running sums that begin anew at every bend, so that rounding stays in its piece.

    Where k < n - 1 the string ends at sample k, and x = y beyond.

    Time: O(n) per sample, direct; to read W, which is dense, O(n^2) per call. Memory: O(n). Single thread. Where pieces
    tie, to rounding, either pattern is returned. Raises ValueError for any other W.
    """

    requires: ClassVar[Structure] = Structure.TRANSFORM | Structure.IDENTITY_FORWARD | Structure.L1

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Relative KKT residual that counts as converged."""

    def refusal(self, problem: Problem) -> str | None:
        missing = refuse_unless_met(self, problem)
        if missing or is_differences(problem.theta0()["W"]):
            return missing
        return f"solver taut_string {NOT_DIFFERENCES}: {REMEDY}"

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        """`iterations` is 1: the method is direct, and a warm start is of no use to it."""
        del warm
        W = theta["W"].detach()
        weight = _weight(W.cpu().double().numpy())
        if math.isnan(weight):
            raise ValueError(f"taut_string {NOT_DIFFERENCES}: {REMEDY}")
        y = -problem.F(W.new_zeros((problem.batch, W.shape[1])), theta)
        CODE.load()
        X, U, pattern, numbers, counts = kernels.solve(_contiguous(y), len(W), weight)
        x, u = (torch.from_numpy(array).to(device=W.device, dtype=W.dtype) for array in (X, U))
        residual = float(numbers[:, 0].max())
        certificate = Certificate(*(torch.from_numpy(array) for array in (pattern, numbers, counts)))
        return Solved(x, u, 1, residual, residual <= self.tolerance, Pieces(U, weight, W.shape[1]), certificate)


class Pieces(Factor):
    """The saddle system on the pieces of x*: p is the mean of g over each, and a the running sum of what it leaves.

    O(n) per sample, and no factorisation: K0 is a chain of differences within each piece.
    """

    def __init__(self, U: Float[np.ndarray, "b k"], weight: float, n: int) -> None:
        self._U, self._weight, self._shape = U, weight, (len(U), n)

    def adjoint(self, g: Tensor) -> Point:
        """Raises ValueError where g is not one row of x's length per sample."""
        G = _contiguous(g)
        if G.shape != self._shape:
            raise ValueError(f"the taut string needs g of shape {self._shape}, not {G.shape}")
        P, A = kernels.adjoint(self._U, self._weight, G)
        return Point(*(torch.from_numpy(array).to(device=g.device, dtype=g.dtype) for array in (P, A)))


def is_differences(W: Float[Tensor, "k n"]) -> bool:
    """Whether W is one weight times the first differences."""
    return not math.isnan(_weight(W.detach().cpu().double().numpy()))


def _weight(W: Float[np.ndarray, "k n"]) -> float:
    """The weight that W's first differences carry, 0 where there are none; NaN where W is something else."""
    k, n = W.shape
    if k >= n:
        return math.nan
    weight = float(W[0, 1]) if k else 0.0
    # The diagonals first: what is no difference shows there already, in O(k).
    ours = (W.diagonal(1)[:k] == weight).all() and (W.diagonal() == -weight).all()
    return weight if ours and np.count_nonzero(W) == (2 * k if weight else 0) else math.nan


def _contiguous(value: Tensor) -> np.ndarray:
    """As the kernels are compiled for."""
    array: np.ndarray = value.detach().cpu().double().numpy()
    return array if array.flags.carray else array.copy()
