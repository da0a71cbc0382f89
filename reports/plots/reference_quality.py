"""The steps that each reference was read off, one instance at a time, and the margins of all instances."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from reports.content import Content
from reports.plots import theme
from reports.plots.theme import Plot
from reports.reference_quality import (
    LEAST_MARGIN,
    TITLE,
    TOUCHES,
    ReferenceQuality,
    Trail,
    reference_quality,
    remarks,
)
from reports.reference_quality_figure import BAR, DUAL, EXTRAPOLATED, PRIMAL, QUOTIENT
from reports.short_names import cut, told_apart
from reports.style import Look

ORDER = 81
MARGINS = "margins of all instances"
ROW_PIXELS = 44
NAME_WIDTH = 120


def plot(content: Content, look: Look) -> Plot | None:
    """None where no run kept a sweep."""
    del look
    found = reference_quality(content)
    if found is None:
        return None
    figures = {trail.title: _trail(trail) for trail in found.trails}
    if found.margins:
        figures[MARGINS] = _strip(found)
    return Plot("reference_quality", TITLE.removesuffix("."), remarks(found), figures)


def _trail(trail: Trail) -> go.Figure:
    figure = theme.new_figure()
    off = "%{y:.2e} at h = %{x:.2e}<extra></extra>"
    figure.add_traces(
        [
            _line("difference quotient", trail.h, trail.off, QUOTIENT["color"], "circle", off),
            _line("extrapolated", trail.h, trail.off_extrapolated, EXTRAPOLATED["color"], "square", off),
            _line("bound on rounding", trail.h, trail.rounding, theme.NEUTRAL, None, off, dash="dash"),
            _line("error bar", trail.h, [trail.bar] * len(trail.h), BAR["color"], None, off, dash="dot"),
            theme.key("plateau: these extrapolated values agree", marker=theme.grey("square", color=theme.BAND)),
        ]
    )
    figure.update_layout(
        xaxis=theme.axis("step h: theta is moved by h d", log=True, dtick=1),
        yaxis=theme.axis("distance from value", "relative", log=True, nticks=7),
        shapes=[_band(*sorted(trail.plateau))],
    )
    return figure


def _line(name: str, h: Any, off: Any, colour: str, symbol: str | None, hover: str, **others: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if symbol is None else "lines+markers",
        "name": name,
        "x": list(h),
        "y": list(off),
        "line": {"color": colour, "width": 1.6} | others,
        "marker": {"symbol": symbol or "circle", "size": 7},
        "hovertemplate": hover,
    }


def _strip(found: ReferenceQuality) -> go.Figure:
    """Rows are named above their points, as the names are longer than a margin."""
    figure = theme.new_figure(ROW_PIXELS * len(found.margins) + 140)
    for name, mark, symbol in (("primal", PRIMAL, "circle"), ("dual", DUAL, "diamond")):
        margins = [(row, own, getattr(own, name)) for row, own in enumerate(found.margins)]
        shown = [(row, own, margin) for row, own, margin in margins if margin is not None]
        figure.add_trace(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{name} margin",
                "x": [max(margin, LEAST_MARGIN) for _, _, margin in shown],
                "y": [row for row, _, _ in shown],
                "marker": {"color": mark["color"], "symbol": symbol, "size": theme.MARKER_PIXELS},
                "text": [theme.escape(f"{own.label}: {name} margin {margin:.2e}") for _, own, margin in shown],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    figure.add_trace(theme.key("at or below 1e-13: on a kink", marker=theme.grey("square", color=theme.BAND)))
    figure.update_layout(
        xaxis=theme.axis("relative margin from a kink", log=True, range=[-16.3, 0.5]),
        yaxis={"visible": False, "range": [len(found.margins) - 0.6, -0.8]},
        shapes=[_band(LEAST_MARGIN / 10, TOUCHES)],
        annotations=[_name(row, label) for row, label in enumerate(told_apart([own.label for own in found.margins]))],
    )
    return figure


def _name(row: int, label: str) -> dict[str, Any]:
    look = {"showarrow": False, "font": {"size": 11}, "align": "left", "xanchor": "left", "yanchor": "bottom"}
    return {"text": theme.escape(cut(label, NAME_WIDTH)), "xref": "x domain", "x": 0.01, "y": row - 0.18, **look}


def _band(left: float, right: float) -> dict[str, Any]:
    return {
        "type": "rect",
        "yref": "y domain",
        "x0": left,
        "x1": right,
        "y0": 0,
        "y1": 1,
        "fillcolor": theme.BAND,
        "layer": "below",
        **theme.NO_EDGE,
    }
