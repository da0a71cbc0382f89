"""Performance profiles and the data profile: a panel per roster, a step function per method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import log_axis
from reports.cells import FLAGGED
from reports.profiles import AXES, Curve, Profile, leading, share, steps
from reports.style import COLUMN_INCHES, Dash, Look, dashes_of, legend_below, shortened

MOST_CURVES = 10
LONGEST_ENTRY = 46
ROW_INCHES = 2.2
WIDEST, NARROWEST = 2.4, 1.2
"""Points: where curves coincide, the later and narrower ones leave the earlier ones to be seen."""


def draw(profiles: Sequence[Profile], look: Look) -> Figure:
    """A column wide; of a roster with many variants, those that lead their methods."""
    shown = [_shown(profile) for profile in profiles]
    figure = Figure(figsize=(COLUMN_INCHES, ROW_INCHES * len(profiles)), layout="constrained")
    dashes = dashes_of(look, [(curve.variant, curve.method) for curves in shown for curve in curves])
    stack = figure.subplots(len(profiles), squeeze=False).ravel()
    for axes, profile, curves in zip(stack, profiles, shown, strict=True):
        _panel(axes, profile, curves, look, dashes)
    flagged = {curve.variant for curves in shown for curve in curves if curve.flagged}
    named = {curve.variant: curve.method for curves in shown for curve in curves}
    handles = [
        Line2D(
            [],
            [],
            color=look.colour(method),
            linestyle=dashes[variant],
            linewidth=1.6,
            label=shortened(variant, LONGEST_ENTRY) + FLAGGED * (variant in flagged),
        )
        for variant, method in named.items()
    ]
    legend_below(figure, handles)
    return figure


def left_out(profiles: Sequence[Profile]) -> int:
    """So many curves the figure goes without."""
    return sum(len(profile.curves) - len(_shown(profile)) for profile in profiles)


def _shown(profile: Profile) -> list[Curve]:
    return list(profile.curves) if len(profile.curves) <= MOST_CURVES else leading(profile)


def _panel(axes: Axes, profile: Profile, curves: Sequence[Curve], look: Look, dashes: dict[str, Dash]) -> None:
    left, right = log_axis.limits([profile.smallest, profile.largest])
    left = left if profile.quantity == "error" else 1.0
    for index, curve in enumerate(curves):
        width = WIDEST - (WIDEST - NARROWEST) * index / max(1, len(curves) - 1)
        style = {"color": look.colour(curve.method), "linestyle": dashes[curve.variant], "linewidth": width}
        axes.step(*steps(curve.values, left, right), where="post", **style)
        if profile.quantity == "time":
            _band(axes, curve, left, right, look)
    log_axis.draw(axes, "x", left, right)
    axes.set_ylim(-0.03, 1.04)
    axes.set_xlabel(AXES[profile.quantity])
    axes.set_ylabel("share of the instances")
    axes.set_title(profile.title, loc="left")


def _band(axes: Axes, curve: Curve, left: float, right: float, look: Look) -> None:
    places = sorted({place for values in (curve.low, curve.high) for place in steps(values, left, right)[0]})
    low, high = ([share(values, place) for place in places] for values in (curve.high, curve.low))
    axes.fill_between(places, low, high, step="post", color=look.colour(curve.method), alpha=0.22, linewidth=0)
