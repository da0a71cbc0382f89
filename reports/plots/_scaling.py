"""A quantity against n: a line per method over the cells that differ in size alone, its exponent in the legend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from bench.record import Record
from reports import log_axis
from reports.content import Content
from reports.plots import theme
from reports.plots.theme import Plot
from reports.scaling import Exponent, Series, all_series
from reports.slope import CONFIDENCE
from reports.style import Look

Point = Callable[[Record], tuple[float | None, float | None]]
"""A record's value and the spread beside it."""


def plot(
    content: Content,
    look: Look,
    *,
    stem: str,
    title: str,
    axis: tuple[str, str],
    point: Point,
    unit: float,
    exponent: Callable[[Series], Exponent | None],
    remarks: str,
    marks: Callable[[Sequence[Series]], list[dict[str, Any]]],
) -> Plot | None:
    """A figure per k/n, batch and instance; None where no series has a point. `marks` are further traces of one."""
    panels: dict[str, list[Series]] = {}
    for series in all_series(content.groups):
        if any(point(record)[0] for record in series.records):
            panels.setdefault(series.heading, []).append(series)
    if not panels:
        return None

    def trace(series: Series) -> dict[str, Any]:
        measured = [(record, *point(record)) for record in series.records if point(record)[0]]
        found = exponent(series)
        fitted = f": n<sup>{found.value:.2f} ± {found.half_width:.2f}</sup>" if found else ""
        return {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"{theme.name(series.label)}{fitted}",
            "x": [record.n for record, _, _ in measured],
            "y": [(value or 0.0) / unit for _, value, _ in measured],
            "error_y": theme.error_bars(look, series.method, [(spread or 0.0) / unit for _, _, spread in measured]),
            "marker": theme.marker(look, series.method),
            "line": theme.line(look, series.method),
            **theme.cells(content, [record for record, _, _ in measured]),
        }

    def figure(shown: Sequence[Series]) -> go.Figure:
        drawn = theme.new_figure()
        drawn.add_traces([trace(series) for series in shown] + marks(shown))
        sizes = sorted({record.n for series in shown for record in series.records})
        ticks = {"tickvals": sizes, "ticktext": [str(n) for n in sizes]}
        drawn.update_layout(
            xaxis=theme.axis("n", "samples", log=True, **ticks), yaxis=theme.log_axis(*axis, *_ends(drawn))
        )
        return drawn

    def _ends(drawn: go.Figure) -> tuple[float, float]:
        return log_axis.limits([height for trace in drawn.data for height in trace.y])

    said = (
        f"{remarks} In the legend p of ~ n^p with its {100 * CONFIDENCE:g} % interval, fitted to the larger half of "
        "the sizes, four at least where there are so many."
    )
    return Plot(stem, title, said, {heading: figure(shown) for heading, shown in panels.items()})
