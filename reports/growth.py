"""What a call costs against each of several sizes, the exponents of that growth, and a printed exponent beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.aligned import Column, Table
from bench.record import Record, Status
from reports.cells import FLAGGED, MEBIBYTE, MILLISECOND, RESOLUTION_BYTES, has_flagged_times
from reports.rounding import ABSENT, plain
from reports.scaling import FEWEST_SIZES, Exponent, fit_exponent
from reports.tables import flag_note

MARGIN = 0.2
"""By which an interval is widened: over a range of 8 it is a factor of 1.5 in cost, as much as caches and terms of
lower order may make of it."""
WIDEST = 0.5
"""Half of the width of an interval that holds a printed exponent and yet says something: it tells N from N^2."""
RULE = (
    f"The 95 % interval of the exponent, widened by {MARGIN:g}, holds the printed one, or lies below or above it; one "
    f"that holds it and is wider than ± {WIDEST:g} says nothing."
)


@dataclass(frozen=True)
class Axis:
    """A size, by the paper's letter."""

    letter: str
    words: str
    of: Callable[[Record], int | None]
    """None for a cell that has no such size."""


@dataclass(frozen=True)
class Cost:
    """What is measured of a call. `floor` is the value below which it is noise, `is_flagged` where not to trust it."""

    name: str
    unit: str
    of: Callable[[Record], float | None]
    floor: float = 0.0
    is_flagged: Callable[[Record], bool] = lambda record: False


GRADIENT_TIME = Cost(
    "time of the gradient",
    "ms",
    lambda record: _divided(record.gradient_seconds, MILLISECOND),
    is_flagged=has_flagged_times,
)
PEAK_MEMORY = Cost(
    "peak memory of solve + gradient",
    "MiB",
    lambda record: _divided(record.host_peak_bytes, MEBIBYTE),
    floor=RESOLUTION_BYTES / MEBIBYTE,
)


@dataclass(frozen=True)
class Curve:
    """The cells of one label that differ along one axis alone, in its order; `fixed` names the other sizes."""

    label: str
    method: str
    axis: Axis
    fixed: str
    records: tuple[Record, ...]

    def size(self, record: Record) -> int:
        """Along the axis."""
        size = self.axis.of(record)
        assert size is not None
        return size

    def measured(self, cost: Cost) -> list[Record]:
        """The cells that have it, and have it above its floor."""
        return [record for record in self.records if not _missing(record, cost)]

    def points(self, cost: Cost) -> list[tuple[int, float]]:
        """(size, cost), as far as there is a cost above its floor."""
        return [(self.size(record), cost.of(record) or 0.0) for record in self.measured(cost)]

    def exponent(self, cost: Cost) -> Exponent | None:
        """None where fewer than three sizes were measured."""
        return fit_exponent(self.points(cost))

    def flagged(self, cost: Cost) -> bool:
        """Whether a cell that was measured is not to be trusted."""
        return any(cost.is_flagged(record) for record in self.measured(cost))

    def left_out(self, cost: Cost) -> str:
        """`N = 64: below 0.04 MiB; N = 8281: timeout`: what was not measured, and why."""
        words = [(self.size(record), word) for record in self.records if (word := _missing(record, cost))]
        return "; ".join(f"{self.axis.letter} = {size}: {word}" for size, word in words)


def _missing(record: Record, cost: Cost) -> str:
    """Why a cell has no point; empty where it has one."""
    if record.status not in (Status.OK, Status.KINK):
        return str(record.status)
    value = cost.of(record)
    if value is None:
        return "not measured"
    return f"below {plain(cost.floor, 1)} {cost.unit}" if value <= cost.floor else ""


def curves(records: Sequence[Record], label: Callable[[Record], str], axes: Sequence[Axis]) -> list[Curve]:
    """For each label and axis, the cells that share all other sizes and the most values of this one."""
    found = []
    for name in dict.fromkeys(map(label, records)):
        own = [record for record in records if label(record) == name]
        for axis in axes:
            lines: dict[tuple[object, ...], list[Record]] = {}
            for record in own:
                if axis.of(record) is not None:
                    rest = tuple(other.of(record) for other in axes if other is not axis)
                    lines.setdefault((rest, record.device, record.dtype, record.threads), []).append(record)
            if lines:
                longest = max(lines.values(), key=lambda line: len({axis.of(record) for record in line}))
                found.append(_curve(name, axis, axes, longest))
    return found


