"""A panel per sweep, and below them a strip with both margins of every instance."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from reports.error_axis import BAND_COLOUR
from reports.reference_quality import LEAST_MARGIN, TOUCHES, Margins, ReferenceQuality, Trail
from reports.short_names import told_apart
from reports.style import PAGE_INCHES, legend_below, literal, wrapped

COLUMNS = 2
ROW_INCHES = 2.1
MARGIN_INCHES = 0.36
TITLE_WIDTH, LABEL_WIDTH = 46, 120
LOWEST, LEAST_TOP = 4e-17, 1e-11
"""Of the panels' vertical axes."""

# Okabe and Ito's blue, vermillion and black; shapes differ, too.
QUOTIENT: dict[str, Any] = {"marker": "o", "color": "#0072b2", "linewidth": 0.9, "markersize": 3.5}
EXTRAPOLATED: dict[str, Any] = {"marker": "s", "color": "#d55e00", "linewidth": 0.9, "markersize": 3.5}
ROUNDING: dict[str, Any] = {"linestyle": "--", "color": "0.25", "linewidth": 0.9}
BAR: dict[str, Any] = {"linestyle": ":", "color": "#009e73", "linewidth": 1.2}
PRIMAL: dict[str, Any] = {"marker": "o", "color": "#0072b2", "linestyle": "", "markersize": 4.5}
DUAL: dict[str, Any] = {"marker": "D", "color": "#d55e00", "linestyle": "", "markersize": 4.5}
KINK: dict[str, Any] = {"linestyle": "-", "color": "0.25", "linewidth": 0.9}


def draw(found: ReferenceQuality) -> Figure:
    """A page wide; the strip is left out where no instance has a margin."""
    columns = min(COLUMNS, len(found.trails))
    rows = math.ceil(len(found.trails) / columns)
    strip = MARGIN_INCHES * len(found.margins) + 0.5 if found.margins else 0.0
    figure = Figure(figsize=(PAGE_INCHES, ROW_INCHES * rows + strip), layout="constrained")
    heights = [ROW_INCHES] * rows + [strip] * bool(found.margins)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    titles = told_apart([trail.title for trail in found.trails])
    for index, (trail, title) in enumerate(zip(found.trails, titles, strict=True)):
        _trail(figure.add_subplot(grid[divmod(index, columns)]), trail, title)
    if found.margins:
        _strip(figure.add_subplot(grid[rows, :]), found.margins)
    legend_below(figure, _handles(found))
    return figure


def _trail(axes: Axes, trail: Trail, title: str) -> None:
    axes.axvspan(trail.plateau[1], trail.plateau[0], color=BAND_COLOUR, linewidth=0, zorder=0.5)
    axes.plot(trail.h, trail.off, **QUOTIENT)
    pairs = [(h, off) for h, off in zip(trail.h, trail.off_extrapolated, strict=True) if off is not None]
    axes.plot(*zip(*pairs, strict=True), **EXTRAPOLATED)
    axes.plot(trail.h, trail.rounding, **ROUNDING)
    axes.axhline(trail.bar, **BAR)
    axes.set(xscale="log", yscale="log", xlabel="step h: theta is moved by h d")
    axes.set_ylabel("distance from the value\n(relative to it)")
    axes.set_ylim(LOWEST, max(LEAST_TOP, 5 * max(*trail.off, *trail.rounding, trail.bar)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_locator(NullLocator())
    axes.set_title(wrapped(title, TITLE_WIDTH), loc="left")


def _strip(axes: Axes, margins: tuple[Margins, ...]) -> None:
    for name, look in (("primal", PRIMAL), ("dual", DUAL)):
        shown = [(row, margin) for row, own in enumerate(margins) if (margin := getattr(own, name)) is not None]
        axes.plot([max(margin, LEAST_MARGIN) for _, margin in shown], [row for row, _ in shown], **look)
    axes.axvline(TOUCHES, **KINK)
    axes.axvspan(LEAST_MARGIN / 10, TOUCHES, color=BAND_COLOUR, linewidth=0, zorder=0.5)
    axes.set(xscale="log", xlim=(LEAST_MARGIN / 3, 3.0), xlabel="relative margin from a kink")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(len(margins) - 0.7, -0.9)
    axes.set_yticks(range(len(margins)), labels=[])
    labels = told_apart([own.label for own in margins])
    for row, name in enumerate(labels):  # above its points, as it is longer than any margin of the page
        label = literal("\n".join(textwrap.wrap(name, LABEL_WIDTH)))
        text = axes.text(LEAST_MARGIN, row - 0.16, label, fontsize=6, verticalalignment="bottom", linespacing=1.0)
        text.set_in_layout(False)


def _handles(found: ReferenceQuality) -> list[object]:
    handles: list[object] = [
        Line2D([], [], label="difference quotient", **QUOTIENT),
        Line2D([], [], label="extrapolated", **EXTRAPOLATED),
        Line2D([], [], label="bound on rounding", **ROUNDING),
        Line2D([], [], label="error bar", **BAR),
        Patch(color=BAND_COLOUR, label="plateau; below: on a kink"),
    ]
    if found.margins:
        handles += [Line2D([], [], label="primal margin", **PRIMAL), Line2D([], [], label="dual margin", **DUAL)]
    return handles
