"""One-dimensional total variation: the taut string."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from methods.solvers.contract import Certificate, Factor, Point, Solved, Solver, refuse_unless_met
from problems.contract import Problem, Structure, Theta

Vector = Float[np.ndarray, " n"]
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
        X, U, pattern, numbers, counts = _solve(y.cpu().double().numpy(), len(W), weight)
        x, u = (torch.from_numpy(array).to(device=W.device, dtype=W.dtype) for array in (X, U))
        residual = float(numbers[:, 0].max())
        certificate = Certificate(*(torch.from_numpy(array) for array in (pattern, numbers, counts)))
        return Solved(x, u, 1, residual, residual <= self.tolerance, Pieces(U, weight), certificate)


class Pieces(Factor):
    """The saddle system on the pieces of x*: p is the mean of g over each, and a the running sum of what it leaves.

    O(n) per sample, and no factorisation: K0 is a chain of differences within each piece.
    """

    def __init__(self, U: Float[np.ndarray, "b k"], weight: float) -> None:
        self._U, self._weight = U, weight

    def adjoint(self, g: Tensor) -> Point:
        P, A = _adjoint(self._U, self._weight, g.detach().cpu().double().numpy())
        return Point(*(torch.from_numpy(array).to(device=g.device, dtype=g.dtype) for array in (P, A)))


def is_differences(W: Float[Tensor, "k n"]) -> bool:
    """Whether W is one weight times the first differences."""
    return not math.isnan(_weight(W.detach().cpu().double().numpy()))


@njit(cache=True, nogil=True)
def _weight(W: Float[np.ndarray, "k n"]) -> float:
    """The weight that W's first differences carry, 0 where there are none; NaN where W is something else."""
    k, n = W.shape
    if k >= n:
        return math.nan
    weight = W[0, 1] if k else 0.0
    for i in range(k):
        for j in range(n):
            expected = weight if j == i + 1 else (-weight if j == i else 0.0)
            if W[i, j] != expected:
                return math.nan
    return weight


