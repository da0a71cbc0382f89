"""One quantity of a cell, such as the seconds of a call, foretold from the cells in which it was measured.

The model is a power law: the quantity's logarithm is linear in those of n, k and batch. Its slopes start as assumed,
are corrected by all other methods together, then by all series of the method, and then by the series itself, each time
only in those directions of (n, k, batch) in which the measured sizes spread: along the others they stay. So a
power law is met exactly wherever the sizes of the series pin it down; two sizes that hardly differ pin down nothing.

How far off this is, is not assumed but checked: every measured cell is left out in turn and foretold from the others.
"""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

ASSUMED_SLOPES = np.array([1.0, 1.0, 1.0])
"""In n, k and batch, where nothing was measured at several sizes: as the entries of K, and as the batch."""
LEAST_SPREAD = 0.5
"""Of the logarithms of sizes, the root of their summed squares, below which they pin down no slope."""
FITTED_FROM = 3
"""Sizes of a series, from which on its own slope is believed."""
QUANTILE = 0.9
"""Of the errors of the cells left out: so many of the intervals should hold what comes."""
LEAST_CHECKED, MOST_CHECKED = 5, 200


class Source(enum.StrEnum):
    """Where a prediction comes from, the best first."""

    MEASURED = "measured"
    FITTED = "fitted"
    SCALED = "scaled"
    OTHER_INSTANCE = "other instance of the method"
    OTHER_PARAMETERS = "other parameters of the method"
    BOUND = "bound"


ASSUMED_FACTOR = {
    Source.MEASURED: 1.3,
    Source.FITTED: 3.0,
    Source.SCALED: 3.0,
    Source.OTHER_INSTANCE: 10.0,
    Source.OTHER_PARAMETERS: 10.0,
}
"""Half-width of the interval, as a factor, where fewer than five cells could be left out and foretold."""


@dataclass(frozen=True)
class Estimate:
    """A positive number, an interval around it, and where they come from."""

    value: float
    low: float
    high: float
    source: Source
    detail: str
    """`fitted over 4 sizes`."""


@dataclass(frozen=True)
class Point:
    """A cell, and the value of the quantity where it is known."""

    cell_id: str
    method: str
    """With the kind of device."""
    variant: str
    series: str
    sizes: tuple[int, int, int]
    """n, k and batch."""
    value: float = math.nan

    @property
    def logs(self) -> np.ndarray:
        """The regressors."""
        return np.log(np.maximum(self.sizes, 1))


class Scaling:
    """What is known of one quantity. Building it is free; the first interval costs 200 predictions of known cells."""

    def __init__(self, points: Iterable[Point]) -> None:
        """`points` with their values, above zero; a cell that several runs measured comes several times."""
        runs: dict[str, list[Point]] = defaultdict(list)
        for point in points:
            runs[point.cell_id].append(point)
        self._runs = runs
        self._elsewhere: dict[str, np.ndarray] = {}
        self._by_method: dict[str, list[Point]] = defaultdict(list)
        for repeated in runs.values():
            median = float(np.median([point.value for point in repeated]))
            self._by_method[repeated[0].method].append(replace(repeated[0], value=median))

    def estimate(self, target: Point) -> Estimate | None:
        """The best there is; None where the method was never measured on such a device."""
        if target.cell_id in self._runs:
            values = [point.value for point in self._runs[target.cell_id]]
            if len(values) > 1:
                detail = f"measured in {len(values)} runs"
                return Estimate(float(np.median(values)), min(values), max(values), Source.MEASURED, detail)
            return _around(values[0], ASSUMED_FACTOR[Source.MEASURED], Source.MEASURED, str(Source.MEASURED))
        for source, value, detail in self._foretold(target):
            return _around(value, self._factors[source], source, detail)
        return None

    def left_out(self) -> Iterator[tuple[Point, Source, float]]:
        """Measured cells, each with what the others make of it, for every source that has an answer."""
        points = [point for points in self._by_method.values() for point in points]
        for point in points[:: math.ceil(len(points) / MOST_CHECKED) or 1]:
            for source, value, _ in self._foretold(point):
                yield point, source, value

    @cached_property
    def _factors(self) -> dict[Source, float]:
        errors: dict[Source, list[float]] = defaultdict(list)
        for point, source, value in self.left_out():
            errors[source].append(abs(math.log(value / point.value)))
        checked = {
            source: math.exp(np.quantile(found, QUANTILE))
            for source, found in errors.items()
            if len(found) >= LEAST_CHECKED
        }
        return ASSUMED_FACTOR | checked

    def _foretold(self, target: Point) -> Iterator[tuple[Source, float, str]]:
        """Source, value and detail, from the best source to the worst; the cell's own value is not looked at."""
        others = [point for point in self._by_method.get(target.method, ()) if point.cell_id != target.cell_id]
        if not others:
            return
        slopes = _corrected(self._slopes_elsewhere(target.method), _by_series(others))
        series = [point for point in others if point.series == target.series]
        if len({point.sizes for point in series}) >= FITTED_FROM:
            fitted = _corrected(slopes, [series])
            yield (
                Source.FITTED,
                _scaled(target, series, fitted),
                f"fitted over {len({point.sizes for point in series})} sizes",
            )
        elif series:
            nearest = min(series, key=lambda point: float(np.abs(point.logs - target.logs).sum()))
            detail = f"scaled from n={nearest.sizes[0]}"
            yield Source.SCALED, _scaled(target, [nearest], slopes), detail
        elsewhere = [point for point in others if point.series != target.series]
        same = [point for point in elsewhere if point.variant == target.variant]
        different = [point for point in elsewhere if point.variant != target.variant]
        for source, found in ((Source.OTHER_INSTANCE, same), (Source.OTHER_PARAMETERS, different)):
            if found:
                scaled = [_scaled(target, [point], slopes) for point in found]
                yield source, float(np.median(scaled)), str(source)

    def _slopes_elsewhere(self, method: str) -> np.ndarray:
        if method not in self._elsewhere:
            points = [point for name, points in self._by_method.items() if name != method for point in points]
            self._elsewhere[method] = _corrected(ASSUMED_SLOPES, _by_series(points)) if points else ASSUMED_SLOPES
        return self._elsewhere[method]


def _scaled(target: Point, points: Sequence[Point], slopes: np.ndarray) -> float:
    """The points' geometric mean, carried to the target's sizes."""
    logs = [math.log(point.value) + float((target.logs - point.logs) @ slopes) for point in points]
    return math.exp(sum(logs) / len(logs))


def _by_series(points: Iterable[Point]) -> list[list[Point]]:
    series: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        series[point.series].append(point)
    return list(series.values())


def _corrected(slopes: np.ndarray, series: Sequence[Sequence[Point]]) -> np.ndarray:
    """The least change of the slopes that fits all series best, each with a level of its own."""
    sizes, residuals = list[np.ndarray](), list[np.ndarray]()
    for points in series:
        logs = np.stack([point.logs for point in points])
        centred = logs - logs.mean(axis=0)
        values = np.log([point.value for point in points])
        sizes.append(centred)
        residuals.append(values - values.mean() - centred @ slopes)
    left, spread, right = np.linalg.svd(np.concatenate(sizes), full_matrices=False)
    pinned = spread > LEAST_SPREAD
    along = (left[:, pinned].T @ np.concatenate(residuals)) / spread[pinned]
    return slopes + right[pinned].T @ along


def _around(value: float, factor: float, source: Source, detail: str) -> Estimate:
    return Estimate(value, value / factor, value * factor, source, detail)
