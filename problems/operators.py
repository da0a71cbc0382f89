"""Matrices: the forward operator A of the data term and the transform W that the gradient is taken at.

All are dense arrays for signals of n samples; pictures are square, their rows joined.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from problems._portable import cosine, length, normal, sine, total

Matrix = Float[np.ndarray, "rows n"]
Forward = Literal["identity", "mask", "blur", "fourier", "gaussian"]
Transform = Literal["identity", "finite_difference", "dct", "gaussian"]


def forward_matrix(kind: Forward, n: int, rng: Generator) -> Matrix | None:
    """A, or None for the identity. `has_independent_columns` says which have full column rank.

    blur      circular, weights 1 2 4 2 1 over 10: its spectrum stays above 0.1
    mask      three quarters of the samples, at random
    fourier   real and imaginary parts of half of the frequencies, the lowest always among them, at random
    gaussian  3n/2 rows of independent N(0, 1/n) entries
    """
    if kind == "identity":
        return None
    if kind == "mask":
        return np.eye(n)[np.sort(rng.permutation(n)[: max(1, 3 * n // 4)])]
    if kind == "blur":
        taps = zip(range(-2, 3), (1, 2, 4, 2, 1), strict=True)
        return total(np.stack([weight / 10 * np.roll(np.eye(n), shift, axis=1) for shift, weight in taps]), 0)
    if kind == "fourier":
        kept = np.sort(np.append(0, 1 + rng.permutation(n // 2)[: n // 4]))
        turns, place = np.arange(n) / n, kept[:, None] * np.arange(n) % n
        rows = np.concatenate([cosine(turns)[place], sine(turns)[place]]) * math.sqrt(2 / n)
        return rows[np.abs(rows).max(1) > 1e-9]
    return normal(rng, (3 * n // 2, n)) / math.sqrt(n)


def has_independent_columns(A: Matrix | None) -> bool:
    """Of a `forward_matrix`: wherever there are rows enough, for the rows of `mask` and `fourier` are orthogonal, the
    spectrum of `blur` has no zero, and the columns of `gaussian` are in general position almost surely."""
    return A is None or A.shape[0] >= A.shape[1]


def transform_matrix(kind: Transform, k: int, n: int, rng: Generator) -> Matrix:
    """W with k rows for signals of n samples.

    identity           ones on the diagonal
    finite_difference  x[j + lag] - x[j], all of lag 1, then all of lag 2, and so on; at most n (n - 1) / 2 rows
    dct                unit rows cos(pi i (j + 1/2) / k): the DCT-II for k = n, an oversampled one for k > n
    gaussian           independent N(0, 1/n) entries

    Raises ValueError for more differences than there are.
    """
    if kind == "identity":
        return np.eye(k, n)
    if kind == "finite_difference":
        pairs = [(j, j + lag) for lag in range(1, n) for j in range(n - lag)]
        if k > len(pairs):
            raise ValueError(f"finite_difference has at most {len(pairs)} rows for n = {n}, not k = {k}")
        return _differences(pairs[:k], n)
    if kind == "dct":
        rows = cosine(np.arange(4 * k) / (4 * k))[np.arange(k)[:, None] * (2 * np.arange(n) + 1) % (4 * k)]
        return rows / length(rows)[:, None]
    return normal(rng, (k, n)) / math.sqrt(n)


def picture_transform_matrix(kind: Transform, k: int, side: int, rng: Generator) -> Matrix:
    """W for square pictures of side x side pixels: `dct` and `finite_difference` act along rows and columns.

    Raises ValueError where k is not the number of rows that these two have.
    """
    n = side * side
    if kind not in ("dct", "finite_difference"):
        return transform_matrix(kind, k, n, rng)
    line = transform_matrix(kind, side if kind == "dct" else side - 1, side, rng)
    across, down = np.kron(np.eye(side), line), np.kron(line, np.eye(side))
    W = np.kron(line, line) if kind == "dct" else np.concatenate([across, down])
    if len(W) != k:
        raise ValueError(f"{kind} of pictures of {side} x {side} has {len(W)} rows, not k = {k}: leave k out")
    return W


def natural_rows(kind: Transform, n: int, side: int | None) -> int:
    """The number of rows that a transform has where k is left out."""
    if kind != "finite_difference":
        return n
    return n - 1 if side is None else 2 * side * (side - 1)


def _differences(pairs: list[tuple[int, int]], n: int) -> Matrix:
    W = np.zeros((len(pairs), n))
    for row, (left, right) in enumerate(pairs):
        W[row, left], W[row, right] = -1.0, 1.0
    return W
