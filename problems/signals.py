"""Clean one-dimensional signals, peak 1, one generator per kind (readings.md J.12, J.13, and the gaps U.6).

Every generator draws one signal of length n from a numpy random generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from problems._portable import cosine, normal, times, total, uniform

Signal = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Pieces:
    """What the papers leave open of a piecewise-constant signal (U.6)."""

    jumps: int | None = None
    """How many; None: 2 to 6, at random."""
    between_samples: bool = False
    """Else a jump falls inside a cell, and one sample takes a value between the two levels."""
    lowest: float = -1.0
    """Of the levels, which are uniform up to 1, before the peak is brought to 1."""


ANY_PIECES = Pieces()


def piecewise_constant(n: int, rng: Generator, pieces: Pieces = ANY_PIECES) -> Signal:
    """Jumps of random position and height; each sample is the mean of the signal over its cell."""
    count = int(rng.integers(2, 7)) if pieces.jumps is None else pieces.jumps
    if pieces.between_samples:
        jumps = np.sort(rng.choice(np.arange(1, n), min(count, n - 1), replace=False)).astype(float)
    else:
        jumps = np.sort(uniform(rng, 0.0, float(n), count))
    levels = uniform(rng, pieces.lowest, 1.0, len(jumps) + 1)
    edges = np.arange(n + 1)
    heights = np.diff(levels, prepend=0.0)
    starts = np.concatenate([[0.0], jumps])
    integral = total(heights * np.clip(edges[:, None] - starts, 0, None))
    return np.diff(integral)


def dct_sparse(n: int, rng: Generator) -> Signal:
    """3 to 6 harmonics of random amplitude, their frequencies up to a quarter off those of the DCT."""
    count = min(n, int(rng.integers(3, 7)))
    frequencies = rng.choice(np.arange(n), count, replace=False) // 2 + uniform(rng, -0.25, 0.25, count)
    atoms = cosine(frequencies * (np.arange(n)[:, None] + 0.5) / (2 * n))
    return times(atoms, normal(rng, count))


def gaussian(n: int, rng: Generator) -> Signal:
    """Independent normal entries."""
    return normal(rng, n)


GENERATORS: dict[str, Callable[[int, Generator], Signal]] = {
    "piecewise_constant": piecewise_constant,
    "dct_sparse": dct_sparse,
    "gaussian": gaussian,
}


def draw(kind: str, n: int, ripple: float, rng: Generator, pieces: Pieces = ANY_PIECES) -> Signal:
    """A signal of that kind with peak 1, to which a cosine of one to three periods and amplitude `ripple` was added."""
    x = _peak_one(piecewise_constant(n, rng, pieces) if kind == "piecewise_constant" else GENERATORS[kind](n, rng))
    phase, periods = rng.random(), float(uniform(rng, 1.0, 3.0))
    return _peak_one(x + ripple * cosine(periods * np.arange(n) / n + phase))


def _peak_one(x: Signal) -> Signal:
    peak = np.abs(x).max()
    return x / peak if peak > 0 else x
