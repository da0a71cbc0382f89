"""A logarithmic error axis with a band below it for the errors that the reference cannot tell from zero.

Invariant: above the band every point stands at its error; inside the band the height means nothing, points are only
kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.record import Record
from reports.log_axis import drawable
from reports.published import has_zero_gradient
from reports.rounding import upper_bound

BAND_COLOUR = "0.88"
LANE = 0.055
"""Height of a lane of the band, as a share of the axis: one marker."""
APART = 0.05
"""Points of one lane keep this share of the axis' width between them."""
MOST_LANES = 5
MOST_TICKS = 6


@dataclass(frozen=True)
class ErrorAxis:
    """Heights for the errors of one panel, and the axis that shows them."""

    heights: tuple[float, ...]
    bottom: float
    floor: float
    top: float
    bar: float | None

    @property
    def ticks(self) -> dict[float, int | None]:
        """Powers of ten by height, and None for the middle of the band."""
        first, last = math.ceil(math.log10(self.floor)), math.floor(math.log10(self.top))
        step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
        powers: dict[float, int | None] = {10.0**power: power for power in range(last, first - 1, -step)}
        if self.bar is None:
            return powers
        return {at: power for at, power in powers.items() if at > self.floor * 1.5} | {
            math.sqrt(self.bottom * self.floor): None
        }

    def draw(self, axes: Axes) -> None:
        """Limits, ticks and band; the axis is left logarithmic."""
        axes.set_yscale("log")
        axes.set_ylim(self.bottom, self.top)
        ticks = {at: "$\\leq$ bar" if power is None else f"$10^{{{power}}}$" for at, power in self.ticks.items()}
        if self.bar is not None:
            axes.axhspan(self.bottom, self.floor, color=BAND_COLOUR, linewidth=0, zorder=0.5)
        axes.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _nearest(ticks, value)))
        if self.bar is not None:
            axes.yaxis.get_gridlines()[0].set_visible(False)


def has_error(record: Record) -> bool:
    """Whether there is a relative error to draw."""
    return record.error_relative is not None and not has_zero_gradient(record)


def at_or_below_bar(record: Record) -> bool:
    """Whether the reference cannot tell the record's error from zero."""
    bar = record.reference_error_relative or 0.0
    return record.error_relative is not None and record.error_relative <= bar


def band_handle(bars: Sequence[float]) -> Patch:
    """The band's entry in a legend, with the bars' range."""
    ends = dict.fromkeys([upper_bound(min(bars)), upper_bound(max(bars))])
    return Patch(color=BAND_COLOUR, label=f"$\\leq$ bar: at or below the\nreference's error bar ({' to '.join(ends)})")


def error_axis(places: Sequence[float], records: Sequence[Record], others: Sequence[float] = ()) -> ErrorAxis:
    """The axis for records with an error, at horizontal `places` between 0 and 1; `others` are errors it must hold too.

    Raises ValueError where there is nothing to show.
    """
    inside = [at_or_below_bar(record) for record in records]
    errors = [_drawable(record.error_relative) for record in records if record.error_relative is not None]
    shown = [error for error, below in zip(errors, inside, strict=True) if not below] + [*map(_drawable, others)]
    bars = [record.reference_error_relative or 0.0 for record, below in zip(records, inside, strict=True) if below]
    positive = [value for value in [*shown, *bars] if value > 0]
    if not records and not others:
        raise ValueError("an error axis needs at least one error")
    low, high = (drawable(min(positive)), drawable(max(positive))) if positive else (1e-16, 1e-16)
    floor, top = 10.0 ** math.floor(math.log10(low) - 0.15), 10.0 ** (math.log10(high) + 0.5)
    if top / floor < 100:
        top = floor * 100
    lanes = _lanes([place for place, below in zip(places, inside, strict=True) if below])
    share = LANE * (max(lanes) + 2) if lanes else 0.0
    decades = math.log10(top / floor) / (1 - share)
    bottom = 10.0 ** (math.log10(top) - decades)
    in_band = iter(lanes)
    heights = tuple(
        10.0 ** (math.log10(bottom) + decades * LANE * (next(in_band) + 1)) if below else error
        for error, below in zip(errors, inside, strict=True)
    )
    return ErrorAxis(heights, bottom, floor, top, max(bars) if bars else None)


def _drawable(error: float) -> float:
    return drawable(error) if error > 0 else error


def _lanes(places: Sequence[float]) -> list[int]:
    """A lane for each place, so that places of one lane are apart where the lanes suffice."""
    last = [-math.inf] * MOST_LANES
    lanes = [0] * len(places)
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        free = [lane for lane in range(MOST_LANES) if places[index] - last[lane] >= APART]
        lane = free[0] if free else min(range(MOST_LANES), key=lambda lane: last[lane])
        last[lane], lanes[index] = places[index], lane
    return lanes


def _nearest(ticks: dict[float, str], value: float) -> str:
    return ticks[min(ticks, key=lambda tick: abs(math.log(tick / value)))]
