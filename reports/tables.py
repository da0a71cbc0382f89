"""The table of an instance, as text cells that each format then escapes in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.aligned import Column, Table
from bench.record import INEXACT_BELOW, RIGHT_BELOW, TIMING_FLAGS, Record
from reports.cells import FLAGGED, angle, largest_error, memory, relative_error, status, time
from reports.instances import Group
from reports.published import has_zero_gradient
from reports.rounding import scientific, upper_bound


def assignments(settings: Mapping[str, object]) -> str:
    """`rate = 0.005, warm = True`."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


Cell = Callable[[Record], str]


def main_table(group: Group) -> Table:
    """Every record of the group, failed ones with their status as a word."""
    columns = main_columns(group.records, group.label)
    return Table(
        title=group.heading,
        columns=tuple(column for column, _ in columns),
        rows=tuple(tuple(cell(record) for _, cell in columns) for record in group.records),
        notes=_notes(group),
    )


def main_columns(records: Sequence[Record], label: Cell) -> list[tuple[Column, Cell]]:
    """The columns of a table of these records, and what stands in each."""
    columns: list[tuple[Column, Cell]] = [
        (Column("method", numeric=False), label),
        (Column("n", field="n"), lambda record: str(record.n)),
        (Column("k", field="k"), lambda record: str(record.k)),
        (Column("prepare", "ms", field="prepare_seconds"), lambda record: time(record, "prepare")),
        (Column("solve", "ms", field="solve_seconds"), lambda record: time(record, "solve")),
        (Column("gradient", "ms", field="gradient_seconds"), lambda record: time(record, "gradient")),
        (Column("solve + gradient", "ms", field="total_seconds"), lambda record: time(record, "total")),
        (Column("peak memory", "MiB", field="host_peak_bytes"), lambda record: memory(record.host_peak_bytes)),
    ]
    if any(record.device_peak_bytes is not None for record in records):
        column = Column("device memory", "MiB", field="device_peak_bytes")
        columns.append((column, lambda record: memory(record.device_peak_bytes)))
    if any(record.kink_count for record in records):
        column = Column("outside the slopes", field="error_outside_interval")
        columns.append((column, lambda record: scientific(record.error_outside_interval)))
    return [
        *columns,
        (Column("relative error", "Frobenius", field="error_relative"), relative_error),
        (Column("max abs error", field="error_max_abs"), largest_error),
        (Column("angle", "degrees", field="error_angle_degrees"), angle),
        (Column("KKT residual", field="kkt_residual"), lambda record: scientific(record.kkt_residual)),
        (Column("status, accuracy, flags", numeric=False), status),
    ]


def _notes(group: Group) -> tuple[str, ...]:
    return (
        f"Times and memory: of one call ({group.calls}), median ± median absolute deviation. "
        "Errors: over the pairs that the reference covers; max abs and angle over those with all coordinates.",
        f"Reference: {_references(group)}. {_thresholds(group.records)}",
        *_zero_note(group),
        *_kink_note(group),
        *flag_note(group.records),
    )


def _thresholds(records: Iterable[Record]) -> str:
    """What the words of accuracy mean, for the dtypes of these records."""
    right = [f"{scientific(RIGHT_BELOW[dtype], 1)} ({dtype})" for dtype in sorted({record.dtype for record in records})]
    up_to = f"{' or '.join(right)}, inexact up to {scientific(INEXACT_BELOW, 1)}, wrong above"
    return f"Accuracy: right within the bar or up to {up_to}."


def _references(group: Group) -> str:
    bars: dict[str, dict[int, list[float]]] = {}
    for record in group.records:
        if record.reference_kind:
            by_size = bars.setdefault(record.reference_kind, {}).setdefault(record.n, [])
            if record.reference_error_relative is not None and not has_zero_gradient(record):
                by_size.append(record.reference_error_relative)
    if not bars:
        return "none in these records"
    return "; ".join(
        f"{kind}, error bar "
        + ", ".join(f"{upper_bound(max(own)) if own else 'not known'} (n = {n})" for n, own in sorted(by_size.items()))
        for kind, by_size in bars.items()
    )


def _zero_note(group: Group) -> tuple[str, ...]:
    sizes = sorted({record.n for record in group.records if has_zero_gradient(record)})
    if not sizes:
        return ()
    listed = ", ".join(map(str, sizes))
    return (f"The reference cannot tell the gradients from zero at n = {listed}: there is no relative error.",)


def _kink_note(group: Group) -> tuple[str, ...]:
    if not any(record.kink_count for record in group.records):
        return ()
    return (
        "Where there is a kink an entry has two one-sided slopes. Outside the slopes: the largest distance of an entry "
        "from the interval between its two, relative to the largest slope. Errors: over the entries with a derivative.",
    )


def flag_note(records: Iterable[Record]) -> tuple[str, ...]:
    """What the mark on a timing means, where there is one."""
    flags = sorted({flag for record in records for flag in TIMING_FLAGS.intersection(record.flags)})
    return (f"{FLAGGED} flagged ({', '.join(flags)}): do not rank by these timings.",) if flags else ()