def _curve(label: str, axis: Axis, axes: Sequence[Axis], line: Sequence[Record]) -> Curve:
    others = [(other.letter, other.of(line[0])) for other in axes if other is not axis]
    fixed = ", ".join(f"{letter} = {size}" for letter, size in others if size is not None)
    return Curve(label, line[0].method, axis, fixed, tuple(sorted(line, key=lambda record: axis.of(record) or 0)))


class Position(StrEnum):
    """Where the interval of an exponent lies beside the printed one."""

    HOLDS = "holds"
    BELOW = "below"
    ABOVE = "above"


VERB = {Position.HOLDS: "holds", Position.BELOW: "lies below", Position.ABOVE: "lies above"}


@dataclass(frozen=True)
class Judgement:
    """The measured growth in words, and its place beside the printed exponent; None where there is none, and why."""

    ours: str
    position: Position | None
    why: str


def judge(curve: Curve | None, cost: Cost, printed: int) -> Judgement:
    """By RULE."""
    if curve is None:
        return Judgement(ABSENT, None, "no cell of it in this run")
    points, exponent = curve.points(cost), curve.exponent(cost)
    if exponent is None:
        sizes = f"{len(points)} of the {FEWEST_SIZES} sizes that an exponent needs"
        return Judgement(ABSENT, None, f"{sizes} ({curve.left_out(cost) or 'no others in this run'})")
    letter, (largest, most) = curve.axis.letter, points[-1]
    ours = (
        f"p = {exponent}{FLAGGED * curve.flagged(cost)} over {letter} = {exponent.smallest} to {exponent.largest}"
        f"{f' ({curve.fixed})' if curve.fixed else ''}; {plain(most)} {cost.unit} at {letter} = {largest}"
    )
    position = placed(exponent, printed)
    if position is None:
        return Judgement(ours, None, f"the interval is too wide to tell p = {printed} from its neighbours")
    return Judgement(ours, position, f"the interval {VERB[position]} {printed}")


def placed(exponent: Exponent, printed: int) -> Position | None:
    """None where the interval holds the printed exponent and is too wide to tell."""
    reach = exponent.half_width + MARGIN
    if exponent.value + reach < printed:
        return Position.BELOW
    if exponent.value - reach > printed:
        return Position.ABOVE
    return Position.HOLDS if exponent.half_width <= WIDEST else None


def growth_table(title: str, found: Sequence[Curve], costs: Sequence[Cost]) -> Table:
    """One row per curve."""
    columns = [Column("method", numeric=False), Column("against", numeric=False), Column("fixed", numeric=False)]
    for cost in costs:
        columns += [Column(f"p, {cost.name}"), Column("fitted over")]
    columns.append(Column("left out", numeric=False))
    return Table(
        title,
        tuple(columns),
        tuple(_row(curve, costs) for curve in found),
        (
            "p in cost ~ size^p: least squares on the logarithms, ± half of the 95 % interval, over the larger half of "
            "the sizes and four at least where there are so many. Peak memory as recorded, nothing subtracted; it is "
            f"good to {RESOLUTION_BYTES / 1000:g} kB, and less is left out.",
            *flag_note([record for curve in found for record in curve.records]),
        ),
    )


def _row(curve: Curve, costs: Sequence[Cost]) -> tuple[str, ...]:
    cells = [curve.label, curve.axis.letter, curve.fixed]
    for cost in costs:
        exponent = curve.exponent(cost)
        if exponent is None:
            cells += [ABSENT, ABSENT]
        else:
            cells += [f"{exponent}{FLAGGED * curve.flagged(cost)}", f"{exponent.smallest} to {exponent.largest}"]
    words = dict.fromkeys(word for cost in costs if (word := curve.left_out(cost)))
    return (*cells, "; ".join(words))


def _divided(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
