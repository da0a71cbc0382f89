"""One cost against each of several sizes: a panel per axis, a line per label, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports import log_axis
from reports.growth import Axis, Cost, Curve
from reports.scaling import fitted_half
from reports.style import PAGE_INCHES, Look, legend_below, literal, say_not_measured

PANEL_INCHES = 2.3
MOST_TICKS = 6
READING = (
    "Filled: the sizes that the exponent is fitted to, on the fitted line; hollow: smaller ones. What is missing "
    "stands in the table."
)
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
"""A method's settings take one after another of both; its colour is its own."""


def draw(curves: Sequence[Curve], cost: Cost, axes: Sequence[Axis], look: Look) -> Figure:
    """A panel whose curves have no point says so."""
    figure = Figure(figsize=(PAGE_INCHES, PANEL_INCHES), layout="constrained")
    panels = figure.subplots(1, len(axes), squeeze=False, sharey=True)[0]
    places = _places(curves)
    every = [value for curve in curves for _, value in curve.points(cost)]
    for panel, axis in zip(panels, axes, strict=True):
        shown = [curve for curve in curves if curve.axis.letter == axis.letter and curve.points(cost)]
        _panel(panel, shown, cost, axis, look, places)
    if every:
        log_axis.draw(panels[0], "y", *log_axis.limits(every))
    panels[0].set_ylabel(f"{cost.name}\n({cost.unit} per call)")
    handles = [
        Line2D([], [], label=literal(label), **_style(look, method, place)) for label, (method, place) in places.items()
    ]
    if handles:
        legend_below(figure, handles)
    return figure


def _places(curves: Sequence[Curve]) -> dict[str, tuple[str, int]]:
    """Each label's method, and which of its method's labels it is."""
    found: dict[str, tuple[str, int]] = {}
    for curve in curves:
        if curve.label not in found:
            place = sum(method == curve.method for method, _ in found.values())
            found[curve.label] = (curve.method, place)
    return found


def _style(look: Look, method: str, place: int) -> dict[str, Any]:
    return {
        "color": look.colour(method),
        "linestyle": LINES[place % len(LINES)],
        "linewidth": 0.9,
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4,
        "markeredgecolor": look.colour(method),
        "markeredgewidth": 0.8,
    }


def _panel(
    panel: Axes, shown: Sequence[Curve], cost: Cost, axis: Axis, look: Look, places: dict[str, tuple[str, int]]
) -> None:
    fixed = dict.fromkeys(part for curve in shown for part in curve.fixed.split(", "))
    panel.set_title(literal(", ".join(filter(None, fixed))), loc="left")
    panel.set_xlabel(axis.words)
    if not shown:
        say_not_measured(panel)
        panel.set_xticks([])
        return
    for curve in shown:
        points = curve.points(cost)
        style = {**_style(look, *places[curve.label]), "linestyle": ""}
        exponent = curve.exponent(cost)
        fitted = fitted_half(points) if exponent is not None else []
        panel.plot(*zip(*points, strict=True), **{**style, "markerfacecolor": "white"})
        if exponent is not None:
            panel.plot(*zip(*fitted, strict=True), **style)
            sizes, costs = (np.array(part, dtype=float) for part in zip(*fitted, strict=True))
            middle = np.exp(np.log(costs / sizes**exponent.value).mean())
            line = {**_style(look, *places[curve.label]), "marker": ""}
            panel.plot(sizes, middle * sizes**exponent.value, **line)
    _size_axis(panel, [size for curve in shown for size, _ in curve.points(cost)])


def _size_axis(panel: Axes, sizes: Sequence[int]) -> None:
    """Logarithmic, with the measured sizes as ticks, so many as have room."""
    every = sorted(set(sizes))
    step = math.ceil(len(every) / MOST_TICKS)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(every[::-1][::step]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
