"""CPU against GPU, or float32 against float64: how many times faster, and both errors on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import log_axis
from reports.device_dtype import PLAIN, QUICK, RATIOS, Axis, Pair, shown_error
from reports.rows import Panel
from reports.rows_figure import NARROW_TICKS, frame
from reports.style import Look, legend_below


def draw(page: Sequence[Panel[Pair]], look: Look) -> Figure:
    """The rows of one page; a row without a time on both sides has a word instead of a ratio."""
    pairs = [pair for panel in page for pair in panel.cells]
    axis = pairs[0].axis
    ends = [1.0, *(end for pair in pairs if pair.ratio for end in pair.ends)]
    errors = [error for pair in pairs for record in (pair.plain, pair.quick) if (error := shown_error(record))]

    def panel(stack: Sequence[Axes], rows: Sequence[tuple[float, Pair]]) -> None:
        ratio, error = stack
        ratio.axvline(1.0, color="0.3", linewidth=0.7, zorder=1)
        for height, pair in rows:
            _row(ratio, error, height, pair, look)
        log_axis.draw(ratio, "x", *log_axis.limits(ends), 2 * NARROW_TICKS - 2)
        ratio.set_xlabel(RATIOS[axis].replace(" / ", " /\n"))
        if errors:
            log_axis.draw(error, "x", *log_axis.limits(errors), NARROW_TICKS)
        else:
            error.set_xticks([])
        error.set_xlabel("relative error\n(Frobenius)")

    figure = frame(page, (1.0, 1.0), panel)
    legend_below(figure, _handles(axis))
    return figure


def _row(ratio: Axes, error: Axes, height: float, pair: Pair, look: Look) -> None:
    colour = look.colour(pair.plain.method)
    if pair.ratio:
        low, high = pair.ends
        bars = [[pair.ratio - low], [high - pair.ratio]]
        ratio.errorbar(pair.ratio, height, xerr=bars, fmt="o", markersize=4, color=colour, elinewidth=0.9, capsize=2)
    else:
        place: dict[str, Any] = {
            "transform": ratio.get_yaxis_transform(),
            "va": "center",
            "fontsize": 6.5,
            "in_layout": False,
        }
        ratio.text(0.03, height, pair.word, **place)
    both = [(record, shown_error(record)) for record in (pair.plain, pair.quick)]
    shown = [at for _, at in both if at]
    error.plot(shown, [height] * len(shown), color=colour, linewidth=0.8, zorder=2)
    for (record, at), (face, size) in zip(both, (("white", 5.5), (colour, 3.5)), strict=True):
        if at:
            bar = record.reference_error_relative or 0.0
            error.errorbar(at, height, xerr=[[min(bar, 0.9 * at)], [bar]], color=colour, elinewidth=0.8)
            error.plot(at, height, "o", markersize=size, markerfacecolor=face, markeredgecolor=colour, zorder=3)


def _handles(axis: Axis) -> list[object]:
    style: dict[str, Any] = {"linestyle": "", "marker": "o", "color": "0.35", "markersize": 4}
    return [
        Line2D([], [], markerfacecolor="white", label=f"error: {PLAIN[axis][1]}", **style),
        Line2D([], [], label=f"error: {QUICK[axis][1]}", **style),
        Line2D([], [], color="0.35", marker="|", linewidth=0.9, label="medians off by their MAD"),
    ]
