"""Error and time of a method over its swept parameter: a line per size and setting of the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go

from reports import log_axis
from reports.content import Content
from reports.error_axis import at_or_below_bar, error_axis
from reports.error_time import milliseconds
from reports.knob_figure import Scale, measured
from reports.knobs import Curve, Knob, knobs
from reports.plots import theme
from reports.plots.theme import Plot
from reports.style import Look

ORDER = 30
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
UPPER, LOWER = [0.54, 1.0], [0.0, 0.46]
"""The shares of the height that error and time have."""


def plot(content: Content, look: Look) -> Plot | None:
    """A figure per method and instance; None where no method has a parameter that took two values."""
    swept = [(group, knob) for group in content.groups for knob in knobs(measured(group))]
    if not swept:
        return None
    return Plot(
        stem="knobs",
        title="Error and time of a method over its swept parameter",
        remarks="A line per size and setting of the rest. Vertical bars: the reference's own error, and the median "
        "absolute deviation of the time.",
        figure={
            f"{knob.method}: {group.heading}": _figure(content, knob, look)
            for group, knob in sorted(swept, key=lambda pair: pair[1].method)
        },
    )


def _figure(content: Content, knob: Knob, look: Look) -> go.Figure:
    scale = Scale(knob)
    records = [record for curve in knob.curves for record in curve.records]
    error = error_axis([scale.share(value) for curve in knob.curves for value in curve.values], records)
    height = {id(record): at for record, at in zip(records, error.heights, strict=True)}
    dashes = dict(zip(dict.fromkeys(curve.rest for curve in knob.curves), cycle(DASHES), strict=False))

    def line(curve: Curve, heights: Sequence[float], spreads: Sequence[float], **placed: Any) -> list[dict[str, Any]]:
        at = [scale.position(value) for value in curve.values]
        shared = {"type": "scatter", "name": _name(curve), "legendgroup": _name(curve), **placed}
        joined = {
            "x": [at[index] for index in curve.joined],
            "y": [heights[index] for index in curve.joined],
            "mode": "lines",
            "line": theme.line(look, curve.method, dash=dashes[curve.rest]),
            "hoverinfo": "skip",
        }
        points = {
            "x": at,
            "y": heights,
            "mode": "markers",
            "marker": theme.marker(look, curve.method, curve.n),
            "error_y": theme.error_bars(look, curve.method, list(spreads)),
            "showlegend": False,
            **theme.cells(content, curve.records),
        }
        return [{**shared, **joined}, {**shared, **points}]

    figure = theme.new_figure(theme.HEIGHT + 240)
    for curve in knob.curves:
        bars = [0.0 if at_or_below_bar(record) else record.reference_error_relative or 0.0 for record in curve.records]
        figure.add_traces(line(curve, [height[id(record)] for record in curve.records], bars))
        times = [milliseconds(record, "total") or math.nan for record in curve.records]
        spreads = [1e3 * (record.total_mad_seconds or 0.0) for record in curve.records]
        figure.add_traces(line(curve, times, spreads, yaxis="y2", showlegend=False))
    figure.add_traces(theme.size_keys(look, [record.n for record in records]))
    figure.add_traces(theme.band_keys(records))
    shown = [time for record in records if (time := milliseconds(record, "total"))]
    figure.update_layout(
        xaxis=_across(knob, scale),
        yaxis={**theme.error_scale(error), "domain": UPPER},
        yaxis2={**theme.log_axis("solve + gradient", "ms per call", *_ends(shown)), "domain": LOWER},
        shapes=theme.band(error),
    )
    return figure


def _name(curve: Curve) -> str:
    return theme.name(f"{curve.rest}, n = {curve.n}" if curve.rest else f"{curve.method}, n = {curve.n}")


def _across(knob: Knob, scale: Scale) -> dict[str, Any]:
    return theme.axis(
        knob.name,
        f"parameter of {knob.method}",
        log=scale.logarithmic,
        anchor="y2",
        range=[scale.left, scale.right],
        tickvals=[*scale.ticks],
        ticktext=[theme.escape(text) for text in scale.ticks.values()],
    )


def _ends(times: Sequence[float]) -> tuple[float, float]:
    return log_axis.limits(times or [1.0])
