"""Figure 5.1 of the review: the angle between a gradient and the exact one against the lower level's tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record
from reports.cells import angle as written_angle
from reports.error_axis import has_error
from reports.instances import Group, group
from reports.log_axis import short
from reports.rounding import ABSENT, angle_bar, scientific
from reports.studies._curves import Line, Panel, draw
from reports.studies._fits import Fit, floor, power, rate, written
from reports.study import Claim, Study, StudyFigure, Verdict, judged, not_measured
from reports.style import Look

SOURCE = "Crockett & Fessler, Figure 5.1"
ROOT = 0.5
"""An angle that falls faster than the root of the tolerance is governed by it."""
WIDEST = 30.0
"""Degrees, from which on an angle is no longer proportional to a small error."""
STOP = 1e-5
"""Relative tolerance nearest to the published stop, of signals with peak 1."""


@dataclass(frozen=True)
class Series:
    """One instance by one solver; `knob` says what is turned, which is the last thing that sets its records apart."""

    instance: str
    place: int
    knob: str
    solver: str
    points: tuple[tuple[float, Record], ...]

    @property
    def telling(self) -> list[tuple[float, Record]]:
        """The points whose angle the reference can tell, and that are small."""
        return [point for point in self.points if _angle_floor(point[1]) < _angle(point[1]) < WIDEST]


def study(records: Sequence[Record]) -> Study:
    """The page."""
    groups = group(records)
    series = [one for place, own in enumerate(groups) for one in _series(place, own)]
    by_tolerance = [one for one in series if one.knob == "tolerance"]
    by_steps = [one for one in series if one.knob == "steps"]
    return Study(
        title="Figure 5.1 of the review: direction of the gradient against the lower level's tolerance",
        question=(
            "How far does the hypergradient point from the exact one where the lower level is solved to a tolerance "
            "only? One filter of two taps, phi(z) = z^2, piecewise-constant signals; the adjoint equation is solved to "
            "rounding. The tolerance is the largest entry of the lower level's gradient relative to that of y."
        ),
        claims=(_governed(by_tolerance), _minimum(), _stops(by_tolerance)),
        tables=(_table(series),),
        figures=(
            StudyFigure(
                "review_figure_5_1",
                "Angle between the gradient and the reference.",
                "Left: against the tolerance that was asked for; gradient descent looks at its residual every tenth "
                "step and stops below. Right: against the number of steps of gradient descent. A colour per instance.",
                lambda look: _figure(by_tolerance, by_steps, look),
            ),
        ),
    )


def _series(place: int, own: Group) -> list[Series]:
    found: dict[tuple[str, str], list[tuple[float, Record]]] = {}
    for record in own.records:
        parameters = record.method_parameters
        solver = parameters.get("solver")
        if isinstance(solver, dict) and "tolerance" in solver:
            found.setdefault(("tolerance", str(solver["key"])), []).append((float(solver["tolerance"]), record))
        elif "steps" in parameters:
            found.setdefault(("steps", str(solver or "gradient_descent")), []).append(
                (float(parameters["steps"]), record)
            )
    return [
        Series(_name(own), place, knob, solver, tuple(sorted(points, key=lambda point: point[0])))
        for (knob, solver), points in found.items()
    ]


def _name(own: Group) -> str:
    parameters = own.parameters
    taps = f"random taps, seed {own.seed}" if parameters.get("filters") == "random" else "c_1 = -c_0"
    return f"{taps}, b_0 = {parameters.get('log_weight', 0.0):g}"


def _angle(record: Record) -> float:
    """Degrees; zero where there is none, which no reference can tell."""
    return record.error_angle_degrees or 0.0 if has_error(record) else 0.0


def _angle_floor(record: Record) -> float:
    return angle_bar(min(floor(record), 0.9)) or 0.0


def _against_knob(series: Series) -> Fit | None:
    points = [(x, _angle(record)) for x, record in series.telling]
    return rate(points) if series.knob == "steps" else power(points)


def _against_error(series: Series) -> Fit | None:
    """p of angle ~ (relative error of x)^p."""
    both = [
        (error, _angle(record))
        for _, record in series.telling
        if (error := record.quantities.get("solution_error_relative", 0.0)) > floor(record) / 10
    ]
    return power(both)


def _governed(series: Sequence[Series]) -> Claim:
    published = (
        "The error of the gradient's direction is governed by how well the lower level is solved: angle errors for "
        "several tolerances, whose values are not legible (readings.md U.17)."
    )
    fits = [_against_knob(one) for one in series]
    known = [fit for fit in fits if fit is not None]
    if not known or len(known) < len(fits):
        missing = "; ".join(f"{one.instance} by {one.solver}" for one, fit in zip(series, fits, strict=True) if not fit)
        why = f"fewer than four angles to fit a line to: {missing or 'no cell has a tolerance'}"
        return not_measured(SOURCE, published, why)
    errors = [fit for one in series if (fit := _against_error(one)) is not None]
    ours = f"angle ~ tolerance^p with p = {_range(known)} on {len(known)} series"
    if errors:
        ours += f"; angle ~ (error of x)^p with p = {_range(errors)}"
    follows = all(fit.low > ROOT for fit in known)
    why = f"the 95 % interval of p is {'above' if follows else 'not above'} {ROOT:g} on every series"
    return judged(SOURCE, published, ours, follows, why)


def _range(fits: Sequence[Fit]) -> str:
    low, high = min(fit.value for fit in fits), max(fit.value for fit in fits)
    return f"{low:.2f} to {high:.2f}"


def _minimum() -> Claim:
    return Claim(
        f"{SOURCE}, caption",
        "exp(b_0) = 0 and exp(b_1) = -5; the loss is low where c_1 is close to c_0.",
        ABSENT,
        Verdict.NOT_TESTABLE,
        "an exponential is neither 0 nor negative, and differences need c_1 = -c_0: read b_0 = 0, b_1 = -5 and a minus "
        "that was lost (readings.md X.28). Records hold no loss; tests/test_studies_accuracy.py finds it lower there.",
    )


def _stops(series: Sequence[Series]) -> Claim:
    """What the direction is worth at the tolerance that another paper chose."""
    source = "Crockett & Fessler, section 5.1, citing [139]"
    said = "Stopping at ||grad|| / sqrt(N) <= 1e-5 gained 0.65 dB over a fixed number of iterations (readings.md R.12)."
    angles = [_angle(record) for one in series for x, record in one.points if x == STOP and _angle(record) > 0]
    if not angles:
        return not_measured(source, said, f"no angle at a tolerance of {short(STOP)}")
    ours = f"at a tolerance of {short(STOP)} angles of {scientific(min(angles))} to {scientific(max(angles))} degrees"
    return Claim(source, said, ours, Verdict.NOT_TESTABLE, "a gain in dB needs learning, not single gradients")


def _table(series: Sequence[Series]) -> Table:
    columns = (
        Column("instance", numeric=False),
        Column("solver", numeric=False),
        Column("knob", numeric=False),
        Column("p of angle ~ tolerance^p"),
        Column("q of angle ~ q^steps"),
        Column("p of angle ~ (error of x)^p"),
        Column("points fitted"),
        Column("smallest angle", "degrees"),
        Column("cells that failed", numeric=False),
    )
    return Table(
        "Angle of the gradient: fitted exponents",
        columns,
        tuple(_row(one) for one in series),
        (
            "Least squares on logarithms, ± half of the 95 % interval, over angles below 30 degrees and ten bars of "
            "the reference, or 1e-11, above zero. Theta holds b_1 beside the taps, whose slope is <c, dL/dc>.",
        ),
    )


def _row(one: Series) -> tuple[str, ...]:
    knob, failed = _against_knob(one), [(x, record) for x, record in one.points if not has_error(record)]
    shown = [record for _, record in one.points if record.error_angle_degrees is not None]
    smallest = min(shown, key=_angle, default=None)
    return (
        one.instance,
        one.solver,
        one.knob,
        written(knob) if one.knob == "tolerance" else ABSENT,
        written(knob) if one.knob == "steps" else ABSENT,
        written(_against_error(one)),
        str(len(one.telling)),
        ABSENT if smallest is None else written_angle(smallest),
        ", ".join(f"{x:g}: {record.status}" for x, record in failed),
    )


def _figure(by_tolerance: Sequence[Series], by_steps: Sequence[Series], look: Look) -> Figure:
    del look  # a colour per instance, not per method
    return draw(
        [
            _panel(_fitted("tolerance^p", by_tolerance), "tolerance of the lower level (relative)", by_tolerance),
            _panel(_fitted("p^steps", by_steps), "steps of gradient descent", by_steps),
        ]
    )


def _fitted(law: str, series: Sequence[Series]) -> str:
    fits = [fit for one in series if (fit := _against_knob(one)) is not None]
    return f"angle ~ {law}, p = {_range(fits)}" if fits else "no fit"


def _panel(title: str, x: str, series: Sequence[Series]) -> Panel:
    solvers = list(dict.fromkeys(one.solver for one in series))
    bars = [bar for one in series for _, record in one.points if (bar := angle_bar(record.reference_error_relative))]
    lines = [
        Line(
            f"{one.instance}; {one.solver}",
            tuple((x, _angle(record)) for x, record in one.points if _angle(record) > 0),
            colour=one.place,
            kind=solvers.index(one.solver),
        )
        for one in series
    ]
    return Panel(title, x, "angle (degrees)", tuple(lines), counts=x.startswith("steps"), bar=max(bars, default=None))
