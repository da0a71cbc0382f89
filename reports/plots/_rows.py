"""The frame of a chart of a row per cell: its labels, its height, and panels side by side on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from reports.plots import theme
from reports.rows import Panel, Shown

ROW_PIXELS = 19
FURNITURE_PIXELS = 110
"""Of the title's margin and the axes' names."""
GAP = 0.04


def frame(panel: Panel[Shown], axes: Sequence[tuple[float, dict[str, Any]]], **layout: Any) -> go.Figure:
    """Empty panels, each with its share of the width and its axis, `xaxis`, `xaxis2` and on; rows run downwards."""
    labels = [f"<b>{theme.escape(label)}</b>" if cell is None else theme.escape(label) for label, cell in panel.rows]
    ends = [len(labels) - 0.4, -0.6]
    layout["yaxis"] = theme.axis("", range=ends, tickvals=[*range(len(labels))], ticktext=labels, ticks="")
    left, whole = 0.0, sum(share for share, _ in axes)
    for number, (share, axis) in enumerate(axes, 1):
        right = left + share / whole
        domain = [left + (GAP / 2 if number > 1 else 0.0), right - (GAP / 2 if number < len(axes) else 0.0)]
        layout[f"xaxis{_suffix(number)}"] = axis | {"domain": domain}
        left = right
    return theme.new_figure(ROW_PIXELS * len(panel.rows) + FURNITURE_PIXELS, **layout)


def placed(panel: Panel[Shown]) -> list[tuple[int, Shown]]:
    """The cells with their heights."""
    return [(height, cell) for height, (_, cell) in enumerate(panel.rows) if cell is not None]


def at(number: int) -> dict[str, str]:
    """Keywords of a trace in one of the panels."""
    return {"xaxis": f"x{_suffix(number)}", "yaxis": "y"}


def _suffix(number: int) -> str:
    return "" if number == 1 else str(number)
