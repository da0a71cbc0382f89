"""Time or peak memory against n: a row of panels per instance and k/n, a column per batch, a line per method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports import log_axis
from reports.cells import MEBIBYTE, RESOLUTION_BYTES
from reports.crossovers import Crossover
from reports.scaling import Series, peak_bytes
from reports.style import (
    COLUMN_INCHES,
    PAGE_INCHES,
    Dash,
    Look,
    dashes_of,
    legend_below,
    say_not_measured,
    shortened,
    wrapped,
)

Quantity = Literal["time", "memory"]
Point = tuple[int, float, float]
"""Size, value and the spread beside it, in the axis' unit."""

AXES: dict[Quantity, str] = {"time": "solve + gradient\n(ms per call)", "memory": "peak memory\n(MiB per call)"}
ROW_INCHES = 2.1
LONGEST_ENTRY = 46
RING: dict[str, Any] = {
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 0.9,
    "markersize": 7.5,
}


def draw(series: Sequence[Series], quantity: Quantity, crossed: Sequence[Crossover], look: Look) -> Figure | None:
    """None where no series has a point. Crossovers are those of the time, and only drawn there."""
    shown = [one for one in series if _points(one, quantity)]
    if not shown:
        return None
    rows = list(dict.fromkeys((one.instance, one.k_per_n) for one in shown))
    batches = sorted({one.batch for one in shown})
    width = COLUMN_INCHES if len(batches) == 1 else PAGE_INCHES
    figure = Figure(figsize=(width, ROW_INCHES * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(batches), squeeze=False, sharex=True)
    dashes = dashes_of(look, [(one.label, one.method) for one in shown])
    for row, (instance, ratio) in enumerate(rows):
        for column, batch in enumerate(batches):
            own = [one for one in shown if (one.instance, one.k_per_n, one.batch) == (instance, ratio, batch)]
            rings = [one for one in crossed if one.first in own] if quantity == "time" else []
            title = f"k = {ratio:g} n, batch {batch}"
            several = len({one.instance for one in shown}) > 1
            _panel(panels[row, column], own, quantity, rings, look, dashes)
            panels[row, column].set_title(wrapped(f"{instance}; {title}" if several else title), loc="left")
            if column == 0:
                panels[row, column].set_ylabel(AXES[quantity])
            if row == len(rows) - 1:
                panels[row, column].set_xlabel("n (samples)")
    legend_below(figure, _handles(shown, look, dashes, bool(crossed) and quantity == "time"))
    return figure


def _points(series: Series, quantity: Quantity) -> list[Point]:
    if quantity == "time":
        return [
            (record.n, 1e3 * record.total_seconds, 1e3 * (record.total_mad_seconds or 0.0))
            for record in series.records
            if record.total_seconds
        ]
    return [
        (record.n, max(peak, RESOLUTION_BYTES) / MEBIBYTE, RESOLUTION_BYTES / MEBIBYTE)
        for record in series.records
        if (peak := peak_bytes(record)) is not None
    ]


def _panel(
    axes: Axes,
    shown: Sequence[Series],
    quantity: Quantity,
    rings: Sequence[Crossover],
    look: Look,
    dashes: dict[str, Dash],
) -> None:
    if not shown:
        say_not_measured(axes)
        axes.set_yticks([])
        return
    for one in shown:
        sizes, values, spreads = zip(*_points(one, quantity), strict=True)
        low = [min(spread, 0.9 * value) for value, spread in zip(values, spreads, strict=True)]
        style = {**look.points(one.method, sizes[0]), "marker": "o", "markersize": 3.5, "linestyle": dashes[one.label]}
        axes.errorbar(sizes, values, yerr=[low, spreads], linewidth=0.9, **WHISKER, **style)
    for ring in rings:
        axes.plot(ring.size, 1e3 * ring.seconds, linestyle="", zorder=5, **RING)
    points = [point for one in shown for point in _points(one, quantity)]
    log_axis.draw(axes, "y", *log_axis.limits([value for _, value, _ in points]))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted({size for size, _, _ in points})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))


WHISKER: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.8, "capthick": 0.8}


def _handles(shown: Sequence[Series], look: Look, dashes: dict[str, Dash], rings: bool) -> list[object]:
    named = {one.label: one.method for one in shown}
    handles: list[object] = [
        Line2D(
            [],
            [],
            linestyle=dashes[label],
            label=shortened(label, LONGEST_ENTRY),
            **{**look.points(method, look.sizes[0]), "marker": "o", "markersize": 3.5},
        )
        for label, method in named.items()
    ]
    if rings:
        handles.append(Line2D([], [], linestyle="", label="crossover", **RING))
    return handles
