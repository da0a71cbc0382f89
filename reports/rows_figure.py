"""The frame of a chart of a row per cell: panels under each other, columns side by side on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.rows import Panel, Shown
from reports.style import COLUMN_INCHES, PAGE_INCHES, literal, wrapped

ROW_INCHES = 0.135
AXIS_INCHES = 0.66
"""Of a panel: its ticks and the names of its axes."""
TITLE_INCHES = 0.13
"""A line of its title."""
TITLE_CHARACTERS_PER_INCH = 17
NARROW_TICKS = 3
"""On an axis of times beside others."""
NARROW_LABEL = 30
"""Characters of a label that fit beside the columns of a column-wide figure."""

Draw = Callable[[Sequence[Axes], Sequence[tuple[float, Shown]]], None]
"""Draws the cells of a panel at their heights, on one axes per column."""


def frame(page: Sequence[Panel[Shown]], widths: Sequence[float], draw: Draw[Shown]) -> Figure:
    """A figure with the panels of a page; `widths` are those of the columns, relative to each other."""
    longest = max(len(label) for panel in page for label, _ in panel.rows)
    width = COLUMN_INCHES if longest <= NARROW_LABEL else PAGE_INCHES
    titles = [wrapped(panel.group.heading, round(width * TITLE_CHARACTERS_PER_INCH)) for panel in page]
    heights = [
        ROW_INCHES * len(panel.rows) + TITLE_INCHES * len(title.splitlines()) + AXIS_INCHES
        for panel, title in zip(page, titles, strict=True)
    ]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(page), 1, squeeze=False, height_ratios=heights).ravel()
    for part, panel, title in zip(parts, page, titles, strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=7)
        (stack,) = part.subplots(1, len(widths), squeeze=False, width_ratios=list(widths))
        _label(stack, panel)
        draw(stack, [(float(height), cell) for height, (_, cell) in enumerate(panel.rows) if cell is not None])
    return figure


def _label(stack: Sequence[Axes], panel: Panel[Shown]) -> None:
    for axes in stack:
        axes.set_ylim(len(panel.rows) - 0.4, -0.6)
        axes.set_yticks([height for height, (_, cell) in enumerate(panel.rows) if cell is not None], labels=[])
    first = stack[0]
    first.set_yticks(range(len(panel.rows)), labels=[literal(label) for label, _ in panel.rows])
    for tick, (_, cell) in zip(first.get_yticklabels(), panel.rows, strict=True):
        tick.set(fontsize=6.5, fontweight="normal" if cell is not None else "bold")
    for gridline, (_, cell) in zip(first.get_ygridlines(), panel.rows, strict=True):
        gridline.set_visible(cell is not None)
