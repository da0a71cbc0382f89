"""How every interactive figure looks: its axes, its colours per method, its legend.

Figures carry no colour of text, grid or background: the page's script sets those from the reader's light or dark theme.
Colours of methods are the paper figures' own, so that a method looks the same everywhere.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import seaborn as sns
from matplotlib.colors import to_hex

from bench.record import Record
from reports import log_axis as log_ticks
from reports.content import Content
from reports.error_axis import ErrorAxis, at_or_below_bar
from reports.rounding import upper_bound
from reports.short_names import cut
from reports.style import Look

HEIGHT = 380
"""Pixels of the plot without its legend; the page adds the legend's own height."""
LEGEND_PIXELS = 240
"""A longer legend scrolls."""
NEUTRAL = "#8c8c8c"
"""Marks that belong to no method; readable on white and on near-black."""
BAND = "rgba(140, 140, 140, 0.22)"
NO_EDGE = {"line": {"width": 0}}
MARKER_PIXELS = 9
LONGEST_NAME = 44
MOST_SVG_POINTS = 1500

SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "p": "pentagon",
    "h": "hexagon",
    "*": "star",
}
"""Matplotlib's markers of `reports.style` in plotly's words."""


@dataclass(frozen=True)
class Plot:
    """One view: the name of its files and of its place on the page, what it shows, how to read it, and the figure.

    Several figures by name, such as one per problem instance, are shown one at a time, chosen in a list.
    """

    stem: str
    title: str
    remarks: str
    figure: go.Figure | Mapping[str, go.Figure]

    @property
    def figures(self) -> dict[str, go.Figure]:
        """By name; a single one has an empty name."""
        return {"": self.figure} if isinstance(self.figure, go.Figure) else dict(self.figure)


def new_figure(height: int = HEIGHT, **layout: Any) -> go.Figure:
    """An empty figure in the house's layout; the axes are `axis(...)`.

    What is known of the `layout` by now costs a tenth of what plotly's `update_layout` takes for it.
    """
    house: dict[str, Any] = {
        "template": go.layout.Template(),
        "height": height,
        "margin": {"l": 70, "r": 16, "t": 28, "b": 56},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "xref": "container",
            "font": {"size": 12},
            "maxheight": LEGEND_PIXELS,
        },
    }
    return go.Figure(layout=house | layout)


def axis(title: str, unit: str = "", *, log: bool = False, **others: Any) -> dict[str, Any]:
    """`xaxis` or `yaxis` of a layout: the title with its unit, lines and ticks; `others` are plotly's own keywords."""
    look: dict[str, Any] = {
        "title": {"text": escape(f"{title} ({unit})" if unit else title), "standoff": 8},
        "type": "log" if log else "linear",
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": True,
    }
    if log:
        look |= {"exponentformat": "power", "minexponent": 4}
    return look | others


