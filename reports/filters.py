"""Rows of a learned W as pictures, and the direction in which each varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from bench.denoising.score import Learned
from reports.study import StudyFigure
from reports.style import PAGE_INCHES, literal

Transform = Float[np.ndarray, "k n"]

NEGLIGIBLE = 0.05
"""Rows with a norm below this share of the largest weigh next to nothing in ||Wx||_1."""
TWICE = 1 / 3
"""Coherence from which a filter varies twice as much (in squares) along its steepest direction as across it."""
NEAR_DEGREES = 22.5
"""Half of a sector of eight: a quarter of all directions are this near a given one."""
COLUMNS = 16


@dataclass(frozen=True)
class Direction:
    """Of one filter."""

    degrees: float
    """In which it varies most, in [0, 180): 0 along a row, 90 down a column, 45 down and to the right."""
    coherence: float
    """0: no direction; 1: it is constant at right angles to it."""
    norm: float


RULE = (
    "A filter's mean squares of differences between neighbours, along rows, columns and both diagonals (there divided "
    "by their squared distance, 2), are a + b cos 2t + c sin 2t of the direction t; the steepest is atan2(c, b) / 2, "
    f"its coherence sqrt(b^2 + c^2) / a. Filters count where their norm is at least {NEGLIGIBLE:.0%} of the largest; "
    f"one has a direction where the coherence is at least {TWICE:.2f}: twice the squares along it as across; it is "
    f"near another within {NEAR_DEGREES:g} degrees, where a quarter of directions without preference would be."
)


def direction(filter_: Float[np.ndarray, "side side"]) -> Direction:
    """By RULE."""

    def mean_square(differences: np.ndarray) -> float:
        return float((differences**2).mean())

    w = filter_
    along, down = mean_square(w[:, 1:] - w[:, :-1]), mean_square(w[1:] - w[:-1])
    falling, rising = mean_square(w[1:, 1:] - w[:-1, :-1]) / 2, mean_square(w[:-1, 1:] - w[1:, :-1]) / 2
    b, c = (along - down) / 2, (falling - rising) / 2
    a = (along + down + falling + rising) / 4
    degrees = math.degrees(math.atan2(c, b)) / 2 % 180.0
    return Direction(degrees, min(1.0, math.hypot(b, c) / a) if a > 0 else 0.0, float(np.linalg.norm(w)))


def directions(W: Transform) -> list[Direction]:
    """Of the filters that count; none where W has no square rows."""
    side = math.isqrt(W.shape[1])
    found = [direction(row.reshape(side, side)) for row in W]
    most = max((each.norm for each in found), default=0.0)
    return [each for each in found if each.norm > 0 and each.norm >= NEGLIGIBLE * most]


def has_direction(found: Direction) -> bool:
    return found.coherence >= TWICE


def is_near(found: Direction, degrees: float) -> bool:
    """Whether it has a direction, and that one."""
    apart = abs((found.degrees - degrees + 90.0) % 180.0 - 90.0)
    return has_direction(found) and apart <= NEAR_DEGREES


def figure(learned: Sequence[Learned]) -> StudyFigure:
    """For a study's page."""
    remarks = "By falling norm; one scale for each W."
    return StudyFigure("filters", "The rows of each learned W as filters.", remarks, lambda look: _draw(learned))


def _draw(learned: Sequence[Learned]) -> Figure:
    """Every row as a square; white at zero."""
    rows = [-(-len(each.W) // COLUMNS) for each in learned] or [1]
    height = sum(count * PAGE_INCHES / COLUMNS + 0.3 for count in rows)
    figure = Figure(figsize=(PAGE_INCHES, height), layout="constrained")
    all_axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows).ravel()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, each in zip(all_axes, learned, strict=False):
        scale = float(np.abs(each.W).max()) or 1.0
        image = axes.imshow(_mosaic(each.W), cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
        axes.set_title(literal(f"{each.name}: {len(each.W)} rows"), loc="left")
        figure.colorbar(image, ax=axes, shrink=0.8, aspect=12, pad=0.01, label="weight")
    return figure


def _mosaic(W: Transform) -> np.ndarray:
    side = math.isqrt(W.shape[1])
    rows = -(-len(W) // COLUMNS)
    canvas = np.full((rows * (side + 1) - 1, COLUMNS * (side + 1) - 1), np.nan)
    for number, index in enumerate(np.argsort(-np.linalg.norm(W, axis=1), kind="stable")):
        row, column = (part * (side + 1) for part in divmod(number, COLUMNS))
        canvas[row : row + side, column : column + side] = W[index].reshape(side, side)
    return canvas
