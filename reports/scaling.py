"""Time against size: a series per method, k/n and batch, and the exponent p of time ~ n^p with its interval."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.aligned import Column, Table
from bench.record import Record
from reports.cells import RESOLUTION_BYTES, has_result
from reports.instances import Group
from reports.rounding import ABSENT
from reports.slope import slope

FEWEST_SIZES = 3
FITTED_SIZES = 4


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
    logs = [(math.log(size), math.log(cost)) for size, cost in points]
    return Exponent(*slope(logs), points[0][0], points[-1][0])


def fitted_half(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """The points that an exponent is fitted to."""
    return points[min(len(points) // 2, max(0, len(points) - FITTED_SIZES)) :]


@dataclass(frozen=True)
class Series:
    """The cells that differ in size alone: one label, one k/n, one batch."""

    instance: str
    label: str
    method: str
    k_per_n: float
    batch: int
    records: tuple[Record, ...]

    @property
    def heading(self) -> str:
        """What the series of one panel share."""
        return f"{self.instance}; k = {self.k_per_n:g} n, batch {self.batch}"

    def exponent(self, phase: str) -> Exponent | None:
        """Of a phase's time against n; None where there are fewer than three sizes."""
        return _fitted([(record.n, getattr(record, f"{phase}_seconds")) for record in self.finished])

    @property
    def memory_exponent(self) -> Exponent | None:
        """Of the peak on the device where there is one, else on the host; not over peaks below what that resolves."""
        return _fitted([(record.n, peak_if_resolved(record)) for record in self.finished])

    @cached_property
    def finished(self) -> list[Record]:
        """The records that hold a result."""
        return [record for record in self.records if has_result(record)]


def peak_bytes(record: Record) -> int | None:
    """Of one call: on the device where it was measured, else on the host."""
    return record.host_peak_bytes if record.device_peak_bytes is None else record.device_peak_bytes


def peak_if_resolved(record: Record) -> int | None:
    """None for a peak that says no more than that it is small."""
    peak = peak_bytes(record)
    return peak if peak is not None and peak > RESOLUTION_BYTES else None


def _fitted(measured: Sequence[tuple[int, float | None]]) -> Exponent | None:
    return fit_exponent([(n, value) for n, value in measured if value])


def all_series(groups: Sequence[Group]) -> list[Series]:
    """The series of three sizes or more, in the order of the groups; large sizes may have fewer pairs."""
    found: dict[tuple[str, str, str, float, int], list[Record]] = {}
    words: dict[tuple[str, str], str] = {}
    for group in groups:
        instance = json.dumps([group.problem, group.parameters, group.seed, group.apart], sort_keys=True)
        words[group.run, instance] = group.instance
        for record in group.records:
            key = (group.run, instance, group.label(record), k_per_n(record), group.batch)
            found.setdefault(key, []).append(record)
    return [
        Series(
            words[run, instance],
            label,
            records[0].method,
            ratio,
            batch,
            tuple(sorted(records, key=lambda record: record.n)),
        )
        for (run, instance, label, ratio, batch), records in found.items()
        if len({record.n for record in records}) >= FEWEST_SIZES
    ]


def by_size(records: Sequence[Record]) -> tuple[Record, ...]:
    """Small sizes first."""
    return tuple(sorted(records, key=lambda record: record.n))


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
        Column("exponent of the peak memory"),
        Column("fitted over n"),
        Column("cells that failed", numeric=False),
    )
    return Table(
        title="Time and memory against size: p in ~ n^p",
        columns=columns,
        rows=tuple(_row(one) for one in series),
        notes=(
            "Least squares on the logarithms of the medians, ± half of the 95 % interval, over the larger half of the "
            "sizes and four at least where there are so many. Time and memory are those of one call on the whole "
            "batch; peaks below the 40 kB that are resolved are left out.",
        ),
    )


def _row(series: Series) -> tuple[str, ...]:
    gradient, total, memory = series.exponent("gradient"), series.exponent("total"), series.memory_exponent
    failed = ", ".join(f"n = {record.n}: {record.status}" for record in series.records if not has_result(record))
    sizes = f"{total.smallest} to {total.largest}" if total else ABSENT
    numbers = (*(str(found) if found else ABSENT for found in (gradient, total, memory)), sizes)
    return (series.label, f"{series.k_per_n:g}", str(series.batch), *numbers, failed)
