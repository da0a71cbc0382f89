"""How good the reference is: the steps that a slope was read off, and how far each instance is from a kink."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.record import Record
from reports.content import Content
from reports.instances import Group
from reports.run_arrays import Reference, Sweep, reference_of

MOST_TRAILS = 6
MOST_MARGINS = 12
CLOSEST = 2.0**-53
"""Half a unit of the last digit: distances relative to the value that are smaller are drawn here."""
TOUCHES = 1e-13
"""`bench._exact_lower_level.TOUCH`: a margin down to which the instance is on a kink."""
LEAST_MARGIN = 1e-16
"""Margins below it are drawn here."""


@dataclass(frozen=True)
class Trail:
    """One sweep, everything relative to the size of its value."""

    heading: str
    n: int
    entry: str
    h: tuple[float, ...]
    off: tuple[float, ...]
    """|quotient - value|."""
    off_extrapolated: tuple[float | None, ...]
    rounding: tuple[float, ...]
    plateau: tuple[float, float]
    bar: float

    @property
    def title(self) -> str:
        """The instance and the entry."""
        return f"{self.heading}, n = {self.n}; {self.entry}"


@dataclass(frozen=True)
class Margins:
    """Of one instance, the smallest over its pairs; None where the record has none."""

    heading: str
    n: int
    primal: float | None
    dual: float | None
    rank_defect: int

    @property
    def label(self) -> str:
        """The instance, and why it has no dual margin."""
        return f"{self.heading}, n = {self.n}{': u not unique' if self.rank_defect else ''}"

    @property
    def smallest(self) -> float:
        """The nearer of the two kinks."""
        return min((margin for margin in (self.primal, self.dual) if margin is not None), default=math.inf)


@dataclass(frozen=True)
class ReferenceQuality:
    """What is drawn: the trails with the largest bars, the instances nearest to a kink."""

    trails: tuple[Trail, ...]
    margins: tuple[Margins, ...]
    trails_left_out: int
    margins_left_out: int


TITLE = "The reference: the steps that it was read off, and how far the instances are from a kink."


def remarks(found: ReferenceQuality) -> str:
    """How to read the two halves, and what is left out."""
    said = []
    if found.trails:
        said.append(
            "Per instance, of its first pair, the entry with the largest bar. Distances from the reference's value, "
            "relative to it; below 1e-16 they stand there. Shaded: the steps whose extrapolated values agree."
        )
    if found.trails_left_out:
        said.append(f"Instances with smaller bars, not drawn: {found.trails_left_out}.")
    if found.margins:
        said.append(
            "Margins: primal min |(Kx*)_i| on the support, relative to the largest; dual min 1 - |u_i| on the "
            "cosupport; over all pairs. At 1e-13 or below the instance is on a kink."
        )
    if found.margins_left_out:
        said.append(f"Instances farther from a kink, not drawn: {found.margins_left_out}.")
    return " ".join(said)


def reference_quality(content: Content) -> ReferenceQuality | None:
    """None where no run kept a sweep: the margins alone are in the tables of every run."""
    trails = sorted(_trails(content), key=lambda trail: -trail.bar)
    margins = sorted(_margins(content.groups), key=lambda own: own.smallest)
    if not trails:
        return None
    return ReferenceQuality(
        tuple(trails[:MOST_TRAILS]),
        tuple(margins[:MOST_MARGINS]),
        max(0, len(trails) - MOST_TRAILS),
        max(0, len(margins) - MOST_MARGINS),
    )


def _instances(group: Group) -> Iterator[list[Record]]:
    """The records of a group, instance by instance."""
    for sha256 in dict.fromkeys(record.input_sha256 for record in group.records):
        yield [record for record in group.records if record.input_sha256 == sha256]


def _trails(content: Content) -> Iterator[Trail]:
    folders = {id(record): run.folder for run in content.runs for record in run.records}
    seen = set[tuple[Path, str | None]]()
    for group in content.groups:
        for records in _instances(group):
            folder, first = folders[id(records[0])], records[0]
            reference = reference_of(folder, first, "coordinates") or reference_of(folder, first, "directions")
            if reference is None or reference.sweep is None or (folder, first.input_sha256) in seen:
                continue
            seen.add((folder, first.input_sha256))
            if reference.sweep.value != 0.0:
                yield _trail(group.heading, first, reference, reference.sweep)


def _trail(heading: str, record: Record, reference: Reference, sweep: Sweep) -> Trail:
    whole = len(reference.values) == record.theta_size
    size = abs(sweep.value)

    def off(estimates: Iterable[float | None]) -> tuple[float | None, ...]:
        return tuple(None if one is None else max(abs(one - sweep.value) / size, CLOSEST) for one in estimates)

    return Trail(
        heading,
        record.n,
        f"{'coordinate' if whole else 'direction'} {reference.swept}",
        sweep.h,
        tuple(one for one in off(sweep.differences) if one is not None),
        off(sweep.extrapolated),
        tuple(max(rounding / size, CLOSEST) for rounding in sweep.rounding),
        sweep.plateau,
        max(sweep.bar / size, CLOSEST),
    )


def _margins(groups: Iterable[Group]) -> Iterator[Margins]:
    for group in groups:
        for records in _instances(group):
            primal, dual = (
                min((margin for record in records if (margin := getattr(record, name)) is not None), default=None)
                for name in ("margin_primal", "margin_dual")
            )
            defect = max(record.cosupport_rank_defect or 0 for record in records)
            if primal is not None or dual is not None or defect:
                yield Margins(group.heading, records[0].n, primal, dual, defect)
