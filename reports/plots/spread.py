"""The values behind each median: every timed call, as a dot beside a box of the quartiles."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from reports.content import Content
from reports.plots import _rows, theme
from reports.plots.theme import Plot
from reports.rows import Panel, divided
from reports.spread import PHASES, REMARKS, Samples, Suites
from reports.style import Look

ORDER = 62


def plot(content: Content, look: Look) -> Plot | None:
    """A figure per phase and instance; None where the runs kept no values."""
    suites = Suites.of(content.runs)
    figures = {
        f"{words}: {name}": _figure(part, look)
        for phase, words in PHASES.items()
        for group in content.groups
        if (cells := suites.samples(group, phase))
        for name, part in divided(Panel(group, tuple(cells))).items()
    }
    return Plot("spread", "The values behind each median", REMARKS, figures) if figures else None


def _figure(panel: Panel[Samples], look: Look) -> go.Figure:
    axis = theme.axis("one call, off the median", "%", zeroline=True)
    figure = _rows.frame(panel, ((1.0, axis),), showlegend=False)
    figure.add_traces([_box(height, cell, look) for height, cell in _rows.placed(panel)])
    return figure


def _box(height: int, cell: Samples, look: Look) -> dict[str, Any]:
    said = [f"process {number}: {1e3 * value:.4g} ms" for number, own in enumerate(cell.processes, 1) for value in own]
    return {
        "type": "box",
        "orientation": "h",
        "x": list(cell.percent),
        "y": [height] * len(said),
        "width": 0.7,
        "boxpoints": "all",
        "pointpos": 0,
        "jitter": 0.6,
        "quartilemethod": "inclusive",
        "line": {"width": 1, "color": theme.colour(look, cell.record.method)},
        "marker": {"size": 4, "color": theme.colour(look, cell.record.method)},
        "text": said,
        "hovertemplate": f"<b>{theme.escape(cell.label)}</b><br>%{{text}}, %{{x:+.1f}} %<extra></extra>",
        "hoveron": "points",
    }
