"""Error against time as each method turns its knob: one line per method, and who is beaten by nobody.

A cell is on the frontier where no other of its panel is at least as fast and at least as accurate, and better in one of
the two; errors that the reference cannot tell from zero are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import Record
from reports.error_axis import has_error
from reports.instances import Group
from reports.knobs import Knob, Value, knobs
from reports.log_axis import short

REMARKS = (
    "A line per method and setting of the rest, from the first value of its knob, where the marker is larger, to the "
    "last; thin where the values are words without an order. Methods without a knob are single points. Grey: the "
    "frontier. Bars: median absolute deviation, and the reference's own error."
)


@dataclass(frozen=True)
class Point:
    """One cell: the value of its method's knob, None without one."""

    record: Record
    label: str
    value: Value | None
    seconds: float
    mad_seconds: float
    error: float
    """At the reference's bar where that cannot tell it from zero."""


@dataclass(frozen=True)
class Line:
    """A method's cells that differ in its knob alone, in the knob's order; a single cell where it has none."""

    method: str
    knob: str
    """The name of the parameter, empty without one."""
    rest: str
    """What sets this line apart from the method's others, empty where it is the only one."""
    is_number: bool
    """Whether the knob's values have an order of their own; words do not."""
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """`smoothed_implicit: epsilon 1e-6 to 0.1, smoothing = moreau`."""
        if not self.knob:
            return self.points[0].label
        values = [_written(point.value) for point in self.points]
        turned = f"{values[0]} to {values[-1]}" if self.is_number and len(values) > 1 else ", ".join(values)
        return ", ".join([f"{self.method}: {self.knob} {turned}", *([self.rest] if self.rest else [])])


@dataclass(frozen=True)
class Panel:
    """The lines of one instance at one size."""

    group: Group
    n: int
    k: int
    lines: tuple[Line, ...]

    @property
    def points(self) -> list[Point]:
        return [point for line in self.lines for point in line.points]

    @property
    def title(self) -> str:
        """The instance, with the size where it has several."""
        several = len({(record.n, record.k) for record in self.group.records}) > 1
        return f"{self.group.heading}; n = {self.n}, k = {self.k}" if several else self.group.heading

    @property
    def frontier(self) -> list[Point]:
        """The cells that no other beats, from the fastest to the most accurate."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.seconds, point.error)):
            if not kept or point.error < kept[-1].error:
                kept.append(point)
        return kept


def panels(groups: Sequence[Group]) -> list[Panel]:
    """A panel per instance and size at which some method was measured at two settings of its knob."""
    found = []
    for group in groups:
        for n, k in sorted({(record.n, record.k) for record in group.records}):
            records = [record for record in group.records if (record.n, record.k) == (n, k)]
            measured = [record for record in records if has_error(record) and record.total_seconds]
            lines = _lines(group, measured)
            if any(line.knob for line in lines):
                found.append(Panel(group, n, k, tuple(lines)))
    return found


def _lines(group: Group, records: Sequence[Record]) -> list[Line]:
    turned = {knob.method: knob for knob in knobs(records)}
    lines = []
    for method in dict.fromkeys(record.method for record in records):
        if method in turned:
            lines += _turned(group, turned[method])
        else:
            own = [record for record in records if record.method == method]
            lines += [Line(method, "", "", False, (_point(group, record, None),)) for record in own]
    return lines


def _turned(group: Group, knob: Knob) -> list[Line]:
    return [
        Line(
            knob.method,
            knob.name,
            curve.rest,
            knob.is_number,
            tuple(_point(group, record, value) for value, record in zip(curve.values, curve.records, strict=True)),
        )
        for curve in knob.curves
    ]


def _point(group: Group, record: Record, value: Value | None) -> Point:
    error = max(record.error_relative or 0.0, record.reference_error_relative or 0.0)
    return Point(
        record, group.label(record), value, record.total_seconds or 0.0, record.total_mad_seconds or 0.0, error
    )


def _written(value: Value | None) -> str:
    return short(value) if isinstance(value, float) else str(value)
