"""float32 against float64: how many times faster, and what becomes of the error."""

from __future__ import annotations

from reports.content import Content
from reports.plots import _pairs
from reports.plots.theme import Plot
from reports.style import Look

ORDER = 72


def plot(content: Content, look: Look) -> Plot | None:
    """None where the runs have one precision."""
    return _pairs.plot(content, look, "dtype")
