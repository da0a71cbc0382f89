"""Error and time against a method's knob: a column per problem instance, a line per size and setting of the rest."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.record import Record
from reports import log_axis
from reports.error_axis import error_axis, has_error
from reports.error_time import CROSS, Reading, is_marked, mark_handles, milliseconds
from reports.instances import Group
from reports.knobs import Curve, Knob, Value, knobs
from reports.style import COLUMN_INCHES, DASHES, PAGE_INCHES, Dash, Look, legend_below, literal, shortened, wrapped

COLUMNS = 2
ROW_INCHES = 1.5
TIMES: dict[Reading, str] = {"gradient": "gradient (ms)", "total": "solve + gradient (ms)"}

Panel = tuple[Group, Knob]


def swept_methods(groups: Sequence[Group]) -> list[str]:
    """The methods with a knob and at least one point on it."""
    return list(dict.fromkeys(knob.method for group in groups for knob in knobs(measured(group))))


def draw(groups: Sequence[Group], method: str, look: Look) -> Figure:
    """The figure of one of the `swept_methods`; a reading that nobody timed has no row."""
    panels = [(group, knob) for group in groups for knob in knobs(measured(group)) if knob.method == method]
    readings = [reading for reading in TIMES if any(_times(knob, reading) for _, knob in panels)]
    height, columns = 1 + len(readings), min(COLUMNS, len(panels))
    blocks = math.ceil(len(panels) / columns)
    width = COLUMN_INCHES if columns == 1 else PAGE_INCHES
    figure = Figure(figsize=(width, (ROW_INCHES * height + 0.3) * blocks), layout="constrained")
    all_axes = figure.subplots(height * blocks, columns, squeeze=False)
    rests = dict.fromkeys(curve.rest for _, knob in panels for curve in knob.curves)
    dashes = dict(zip(rests, cycle(DASHES), strict=False))
    for index in range(blocks * columns):
        block, column = divmod(index, columns)
        stack = list(all_axes[height * block : height * (block + 1), column])
        if index < len(panels):
            _column(stack, panels[index], readings, look, dashes)
        else:
            for axes in stack:
                axes.remove()
    legend_below(figure, _handles(panels, method, look, dashes))
    return figure


def measured(group: Group) -> list[Record]:
    """The records with an error."""
    return [record for record in group.records if has_error(record)]


def _times(knob: Knob, reading: Reading) -> list[float]:
    records = [record for curve in knob.curves for record in curve.records]
    return [time for record in records if (time := milliseconds(record, reading))]


def _column(
    stack: Sequence[Axes], panel: Panel, readings: Sequence[Reading], look: Look, dashes: dict[str, Dash]
) -> None:
    group, knob = panel
    scale = Scale(knob)
    records = [record for curve in knob.curves for record in curve.records]
    error = error_axis([scale.share(value) for curve in knob.curves for value in curve.values], records)
    error.draw(stack[0])
    height = {id(record): at for record, at in zip(records, error.heights, strict=True)}
    for curve in knob.curves:
        _line(stack[0], scale, curve, [height[id(record)] for record in curve.records], look, dashes)
    stack[0].set_ylabel("relative error\n(Frobenius)")
    stack[0].set_title(wrapped(group.heading), loc="left")
    drawn = [stack[0]]
    for axes, reading in zip(stack[1:], readings, strict=True):
        shown = _times(knob, reading)
        if not shown:
            axes.remove()
            continue
        for curve in knob.curves:
            times = [milliseconds(record, reading) or math.nan for record in curve.records]
            _line(axes, scale, curve, times, look, dashes)
        log_axis.draw(axes, "y", *log_axis.limits(shown))
        axes.set_ylabel(TIMES[reading])
        drawn.append(axes)
    for axes in drawn:
        scale.draw(axes)
        axes.tick_params(labelbottom=axes is drawn[-1])
    drawn[-1].set_xlabel(literal(f"{knob.name} of {knob.method}"))


def _line(
    axes: Axes, scale: Scale, curve: Curve, heights: Sequence[float], look: Look, dashes: dict[str, Dash]
) -> None:
    at = [scale.position(value) for value in curve.values]
    joined = [at[index] for index in curve.joined], [heights[index] for index in curve.joined]
    axes.plot(*joined, linestyle=dashes[curve.rest], linewidth=0.9, color=look.colour(curve.method), zorder=2)
    axes.plot(at, heights, linestyle="", **look.points(curve.method, curve.n))
    marked = [index for index, record in enumerate(curve.records) if is_marked(record)]
    axes.plot([at[index] for index in marked], [heights[index] for index in marked], linestyle="", zorder=4, **CROSS)


class Scale:
    """The horizontal axis: logarithmic for positive numbers, else one step per value in the knob's order."""

    def __init__(self, knob: Knob) -> None:
        self.values = knob.values
        numbers = [value for value in knob.values if not isinstance(value, str)]
        self.logarithmic = len(numbers) == len(knob.values) and min(numbers, default=0.0) > 0
        ends = [self._linear(knob.values[0]), self._linear(knob.values[-1])]
        margin = max(0.08 * (ends[1] - ends[0]), 0.15)
        self.left, self.right = ends[0] - margin, ends[1] + margin

    def _linear(self, value: Value) -> float:
        return math.log10(value) if self.logarithmic and not isinstance(value, str) else float(self.values.index(value))

    def share(self, value: Value) -> float:
        """Of the axis' width."""
        return (self._linear(value) - self.left) / (self.right - self.left)

    def position(self, value: Value) -> float:
        """On the axis."""
        return 10.0 ** self._linear(value) if self.logarithmic else self._linear(value)

    def draw(self, axes: Axes) -> None:
        """Limits and ticks."""
        axes.set_xscale("log" if self.logarithmic else "linear")
        axes.set_xlim(*(10.0**end if self.logarithmic else end for end in (self.left, self.right)))
        ticks = self.ticks
        axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, index: literal(list(ticks.values())[index])))

    @property
    def ticks(self) -> dict[float, str]:
        """As many of the values as fit side by side, by position."""
        every = max(1, math.ceil(len(self.values) / 7))
        return {self.position(value): tick_text(value) for value in self.values[::every]}


def tick_text(value: Value) -> str:
    """A value in few characters."""
    if isinstance(value, str):
        return textwrap.shorten(value, 14, placeholder="…") if " " in value else value[:14]
    return log_axis.short(value)


def _handles(panels: Sequence[Panel], method: str, look: Look, dashes: dict[str, Dash]) -> list[object]:
    records = [record for _, knob in panels for curve in knob.curves for record in curve.records]
    handles: list[object] = [look.method_handle(method)]
    handles += [look.size_handle(n) for n in sorted({record.n for record in records})]
    colour = look.colour(method)
    if any(dashes):
        handles += [
            Line2D([], [], linestyle=dash, color=colour, label=shortened(rest)) for rest, dash in dashes.items()
        ]
    return [*handles, *mark_handles(records)]
