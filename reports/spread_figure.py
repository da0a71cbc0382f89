"""The values behind each median: every timed call as a dot over a box of the quartiles, relative to the median."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from reports import log_axis
from reports.rows import Panel
from reports.rows_figure import NARROW_TICKS, frame
from reports.spread import Samples
from reports.style import Look, legend_below

BOX = 0.7
MARKS = ("o", "s", "^", "D", "v", "P")
"""A marker per worker process, over and over."""
FARTHEST_PERCENT = 50.0
"""Values farther off stand at the edge, as arrows."""
LEAST_PERCENT = 5.0


def draw(page: Sequence[Panel[Samples]], look: Look) -> Figure:
    """The rows of one page, on one axis."""
    cells = [cell for panel in page for cell in panel.cells]
    farthest = max(abs(value) for cell in cells for value in cell.percent)
    edge = min(max(1.06 * farthest, LEAST_PERCENT), FARTHEST_PERCENT)
    medians = [1e3 * cell.median for cell in cells]

    def panel(stack: Sequence[Axes], rows: Sequence[tuple[float, Samples]]) -> None:
        spread, time = stack
        for height, cell in rows:
            _row(spread, height, cell, look, edge)
            time.plot(1e3 * cell.median, height, "o", markersize=3.2, color=look.colour(cell.record.method))
        spread.axvline(0.0, color="0.3", linewidth=0.7, zorder=1)
        spread.set_xlim(-edge, edge)
        spread.set_xlabel("one call, off the median (%)")
        log_axis.draw(time, "x", *log_axis.limits(medians), NARROW_TICKS)
        time.set_xlabel("median (ms)")

    figure = frame(page, (1.6, 0.8), panel)
    processes = max(len(cell.processes) for cell in cells)
    handles: list[object] = [Patch(color="0.35", alpha=0.3, label="middle half")]
    for mark, number in zip(MARKS, range(1, processes + 1), strict=False):
        label = f"process {number}" if processes > 1 else "one call"
        handles.append(Line2D([], [], linestyle="", marker=mark, color="0.35", markersize=3, label=label))
    if farthest > edge:
        handles.append(Line2D([], [], linestyle="", marker=">", color="black", markersize=3.5, label="beyond the edge"))
    legend_below(figure, handles)
    return figure


def _row(axes: Axes, height: float, cell: Samples, look: Look, edge: float) -> None:
    colour = look.colour(cell.record.method)
    low, high = (min(max(end, -edge), edge) for end in cell.quartiles)
    axes.add_patch(Rectangle((low, height - BOX / 2), high - low, BOX, color=colour, alpha=0.3, linewidth=0))
    for number, own in enumerate(cell.processes):
        inside = [value for value in map(cell.off, own) if abs(value) <= edge]
        mark = MARKS[number % len(MARKS)]
        axes.plot(inside, [height] * len(inside), mark, color=colour, markersize=2.6, alpha=0.8, markeredgewidth=0)
    if max(cell.percent) > edge:
        axes.plot(edge, height, ">", color="black", markersize=3.5, clip_on=False, zorder=5)
    if min(cell.percent) < -edge:
        axes.plot(-edge, height, "<", color="black", markersize=3.5, clip_on=False, zorder=5)
