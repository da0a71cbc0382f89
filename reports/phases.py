"""Where the time of a call goes: shares of solve and gradient; preparing apart, as it comes once a problem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.record import Record
from reports.cells import has_flagged_times
from reports.instances import Group

REMARKS = (
    "Bars: the medians of solve (full colour) and gradient (pale) as shares of their sum; beside them the median of a "
    "call with both, and that of preparing, which is paid once per problem and is in no bar. Whiskers: median absolute "
    "deviations. * flagged: do not rank by these timings."
)


@dataclass(frozen=True)
class Phase:
    """A median and its median absolute deviation; zero where a single value was taken."""

    seconds: float
    mad_seconds: float


@dataclass(frozen=True)
class Breakdown:
    """The phases of one cell."""

    record: Record
    label: str
    solve: Phase
    gradient: Phase
    total: Phase
    """Of the two in one go: a median of its own, which the sum of theirs may miss by their spread."""
    prepare: Phase | None
    is_flagged: bool

    @property
    def solve_share(self) -> Phase:
        """Of the sum of the two medians, with the spread of the solve in that unit."""
        return self._share(self.solve)

    @property
    def gradient_share(self) -> Phase:
        """The rest, with the spread of the gradient."""
        return self._share(self.gradient)

    def _share(self, phase: Phase) -> Phase:
        both = self.solve.seconds + self.gradient.seconds
        return Phase(phase.seconds / both, phase.mad_seconds / both)


def breakdowns(group: Group) -> list[Breakdown]:
    """One for each cell of which both phases were timed, in the group's order: by size, then by method."""
    return list(_breakdowns(group))


def _breakdowns(group: Group) -> Iterable[Breakdown]:
    for record in group.records:
        solve, gradient, total = (_phase(record, name) for name in ("solve", "gradient", "total"))
        if solve and gradient and total:
            prepare = _phase(record, "prepare")
            yield Breakdown(record, group.label(record), solve, gradient, total, prepare, has_flagged_times(record))


def _phase(record: Record, name: str) -> Phase | None:
    seconds: float | None = getattr(record, f"{name}_seconds")
    return Phase(seconds, getattr(record, f"{name}_mad_seconds") or 0.0) if seconds else None
