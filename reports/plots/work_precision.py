"""Error against time as each method turns its knob, and the frontier of those that nobody beats."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from reports import log_axis
from reports.content import Content
from reports.error_axis import at_or_below_bar, error_axis
from reports.plots import theme
from reports.plots._dashes import dashes
from reports.plots.theme import Plot
from reports.style import Look
from reports.work_precision import REMARKS, Line, Panel, Point, panels

ORDER = 20
START_PIXELS = 4
FRONTIER = {"color": theme.BAND, "width": 7, "shape": "hv"}

Where = dict[int, tuple[float, float]]


def plot(content: Content, look: Look) -> Plot | None:
    """A figure per instance and size with a swept knob; None without one."""
    figures = {panel.title: _figure(content, panel, look) for panel in panels(content.groups)}
    title = "Work-precision: error against time over each method's knob"
    return Plot("work_precision", title, REMARKS, figures) if figures else None


def _figure(content: Content, panel: Panel, look: Look) -> go.Figure:
    points = panel.points
    left, right = log_axis.limits([1e3 * point.seconds for point in points])
    places = [math.log(1e3 * point.seconds / left) / math.log(right / left) for point in points]
    error = error_axis(places, [point.record for point in points])
    at = {id(point.record): (1e3 * point.seconds, height) for point, height in zip(points, error.heights, strict=True)}
    corners = [at[id(point.record)] for point in panel.frontier]
    dash = dashes(look, [(line.name, line.method) for line in panel.lines])
    figure = theme.new_figure()
    figure.add_trace(_frontier([(corners[0][0], error.top), *corners, (right, corners[-1][1])]))
    figure.add_traces([_line(content, line, at, look, dash[line.name]) for line in panel.lines])
    figure.add_traces(theme.band_keys([point.record for point in points]))
    figure.update_layout(
        xaxis=theme.log_axis("solve + gradient", "ms per call", left, right),
        yaxis=theme.error_scale(error),
        shapes=theme.band(error),
    )
    return figure


def _frontier(ends: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "frontier: no other is as fast and as accurate",
        "x": [time for time, _ in ends],
        "y": [height for _, height in ends],
        "line": FRONTIER,
        "hoverinfo": "skip",
    }


def _line(content: Content, line: Line, at: Where, look: Look, dash: str) -> dict[str, Any]:
    path = [at[id(point.record)] for point in line.points]
    marker = theme.marker(look, line.method, line.points[0].record.n)
    start = START_PIXELS if len(path) > 1 else 0
    marker["size"] = [theme.MARKER_PIXELS - 1 + start * (index == 0) for index in range(len(path))]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(path) > 1 else "markers",
        "name": theme.escape(line.name),
        "x": [time for time, _ in path],
        "y": [height for _, height in path],
        "marker": marker,
        "line": theme.line(look, line.method, dash=dash, width=1.8 if line.is_number else 0.8),
        "error_x": theme.error_bars(look, line.method, [1e3 * point.mad_seconds for point in line.points]),
        "error_y": theme.error_bars(look, line.method, [_bar(point) for point in line.points]),
        **theme.cells(content, [point.record for point in line.points]),
    }


def _bar(point: Point) -> float:
    return 0.0 if at_or_below_bar(point.record) else point.record.reference_error_relative or 0.0
