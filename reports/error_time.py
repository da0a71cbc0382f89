"""Error against time: a panel per problem instance, a point per method and size, the paper's Table 4 hollow beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.record import Record, Status
from reports import log_axis
from reports.cells import has_flagged_times
from reports.error_axis import at_or_below_bar, band_handle, error_axis, has_error
from reports.instances import Group
from reports.knobs import knobs
from reports.published import COUNTERPART, PublishedRow, is_papers_instance, table_4
from reports.style import COLUMN_INCHES, MARKER_POINTS, PAGE_INCHES, Look, legend_below, wrapped

Reading = Literal["gradient", "total"]

READINGS: dict[Reading, str] = {"gradient": "the gradient alone", "total": "solve and gradient"}
AXIS = {"gradient": "gradient alone (ms per call)", "total": "solve + gradient (ms per call)"}


def drawable(group: Group, reading: Reading) -> list[Record]:
    """The records that have both coordinates."""
    return [record for record in group.records if has_error(record) and (milliseconds(record, reading) or 0) > 0]


def milliseconds(record: Record, reading: Reading) -> float | None:
    """A call's time under one of the two readings."""
    seconds: float | None = getattr(record, f"{reading}_seconds")
    return None if seconds is None else 1e3 * seconds


def undrawn(groups: Sequence[Group], reading: Reading) -> str:
    """A sentence on the cells without a point, after a space; empty where there are none."""
    missing = sum(len(group.records) - len(drawable(group, reading)) for group in groups)
    if not missing:
        return ""
    cells = "1 cell has" if missing == 1 else f"{missing} cells have"
    return f" {cells} no relative error or no time, and no point: see the tables."


def draw(groups: Sequence[Group], reading: Reading, look: Look) -> Figure | None:
    """The figure, or None where no group has a point."""
    panels = [group for group in groups if drawable(group, reading)]
    if not panels:
        return None
    columns = 1 if len(panels) == 1 else 2
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(COLUMN_INCHES if columns == 1 else PAGE_INCHES, 2.7 * rows), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, group in zip(all_axes, panels, strict=False):
        _panel(axes, group, reading, look)
    for axes in all_axes[len(panels) :]:
        axes.remove()
    legend_below(figure, _handles(panels, reading, look))
    return figure


def _panel(axes: Axes, group: Group, reading: Reading, look: Look) -> None:
    records = drawable(group, reading)
    published = published_of(group)
    times = [milliseconds(record, reading) or math.nan for record in records]
    left, right = log_axis.limits([*times, *(row.time_milliseconds for row in published)])
    places = [math.log(time / left) / math.log(right / left) for time in times]
    error = error_axis(places, records, [row.error for row in published])
    error.draw(axes)
    at = {id(record): point for record, point in zip(records, zip(times, error.heights, strict=True), strict=True)}

    for knob in knobs(records):
        for curve in knob.curves if knob.is_number else ():
            path = [at[id(curve.records[index])] for index in curve.joined]
            xs, ys = [time for time, _ in path], [height for _, height in path]
            axes.plot(xs, ys, color=look.colour(knob.method), linewidth=0.8, alpha=0.7, zorder=2)
    for record in records:
        axes.plot(*at[id(record)], linestyle="", zorder=3, **look.points(record.method, record.n))
        if is_marked(record):
            axes.plot(*at[id(record)], linestyle="", zorder=4, **CROSS)
    for row in published:
        axes.plot(row.time_milliseconds, row.error, linestyle="", zorder=3, **_hollow(row, look))
    log_axis.draw(axes, "x", left, right)
    axes.set_xlabel(AXIS[reading])
    axes.set_ylabel("relative error (Frobenius)")
    axes.set_title(wrapped(group.heading), loc="left")


CROSS: dict[str, Any] = {"marker": "x", "color": "black", "markersize": 3.2, "markeredgewidth": 0.8}


def is_marked(record: Record) -> bool:
    """Whether a point is drawn with a cross: its timing is flagged, or its status is not ok."""
    return has_flagged_times(record) or record.status != Status.OK


def published_of(group: Group) -> list[PublishedRow]:
    """The paper's points for a panel, none for an instance that is not the paper's."""
    return [row for row in table_4() if row.n in group.sizes] if is_papers_instance(group) else []


def _hollow(row: PublishedRow, look: Look) -> dict[str, Any]:
    colour = look.colour(COUNTERPART[row.method])
    return {
        "marker": look.marker(row.n),
        "markerfacecolor": "none",
        "markeredgecolor": colour,
        "markeredgewidth": 1.1,
        "markersize": MARKER_POINTS,
    }


def _handles(panels: Sequence[Group], reading: Reading, look: Look) -> list[object]:
    records = [record for group in panels for record in drawable(group, reading)]
    present = {record.method for record in records}
    published = [row for group in panels for row in published_of(group)]
    present |= {COUNTERPART[row.method] for row in published}
    handles: list[object] = [look.method_handle(method) for method in look.methods if method in present]
    handles += [look.size_handle(n) for n in sorted({record.n for record in records})]
    if published:
        hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": "0.35", "markersize": 5}
        handles.append(Line2D([], [], linestyle="", label="published (norm not stated)", **hollow))
    return [*handles, *mark_handles(records)]


def mark_handles(records: Sequence[Record]) -> list[object]:
    """The legend of the cross and of the band, as far as any record shows them."""
    handles: list[object] = []
    if any(is_marked(record) for record in records):
        handles.append(Line2D([], [], linestyle="", label="timing flagged, or status not ok", **CROSS))
    bars = [record.reference_error_relative or 0.0 for record in records if at_or_below_bar(record)]
    if bars:
        handles.append(band_handle(bars))
    return handles
