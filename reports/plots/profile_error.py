"""Data profile: the share of the instances on which a method's error is at most e."""

from __future__ import annotations

from reports.content import Content
from reports.plots import _profiles
from reports.plots.theme import Plot
from reports.profiles import ACCURATE
from reports.style import Look

ORDER = 54


def plot(content: Content, look: Look) -> Plot | None:
    """None where no three instances with the same methods have a reference."""
    return _profiles.plot(content, look, "error", (ACCURATE,))
