"""Error against time: a point per cell, a line over a swept knob, the paper's Table 4 hollow beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from bench.record import Record
from reports import log_axis
from reports.content import Content
from reports.error_axis import at_or_below_bar, error_axis
from reports.error_time import READINGS, Reading, drawable, is_marked, milliseconds, published_of, undrawn
from reports.instances import Group
from reports.knobs import knobs
from reports.plots import theme
from reports.plots.theme import Plot
from reports.published import COUNTERPART, PublishedRow
from reports.style import Look

TITLES: dict[Reading, str] = {"total": "solve + gradient", "gradient": "gradient alone"}
REMARKS = (
    "Towards the lower left is better. Horizontal bars: median absolute deviation of the time; vertical bars: the "
    "reference's own error. Lines join the values of a method's swept parameter."
)


def plot(content: Content, look: Look, reading: Reading) -> Plot | None:
    """One figure per instance that has a point."""
    figures = {
        group.heading: _figure(content, group, reading, look) for group in content.groups if drawable(group, reading)
    }
    if not figures:
        return None
    hollow = any(published_of(group) for group in content.groups)
    said = " Hollow: the paper's Table 4, on its own machine; it names neither the norm nor what its time covers."
    return Plot(
        stem=f"error_against_{reading}_time",
        title=f"Relative error against the time of {READINGS[reading]}",
        remarks=f"{REMARKS}{said if hollow else ''}{undrawn(content.groups, reading)}",
        figure=figures,
    )


def _figure(content: Content, group: Group, reading: Reading, look: Look) -> go.Figure:
    records, published = drawable(group, reading), published_of(group)
    times = [milliseconds(record, reading) or math.nan for record in records]
    left, right = log_axis.limits([*times, *(row.time_milliseconds for row in published)])
    places = [math.log(time / left) / math.log(right / left) for time in times]
    error = error_axis(places, records, [row.error for row in published])
    at = {id(record): point for record, point in zip(records, zip(times, error.heights, strict=True), strict=True)}

    traces: list[dict[str, Any]] = []
    for knob in knobs(records):
        for curve in knob.curves if knob.is_number else ():
            path = [at[id(curve.records[index])] for index in curve.joined]
            traces.append(
                _line([time for time, _ in path], [height for _, height in path], knob.method, look)
                if len(path) > 1
                else {}
            )
    for method in dict.fromkeys(record.method for record in records):
        own = [record for record in records if record.method == method]
        traces.append(_points(content, own, [at[id(record)] for record in own], reading, look))
    crossed = [at[id(record)] for record in records if is_marked(record)]
    if crossed:
        traces.append(_crosses(crossed))
    traces += [_hollow(row, look) for row in published]
    traces += _keys(records, published, look)

    figure = theme.new_figure()
    figure.add_traces([trace for trace in traces if trace])
    figure.update_layout(
        xaxis=theme.log_axis(TITLES[reading], "ms per call", left, right),
        yaxis=theme.error_scale(error),
        shapes=theme.band(error),
    )
    return figure


def _points(
    content: Content, records: Sequence[Record], at: Sequence[tuple[float, float]], reading: Reading, look: Look
) -> dict[str, Any]:
    method = records[0].method
    own = theme.marker(look, method)
    own["symbol"] = [theme.SYMBOLS[look.marker(record.n)] for record in records]
    spreads = [1e3 * (getattr(record, f"{reading}_mad_seconds") or 0.0) for record in records]
    bars = [0.0 if at_or_below_bar(record) else record.reference_error_relative or 0.0 for record in records]
    return {
        "type": theme.scatter_type(len(content.records)),
        "mode": "markers",
        "name": theme.name(method),
        "legendgroup": method,
        "x": [time for time, _ in at],
        "y": [height for _, height in at],
        "marker": own,
        "error_x": theme.error_bars(look, method, spreads),
        "error_y": theme.error_bars(look, method, bars),
        **theme.cells(content, records),
    }


def _line(times: Sequence[float], heights: Sequence[float], method: str, look: Look) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": times,
        "y": heights,
        "line": theme.line(look, method, width=1.2),
        "legendgroup": method,
        "showlegend": False,
        "hoverinfo": "skip",
    }


CROSS = theme.grey("x-thin", line={"width": 1.6, "color": theme.NEUTRAL})


def _crosses(at: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "timing flagged, or status not ok",
        "x": [time for time, _ in at],
        "y": [height for _, height in at],
        "marker": CROSS,
        "hoverinfo": "skip",
    }


def _hollow(row: PublishedRow, look: Look) -> dict[str, Any]:
    method = COUNTERPART[row.method]
    said = f"{row.method}, n = {row.n}, published: {row.time_milliseconds:g} ms, error {row.error:.1e}, norm not stated"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [row.time_milliseconds],
        "y": [row.error],
        "marker": theme.hollow(look, method, row.n),
        "legendgroup": method,
        "showlegend": False,
        "hovertemplate": f"{theme.escape(said)}<extra></extra>",
    }


def _keys(records: Sequence[Record], published: Sequence[PublishedRow], look: Look) -> list[dict[str, Any]]:
    keys = theme.size_keys(look, [record.n for record in records])
    if published:
        keys.append(theme.key("published (norm not stated)", marker=theme.grey("circle-open", line={"width": 2})))
    return [*keys, *theme.band_keys(records)]
