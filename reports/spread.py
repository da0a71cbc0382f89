"""The values behind each median: every timed call of a cell, read from the run's pyperf suites."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyperf

from bench.record import Record
from reports.cells import has_flagged_times
from reports.content import Run
from reports.instances import Group

Timed = Literal["solve", "gradient", "total"]

REMARKS = (
    "Every timed call after the warm-ups, from the run's pyperf files, and how far it is off the median of its cell; "
    "boxes hold the middle half. Cells with one value, or without their file, are left out. * flagged: do not rank by "
    "these timings."
)

PHASES: dict[Timed, str] = {"total": "solve + gradient", "solve": "solve", "gradient": "gradient"}


@dataclass(frozen=True)
class Samples:
    """One cell's values of one phase, a tuple per worker process, in the order in which they were taken."""

    record: Record
    label: str
    processes: tuple[tuple[float, ...], ...]
    is_flagged: bool

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of all processes."""
        return tuple(value for own in self.processes for value in own)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def off(self, seconds: float) -> float:
        """How far a value is off the median, in percent of that."""
        return 100.0 * (seconds / self.median - 1.0)

    @property
    def percent(self) -> tuple[float, ...]:
        """Of all values."""
        return tuple(map(self.off, self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of `percent`, by linear interpolation between the values."""
        low, _, high = statistics.quantiles(self.percent, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Suites:
    """The suites of the cells of one or more runs."""

    paths: dict[int, Path]
    """By the identity of the record."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Suites:
        """Where the runs' files should be."""
        return cls(
            {id(record): run.folder / "pyperf" / f"{record.cell_id}.json" for run in runs for record in run.records}
        )

    def samples(self, group: Group, phase: Timed) -> list[Samples]:
        """For each cell of the group that has more than one value; a file that is missing or damaged has none."""
        found = []
        for record in group.records:
            processes = _values(self.paths[id(record)], f"{record.cell_id} {phase}")
            if sum(map(len, processes)) > 1:
                found.append(Samples(record, group.label(record), processes, has_flagged_times(record)))
        return found


def _values(path: Path, benchmark: str) -> tuple[tuple[float, ...], ...]:
    if not path.is_file():
        return ()
    try:
        runs = pyperf.BenchmarkSuite.load(str(path)).get_benchmark(benchmark).get_runs()
    except Exception:  # whatever pyperf's parsing meets; the median in the tables does not rest on this file
        return ()
    return tuple(run.values for run in runs if run.values)
