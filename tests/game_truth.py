"""Pixel games from their definition: a matrix A of weights a_jk, and every player's own derivative set to zero.

Shares nothing with problems/tv_game.py or the solvers: no K, M or u, numpy loops for the weights, dense Newton steps.
"""

from __future__ import annotations

import math

import numpy as np

from problems.tv_game import Settings


def distances(settings: Settings) -> np.ndarray:
    """Between all players, in steps of the graph."""
    j = np.arange(settings.n)
    if settings.graph == "ring":
        apart = np.abs(j[:, None] - j)
        return np.minimum(apart, settings.n - apart).astype(float)
    side = math.isqrt(settings.n)
    return np.hypot(j[:, None] // side - j // side, j[:, None] % side - j % side)


def offset_weights(settings: Settings, a: np.ndarray) -> np.ndarray:
    """A for reach 1: a[0] to the next player of a ring, or to the right; a[1] down; then the opposite directions."""
    n, A = settings.n, np.zeros((settings.n, settings.n))
    if settings.graph == "ring":
        for j in range(n):
            A[j, (j + 1) % n], A[j, (j - 1) % n] = a[0], a[-1]
        return A
    side = math.isqrt(n)
    right, down, left, up = a if len(a) == 4 else (a[0], a[1], a[0], a[1])
    for j in range(n):
        if j % side < side - 1:
            A[j, j + 1], A[j + 1, j] = right, left
        if j + side < n:
            A[j, j + side], A[j + side, j] = down, up
    return A


def pair_weights(n: int, starts: np.ndarray, ends: np.ndarray, a: np.ndarray) -> np.ndarray:
    """A of a numbered list of pairs: first all a_jk, then all a_kj."""
    A = np.zeros((n, n))
    for e, (j, k) in enumerate(zip(starts, ends, strict=True)):
        A[j, k], A[k, j] = a[e], a[len(starts) + e]
    return A


def softmax_weights(settings: Settings, guide: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """A of bilateral weights at sigma = (sigma_d, sigma_r), or of non-local ones at kappa (readings.md L.2)."""
    n, apart = settings.n, distances(settings)
    A = np.zeros((n, n))
    for j in range(n):
        near = [k for k in range(n) if 0 < apart[j, k] <= settings.reach]
        if settings.weights == "bilateral":
            d = [
                (guide[j] - guide[k]) ** 2 / (2 * parameters[0] ** 2) + apart[j, k] ** 2 / (2 * parameters[1] ** 2)
                for k in near
            ]
        else:
            d = [np.sum((parameters * (_patch(settings, guide, j) - _patch(settings, guide, k))) ** 2) for k in near]
        shares = np.exp(-np.asarray(d))
        A[j, near] = settings.scale * shares / shares.sum()
    return 0.5 * (A + A.T) if settings.symmetric else A


def _patch(settings: Settings, guide: np.ndarray, j: int) -> np.ndarray:
    n = settings.n
    if settings.graph == "ring":
        return np.array([guide[(j + step) % n] for step in (-1, 0, 1)])
    side = math.isqrt(n)
    rows = [min(max(j // side + step, 0), side - 1) for step in (-1, 0, 1)]
    columns = [min(max(j % side + step, 0), side - 1) for step in (-1, 0, 1)]
    return np.array([guide[row * side + column] for row in rows for column in columns])


def smooth_equilibrium(A: np.ndarray, y: np.ndarray, alpha: float, start: np.ndarray | None = None) -> np.ndarray:
    """x_j - y_j + sum_k a_jk clip(alpha (x_j - x_k)) = 0, by Newton steps halved until the residual falls.

    Raises AssertionError unless the residual ends at its own rounding, which alpha magnifies: 1e-15 for alpha = 20.
    """
    x = y.copy() if start is None else start.copy()
    n, most = len(y), alpha * A.sum(1).max()
    rounding = 1e-15 * np.abs(y).max() * max(1.0, most)

    def residual(x: np.ndarray) -> np.ndarray:
        return x - y + (A * np.clip(alpha * (x[:, None] - x), -1, 1)).sum(1)

    for _ in range(500):
        r = residual(x)
        if np.abs(r).max() <= rounding:
            break
        B = alpha * A * (np.abs(alpha * (x[:, None] - x)) < 1)
        newton = np.linalg.solve(np.eye(n) + np.diag(B.sum(1)) - B, -r)
        better = [t for t in 0.5 ** np.arange(8) if np.abs(residual(x + t * newton)).max() < np.abs(r).max()]
        # 1 / (1 + most) contracts the distance to the equilibrium, though not always the residual
        x = x + better[0] * newton if better else x - 0.9 / (1 + most) * r
    assert np.abs(residual(x)).max() <= rounding
    # One more, for the digits that the residual no longer shows.
    B = alpha * A * (np.abs(alpha * (x[:, None] - x)) < 1)
    return x - np.linalg.solve(np.eye(n) + np.diag(B.sum(1)) - B, residual(x))


def l1_equilibrium(A: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, flat pairs) of the game with |z|: a sharp envelope's pattern, one linear system on it, and its proof.

    Raises AssertionError where the flat pairs are no forest, or the proof fails.
    """
    x, alpha = y.copy(), 4.0
    while alpha < 1e5:
        x = smooth_equilibrium(A, y, alpha, x)
        alpha *= 4.0
    near = (np.abs(x[:, None] - x) < 4.0 / alpha) & (A > 0)
    signs = np.where(near, 0.0, np.sign(x[:, None] - x))
    pairs = [(j, k) for j, k in zip(*np.nonzero(np.triu(near)), strict=True)]
    piece = np.arange(len(y))
    for j, k in pairs:
        piece[piece == piece[k]] = piece[j]
    pieces, member = np.unique(piece, return_inverse=True)
    assert len(pieces) + len(pairs) == len(y), "the flat pairs are no forest"
    system = np.zeros((len(y), len(y)))
    system[np.arange(len(y)), member] = 1.0
    for column, (j, k) in enumerate(pairs, len(pieces)):
        system[j, column], system[k, column] = A[j, k], -A[k, j]
    solution = np.linalg.solve(system, y - (A * signs).sum(1))
    x, u = solution[: len(pieces)][member], solution[len(pieces) :]
    assert np.abs(u).max(initial=0.0) < 1.0
    apart = (A > 0) & ~near
    assert np.array_equal(np.sign(x[:, None] - x)[apart], signs[apart])
    return x, near
