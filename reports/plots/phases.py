"""Where the time of a call goes: shares of solve and gradient, the time of both, and that of preparing apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from reports import log_axis
from reports.content import Content
from reports.phases import REMARKS, Breakdown, Phase, breakdowns
from reports.plots import _rows, theme
from reports.plots.theme import Plot
from reports.rows import Panel, divided
from reports.style import Look

ORDER = 60
PALE = 0.45
WHISKER = {"type": "data", "color": theme.NEUTRAL, "thickness": 1.2, "width": 3}

Placed = Sequence[tuple[int, Breakdown]]


def plot(content: Content, look: Look) -> Plot | None:
    """A figure per instance, in parts where it has many cells; None where nothing was timed."""
    figures = {
        name: _figure(content, part, look)
        for group in content.groups
        if (cells := breakdowns(group))
        for name, part in divided(Panel(group, tuple(cells))).items()
    }
    return Plot("phases", "Where the time goes: solve, gradient, prepare", REMARKS, figures) if figures else None


def _figure(content: Content, panel: Panel[Breakdown], look: Look) -> go.Figure:
    rows = _rows.placed(panel)
    prepared = [(height, cell) for height, cell in rows if cell.prepare]
    axes = (
        (1.4, theme.axis("share of solve and gradient", range=[0, 1.08])),
        (1.0, _time_axis("solve + gradient", [cell.total for _, cell in rows])),
        (1.0, _time_axis("prepare, once", [cell.prepare for _, cell in rows if cell.prepare])),
    )
    figure = _rows.frame(panel, axes, barmode="stack", bargap=0.25)
    figure.add_traces(
        [
            _bars(content, rows, look, "solve", [cell.solve_share for _, cell in rows], 1.0),
            _bars(content, rows, look, "gradient", [cell.gradient_share for _, cell in rows], PALE),
            _dots(content, rows, look, 2, [cell.total for _, cell in rows]),
            _dots(content, prepared, look, 3, [cell.prepare for _, cell in prepared if cell.prepare]),
            theme.key("solve", marker=theme.grey("square")),
            theme.key("gradient", marker=theme.grey("square", opacity=PALE)),
        ]
    )
    return figure


def _time_axis(title: str, phases: Sequence[Phase]) -> dict[str, Any]:
    ends = log_axis.limits([1e3 * phase.seconds for phase in phases]) if phases else (1.0, 10.0)
    return theme.log_axis(title, "ms", *ends)


def _bars(
    content: Content, rows: Placed, look: Look, name: str, shares: Sequence[Phase], opacity: float
) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "x": [share.seconds for share in shares],
        "y": [height for height, _ in rows],
        "error_x": WHISKER | {"array": [share.mad_seconds for share in shares]},
        "marker": {"color": [theme.colour(look, cell.record.method) for _, cell in rows], "opacity": opacity},
        "showlegend": False,
        "textposition": "none",
        **_rows.at(1),
        **theme.cells(content, [cell.record for _, cell in rows]),
    }


def _dots(content: Content, rows: Placed, look: Look, number: int, phases: Sequence[Phase]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [1e3 * phase.seconds for phase in phases],
        "y": [height for height, _ in rows],
        "error_x": WHISKER | {"array": [1e3 * phase.mad_seconds for phase in phases]},
        "marker": {"color": [theme.colour(look, cell.record.method) for _, cell in rows], "size": 7},
        "showlegend": False,
        **_rows.at(number),
        **theme.cells(content, [cell.record for _, cell in rows]),
    }