@njit(cache=True, nogil=True)
def _solve(
    Y: Float[np.ndarray, "b n"], k: int, weight: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x (b, n), u (b, k), and the three arrays of a Certificate."""
    b, n = Y.shape
    X, U = Y.copy(), np.zeros((b, k))
    pattern, numbers, counts = np.zeros((b, k), np.int8), np.empty((b, 4)), np.ones((b, 4), np.int64)
    radius = abs(weight)
    bends, signs = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    corners, sums = np.empty((2, n + 1), np.int64), np.empty(k + 2)
    for sample in range(b):
        y, x, u = Y[sample], X[sample], U[sample]
        if radius > 0.0:
            chain = y[: k + 1]
            count = _bends(chain, radius, sums, bends, signs, corners)
            _pieces(chain, radius, bends, signs, count, x[: k + 1], u)
            if weight < 0.0:
                u *= -1.0
        _certify(y, x, u, weight, pattern[sample], numbers[sample], counts[sample])
    return X, U, pattern, numbers, counts


@njit(cache=True, nogil=True)
def _certify(y: Vector, x: Vector, u: Vector, weight: float, pattern: Vector, numbers: Vector, counts: Vector) -> None:
    """What methods.solvers.contract.Certificate holds, of one sample; no row depends on others but where W = 0."""
    gap, size, top, primal, dual, on = 0.0, 0.0, 0.0, np.inf, np.inf, 0
    for j in range(len(y)):
        before, after = u[j - 1] if 0 < j <= len(u) else 0.0, u[j] if j < len(u) else 0.0
        gap += 0.5 * (x[j] - y[j] + weight * (before - after)) ** 2
        size += 0.5 * y[j] ** 2
        if j < len(u):
            z = weight * (x[j + 1] - x[j])
            gap += abs(z) - u[j] * z
            size += abs(weight * (y[j + 1] - y[j]))
            top = max(top, abs(z))
            if abs(u[j]) == 1.0:
                pattern[j] = u[j]
                primal = min(primal, abs(z))
            else:
                dual, on = min(dual, 1.0 - abs(u[j])), on + 1
    numbers[0] = _residual(y, x, u, weight)
    numbers[1] = gap / size if size > 0.0 else 0.0
    numbers[2] = primal / top if top > 0.0 else (primal if primal == np.inf else 0.0)
    numbers[3] = dual if weight != 0.0 or on == 0 else np.nan
    counts[0], counts[1] = on, on if weight != 0.0 else 0


@njit(cache=True, nogil=True)
def _adjoint(
    U: Float[np.ndarray, "b k"], weight: float, G: Float[np.ndarray, "b n"]
) -> tuple[Float[np.ndarray, "b n"], Float[np.ndarray, "b k"]]:
    """(p, a): g - p = W0^T a reads g_i - p_i = weight (a_{i-1} - a_i) within a piece, which ends where |u| = 1."""
    b = len(G)
    k = U.shape[1]
    P, A = G.copy(), np.zeros((b, k))
    if weight == 0.0:
        return P, A
    for sample in range(b):
        start = 0
        for j in range(k + 1):
            if j == k or abs(U[sample, j]) == 1.0:
                mean, running = G[sample, start : j + 1].mean(), 0.0
                for i in range(start, j + 1):
                    P[sample, i] = mean
                    running += G[sample, i] - mean
                    if i < j:
                        A[sample, i] = -running / weight
                start = j + 1
    return P, A


@njit(cache=True, nogil=True)
def _wall(sums: Vector, radius: float, side: int, j: int) -> float:
    """Height of the tube's wall at j: side 1 is the upper one, side -1 the lower one turned upside down."""
    return side * sums[j] + (radius if 0 < j < len(sums) - 1 else 0.0)


@njit(cache=True, nogil=True)
def _bends(
    y: Vector, radius: float, sums: Vector, bends: Vector, signs: Vector, corners: Float[np.ndarray, "2 n"]
) -> int:
    """Where the string bends, 0 and n included, and at which wall (1, -1, or 0 at the ends). Returns their number.

    corners[0, first[0]:last[0]] are those of the greatest convex function below the upper wall, from the last bend (the
    apex) to j; corners[1] those of the lower wall upside down. The string bends at no other point.
    """
    n = len(y)
    mean, sums[0] = y.mean(), 0.0
    for j in range(n):  # a constant tilts the tube, no more: without it the sums stay small
        sums[j + 1] = sums[j] + (y[j] - mean)
    bends[0], signs[0], count = 0, 0, 1
    apex, height = 0, 0.0
    first, last = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for j in range(1, n + 1):
        for near in range(2):
            side, far = 1 - 2 * near, 1 - near
            end = _wall(sums, radius, side, j)
            while last[near] > first[near]:  # corners that the wall at j cuts off
                tip = corners[near, last[near] - 1]
                base, base_height = apex, side * height
                if last[near] - 1 > first[near]:
                    base = corners[near, last[near] - 2]
                    base_height = _wall(sums, radius, side, base)
                tip_height = _wall(sums, radius, side, tip)
                if (end - tip_height) * (tip - base) > (tip_height - base_height) * (j - tip):
                    break
                last[near] -= 1
            while last[near] == first[near] and last[far] > first[far]:  # the way to j is barred by the other wall
                corner = corners[far, first[far]]
                rise, rise_to_corner = end - side * height, -_wall(sums, radius, -side, corner) - side * height
                if corner == j or rise * (corner - apex) > rise_to_corner * (j - apex):
                    break
                apex, height = corner, sums[corner] - side * radius
                bends[count], signs[count] = corner, -side
                count += 1
                first[far] += 1
            corners[near, last[near]] = j
            last[near] += 1
    for near in range(2):  # both walls end in the one point n, and the string bends around what is left of either
        for position in range(first[near], last[near] - 1):
            bends[count], signs[count] = corners[near, position], 1 - 2 * near
            count += 1
    bends[count], signs[count] = n, 0
    return count + 1


@njit(cache=True, nogil=True)
def _pieces(y: Vector, radius: float, bends: Vector, signs: Vector, count: int, x: Vector, u: Vector) -> None:
    """x and u (for a positive weight) between the bends."""
    for piece in range(count - 1):
        start, stop = bends[piece], bends[piece + 1]
        length = stop - start
        mean = y[start:stop].mean()
        mean += (y[start:stop] - mean).mean()  # what the first sum rounded away
        value = mean + radius * (signs[piece + 1] - signs[piece]) / length
        running = 0.0
        for j in range(start, stop):
            x[j] = value
            running += value - y[j]
            if j < stop - 1:
                u[j] = min(1.0, max(-1.0, signs[piece] + running / radius))
        if stop < len(y):
            u[stop - 1] = signs[piece + 1]


@njit(cache=True, nogil=True)
def _residual(y: Vector, x: Vector, u: Vector, weight: float) -> float:
    """max(||x - y + W^T u||_inf / |y|, ||u - proj(u + W x / |W y|)||_inf), |W y| read as ||W||_2 ||y||_inf."""
    n, k = len(y), len(u)
    size = np.abs(y).max()
    size_y = size if size > 0.0 else 1.0
    size_Ky = 2.0 * abs(weight) * math.cos(math.pi / (2 * (k + 1))) * size
    if size_Ky == 0.0:
        size_Ky = 1.0
    worst = 0.0
    for j in range(n):
        before = u[j - 1] if 0 < j <= k else 0.0
        after = u[j] if j < k else 0.0
        worst = np.maximum(worst, abs(x[j] - y[j] + weight * (before - after)) / size_y)
        if j < k:
            moved = u[j] + weight * (x[j + 1] - x[j]) / size_Ky
            worst = np.maximum(worst, abs(u[j] - min(1.0, max(-1.0, moved))))
    return worst
