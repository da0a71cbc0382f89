"""The ratios of two runs' times with their intervals, a point per cell, sorted."""

from __future__ import annotations

from typing import Any

from reports import log_axis
from reports.changes import Changed, Changes
from reports.plots import theme
from reports.plots.theme import Plot
from reports.style import Look

ROW_PIXELS = 13
LEAST_PIXELS, MOST_PIXELS = 300, 900


def plot(changes: Changes, stem: str, look: Look) -> Plot | None:
    """None where no cell of both runs has times."""
    timed = sorted(((row.interval[1], row) for row in changes.rows if row.interval), key=lambda pair: pair[0])
    if not timed:
        return None
    rank = {row.cell_id: place for place, (_, row) in enumerate(timed, 1)}
    methods = [method for method in look.methods if any(row.method == method for _, row in timed)]
    figure = theme.new_figure(min(MOST_PIXELS, LEAST_PIXELS + ROW_PIXELS * len(timed)))
    figure.add_traces([_points([row for _, row in timed if row.method == method], rank, look) for method in methods])
    ends = [end for _, row in timed for end in row.interval or () if end]
    left, right = log_axis.limits([*ends, 1.0])
    figure.update_layout(
        xaxis=theme.log_axis("time of B / time of A", "1 is no change", left, right),
        yaxis=theme.axis("cell", "by ratio", range=[0, len(timed) + 1]),
        shapes=[
            {"type": "line", "x0": 1, "x1": 1, "yref": "y domain", "y0": 0, "y1": 1, "line": {"color": theme.NEUTRAL}}
        ],
    )
    said = "Bars: the ratio's 95 % interval; a point without one has too few processes. Left of 1, B is faster."
    return Plot(stem, f"Ratios of time: {changes.title}", said, figure)


def _points(rows: list[Changed], rank: dict[str, int], look: Look) -> dict[str, Any]:
    ratios = [row.interval[1] if row.interval else 1.0 for row in rows]
    highs = [(row.interval[2] if row.interval else None) or ratio for row, ratio in zip(rows, ratios, strict=True)]
    lows = [(row.interval[0] if row.interval else None) or ratio for row, ratio in zip(rows, ratios, strict=True)]
    above = [high - ratio for high, ratio in zip(highs, ratios, strict=True)]
    below = [ratio - low for low, ratio in zip(lows, ratios, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": theme.name(rows[0].method),
        "x": ratios,
        "y": [rank[row.cell_id] for row in rows],
        "marker": theme.marker(look, rows[0].method),
        "error_x": theme.error_bars(look, rows[0].method, above, below),
        "text": [theme.escape(row.text[0]) for row in rows],
        "hovertemplate": "%{text}: %{x:.3f}<extra></extra>",
    }
