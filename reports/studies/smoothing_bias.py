"""Smoothed l1 norms: the error and the time of their gradients against the length over which the corner is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record
from reports.cells import relative_error, time
from reports.error_axis import has_error
from reports.instances import Group, group
from reports.log_axis import short
from reports.rounding import ABSENT, scientific
from reports.short_names import numbered
from reports.studies._curves import Line, Panel, draw, largest_bar
from reports.studies._fits import Fit, error, power, telling, written
from reports.study import Claim, Study, StudyFigure, judged, not_measured
from reports.style import Look

BLORC = "BLORC, journal, section 2.2, on [55], [13]"
NEAR_KINKS = "BLORC, journal, section 2.2"
MOREAU = "Lecouat et al., section 3.3"
CURVATURE = "Crockett & Fessler, appendix C, (C.5)"
GRADUATED = "Crockett & Fessler, section 6.3, citing [34]"

FIRST_ORDER, SLACK = 1.0, 0.01
"""The order of the bias; terms of the next order bend an exact line a little."""
SMALL = 1e-6
"""Relative error at which a smoothed gradient has approached the l1 gradient."""
HALF = 0.5
"""Accelerated steps grow as the root of the curvature 1/epsilon at most."""
RISEN = 2.0
"""By which factor the error must rise again before rounding is said to have taken over."""
NEWTON, GRADIENT = "newton", "accelerated_gradient"
SMOOTHINGS = ("corner_rounded", "moreau")
DEFAULT_SMOOTHING = "moreau"


@dataclass(frozen=True)
class Curve:
    """One smoothing and solver on one instance, from the largest epsilon to the smallest."""

    instance: str
    smoothing: str
    solver: str
    points: tuple[tuple[float, Record], ...]

    @property
    def label(self) -> str:
        return self.smoothing if self.solver == NEWTON else f"{self.smoothing}, {self.solver}"

    @property
    def measured(self) -> list[tuple[float, Record]]:
        return [(epsilon, record) for epsilon, record in self.points if has_error(record)]

    @property
    def before_rounding(self) -> list[tuple[float, Record]]:
        """Down to the least error."""
        shown = self.measured
        errors = [error(record) for _, record in shown]
        return shown[: errors.index(min(errors)) + 1] if shown else []

    @property
    def bias(self) -> Fit | None:
        """p of error ~ epsilon^p, over the errors that follow a law."""
        return power(telling(self.before_rounding))

    @property
    def steps(self) -> Fit | None:
        """r of steps ~ epsilon^-r."""
        return power([(1 / epsilon, record.iterations) for epsilon, record in self.measured if record.iterations])

    @property
    def time(self) -> Fit | None:
        """r of (solve + gradient) ~ epsilon^-r."""
        return power([(1 / epsilon, record.total_seconds) for epsilon, record in self.measured if record.total_seconds])

    @property
    def takeover(self) -> float | None:
        """The epsilon of the least error, where the error rises again below it."""
        shown, before = self.measured, self.before_rounding
        if not before or len(before) == len(shown):
            return None
        least = max(error(before[-1][1]), before[-1][1].reference_error_relative or 0.0)
        after = max(error(record) for _, record in shown[len(before) :])
        return before[-1][0] if after >= RISEN * least else None


def study(records: Sequence[Record]) -> Study:
    """The page."""
    groups = group(records)
    named = list(zip(_names(groups), groups, strict=True))
    curves = [curve for name, own in named for curve in _curves(name, own)]
    exact = {name: [record for record in own.records if record.method != "smoothed_implicit"] for name, own in named}
    newton = [curve for curve in curves if curve.solver == NEWTON]
    return Study(
        title="Smoothed l1 norms: bias and time against epsilon",
        question=(
            "What is the gradient through a smoothed l1 norm worth as an l1 gradient, and what does it cost, where the "
            "corner is rounded over the length epsilon? The corner-rounded norm sqrt(z^2 + epsilon^2), and the Moreau "
            "envelope with alpha = 1/epsilon, beside the gradient without smoothing."
        ),
        claims=(
            _bias(newton),
            *(_near_kink(smoothing, [one for one in newton if one.smoothing == smoothing]) for smoothing in SMOOTHINGS),
            _sharper(newton),
            _curvature(curves),
            *(_speed(solver, [one for one in curves if one.solver == solver]) for solver in (GRADIENT, NEWTON)),
        ),
        tables=(_fits(curves), _unsmoothed(exact)),
        figures=(
            StudyFigure(
                "smoothing_bias_error",
                "Error against epsilon.",
                "Newton's method solves the smoothed problem to rounding, so that the error is the smoothing's until "
                "rounding takes over at the left.",
                lambda look: _figure(newton, exact, "error", look),
            ),
            StudyFigure(
                "smoothing_bias_time",
                "Time of solve and gradient against epsilon.",
                "Accelerated gradient steps feel the curvature 1/epsilon, Newton's hardly.",
                lambda look: _figure(curves, exact, "time", look),
            ),
        ),
    )


def _names(groups: Sequence[Group]) -> list[str]:
    """The hard instance or the family, and a number where that is not enough."""
    return numbered([f"{_kind(own)}, n = {own.sizes[0]}" for own in groups])


def _kind(own: Group) -> str:
    instance, margin = own.parameters.get("instance"), own.parameters.get("margin")
    return (own.problem if instance is None else str(instance)) + (f", margin {short(margin)}" if margin else "")


def _curves(instance: str, own: Group) -> list[Curve]:
    found: dict[tuple[str, str], list[tuple[float, Record]]] = {}
    for record in own.records:
        parameters = record.method_parameters
        if record.method == "smoothed_implicit" and "epsilon" in parameters:
            key = (str(parameters.get("smoothing", DEFAULT_SMOOTHING)), str(parameters.get("solve_by", NEWTON)))
            found.setdefault(key, []).append((float(parameters["epsilon"]), record))
    return [
        Curve(instance, smoothing, solver, tuple(sorted(points, key=lambda point: -point[0])))
        for (smoothing, solver), points in found.items()
    ]


def _each(curves: Sequence[Curve], fits: Sequence[Fit | None], letter: str) -> str:
    return "; ".join(
        f"{curve.label} on {curve.instance}: {letter} = {fit}" for curve, fit in zip(curves, fits, strict=True)
    )


def _unfitted(curves: Sequence[Curve], fits: Sequence[Fit | None]) -> str:
    """Why there is nothing to judge; empty where there is."""
    lacking = [f"{curve.label} on {curve.instance}" for curve, fit in zip(curves, fits, strict=True) if fit is None]
    if lacking:
        return f"fewer than four points to fit a line to: {', '.join(lacking)}"
    return "" if curves else "no cell of it"


def _bias(curves: Sequence[Curve]) -> Claim:
    published = "With a differentiable substitute for the l1 norm the gradient is approximate."
    fits = [curve.bias for curve in curves]
    if why := _unfitted(curves, fits):
        return not_measured(BLORC, published, why)
    known = [fit for fit in fits if fit is not None]
    holds = all(fit.low > 0 for fit in known)
    first = sum(fit.low - SLACK <= FIRST_ORDER <= fit.high + SLACK for fit in known)
    why = (
        f"p is above 0 with its interval: the error is the smoothing's. {first} of {len(known)} intervals, widened by "
        f"{SLACK:g}, hold p = 1, the order of the relations z = epsilon u / sqrt(1 - u^2) and z = epsilon u"
    )
    return judged(BLORC, published, f"error ~ epsilon^p: {_each(curves, fits, 'p')}", holds, why)


def _near_kink(smoothing: str, curves: Sequence[Curve]) -> Claim:
    """At an epsilon that all have, the instance near a kink against the others."""
    published = f"A smoothed l1 norm ({smoothing}) errs near the kinks."
    near = [curve for curve in curves if curve.instance.startswith("near_kink")]
    far = [curve for curve in curves if curve not in near]
    epsilons = [{epsilon for epsilon, _ in curve.before_rounding} for curve in curves]
    shared = set.intersection(*epsilons) if epsilons else set()
    if not near or not far or not shared:
        why = "no epsilon with an error near a kink and elsewhere"
        return not_measured(NEAR_KINKS, published, why)
    epsilon = min(shared)
    at = {curve.instance: error(dict(curve.measured)[epsilon]) for curve in curves}
    ours = f"errors at epsilon = {short(epsilon)}: " + "; ".join(
        f"{name} {scientific(value)}" for name, value in at.items()
    )
    holds = min(at[curve.instance] for curve in near) > max(at[curve.instance] for curve in far)
    why = "at the smallest epsilon before rounding takes over anywhere, the largest error is near the kink"
    return judged(NEAR_KINKS, published, ours, holds, why)


def _sharper(curves: Sequence[Curve]) -> Claim:
    published = "The Moreau envelope approaches the l1 norm as alpha = 1/epsilon grows."
    own = [curve for curve in curves if curve.smoothing == "moreau"]
    least = [(curve, min(curve.measured, key=lambda point: error(point[1]), default=None)) for curve in own]
    if not own or any(point is None for _, point in least):
        return not_measured(MOREAU, published, "no error of the Moreau envelope on some instance")
    found = [(curve, *point) for curve, point in least if point is not None]
    ours = "least error, its epsilon, and where rounding takes over: " + "; ".join(
        f"{curve.instance} {relative_error(record)} at {short(epsilon)}, "
        + ("nowhere" if curve.takeover is None else f"below {short(curve.takeover)}")
        for curve, epsilon, record in found
    )
    largest = max(error(record) for _, _, record in found)
    holds = largest <= SMALL and all(error(curve.measured[0][1]) > error(record) for curve, _, record in found)
    why = f"the least error is {short(SMALL)} or less on every instance, below that of the largest epsilon"
    return judged(MOREAU, published, ours, holds, why)


def _curvature(curves: Sequence[Curve]) -> Claim:
    published = (
        "The curvature of the corner-rounded norm is 1/epsilon: gradient steps are of that length, and as many more."
    )
    own = [curve for curve in curves if curve.solver == GRADIENT and curve.smoothing == "corner_rounded"]
    fits = [curve.steps for curve in own]
    if why := _unfitted(own, fits):
        return not_measured(CURVATURE, published, why)
    holds = all(fit is not None and fit.low > 0 and fit.low <= HALF for fit in fits)
    why = "accelerated steps grow as epsilon^-1/2 at most: r above 0, and 1/2 not below its interval, on every instance"
    ours = f"accelerated steps ~ epsilon^-r: {_each(own, fits, 'r')}"
    return judged(CURVATURE, published, ours, holds, why)


def _speed(solver: str, curves: Sequence[Curve]) -> Claim:
    published = f"Graduated smoothing trades accuracy for speed: a rounder corner is faster to solve (by {solver})."
    fits = [curve.time for curve in curves]
    if why := _unfitted(curves, fits):
        return not_measured(GRADUATED, published, why)
    holds = all(fit is not None and fit.low > 0 for fit in fits)
    why = "r is above 0 with its interval, on every instance by either smoothing; flagged times widen it"
    ours = f"time ~ epsilon^-r: {_each(curves, fits, 'r')}"
    return judged(GRADUATED, published, ours, holds, why)


def _fits(curves: Sequence[Curve]) -> Table:
    columns = (
        Column("instance", numeric=False),
        Column("smoothing, solver", numeric=False),
        Column("p of error ~ epsilon^p"),
        Column("least error", "Frobenius"),
        Column("its epsilon"),
        Column("rounding takes over below"),
        Column("r of steps ~ epsilon^-r"),
        Column("r of time ~ epsilon^-r"),
        Column("cells that failed", numeric=False),
    )
    return Table(
        "Bias and cost of smoothing: fitted exponents",
        columns,
        tuple(_row(curve) for curve in curves),
        (
            "Least squares on logarithms, ± half of the 95 % interval; errors from the largest epsilon to the least "
            "error, those below 0.1 and ten bars of the reference, or 1e-11, above zero. Rounding has taken over where "
            f"the error rises by a factor of {RISEN:g} again.",
        ),
    )


def _row(curve: Curve) -> tuple[str, ...]:
    least = curve.before_rounding[-1] if curve.before_rounding else None
    failed = [f"{short(epsilon)}: {record.status}" for epsilon, record in curve.points if not has_error(record)]
    return (
        curve.instance,
        curve.label,
        written(curve.bias),
        relative_error(least[1]) if least else ABSENT,
        short(least[0]) if least else ABSENT,
        ABSENT if curve.takeover is None else short(curve.takeover),
        written(curve.steps),
        written(curve.time),
        ", ".join(failed),
    )


def _unsmoothed(exact: dict[str, list[Record]]) -> Table:
    columns = (
        Column("instance", numeric=False),
        Column("method", numeric=False),
        Column("relative error", "Frobenius"),
        Column("solve + gradient", "ms"),
    )
    rows = tuple(
        (name, record.variant, relative_error(record), time(record, "total"))
        for name, own in exact.items()
        for record in own
    )
    return Table("Without smoothing", columns, rows, ())


def _figure(curves: Sequence[Curve], exact: dict[str, list[Record]], reading: str, look: Look) -> Figure:
    del look  # a colour per smoothing: all of it is one method
    instances = dict.fromkeys(curve.instance for curve in curves)
    return draw([_panel(name, [c for c in curves if c.instance == name], exact[name], reading) for name in instances])


def _panel(name: str, curves: Sequence[Curve], exact: Sequence[Record], reading: str) -> Panel:
    lines = []
    for curve in curves:
        points = tuple((epsilon, y) for epsilon, record in curve.measured if (y := _height(record, reading)) > 0)
        kind = int(curve.solver != NEWTON)
        lines.append(Line(curve.label, points, SMOOTHINGS.index(curve.smoothing), kind))
    ends = [epsilon for curve in curves for epsilon, _ in curve.measured]
    for place, record in enumerate(exact):
        height = _height(record, reading) if has_error(record) else 0.0
        if height > 0 and ends:
            points = ((min(ends), height), (max(ends), height))
            lines.append(Line(f"{record.method} (no smoothing)", points, 2 + place, 2))
    bar = largest_bar(record for curve in curves for _, record in curve.measured)
    quantity = "relative error (Frobenius)" if reading == "error" else "solve + gradient (ms)"
    return Panel(name, "epsilon (unit of Kx)", quantity, tuple(lines), bar=bar if reading == "error" else None)


def _height(record: Record, reading: str) -> float:
    return error(record) if reading == "error" else 1e3 * (record.total_seconds or 0.0)
