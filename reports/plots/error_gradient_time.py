"""Error against the time of the gradient alone, as the paper's Table 4 may mean it."""

from __future__ import annotations

from reports.content import Content
from reports.plots import _error_time
from reports.plots.theme import Plot
from reports.style import Look

ORDER = 11


def plot(content: Content, look: Look) -> Plot | None:
    """None where no cell has an error and a time."""
    return _error_time.plot(content, look, "gradient")
