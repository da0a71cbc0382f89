"""A profile: a step function per variant, one figure per set of methods and instances that belong together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from reports import log_axis
from reports.cells import FLAGGED
from reports.content import Content
from reports.plots import theme
from reports.plots._dashes import dashes
from reports.plots.theme import Plot
from reports.profiles import AXES, TITLES, Curve, Profile, Quantity, leading, profile, remarks, rosters, steps
from reports.style import Look

MOST_CURVES = 12
"""With more, all but those that lead their method wait in the legend to be clicked."""
WIDEST, NARROWEST = 4.5, 1.6
"""Pixels: where curves coincide, the later and narrower ones leave the earlier ones to be seen."""


def plot(content: Content, look: Look, quantity: Quantity, accuracies: Sequence[float]) -> Plot | None:
    """A figure per roster and accuracy asked for; None where no roster is known by the quantity."""
    found = {
        _name(own, several=len(accuracies) > 1): own
        for roster in rosters(content.groups)
        for accurate in accuracies
        if (own := profile(roster, quantity, accurate))
    }
    if not found:
        return None
    first = [own for own in found.values() if own.accurate == accuracies[0]] or list(found.values())
    figures = {name: _figure(own, look) for name, own in found.items()}
    return Plot(f"profile_{quantity}", TITLES[quantity], remarks(first, named=len(accuracies) > 1), figures)


def _name(own: Profile, several: bool) -> str:
    listed = ", ".join(sorted({curve.method for curve in own.curves}))
    asked = f"; relative error up to {own.accurate:g}" if math.isfinite(own.accurate) else "; any error"
    return f"{own.title}: {listed}{asked if several else ''}"


def _figure(own: Profile, look: Look) -> go.Figure:
    left, right = log_axis.limits([own.smallest, own.largest])
    left = left if own.quantity == "error" else 1.0
    drawn = own.curves if len(own.curves) <= MOST_CURVES else leading(own)
    dash = dashes(look, [(curve.variant, curve.method) for curve in own.curves])
    figure = theme.new_figure()
    for place, curve in enumerate(own.curves):
        width = WIDEST - (WIDEST - NARROWEST) * place / max(1, len(own.curves) - 1)
        shown = {"visible": True if curve in drawn else "legendonly", "legendgroup": curve.variant}
        if own.quantity == "time":
            figure.add_traces([trace | shown for trace in _band(curve, left, right, look)])
        figure.add_trace(_line(curve, left, right, look, {"dash": dash[curve.variant], "width": width}) | shown)
    figure.update_layout(
        xaxis=theme.log_axis(AXES[own.quantity], "", left, right),
        yaxis=theme.axis("share of the instances", range=[-0.03, 1.04]),
    )
    return figure


def _line(curve: Curve, left: float, right: float, look: Look, style: dict[str, Any]) -> dict[str, Any]:
    places, shares = steps(curve.values, left, right)
    solved = f"{curve.solved} of {len(curve.values)}"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": theme.name(curve.variant) + FLAGGED * bool(curve.flagged),
        "x": places,
        "y": shares,
        "line": theme.line(look, curve.method, shape="hv", **style),
        "hovertemplate": f"{theme.escape(curve.variant)}: %{{y:.0%}} within %{{x:.3g}}, {solved} at all<extra></extra>",
    }


def _band(curve: Curve, left: float, right: float, look: Look) -> list[dict[str, Any]]:
    edges = [steps(values, left, right) for values in (curve.high, curve.low)]
    fills: list[dict[str, Any]] = [{}, {"fill": "tonexty", "fillcolor": _pale(theme.colour(look, curve.method))}]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": places,
            "y": shares,
            "line": {"width": 0, "shape": "hv"},
            "showlegend": False,
            "hoverinfo": "skip",
            **fill,
        }
        for (places, shares), fill in zip(edges, fills, strict=True)
    ]


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.2)"