def log_axis(title: str, unit: str, low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis between two ends, with plain numbers at its ticks as in the paper's figures."""
    ticks = log_ticks.ticks(low, high)
    ends = [math.log10(low), math.log10(high)]
    return axis(title, unit, log=True, range=ends, tickvals=ticks, ticktext=[log_ticks.short(tick) for tick in ticks])


def error_scale(error: ErrorAxis, title: str = "relative error", unit: str = "Frobenius") -> dict[str, Any]:
    """`yaxis` for errors, with the reference's bar as a tick where points stand in its band."""
    ticks = {at: "≤ bar" if power is None else f"10<sup>{power}</sup>" for at, power in error.ticks.items()}
    ends = [math.log10(error.bottom), math.log10(error.top)]
    return axis(title, unit, log=True, range=ends, tickvals=[*ticks], ticktext=[*ticks.values()])


def band(error: ErrorAxis, yref: str = "y") -> list[dict[str, Any]]:
    """`shapes` of a layout: the band of the errors that the reference cannot tell from zero; none without such."""
    if error.bar is None:
        return []
    ends = {"x0": 0, "x1": 1, "y0": error.bottom, "y1": error.floor}
    return [{"type": "rect", "xref": "x domain", "yref": yref, "fillcolor": BAND, "layer": "below", **ends} | NO_EDGE]


def colour(look: Look, method: str) -> str:
    """The method's colour, as in every other figure."""
    return to_hex(look.colour(method))


def marker(look: Look, method: str, n: int | None = None) -> dict[str, Any]:
    """`marker` of a trace: the method's colour, the size's symbol (a circle without n)."""
    symbol = "circle" if n is None else SYMBOLS[look.marker(n)]
    return {"color": colour(look, method), "symbol": symbol, "size": MARKER_PIXELS, "line": _edge(look, method)}


def hollow(look: Look, method: str, n: int | None = None) -> dict[str, Any]:
    """`marker` of a published value."""
    filled = marker(look, method, n)
    return {**filled, "symbol": f"{filled['symbol']}-open", "line": {"width": 2}}


def numbered(number: int) -> dict[str, Any]:
    """`line` of the trace of a variant that is no method: a colour by its place, another dash every ten."""
    palette = sns.color_palette("colorblind", 10)
    dashes = ("solid", "dash", "dot", "dashdot")
    return {"color": to_hex(palette[number % len(palette)]), "dash": dashes[number // len(palette) % len(dashes)]}


def line(look: Look, method: str, **others: Any) -> dict[str, Any]:
    """`line` of a trace; methods that take a colour a second time are dotted."""
    return {"color": colour(look, method), "width": 1.8, "dash": "solid" if _first(look, method) else "dot"} | others


def error_bars(look: Look, method: str, array: list[float], minus: list[float] | None = None) -> dict[str, Any]:
    """`error_x` or `error_y` of a trace, in the axis' unit."""
    bars: dict[str, Any] = {"type": "data", "array": array, "color": colour(look, method), "thickness": 1.2, "width": 3}
    return bars if minus is None else bars | {"arrayminus": minus, "symmetric": False}


def cells(content: Content, records: Sequence[Record]) -> dict[str, Any]:
    """Keywords of a trace whose points are cells: the page shows the cell's row of the table when one is pointed at."""
    return {
        "customdata": [content.number(record) for record in records],
        "meta": "cells",
        "hovertemplate": "%{text}<extra></extra>",
    }


def grey(symbol: str = "circle", **others: Any) -> dict[str, Any]:
    """`marker` of what belongs to no method."""
    return {"color": NEUTRAL, "symbol": symbol, "size": MARKER_PIXELS} | others


def key(name: str, **look: Any) -> dict[str, Any]:
    """A trace without points that only stands in the legend: a size's symbol, what a cross means."""
    return {"type": "scatter", "x": [None], "y": [None], "name": name, "mode": "markers", "hoverinfo": "skip"} | look


def size_keys(look: Look, sizes: Iterable[int]) -> list[dict[str, Any]]:
    """The legend of the sizes' symbols."""
    return [key(f"n = {n}", marker=grey(SYMBOLS[look.marker(n)])) for n in sorted(set(sizes))]


def band_keys(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The legend of the band with its bars, where a record stands in it."""
    bars = [record.reference_error_relative or 0.0 for record in records if at_or_below_bar(record)]
    if not bars:
        return []
    ends = " to ".join(dict.fromkeys([upper_bound(min(bars)), upper_bound(max(bars))]))
    return [key(f"≤ bar: the reference's own error ({ends})", marker=grey("square", color=BAND))]


def scatter_type(cells: int) -> str:
    """Thousands of points are drawn by the graphics card."""
    return "scattergl" if cells > MOST_SVG_POINTS else "scatter"


def escape(text: str) -> str:
    """Text of a name, a title or a hover, in which plotly would read a few tags; the page sets `typesetMath` off."""
    return html.escape(text, quote=False)


def name(text: str) -> str:
    """A legend's entry."""
    return escape(cut(text, LONGEST_NAME))


def _first(look: Look, method: str) -> bool:
    return look.edge(method) == "white"


def _edge(look: Look, method: str) -> dict[str, Any]:
    return {"width": 0} if _first(look, method) else {"width": 2, "color": NEUTRAL}
