"""Limits and ticks of a logarithmic axis of times, which may span half a decade or six."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

MOST_TICKS = 6
FEWEST_TICKS = 3
SUBDIVISIONS = ((1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


SMALLEST, LARGEST = 1e-100, 1e100
"""What is drawn: a picture has room for no more, and beyond it the arithmetic of axes leaves a double's range. What is
farther out stands at the end of its axis; tables have the number."""


def drawable(value: float) -> float:
    """A positive number, or the nearest that a picture has room for."""
    return min(max(value, SMALLEST), LARGEST)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Around positive values, with a margin; at least 0.4 of a decade, so that a flat line looks flat."""
    low, high = math.log10(drawable(min(values))), math.log10(drawable(max(values)))
    margin = max(0.07 * (high - low), 0.2)
    return 10.0 ** (low - margin), 10.0 ** (high + margin)


def ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Round numbers within the limits, about `most`: whole decades where they suffice, else parts of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fewest = min(FEWEST_TICKS, most - 1)
    for step in range(max(1, math.ceil((last - first) / most)), 0, -1):
        found = max((_within(low, high, range(start, last + 1, step)) for start in range(first, first + step)), key=len)
        if len(found) >= fewest:
            return found
    for parts in SUBDIVISIONS:
        found = _within(low, high, range(first, last + 1), parts)
        if len(found) >= fewest:
            break
    return found


def _within(low: float, high: float, powers: range, parts: Sequence[float] = (1.0,)) -> list[float]:
    ticks = [part * 10.0**power for power in powers for part in parts]
    return [tick for tick in ticks if low <= tick <= high]


def draw(axes: Axes, which: Literal["x", "y"], low: float, high: float, most: int = MOST_TICKS) -> None:
    """Makes one axis logarithmic between the limits, with plain numbers at its ticks, about `most` of them."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis.set_major_locator(FixedLocator(ticks(low, high, most)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """`0.03`, `300`, `1e-7`."""
    if value == 0 or 1e-2 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
