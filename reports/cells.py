"""One cell of a table: a quantity of a record as text, in the table's unit."""

from __future__ import annotations

from bench.record import TIMING_FLAGS, Correctness, Record, Status
from reports.published import has_zero_gradient
from reports.rounding import ABSENT, angle_bar, error, with_spread

MILLISECOND = 1e-3
MEBIBYTE = 2.0**20
FLAGGED = "*"
RESOLUTION_BYTES = 40e3
"""Growths of the host's peak below this are not told apart."""


def time(record: Record, phase: str) -> str:
    """A phase's median and spread in milliseconds, marked where a flag says not to trust it."""
    median = getattr(record, f"{phase}_seconds")
    text = with_spread(median, getattr(record, f"{phase}_mad_seconds"), MILLISECOND)
    return text + FLAGGED if has_flagged_times(record) and median is not None else text


def has_result(record: Record) -> bool:
    """Whether the cell did what was asked; at a kink that is one of many generalised derivatives."""
    return record.status in (Status.OK, Status.KINK)


def has_flagged_times(record: Record) -> bool:
    """Whether the record's timings are shown with a mark."""
    return not TIMING_FLAGS.isdisjoint(record.flags)


def memory(peak_bytes: int | None) -> str:
    """MiB to 0.01, the method's own resolution being 0.04."""
    return ABSENT if peak_bytes is None else f"{peak_bytes / MEBIBYTE:.2f}"


def relative_error(record: Record) -> str:
    """The error, its bound, or the word for why there is none."""
    if has_zero_gradient(record):
        return "gradient is 0" if record.status == Status.OK else str(record.status)
    if record.error_relative is not None:
        return error(record.error_relative, record.reference_error_relative)
    return "no reference" if record.status == Status.OK else str(record.status)


def largest_error(record: Record) -> str:
    """max |G - R|, or the bound on it that the reference's bar gives."""
    return error(record.error_max_abs, record.reference_error_max_abs)


def angle(record: Record) -> str:
    """Degrees, or the bound on them that the reference's bar gives."""
    return error(record.error_angle_degrees, angle_bar(record.reference_error_relative))


def status(record: Record) -> str:
    """`ok`, or the word for the failure, followed by that for its accuracy, where there is a result, and the flags."""
    accuracy = [] if record.accuracy is Correctness.UNKNOWN and record.status != Status.OK else [str(record.accuracy)]
    return ", ".join([str(record.status), *accuracy, *record.flags])
