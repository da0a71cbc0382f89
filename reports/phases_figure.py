"""Where the time goes: per cell the shares of solve and gradient, beside it the times of a call and of preparing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports import log_axis
from reports.phases import Breakdown, Phase
from reports.rows import Panel
from reports.rows_figure import NARROW_TICKS, frame
from reports.style import Look, legend_below

GRADIENT_ALPHA = 0.45
BAR_INCHES = 0.72
WHISKER: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.6, "capthick": 0.8}


def draw(page: Sequence[Panel[Breakdown]], look: Look) -> Figure:
    """The rows of one page."""
    cells = [cell for panel in page for cell in panel.cells]
    totals, prepares = [cell.total for cell in cells], [cell.prepare for cell in cells if cell.prepare]

    def panel(stack: Sequence[Axes], rows: Sequence[tuple[float, Breakdown]]) -> None:
        shares, total, prepare = stack
        for height, cell in rows:
            colour = look.colour(cell.record.method)
            _bar(shares, height, cell, colour)
            _dot(total, height, cell.total, colour)
            if cell.prepare:
                _dot(prepare, height, cell.prepare, colour)
        shares.set_xlim(0, 1.08)
        shares.set_xticks([0, 0.5, 1], labels=["0", "0.5", "1"])
        shares.set_xlabel("shares of solve\nand gradient")
        _time_axis(total, totals, "both\n(ms)")
        _time_axis(prepare, prepares, "prepare,\nonce (ms)")

    figure = frame(page, (1.0, 0.8, 0.8), panel)
    handles = [
        Patch(color="0.35", label="solve"),
        Patch(color="0.35", alpha=GRADIENT_ALPHA, label="gradient"),
        Line2D([], [], color="black", marker="|", markersize=5, linewidth=0.8, label="median absolute deviation"),
    ]
    legend_below(figure, handles)
    return figure


def _bar(axes: Axes, height: float, cell: Breakdown, colour: tuple[float, float, float]) -> None:
    solve, gradient = cell.solve_share, cell.gradient_share
    axes.barh(height, solve.seconds, height=BAR_INCHES, color=colour, linewidth=0)
    axes.barh(
        height, gradient.seconds, left=solve.seconds, height=BAR_INCHES, color=colour, alpha=GRADIENT_ALPHA, linewidth=0
    )
    for end, phase, raised in ((solve.seconds, solve, -0.16), (1.0, gradient, 0.16)):
        axes.errorbar(end, height + raised, xerr=phase.mad_seconds, fmt="none", ecolor="black", clip_on=True, **WHISKER)


def _dot(axes: Axes, height: float, phase: Phase, colour: tuple[float, float, float]) -> None:
    low = min(phase.mad_seconds, 0.99 * phase.seconds)
    bars = [[1e3 * low], [1e3 * phase.mad_seconds]]
    axes.errorbar(1e3 * phase.seconds, height, xerr=bars, fmt="o", markersize=3.2, color=colour, **WHISKER)


def _time_axis(axes: Axes, phases: Sequence[Phase], label: str) -> None:
    if not phases:
        axes.text(0.5, 0.5, "not timed", transform=axes.transAxes, ha="center", va="center", rotation=90, color="0.5")
        axes.set_xticks([])
    else:
        log_axis.draw(axes, "x", *log_axis.limits([1e3 * phase.seconds for phase in phases]), NARROW_TICKS)
    axes.set_xlabel(label)
