"""Panels of logarithmic curves, which is all that the studies of accuracy draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.record import Record
from reports import log_axis
from reports.error_axis import BAND_COLOUR
from reports.style import COLUMN_INCHES, MARKERS, PAGE_INCHES, legend_below, literal, say_not_measured

PANEL_INCHES = 2.3
PALETTE = 10
DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Line:
    """Points to join, by their look: the same `look` has the same colour, dash and marker in every panel."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: int
    kind: int
    """Sets marker and dash."""


@dataclass(frozen=True)
class Panel:
    """Axes with their lines; y is logarithmic, x too unless it counts steps. No error at or below `bar` means any."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    counts: bool = False
    bar: float | None = None


def largest_bar(records: Iterable[Record]) -> float | None:
    """The largest of their references' error bars."""
    return max((bar for record in records if (bar := record.reference_error_relative)), default=None)


def draw(panels: Sequence[Panel]) -> Figure:
    """Two panels side by side, one legend for all; a panel without a point, or none at all, says so."""
    panels = panels or [Panel("", "", "", ())]
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = COLUMN_INCHES if columns == 1 else PAGE_INCHES
    figure = Figure(figsize=(width, PANEL_INCHES * rows), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(all_axes, panels, strict=False):
        _panel(axes, panel)
    for axes in all_axes[len(panels) :]:
        axes.remove()
    shown = {line.label: line for panel in panels for line in panel.lines}
    handles: list[object] = [
        Line2D([], [], label=literal(label), linewidth=0.9, **_look(line)) for label, line in shown.items()
    ]
    if any(panel.bar is not None for panel in panels):
        handles.append(Patch(color=BAND_COLOUR, label="at or below the largest error bar\nof the panel's references"))
    if handles:
        legend_below(figure, handles)
    return figure


def _look(line: Line) -> dict[str, Any]:
    return {
        "color": sns.color_palette("colorblind", PALETTE)[line.colour % PALETTE],
        "marker": MARKERS[line.kind % len(MARKERS)],
        "linestyle": DASHES[line.kind % len(DASHES)],
        "markersize": 4,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def _panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(literal(panel.title), loc="left")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    points = [(x, y) for line in panel.lines for x, y in line.points if y > 0]
    if not points:
        say_not_measured(axes)
        axes.set(xticks=[], yticks=[])
        return
    for line in panel.lines:
        axes.plot([x for x, _ in line.points], [y for _, y in line.points], linewidth=0.9, **_look(line))
    low, high = log_axis.limits([y for _, y in points] + ([panel.bar] if panel.bar else []))
    _powers(axes, "y", low, high)
    if panel.bar is not None:
        axes.axhspan(low, panel.bar, color=BAND_COLOUR, linewidth=0, zorder=0.5)
    if not panel.counts:
        _powers(axes, "x", *log_axis.limits([x for x, _ in points]))


def _powers(axes: Axes, which: str, low: float, high: float) -> None:
    """Whole powers of ten where there are three of them, else round numbers."""
    if high / low < 1e3:
        log_axis.draw(axes, "x" if which == "x" else "y", low, high)
        return
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = max(1, math.ceil((last - first + 1) / log_axis.MOST_TICKS))
    axis.set_major_locator(FixedLocator([10.0**power for power in range(first, last + 1, step)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{round(math.log10(value))}}}$"))
