"""Minimizer against unrolling: the error of both at equal numbers of steps, and at equal times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import correlation

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record, Status
from reports.error_axis import has_error
from reports.instances import Group, group
from reports.log_axis import short
from reports.published import published_rows
from reports.rounding import ABSENT, plain, scientific
from reports.short_names import numbered
from reports.studies._curves import Line, Panel, draw, largest_bar
from reports.studies._fits import Fit, error, power, rate, telling, written
from reports.study import Claim, Study, StudyFigure, Verdict, judged, not_measured
from reports.style import Look

REVIEW = "Crockett & Fessler, section 4.5, citing [116], [117]"
GRAZZI = "Grazzi et al., ICML 2020"
JI = "Crockett & Fessler, Table 5.3; Ji et al., ICML 2021"

ITD, AID_CG, AID_FP = "ITD", "AID-CG", "AID-FP"
CLEARLY = 1.05
"""Errors differ where they differ by this factor: below it, the last digits decide."""
TARGET = 1e-6
"""Relative error at which times are compared."""
GRADIENT_STEP = 1.8
"""s L of gradient_descent and of the fixed point, their default: 0.9 of 2/L."""


@dataclass(frozen=True)
class Curve:
    """One way of differentiating on one instance; by t, or by k where x is converged and the adjoint is not."""

    instance: str
    kind: str
    solver: str
    adjoint_alone: bool
    points: tuple[tuple[int, Record], ...]

    @property
    def label(self) -> str:
        return self.kind if self.solver == "gradient_descent" else f"{self.kind}, accelerated"

    @property
    def telling(self) -> list[tuple[int, float]]:
        """t and error, where the reference can tell it and a law for small errors may hold."""
        return telling(self.points)

    @property
    def rate(self) -> Fit | None:
        return rate(self.telling)

    @property
    def is_linear(self) -> bool:
        """Whether log(error) is straighter in t than in log(t), as which 1/t^p would be straight."""
        logs = [(t, math.log(value)) for t, value in self.telling]
        return _straightness(logs) > _straightness([(math.log(t), value) for t, value in logs])

    def to_reach(self, target: float) -> tuple[float, float | None] | None:
        """Steps and seconds at which the error falls below the target, between points by the straight line of the
        logarithms; None where it does not, or did from the first point on."""
        shown = [(t, record) for t, record in self.points if has_error(record) and error(record) > 0]
        for (t0, before), (t1, after) in pairwise(shown):
            if error(before) > target >= error(after):
                share = math.log(error(before) / target) / math.log(error(before) / error(after))
                ends = (before.total_seconds, after.total_seconds)
                seconds = None if None in ends else (1 - share) * (ends[0] or 0.0) + share * (ends[1] or 0.0)
                return (1 - share) * t0 + share * t1, seconds
        return None


def study(records: Sequence[Record]) -> Study:
    """The page."""
    groups = group(records)
    curves = [curve for own, name in zip(groups, _names(groups), strict=True) for curve in _curves(own, name)]
    by_t = [curve for curve in curves if not curve.adjoint_alone]
    by_k = [curve for curve in curves if curve.adjoint_alone]
    plain_steps = [curve for curve in by_t if curve.solver == "gradient_descent"]
    return Study(
        title="Minimizer against unrolling",
        question=(
            "How does the error of the hypergradient fall with the number of steps, and with time, where t steps are "
            "differentiated backwards (ITD), and where t steps are followed by t of conjugate gradients (AID-CG) or of "
            "the fixed-point iteration (AID-FP) for the adjoint equation? Strongly convex smooth lower levels, all "
            "started at 0."
        ),
        claims=(
            _linear(plain_steps),
            _minimizer_first(plain_steps),
            _factor(plain_steps),
            _order(plain_steps),
            _adjoint_rate(by_k),
            _complexity(plain_steps),
        ),
        tables=(_rates(curves), _published_orders()),
        figures=(
            StudyFigure(
                "minimizer_vs_unrolled_steps",
                "Error against the number of steps t.",
                "Each of ITD, AID-CG and AID-FP takes t steps for x; the last two t more for the adjoint.",
                lambda look: _figure(by_t, "t (steps)", False, look),
            ),
            StudyFigure(
                "minimizer_vs_unrolled_seconds",
                "Error against the time of solve and gradient.",
                "All of them bound L first, by 100 products, which is most of the time of a few steps.",
                lambda look: _figure(by_t, "solve + gradient (ms)", True, look),
            ),
            StudyFigure(
                "minimizer_vs_unrolled_adjoint",
                "Error against the number of adjoint steps k, x converged.",
                "300 accelerated steps for x, so that what is left is the adjoint's.",
                lambda look: _figure(by_k, "k (adjoint steps)", False, look),
            ),
        ),
    )


def _curves(own: Group, instance: str) -> list[Curve]:
    found: dict[tuple[str, str, bool], list[tuple[int, Record]]] = {}
    for record in own.records:
        parameters = record.method_parameters
        solver = parameters.get("solver", "gradient_descent")
        name = str(solver["key"]) if isinstance(solver, dict) else str(solver)
        if record.method == "unrolled_reverse":
            found.setdefault((ITD, name, False), []).append((int(parameters["steps"]), record))
        elif record.method == "approximate_implicit":
            kind = AID_FP if parameters.get("adjoint") == "fixed_point" else AID_CG
            k = parameters.get("adjoint_steps")
            found.setdefault((kind, name, k is not None), []).append((int(k or parameters["steps"]), record))
    return [
        Curve(instance, kind, solver, alone, tuple(sorted(points, key=lambda point: point[0])))
        for (kind, solver, alone), points in found.items()
    ]


def _names(groups: Sequence[Group]) -> list[str]:
    """Penalty and size, and a number where that is not enough."""
    return numbered([f"{own.parameters.get('penalty', own.problem)}, n = {own.sizes[0]}" for own in groups])


def _straightness(points: Sequence[tuple[float, float]]) -> float:
    """The squared correlation of x and y, of which neither is constant."""
    xs, ys = zip(*points, strict=True)
    return correlation(xs, ys) ** 2


def _by_instance(curves: Sequence[Curve]) -> dict[str, dict[str, Curve]]:
    found: dict[str, dict[str, Curve]] = {}
    for curve in curves:
        found.setdefault(curve.instance, {})[curve.kind] = curve
    return found


def _missing(curves: Sequence[Curve], kinds: Sequence[str]) -> str:
    """Why a claim cannot be judged; empty where it can."""
    instances = _by_instance(curves)
    if not instances:
        return "no cell of it"
    lacking = [
        f"{kind} on {name}"
        for name, own in instances.items()
        for kind in kinds
        if kind not in own or own[kind].rate is None
    ]
    return f"fewer than four errors to fit a line to: {', '.join(lacking)}" if lacking else ""


def _linear(curves: Sequence[Curve]) -> Claim:
    published = "The error of both approaches falls linearly, like q^t."
    if why := _missing(curves, (ITD, AID_CG, AID_FP)):
        return not_measured(REVIEW, published, why)
    fits = [(curve, fit) for curve in curves if (fit := curve.rate) is not None]
    ours = "; ".join(f"{curve.kind} on {curve.instance}: q = {fit}" for curve, fit in fits)
    holds = all(curve.is_linear and fit.high < 1 for curve, fit in fits)
    why = "q < 1 with its 95 % interval, and log(error) straighter in t than in log(t), on every curve"
    return judged(REVIEW, published, ours, holds, why)


def _at_last_common(own: dict[str, Curve], kinds: Sequence[str]) -> tuple[int, dict[str, float]] | None:
    """The errors of all kinds at the largest t at which each can be told."""
    tables = {kind: dict(own[kind].telling) for kind in kinds}
    common = set.intersection(*(set(table) for table in tables.values()))
    return (t, {kind: table[t] for kind, table in tables.items()}) if (t := max(common, default=0)) else None


def _comparison(
    source: str, published: str, curves: Sequence[Curve], better: Sequence[str], worse: Sequence[str]
) -> Claim:
    """Whether at the last common t each of the better has a smaller error than every other of the worse."""
    kinds = tuple(dict.fromkeys([*better, *worse]))
    if why := _missing(curves, kinds):
        return not_measured(source, published, why)
    ours, holds = [], True
    for name, own in _by_instance(curves).items():
        found = _at_last_common(own, kinds)
        if found is None:
            return not_measured(source, published, f"no t at which all can be told on {name}")
        t, errors = found
        ours.append(f"{name}, t = {t}: " + ", ".join(f"{kind} {scientific(errors[kind])}" for kind in kinds))
        holds &= all(CLEARLY * errors[one] <= errors[other] for one in better for other in worse if one != other)
    why = f"error at the last t that all can be told at; smaller means by {100 * (CLEARLY - 1):.0f} % on every instance"
    return judged(source, published, "; ".join(ours), holds, why)


def _minimizer_first(curves: Sequence[Curve]) -> Claim:
    published = "The minimizer approach converges faster than unrolling (error curves; no number)."
    return _comparison(REVIEW, published, curves, (AID_CG, AID_FP), (ITD,))


def _order(curves: Sequence[Curve]) -> Claim:
    published = "Of the three, AID with conjugate gradients performs best."
    claim = _comparison(f"{GRAZZI}, abstract", published, curves, (AID_CG,), (AID_FP, ITD))
    if claim.verdict is not Verdict.NOT_REPRODUCED:
        return claim
    cause = (
        "x_t is the same for all and its error is not the adjoint's: at equal t it hides what CG gains (see k below)"
    )
    return Claim(claim.source, claim.published, claim.ours, claim.verdict, f"{claim.why}. {cause}")


def _factor(curves: Sequence[Curve]) -> Claim:
    """m of error(ITD) / error(AID-FP) ~ t^m."""
    source, published = f"{GRAZZI}, bounds", "ITD's bound is O(t q^t), AID-FP's O(q^t): a factor of t between them."
    if why := _missing(curves, (ITD, AID_FP)):
        return not_measured(source, published, why)
    fits = {}
    for name, own in _by_instance(curves).items():
        itd, fixed = dict(own[ITD].telling), dict(own[AID_FP].telling)
        common = sorted(set(itd) & set(fixed))
        fit = power([(t, itd[t] / fixed[t]) for t in common])
        if fit is None:
            return not_measured(source, published, f"fewer than four common t on {name}")
        fits[name] = fit
    ours = "; ".join(f"{name}: ITD / AID-FP ~ t^m, m = {fit}" for name, fit in fits.items())
    holds = all(fit.low > 0 and fit.low <= 1 for fit in fits.values())
    why = "m is above 0 with its 95 % interval, which does not lie above 1; on every instance"
    if not holds:
        why += ". The factor is a bound's, which nothing says is met"
    return judged(source, published, ours, holds, why)


def _adjoint_rate(curves: Sequence[Curve]) -> Claim:
    source = f"{GRAZZI}, bounds"
    published = (
        "CG's part of the error falls like ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^k, the fixed point's like q^k."
    )
    if why := _missing(curves, (AID_CG, AID_FP)):
        return not_measured(source, published, why)
    ours, holds = [], True
    for name, own in _by_instance(curves).items():
        cg, fixed = own[AID_CG].rate, own[AID_FP].rate
        assert cg is not None
        assert fixed is not None
        root = math.sqrt(max(GRADIENT_STEP / (1 - fixed.value), 1.0)) if fixed.value < 1 else math.inf
        bound = (root - 1) / (root + 1) if math.isfinite(root) else 1.0
        ours.append(f"{name}: CG q = {cg}, fixed point q = {fixed}, bound for CG {bound:.2f}")
        holds &= cg.low <= bound and cg.high < fixed.low
    why = (
        "CG's q is below the fixed point's, intervals apart, and not above the bound, whose kappa is read from the "
        f"fixed point's 1 - q = {GRADIENT_STEP} / kappa; on every instance"
    )
    return judged(source, published, "; ".join(ours), holds, why)


def _complexity(curves: Sequence[Curve]) -> Claim:
    orders = {
        row["method"]: row["order"]
        for row in published_rows("review_table5_3_complexity.csv")
        if row["quantity"] == "lower-level gradients"
    }
    published = "Lower-level gradients to an eps-stationary point: " + ", ".join(
        f"{method} {order}" for method, order in orders.items()
    )
    reached = [
        f"{curve.kind} on {curve.instance} {found[0]:.0f}" for curve in curves if (found := curve.to_reach(TARGET))
    ]
    ours = f"steps to a relative error of {short(TARGET)}: {', '.join(reached)}" if reached else ABSENT
    why = (
        "the orders count a whole descent, and AID's gain over BA comes from warm starts; these are single gradients "
        "from a cold start, each in O(log(1/eps)) steps"
    )
    return Claim(JI, published, ours, Verdict.NOT_TESTABLE, why)


def _rates(curves: Sequence[Curve]) -> Table:
    columns = (
        Column("instance", numeric=False),
        Column("method", numeric=False),
        Column("counted", numeric=False),
        Column("q of error ~ q^t"),
        Column("points fitted"),
        Column(f"t to {short(TARGET)}"),
        Column(f"solve + gradient at {short(TARGET)}", "ms"),
        Column("cells that failed", numeric=False),
    )
    return Table(
        "Linear rates, and what an error of 1e-6 takes",
        columns,
        tuple(_row(curve) for curve in curves),
        (
            "Least squares on log(error), ± half of the 95 % interval, over errors below 0.1 and ten bars of the "
            "reference, or 1e-11, above zero. Steps and times at 1e-6 are between those of the two nearest cells.",
        ),
    )


def _row(curve: Curve) -> tuple[str, ...]:
    reached = curve.to_reach(TARGET)
    failed = [(t, record) for t, record in curve.points if record.status != Status.OK]
    return (
        curve.instance,
        curve.label,
        "k, x converged" if curve.adjoint_alone else "t",
        written(curve.rate),
        str(len(curve.telling)),
        f"{reached[0]:.0f}" if reached else ABSENT,
        plain(1e3 * reached[1]) if reached and reached[1] is not None else ABSENT,
        ", ".join(f"{t}: {record.status}" for t, record in failed),
    )


def _published_orders() -> Table:
    rows = [*published_rows("hypergradient_rates.csv"), *published_rows("review_table5_3_complexity.csv")]
    names = ("method", "quantity", "order", "source", "confidence")
    return Table(
        "Published orders",
        tuple(Column(name, numeric=False) for name in names),
        tuple(tuple(row[name] for name in names) for row in rows),
        ("Confidence `inferred`: reconstructed, as the file's note says.",),
    )


def _figure(curves: Sequence[Curve], x: str, seconds: bool, look: Look) -> Figure:
    del look  # a colour per way of differentiating, two of which are one method of the suite
    return draw([_panel(name, own, x, seconds) for name, own in _panels(curves).items()])


def _panels(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.instance, []).append(curve)
    return found


def _panel(name: str, curves: Sequence[Curve], x: str, seconds: bool) -> Panel:
    kinds = (ITD, AID_CG, AID_FP)
    lines = []
    for curve in curves:
        shown = tuple(
            (1e3 * (record.total_seconds or 0.0) if seconds else float(t), error(record))
            for t, record in curve.points
            if has_error(record) and error(record) > 0 and (not seconds or record.total_seconds)
        )
        colour, kind = kinds.index(curve.kind), 2 * (curve.solver != "gradient_descent") + (curve.kind == AID_CG)
        lines.append(Line(curve.label, shown, colour, kind))
    bar = largest_bar(record for curve in curves for _, record in curve.points if has_error(record))
    return Panel(name, x, "relative error (Frobenius)", tuple(lines), counts=not seconds, bar=bar)
