"""Error against time over each method's knob: a panel per instance and size, a line per setting of the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import log_axis
from reports.error_axis import at_or_below_bar, error_axis
from reports.error_time import AXIS, CROSS, is_marked, mark_handles
from reports.style import MARKER_POINTS, PAGE_INCHES, Dash, Look, dashes_of, legend_below, shortened, wrapped
from reports.work_precision import Line, Panel, Point

PANEL_INCHES = 3.0
START_POINTS = 2.0
"""So much larger is the marker at which a line begins."""
FRONTIER: dict[str, Any] = {"color": "0.75", "linewidth": 3.5, "solid_capstyle": "butt"}
SMALL_PRINT = 6.0
"""Points of the legend, so that two of its long entries stand side by side."""
LONGEST_ENTRY = 76
Where = dict[int, tuple[float, float]]
"""Time in milliseconds and height of a record, by its identity."""


def draw(panels: Sequence[Panel], look: Look) -> Figure:
    """A page wide, panels under each other."""
    figure = Figure(figsize=(PAGE_INCHES, PANEL_INCHES * len(panels)), layout="constrained")
    lines = {line.name: line for panel in panels for line in panel.lines}
    dashes = dashes_of(look, [(line.name, line.method) for line in lines.values()])
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False).ravel(), panels, strict=True):
        _panel(axes, panel, look, dashes)
    handles: list[object] = [_handle(line, look, dashes) for line in lines.values()]
    handles.append(Line2D([], [], label="frontier: no other is as fast and as accurate", **FRONTIER))
    handles += mark_handles([point.record for panel in panels for point in panel.points])
    legend_below(figure, handles, SMALL_PRINT)
    return figure


def _panel(axes: Axes, panel: Panel, look: Look, dashes: dict[str, Dash]) -> None:
    points = panel.points
    left, right = log_axis.limits([1e3 * point.seconds for point in points])
    places = [math.log(1e3 * point.seconds / left) / math.log(right / left) for point in points]
    error = error_axis(places, [point.record for point in points])
    error.draw(axes)
    at = {id(point.record): (1e3 * point.seconds, height) for point, height in zip(points, error.heights, strict=True)}
    corners = [at[id(point.record)] for point in panel.frontier]
    ends = [(corners[0][0], error.top), *corners, (right, corners[-1][1])]
    axes.step([time for time, _ in ends], [height for _, height in ends], where="post", zorder=1, **FRONTIER)
    for line in panel.lines:
        _line(axes, line, at, look, dashes)
    log_axis.draw(axes, "x", left, right)
    axes.set_xlabel(AXIS["total"])
    axes.set_ylabel("relative error (Frobenius)")
    axes.set_title(wrapped(panel.title, 100), loc="left")


def _line(axes: Axes, line: Line, at: Where, look: Look, dashes: dict[str, Dash]) -> None:
    colour = look.colour(line.method)
    path = [at[id(point.record)] for point in line.points]
    if len(path) > 1:
        width = 1.1 if line.is_number else 0.6
        axes.plot(*zip(*path, strict=True), linestyle=dashes[line.name], linewidth=width, color=colour, zorder=2)
    for index, (point, (time, height)) in enumerate(zip(line.points, path, strict=True)):
        style = look.points(line.method, point.record.n)
        style["markersize"] = MARKER_POINTS - 1.5 + START_POINTS * (index == 0 and len(path) > 1)
        axes.errorbar(time, height, elinewidth=0.8, zorder=3, **style, **_bars(point))
        if is_marked(point.record):
            axes.plot(time, height, linestyle="", zorder=4, **CROSS)


def _bars(point: Point) -> dict[str, Any]:
    time_off = [[1e3 * min(point.mad_seconds, 0.9 * point.seconds)], [1e3 * point.mad_seconds]]
    if at_or_below_bar(point.record):
        return {"xerr": time_off}
    bar = point.record.reference_error_relative or 0.0
    return {"xerr": time_off, "yerr": [[min(bar, 0.9 * point.error)], [bar]]}


def _handle(line: Line, look: Look, dashes: dict[str, Dash]) -> Line2D:
    joined: dict[str, Any] = {"linestyle": dashes[line.name] if len(line.points) > 1 else ""}
    style = {**look.points(line.method, line.points[0].record.n), "markersize": MARKER_POINTS - 1.5}
    return Line2D([], [], label=shortened(line.name, LONGEST_ENTRY), linewidth=1.1, **style, **joined)
