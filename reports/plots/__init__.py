"""The interactive views of the page: one file each, found by its name.

A view is a module with `ORDER: int`, its place on the page, and `plot(content, look) -> Plot | None`; None means that
the run has nothing to show in it. `theme` and names with a leading underscore are no views.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from reports.style import Look

if TYPE_CHECKING:
    from reports.content import Content
    from reports.plots.theme import Plot

HELPERS = frozenset({"theme"})


def plots(content: Content) -> list[Plot]:
    """Every view that this run has something for, in the order of the page."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    views = [
        importlib.import_module(f"reports.plots.{name}") for name in names if name not in HELPERS and name[0] != "_"
    ]
    look = look_of(content)
    drawn = [view.plot(content, look) for view in sorted(views, key=lambda view: view.ORDER)]
    return [plot for plot in drawn if plot is not None]


def look_of(content: Content) -> Look:
    """One colour per method and one marker per n for the whole page."""
    records = [record for run in content.runs for record in run.records]
    return Look.of((record.method for record in records), (record.n for record in records))
