"""Compiled kernels of the taut string (methods/solvers/taut_string.py), which says what they compute."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numba import float64, int64, njit

Vector = Float[np.ndarray, " n"]


@njit(nogil=True)
def solve(
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


@njit(nogil=True)
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


@njit(nogil=True)
def adjoint(
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


@njit(nogil=True)
def _wall(sums: Vector, radius: float, side: int, j: int) -> float:
    """Height of the tube's wall at j: side 1 is the upper one, side -1 the lower one turned upside down."""
    return side * sums[j] + (radius if 0 < j < len(sums) - 1 else 0.0)


@njit(nogil=True)
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


@njit(nogil=True)
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


@njit(nogil=True)
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


SIGNATURES = {
    "solve": (float64[:, ::1], int64, float64),
    "adjoint": (float64[:, ::1], float64, float64[:, ::1]),
}
"""Of the kernels that are called from Python: each is compiled for these types, and refuses all others."""
