"""Time of solve and gradient against n, with the fitted exponent of each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.content import Content
from reports.crossovers import crossovers
from reports.plots import _scaling, theme
from reports.plots.theme import Plot
from reports.scaling import Series
from reports.style import Look

ORDER = 40


def plot(content: Content, look: Look) -> Plot | None:
    """None with fewer than three sizes."""
    return _scaling.plot(
        content,
        look,
        stem="time_against_size",
        title="Time of solve and gradient against n",
        axis=("solve + gradient", "ms per call"),
        point=lambda record: (record.total_seconds, record.total_mad_seconds),
        unit=1e-3,
        exponent=lambda series: series.exponent("total"),
        marks=_rings,
        remarks="Bars: median absolute deviation.",
    )


def _rings(shown: Sequence[Series]) -> list[dict[str, Any]]:
    """Where one method's time passes another's."""
    found = crossovers(shown)
    if not found:
        return []
    said = [f"{one.first.label} faster up to n = {one.after}, {one.then.label} from {one.before} on" for one in found]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "crossover",
            "x": [one.size for one in found],
            "y": [1e3 * one.seconds for one in found],
            "marker": theme.grey("circle-open", size=16, line={"width": 2}),
            "text": [theme.escape(words) for words in said],
            "hovertemplate": "%{text}<extra></extra>",
        }
    ]
