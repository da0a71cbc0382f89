"""Time against size: a series per method, k/n and batch, and the exponent p of time ~ n^p with its interval."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from bench.record import Record, Status
from reports.instances import Group
from reports.rounding import ABSENT
from reports.tables import Column, Table

FEWEST_SIZES = 3
FITTED_SIZES = 4
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Exponent:
    """p of cost ~ size^p by least squares on the logarithms, half of its 95 % interval, and the sizes fitted."""

    value: float
    half_width: float
    smallest: int
    largest: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.half_width:.2f}"


def fit_exponent(points: Sequence[tuple[int, float]]) -> Exponent | None:
    """p of cost ~ size^p, from (size, cost) in ascending order; None where there are fewer than three.

    Over the larger half, as small sizes measure overhead; of four at least, where there are so many: a line through
    three points has a useless interval.
    """
    if len(points) < FEWEST_SIZES:
        return None
    points = fitted_half(points)
    fit = stats.linregress([math.log(size) for size, _ in points], [math.log(cost) for _, cost in points])
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, len(points) - 2)
    stderr = fit.stderr if math.isfinite(fit.stderr) else 0.0  # scipy divides zero by zero for equal costs
    return Exponent(float(fit.slope), float(quantile * stderr), points[0][0], points[-1][0])


def fitted_half(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """The points that an exponent is fitted to."""
    return points[min(len(points) // 2, max(0, len(points) - FITTED_SIZES)) :]


@dataclass(frozen=True)
class Series:
    """The cells that differ in size alone: one label, one k/n, one batch."""

    label: str
    method: str
    k_per_n: float
    batch: int
    records: tuple[Record, ...]

    def exponent(self, phase: str) -> Exponent | None:
        """Of a phase's time against n; None where there are fewer than three sizes."""
        points = [
            (record.n, seconds)
            for record in self.records
            if record.status in (Status.OK, Status.KINK) and (seconds := getattr(record, f"{phase}_seconds"))
        ]
        return fit_exponent(points)


def all_series(groups: Sequence[Group]) -> list[Series]:
    """The series of three sizes or more, in the order of the groups; large sizes may have fewer pairs."""
    found: dict[tuple[str, str, str, float, int], list[Record]] = {}
    for group in groups:
        instance = json.dumps([group.problem, group.parameters, group.seed], sort_keys=True)
        for record in group.records:
            key = (group.run, instance, group.label(record), k_per_n(record), group.batch)
            found.setdefault(key, []).append(record)
    return [
        Series(label, records[0].method, ratio, batch, tuple(sorted(records, key=lambda record: record.n)))
        for (_, _, label, ratio, batch), records in found.items()
        if len({record.n for record in records}) >= FEWEST_SIZES
    ]


def k_per_n(record: Record) -> float:
    """Rows of the transform per sample, rounded: n - 1 differences count as n."""
    return round(record.k / record.n, 1 if record.k >= record.n - 1 else 2)


def scaling_table(series: Sequence[Series]) -> Table:
    """One row per series."""
    columns = (
        Column("method", numeric=False),
        Column("k/n"),
        Column("batch"),
        Column("exponent of the gradient"),
        Column("exponent of solve + gradient"),
        Column("fitted over n"),
        Column("cells that failed", numeric=False),
    )
    return Table(
        title="Time against size: p in time ~ n^p",
        columns=columns,
        rows=tuple(_row(one) for one in series),
        notes=(
            "Least squares on the logarithms of the medians, ± half of the 95 % interval, over the larger half of the "
            "sizes and four at least where there are so many. Time is that of one call on the whole batch.",
        ),
    )


def _row(series: Series) -> tuple[str, ...]:
    gradient, total = series.exponent("gradient"), series.exponent("total")
    failed = ", ".join(
        f"n = {record.n}: {record.status}" for record in series.records if record.status not in (Status.OK, Status.KINK)
    )
    sizes = f"{total.smallest} to {total.largest}" if total else ABSENT
    numbers = (str(gradient) if gradient else ABSENT, str(total) if total else ABSENT, sizes)
    return (series.label, f"{series.k_per_n:g}", str(series.batch), *numbers, failed)
