"""Pairs of cells that differ in one thing alone: how many times faster the one is, and both errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from reports import log_axis
from reports.content import Content
from reports.device_dtype import PLAIN, QUICK, RATIOS, TITLES, Axis, Pair, grouped, remarks, shown_error
from reports.plots import _rows, theme
from reports.plots.theme import Plot
from reports.rows import Panel
from reports.style import Look

WHISKER = {"type": "data", "symmetric": False, "color": theme.NEUTRAL, "thickness": 1.2, "width": 3}

Placed = Sequence[tuple[int, Pair]]


def plot(content: Content, look: Look, axis: Axis) -> Plot | None:
    """A figure per instance; None where the runs have one device, or one precision."""
    figures = {panel.group.heading: _figure(content, panel, axis, look) for panel in grouped(content.groups, axis)}
    return Plot(f"{axis}_pairs", TITLES[axis], remarks(axis), figures) if figures else None


def _figure(content: Content, panel: Panel[Pair], axis: Axis, look: Look) -> go.Figure:
    rows = _rows.placed(panel)
    ends = [1.0, *(end for _, pair in rows if pair.ratio for end in pair.ends)]
    errors = [error for _, pair in rows for own in (pair.plain, pair.quick) if (error := shown_error(own))]
    line: dict[str, Any] = {"x0": 1, "x1": 1, "y0": 0, "y1": 1, "line": {"color": theme.NEUTRAL, "width": 1}}
    axes = (
        (1.0, theme.log_axis(RATIOS[axis], "", *log_axis.limits(ends))),
        (1.0, theme.log_axis("relative error", "Frobenius", *log_axis.limits(errors or [1.0]))),
    )
    figure = _rows.frame(
        panel,
        axes,
        shapes=[{"type": "line", "xref": "x", "yref": "y domain", "layer": "below", **line}],
        annotations=[_word(height, pair) for height, pair in rows if not pair.ratio],
    )
    figure.add_trace(_ratios(content, [(height, pair) for height, pair in rows if pair.ratio], look))
    for side, words, symbol in (("plain", PLAIN[axis][1], "circle-open"), ("quick", QUICK[axis][1], "circle")):
        figure.add_trace(_errors(content, rows, side, symbol, look))
        figure.add_trace(theme.key(f"error: {words}", marker=theme.grey(symbol)))
    return figure


def _ratios(content: Content, rows: Placed, look: Look) -> dict[str, Any]:
    ratios = [pair.ratio or math.nan for _, pair in rows]
    ends = [pair.ends for _, pair in rows]
    above = [high - ratio for (_, high), ratio in zip(ends, ratios, strict=True)]
    below = [ratio - low for (low, _), ratio in zip(ends, ratios, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": ratios,
        "y": [height for height, _ in rows],
        "error_x": WHISKER | {"array": above, "arrayminus": below},
        "marker": {"color": [theme.colour(look, pair.plain.method) for _, pair in rows], "size": 8},
        "showlegend": False,
        **_rows.at(1),
        **theme.cells(content, [pair.quick for _, pair in rows]),
    }


def _errors(content: Content, rows: Placed, side: str, symbol: str, look: Look) -> dict[str, Any]:
    records = [getattr(pair, side) for _, pair in rows]
    known = [(height, record) for (height, _), record in zip(rows, records, strict=True) if shown_error(record)]
    bars = [record.reference_error_relative or 0.0 for _, record in known]
    errors = [shown_error(record) or math.nan for _, record in known]
    below = [min(bar, 0.9 * error) for bar, error in zip(bars, errors, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": errors,
        "y": [height for height, _ in known],
        "error_x": WHISKER | {"array": bars, "arrayminus": below},
        "marker": {"color": [theme.colour(look, record.method) for _, record in known], "symbol": symbol, "size": 8},
        "showlegend": False,
        **_rows.at(2),
        **theme.cells(content, [record for _, record in known]),
    }


def _word(height: int, pair: Pair) -> dict[str, Any]:
    return {"text": theme.escape(pair.word), "x": 0, "xref": "x", "y": height, "yref": "y", "showarrow": False}
