"""Performance profile of the time of solve and gradient, for three accuracies that a gradient must have."""

from __future__ import annotations

import math

from reports.content import Content
from reports.plots import _profiles
from reports.plots.theme import Plot
from reports.profiles import ACCURATE
from reports.style import Look

ORDER = 50
ACCURACIES = (ACCURATE, 1e-6, math.inf)


def plot(content: Content, look: Look) -> Plot | None:
    """None where no three instances were timed with the same methods."""
    return _profiles.plot(content, look, "time", ACCURACIES)
