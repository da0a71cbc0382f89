"""Two runs, cell by cell: what became faster, slower, smaller, larger, more or less accurate, and what cannot be told.

Cells are paired by `cell_id`: the same method, parameters, instance, batch, device, dtype and threads. A pair whose
inputs differ all the same (`input_sha256`) is not compared, and named.

    time      the ratio of B's time to A's, of one phase, with a bootstrap interval and a p-value (`bench.ratio`):
              `slower` or `faster` where the p-value, adjusted over all judged cells, is below 5 % and the ratio further
              from 1 than the margin; else `no change` where the whole interval is within the margin; else `unresolved`.
              Flagged times, and those of a single process, are shown and not judged.
    accuracy  `worse` or `better` by status, else by an error beyond the gate's factor of the other's, bar and rounding
    memory    `larger` or `smaller` beyond the gate's tolerance: a peak is one measurement, and has no interval
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import pyperf

from bench.change import FOR_THE_BETTER, FOR_THE_WORSE, Change, Finding, Timing, accuracy, memory, timings
from bench.record import Record
from bench.run_folder import Run, RunError
from bench.suite import timings_file
from bench.verdicts import Kind, Outcome, Verdict, not_comparable, where

PHASES = ("total", "solve", "gradient")
MARGIN = 0.05
"""A change of less is no news: two runs of the same code on a shared machine differ by as much."""


@dataclass(frozen=True)
class Compared:
    """One pair."""

    cell_id: str
    where: str
    timing: Timing | None
    """None where a run has no times of it."""
    accuracy: Finding
    memory: Finding

    @property
    def changes(self) -> frozenset[Change]:
        """In all respects."""
        timed = {self.timing.change} if self.timing is not None else set()
        return frozenset({self.accuracy.change, self.memory.change} | timed)

    @property
    def certainty(self) -> tuple[bool, bool, float, float]:
        """For sorting: what got worse, what got better, then by p-value and by the size of the ratio."""
        timing = self.timing
        p = 2.0 if timing is None or timing.p_adjusted is None else timing.p_adjusted
        size = 0.0 if timing is None else abs(math.log(timing.ratio))
        return not self.changes & FOR_THE_WORSE, not self.changes & FOR_THE_BETTER, p, -size


@dataclass(frozen=True)
class Comparison:
    """Of two runs, in one phase."""

    a: Run
    b: Run
    phase: str
    margin: float
    compared: Sequence[Compared]
    """The most certain news first."""
    other_input: Sequence[Verdict]
    """Of the cells that were built from other data in B."""
    unknown_input: int
    """Of the pairs, those one of whose inputs was not recorded."""
    only_a: Sequence[str]
    """In words."""
    only_b: Sequence[str]


def compare(a: Run, b: Run, phase: str = "total", margin: float = MARGIN) -> Comparison:
    """Raises RunError where no cell is in both runs with the same input, or a file of timings cannot be read."""
    both = [cell_id for cell_id in a.records if cell_id in b.records]
    if not both:
        raise RunError(f"{a.folder} and {b.folder} have no cell in common: compare runs of one configuration")
    same = [cell_id for cell_id in both if _same_input(a.records[cell_id], b.records[cell_id])]
    if not same:
        raise RunError(f"{a.folder} and {b.folder}: the inputs of all {len(both)} cells changed: nothing to compare")
    pairs = [(a.records[cell_id], b.records[cell_id]) for cell_id in same]
    seconds = [(process_medians(a, cell_id, phase), process_medians(b, cell_id, phase)) for cell_id in same]
    compared = [
        Compared(after.cell_id, where(after), timing, accuracy(before, after), memory(before, after))
        for (before, after), timing in zip(pairs, timings(pairs, seconds, margin), strict=True)
    ]
    return Comparison(
        a,
        b,
        phase,
        margin,
        sorted(compared, key=lambda each: each.certainty),
        [_not_comparable(a.records[cell_id], b.records[cell_id]) for cell_id in both if cell_id not in set(same)],
        sum(None in (before.input_sha256, after.input_sha256) for before, after in pairs),
        [where(record) for cell_id, record in a.records.items() if cell_id not in b.records],
        [where(record) for cell_id, record in b.records.items() if cell_id not in a.records],
    )


def _same_input(a: Record, b: Record) -> bool:
    return None in (a.input_sha256, b.input_sha256) or a.input_sha256 == b.input_sha256


def _not_comparable(a: Record, b: Record) -> Verdict:
    reason = not_comparable(str(a.input_sha256), str(b.input_sha256))
    return Verdict(Kind.INPUT, b.cell_id, where(b), Outcome.UNJUDGED, reason)


def process_medians(run: Run, cell_id: str, phase: str) -> list[float]:
    """Of the values of each worker process, in seconds; none where the cell has no times. Raises RunError."""
    path = timings_file(run.folder, cell_id)
    if not path.is_file():
        return []
    try:
        runs = pyperf.BenchmarkSuite.load(str(path)).get_benchmark(f"{cell_id} {phase}").get_runs()
    except Exception as error:  # whatever pyperf's parsing meets
        raise RunError(f"{path}: not pyperf's timings of this cell: {' '.join(str(error).split())[:200]}") from None
    medians = [statistics.median(each.values) for each in runs if each.values]
    if not all(0 < seconds < math.inf for seconds in medians):
        raise RunError(f"{path}: times must be positive and finite")
    return medians


OUTCOMES = dict.fromkeys(FOR_THE_WORSE, Outcome.FAILED) | dict.fromkeys(
    (Change.UNRESOLVED, Change.UNJUDGED), Outcome.UNJUDGED
)
"""The other changes pass."""


def verdicts(comparison: Comparison) -> list[Verdict]:
    """For JUnit and for the exit code: what changed for the worse failed."""
    found = [*comparison.other_input]
    for each in comparison.compared:
        findings = {Kind.ACCURACY: each.accuracy, Kind.MEMORY: each.memory}
        if each.timing is not None:
            findings[Kind.TIME] = Finding(each.timing.change, ratio_in_words(each.timing, comparison.phase))
        for kind, finding in findings.items():
            outcome = OUTCOMES.get(finding.change, Outcome.PASSED)
            found.append(Verdict(kind, each.cell_id, each.where, outcome, finding.line))
    return found


def ratio_in_words(timing: Timing, phase: str) -> str:
    """`total 1.31 x [1.27, 1.36], p = 0.0021`."""
    interval = "" if timing.low is None else f" [{timing.low:.3f}, {timing.high:.3f}]"
    p = "" if timing.p_adjusted is None else f", p = {timing.p_adjusted:.2g}"
    return f"{phase} {timing.ratio:.3f} x{interval}{p}" + (f" ({timing.note})" if timing.note else "")
