"""The same cell on another device, or in another precision: how many times faster, and how far its error moves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.record import Record
from reports.cells import has_flagged_times, has_result
from reports.error_axis import has_error
from reports.instances import Group
from reports.rows import Panel

Axis = Literal["device", "dtype"]

QUICK: dict[Axis, tuple[str, str]] = {"device": ("cuda", "GPU"), "dtype": ("float32", "float32")}
"""What the second cell of a pair runs in, by the beginning of its name, and the word for it."""
PLAIN: dict[Axis, tuple[str, str]] = {"device": ("cpu", "CPU"), "dtype": ("float64", "float64")}

RATIOS: dict[Axis, str] = {
    "device": "time on the CPU / time on the GPU",
    "dtype": "time in float64 / time in float32",
}
LEAST_ERROR = 1e-17
"""Where an error of zero stands on a logarithmic axis."""
TITLES: dict[Axis, str] = {"device": "CPU against GPU", "dtype": "float32 against float64"}


@dataclass(frozen=True)
class Pair:
    """Two cells that differ in the device alone, or in the precision alone."""

    axis: Axis
    group: Group
    plain: Record
    """On the CPU, or in float64."""
    quick: Record
    """On the GPU, or in float32."""

    @property
    def ratio(self) -> float | None:
        """Time of solve and gradient of the plain one over that of the quick one: how many times faster that is."""
        if not (has_result(self.plain) and has_result(self.quick)):
            return None
        if not (self.plain.total_seconds and self.quick.total_seconds):
            return None
        return self.plain.total_seconds / self.quick.total_seconds

    @property
    def interval(self) -> tuple[float, float]:
        """The ratio with each median off by its median absolute deviation, the one up and the other down."""
        slow, fast = self.plain.total_seconds or math.nan, self.quick.total_seconds or math.nan
        slow_off, fast_off = self.plain.total_mad_seconds or 0.0, self.quick.total_mad_seconds or 0.0
        low = max(slow - slow_off, 0.0) / (fast + fast_off)
        return low, (slow + slow_off) / (fast - fast_off) if fast > fast_off else math.inf

    @property
    def ends(self) -> tuple[float, float]:
        """The interval as a logarithmic axis can have it: within a factor of ten of the ratio."""
        low, high = self.interval
        ratio = self.ratio or math.nan
        return max(low, 0.1 * ratio), min(high, 10.0 * ratio)

    @property
    def label(self) -> str:
        """The variant, and where it ran as far as the group has several and this pair one: `blorc in float32`."""
        others = {"device": self.plain.device, "dtype": self.plain.dtype, "threads": f"{self.plain.threads} threads"}
        fields = [name for name in others if name != self.axis]
        told = [others[name] for name in fields if len({getattr(own, name) for own in self.group.records}) > 1]
        return f"{self.plain.variant} ({', '.join(told)})" if told else self.plain.variant

    @property
    def word(self) -> str:
        """What stands where there is no ratio: the statuses, or that the time is missing."""
        return ", ".join(sorted({str(own.status) for own in (self.plain, self.quick)} - {"ok"})) or "not timed"

    @property
    def record(self) -> Record:
        """Whose size and method the row has."""
        return self.plain

    @property
    def is_flagged(self) -> bool:
        return has_flagged_times(self.plain) or has_flagged_times(self.quick)


def pairs(groups: Sequence[Group], axis: Axis) -> list[Pair]:
    """All pairs, failed cells too, in the groups' order; none where the runs have one device, or one precision."""
    found = []
    for group in groups:
        partners: dict[str, list[Record]] = {}
        for record in group.records:
            partners.setdefault(_same(record, axis), []).append(record)
        for own in partners.values():
            plain = [record for record in own if getattr(record, axis).startswith(PLAIN[axis][0])]
            quick = [record for record in own if getattr(record, axis).startswith(QUICK[axis][0])]
            found += [Pair(axis, group, one, other) for one in plain for other in quick]
    return found


def grouped(groups: Sequence[Group], axis: Axis) -> list[Panel[Pair]]:
    """The pairs of each instance that has any."""
    return [Panel(group, tuple(own)) for group in groups if (own := pairs([group], axis))]


def shown_error(record: Record) -> float | None:
    """The error, at the reference's bar where that cannot tell it from zero."""
    if not has_error(record):
        return None
    return max(record.error_relative or 0.0, record.reference_error_relative or 0.0, LEAST_ERROR)


def remarks(axis: Axis) -> str:
    """How to read a view of pairs."""
    what = "device" if axis == "device" else "precision"
    return (
        f"Cells that differ in the {what} alone. Ratio of the medians of solve and gradient: to the right of 1 "
        f"{QUICK[axis][1]} is faster; bars: one median up and the other down by its median absolute deviation. Beside "
        "it both errors, at the reference's bar where that cannot tell them from zero."
    )


def _same(record: Record, axis: Axis) -> str:
    other = record.dtype if axis == "device" else record.device
    return json.dumps([record.variant, record.n, record.k, record.threads, other])
