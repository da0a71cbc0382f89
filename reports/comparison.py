"""The paper's Table 4 beside ours."""

from __future__ import annotations

import math

from bench.aligned import Column, Table
from bench.record import Record, Status
from reports.cells import FLAGGED, has_flagged_times, largest_error, relative_error, time
from reports.instances import Group
from reports.published import COUNTERPART, PublishedRow, counterpart, has_zero_gradient, table_4
from reports.rounding import ABSENT, as_printed, ratio
from reports.tables import flag_note

COLUMNS = (
    Column("paper's method", numeric=False),
    Column("our method", numeric=False),
    Column("n"),
    Column("published time", "ms"),
    Column("published error", "norm not stated"),
    Column("ours: gradient", "ms"),
    Column("ours: solve + gradient", "ms"),
    Column("ours: relative error", "Frobenius"),
    Column("ours: max abs error"),
    Column("published time / BLORC's"),
    Column("ours: gradient / blorc's"),
    Column("ours: solve + gradient / blorc's"),
)


def comparison_table(group: Group) -> Table:
    """Per size of the paper: its three methods with their counterparts, then our other methods, one row each.

    For a group that `is_papers_instance`; every variant stands in its `main_table`.
    """
    published = table_4()
    pairs = " or ".join(str(number) for number in sorted({row.pairs for row in published}))
    rows: list[tuple[str, ...]] = []
    for n in sorted({row.n for row in published}):
        rows += _rows_of_size(n, [row for row in published if row.n == n], group)
    return Table(
        title=f"The paper's Table 4 beside this run: {group.heading}",
        columns=COLUMNS,
        rows=tuple(rows),
        notes=(
            f"Published: means over {pairs} pairs, on a machine that is not stated. Times of two machines do not "
            "compare; each method's ratio to BLORC within its own table does.",
            f"Ours: medians ± median absolute deviation of one call ({group.calls}).",
            "Beside the paper's three methods, each of ours in its most accurate variant; all variants are in the "
            "table of all cells. CVXPY's row is the variant nearest to the library's defaults.",
            *flag_note(group.records),
        ),
    )


def _rows_of_size(n: int, published: list[PublishedRow], group: Group) -> list[tuple[str, ...]]:
    ours = [record for record in group.records if record.n == n]
    matched = {row.method: counterpart(row.method, ours) for row in published}
    printed_blorc = next(row for row in published if COUNTERPART[row.method] == "blorc")
    blorc = matched[printed_blorc.method]

    def line(row: PublishedRow | None, record: Record | None, name: str) -> tuple[str, ...]:
        return (
            row.method if row else ABSENT,
            name,
            str(n),
            f"{row.time_milliseconds:g}" if row else ABSENT,
            as_printed(row.error) if row else ABSENT,
            *(_measured(record) if record else ("not measured", ABSENT, ABSENT, ABSENT)),
            ratio(row.time_milliseconds, printed_blorc.time_milliseconds) if row else ABSENT,
            *(_ratios(record, blorc) if record and blorc else (ABSENT, ABSENT)),
        )

    beside = [
        line(row, record, group.label(record) if record else COUNTERPART[row.method])
        for row in published
        for record in [matched[row.method]]
    ]
    others = _most_accurate([record for record in ours if not any(record is taken for taken in matched.values())])
    return beside + [line(None, record, group.label(record)) for record in others]


def _most_accurate(records: list[Record]) -> list[Record]:
    """Of each method one variant, in order of first appearance."""
    best: dict[str, Record] = {}
    for record in records:
        best[record.method] = min(best.get(record.method, record), record, key=_inaccuracy)
    return list(best.values())


def _inaccuracy(record: Record) -> tuple[bool, float]:
    known = record.error_relative is not None and not has_zero_gradient(record)
    return record.status != Status.OK, record.error_relative or 0.0 if known else math.inf


def _measured(record: Record) -> tuple[str, ...]:
    return time(record, "gradient"), time(record, "total"), relative_error(record), largest_error(record)


def _ratios(record: Record, blorc: Record) -> tuple[str, ...]:
    flagged = has_flagged_times(record) or has_flagged_times(blorc)
    ratios = (
        ratio(record.gradient_seconds, blorc.gradient_seconds),
        ratio(record.total_seconds, blorc.total_seconds),
    )
    return tuple(text + FLAGGED if text != ABSENT and flagged else text for text in ratios)
