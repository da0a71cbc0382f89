"""What the studies of accuracy share: fitted powers and rates, the points that they may be fitted to, names.

A fit is least squares on logarithms with its 95 % interval, which tells the scatter of the points about the line and
nothing of whether the law is a line: the figures show that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from bench.record import Record
from reports.error_axis import has_error
from reports.rounding import ABSENT

CONFIDENCE = 0.95
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


def power(xs: Sequence[float], ys: Sequence[float]) -> Fit | None:
    """p of y ~ x^p, of positive numbers; None where there are fewer than four points, or one x alone."""
    return _slope([math.log(x) for x in xs], [math.log(y) for y in ys])


def rate(steps: Sequence[float], errors: Sequence[float]) -> Fit | None:
    """q of error ~ q^t; None where there are fewer than four points."""
    slope = _slope(steps, [math.log(error) for error in errors])
    if slope is None:
        return None
    q = math.exp(slope.value)
    return Fit(q, q * math.expm1(slope.half_width), slope.points)


def _slope(xs: Sequence[float], ys: Sequence[float]) -> Fit | None:
    if len(xs) < FEWEST_POINTS or len(set(xs)) < FEWEST_POINTS:
        return None
    fit = stats.linregress(xs, ys)
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, len(xs) - 2)
    stderr = fit.stderr if math.isfinite(fit.stderr) else 0.0  # scipy divides zero by zero for equal ys
    return Fit(float(fit.slope), float(quantile * stderr), len(xs))


def floor(record: Record) -> float:
    """The relative error below which a record's error tells nothing of its method."""
    return max(ROUNDING, ABOVE_BAR * (record.reference_error_relative or 0.0))


def telling(records: Iterable[Record]) -> list[Record]:
    """The records whose relative error is above its floor and small enough to follow a law."""
    return [
        record
        for record in records
        if has_error(record) and floor(record) < (record.error_relative or 0.0) < ASYMPTOTIC
    ]


def error(record: Record) -> float:
    """The relative error of a record that has one."""
    assert record.error_relative is not None
    return record.error_relative
