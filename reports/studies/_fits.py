"""What the studies of accuracy share: fitted powers and rates, and the points that they may be fitted to.

A fit is least squares on logarithms with its 95 % interval, which tells the scatter of the points about the line and
nothing of whether the law is a line: the figures show that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.record import Record
from reports.error_axis import has_error
from reports.rounding import ABSENT
from reports.slope import slope

X = TypeVar("X", int, float)

FEWEST_POINTS = 4
ABOVE_BAR = 10.0
"""A point takes part where it is so many bars of its reference above zero,"""
ROUNDING = 1e-11
"""above what rounding leaves in double precision,"""
ASYMPTOTIC = 0.1
"""and below this relative error, where the law for small errors may hold."""


@dataclass(frozen=True)
class Fit:
    """A fitted number, half the width of its 95 % interval, and on how many points it rests."""

    value: float
    half_width: float
    points: int

    @property
    def low(self) -> float:
        return self.value - self.half_width

    @property
    def high(self) -> float:
        return self.value + self.half_width

    def __str__(self) -> str:
        digits = max(2, min(6, 1 - math.floor(math.log10(self.half_width)))) if self.half_width > 0 else 3
        return f"{self.value:.{digits}f} ± {self.half_width:.{digits}f}"


def written(fit: Fit | None) -> str:
    """The fit, or `-`."""
    return ABSENT if fit is None else str(fit)


def power(points: Sequence[tuple[float, float]]) -> Fit | None:
    """p of y ~ x^p, from (x, y), both positive; None where there are fewer than four x."""
    return _slope([(math.log(x), math.log(y)) for x, y in points])


def rate(points: Sequence[tuple[float, float]]) -> Fit | None:
    """q of error ~ q^t, from (t, error); None where there are fewer than four t."""
    fit = _slope([(t, math.log(error)) for t, error in points])
    if fit is None:
        return None
    q = math.exp(fit.value)
    return Fit(q, q * math.expm1(fit.half_width), fit.points)


def _slope(points: Sequence[tuple[float, float]]) -> Fit | None:
    if len({x for x, _ in points}) < FEWEST_POINTS:
        return None
    return Fit(*slope(points), len(points))


def floor(record: Record) -> float:
    """The relative error below which a record's error tells nothing of its method."""
    return max(ROUNDING, ABOVE_BAR * (record.reference_error_relative or 0.0))


def telling(points: Iterable[tuple[X, Record]]) -> list[tuple[X, float]]:
    """x and relative error, where that is above its floor and small enough to follow a law."""
    shown = [(x, record) for x, record in points if has_error(record)]
    return [(x, error(record)) for x, record in shown if floor(record) < error(record) < ASYMPTOTIC]


def error(record: Record) -> float:
    """The relative error of a record that has one."""
    assert record.error_relative is not None
    return record.error_relative
