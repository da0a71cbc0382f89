"""PUDLE's Figures 2 and 3: how the unfolded code, its Jacobian and three gradients converge (Theorems 3.1-3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record
from reports.error_axis import has_error
from reports.instances import group
from reports.published import published_rows
from reports.rounding import ABSENT, error, plain, scientific
from reports.studies._curves import Line, Panel, draw
from reports.studies._fits import ROUNDING, Fit, floor, rate, written
from reports.study import Claim, Study, StudyFigure, judged, not_measured
from reports.style import Look

SOURCE = "PUDLE"
DEC, AE_LASSO, AE_LS = "pudle_dec", "pudle_ae_lasso", "pudle_ae_ls"
METHODS = {DEC: "g_dec", AE_LASSO: "g_ae-lasso", AE_LS: "g_ae-ls"}
PAPERS_SIZE = (50, 100)
"""m, p (readings.md P.5)."""

SLACK = 0.01
"""A fitted rate counts as no slower than the theory's where it is above it by no more than its interval, or this."""
WIDEST = 0.5
"""A ratio of exponents with a wider interval, either way, says nothing."""
LEVEL = 0.01
"""An error has levelled off where it changes by no more, relatively, between the two largest T,"""
FAR = 100.0
"""and is a bias where it is so many times that of g_dec there."""

Reading = Callable[[Record], float | None]


@dataclass(frozen=True)
class Ratio:
    """g_ae-lasso's exponent by that of g_dec, between what two laws make of it, and 95 % intervals around."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True)
class Instance:
    """One dictionary with its signals; `by_steps` holds each method's records by their T."""

    name: str
    papers_size: bool
    by_steps: dict[str, dict[int, Record]]
    failures: tuple[str, ...]

    @property
    def steps(self) -> list[int]:
        return sorted({T for own in self.by_steps.values() for T in own})

    def number(self, name: str) -> float | None:
        """Of the instance itself, the same in each record."""
        return next((value for _, value in self._all(name)), None)

    def curve(self, read: Reading, methods: Sequence[str] = tuple(METHODS)) -> dict[int, float]:
        """By T, what the first of the methods that has it says."""
        found: dict[int, float] = {}
        for method in methods:
            for T, record in self.by_steps[method].items():
                if T not in found and (value := read(record)) is not None:
                    found[T] = value
        return dict(sorted(found.items()))

    def gradient(self, method: str) -> dict[int, float]:
        """The relative error of a gradient by T; NaN where its reference and rounding leave nothing to be read."""
        own = {T: record for T, record in self.by_steps[method].items() if has_error(record)}
        errors = {T: record.error_relative or 0.0 for T, record in sorted(own.items())}
        return {T: value if value > floor(own[T]) else math.nan for T, value in errors.items()}

    @cached_property
    def settled(self) -> int | None:
        """B: the smallest T from which on every z_T has the support of z*; None where no T has, or nobody looked."""
        differences = self.curve(lambda record: record.quantities.get("support_difference_count"))
        same = [T for T in differences if all(count == 0 for later, count in differences.items() if later >= T)]
        return min(same, default=None)

    def rate(self, errors: dict[int, float], growing: bool = False) -> Fit | None:
        """q of c q^T, or of c T q^T, over the last two thirds of the T from B to where rounding begins.

        The first third is left out for the faster modes to go.
        """
        if self.settled is None:
            return None
        usable = [T for T in sorted(errors) if self.settled <= T and errors[T] > ROUNDING]
        usable = usable[len(usable) // 3 :]
        return rate([(T, errors[T] / T if growing else errors[T]) for T in usable])

    def ratio(self) -> Ratio | None:
        """(a + b T) rho^(2T) with a, b >= 0 lies between the two laws that are fitted, a = 0 and b = 0."""
        dec = self.rate(self.gradient(DEC))
        both = [self.rate(self.gradient(AE_LASSO), growing) for growing in (False, True)]
        if dec is None or dec.value >= 1:
            return None
        ends = []
        for fit in both:
            if fit is None:
                return None
            logs = math.log(fit.value), math.log(dec.value)
            spread = math.hypot(fit.half_width / fit.value / logs[0], dec.half_width / dec.value / logs[1])
            ends += [logs[0] / logs[1] * (1 - spread), logs[0] / logs[1] * (1 + spread)]
        return Ratio(min(ends), max(ends))

    def _all(self, name: str) -> list[tuple[int, float]]:
        return [
            (T, record.quantities[name])
            for own in self.by_steps.values()
            for T, record in own.items()
            if name in record.quantities
        ]


def study(records: Sequence[Record]) -> Study:
    """The page."""
    instances = [_instance(name, own) for name, own in sorted(_by_name(records).items())]
    rates = _published()
    return Study(
        title="PUDLE, Figures 2 and 3: convergence with the number of unfoldings",
        question=(
            "How fast do the unfolded code z_T, its Jacobian J_T and PUDLE's three gradients approach the lasso's own "
            "code z^, Jacobian and gradient g^? One signal per instance, codes with few nonzeros, alpha = 0.2, "
            "lambda = 0.2; rho is the factor of an ISTA step on the support of z^."
        ),
        claims=(
            _rate_claim(
                "Theorem 3.1, Figure 2",
                f"code: {rates['norm2(z_t - z_hat)']} once the support has settled",
                instances,
                _solution,
                False,
                1,
            ),
            _rate_claim("Theorem 3.2", f"Jacobian: {rates['norm2(J_t - J_hat)']}", instances, _jacobian, True, 1),
            _rate_claim("Theorem 3.3, Figure 3", f"g_dec: {rates['norm2(g_dec - g_hat)']}", instances, DEC, False, 1),
            _rate_claim(
                "Theorem 3.3, Figure 3",
                f"g_ae-lasso: {rates['norm2(g_ae-lasso - g_hat)']}",
                instances,
                AE_LASSO,
                True,
                2,
            ),
            _ratio_claim(instances),
            _nearer_claim(instances),
            _bias_claim(instances, rates["norm2(g_ae-ls - g_hat)"]),
            _step_claim(instances),
        ),
        tables=(_rates_table(instances), _errors_table(instances)),
        figures=(
            _figure(instances, "code", "Figure 2: errors of the code and of its Jacobian.", _code_lines),
            _figure(instances, "gradients", "Figure 3: errors of the three gradients.", _gradient_lines),
        ),
    )


def _by_name(records: Sequence[Record]) -> dict[tuple[str, bool], list[Record]]:
    found: dict[tuple[str, bool], list[Record]] = {}
    for own in group(records):
        m, p = (int(own.parameters.get(name, 0)) for name in ("m", "p"))
        found.setdefault((f"{m} x {p}, seed {own.seed}", (m, p) == PAPERS_SIZE), []).extend(own.records)
    return found


def _instance(name: tuple[str, bool], records: Sequence[Record]) -> Instance:
    by_steps: dict[str, dict[int, Record]] = {method: {} for method in METHODS}
    for record in records:
        if record.method in METHODS:
            by_steps[record.method][int(record.method_parameters.get("steps", 200))] = record
    failures = tuple(
        f"{name[0]}: {record.variant} is {record.status} {record.message}".strip()
        for record in records
        if record.method in METHODS and not has_error(record)
    )
    return Instance(*name, by_steps, failures)


def _published() -> dict[str, str]:
    return {row["quantity"]: row["order"].replace("*", " ") for row in published_rows("pudle_theorem_rates.csv")}


def _solution(record: Record) -> float | None:
    return record.quantities.get("solution_error_relative")


def _jacobian(record: Record) -> float | None:
    return record.quantities.get("jacobian_error_relative")


def _errors(instance: Instance, what: Reading | str) -> dict[int, float]:
    return instance.gradient(what) if isinstance(what, str) else instance.curve(what)


def _not_measured(source: str, published: str, instances: Sequence[Instance]) -> Claim | None:
    """A claim rests on every cell of every instance."""
    failures = [failure for instance in instances for failure in instance.failures]
    if not instances or all(not instance.steps for instance in instances):
        failures = ["this run has no cell of PUDLE's gradients"]
    unsettled = [f"{one.name}: no T at which the support has settled for good" for one in instances if not one.settled]
    missing = failures or unsettled
    return not_measured(source, published, missing[0]) if missing else None


def _rate_claim(
    place: str, published: str, instances: Sequence[Instance], what: Reading | str, growing: bool, power: int
) -> Claim:
    """Reproduced where no fitted rate is slower than rho^power."""
    source = f"{SOURCE}, {place}"
    if (missing := _not_measured(source, published, instances)) is not None:
        return missing
    said, holds = [], True
    for one in instances:
        fit, rho = one.rate(_errors(one, what), growing), one.number("rate_bound")
        if fit is None or rho is None:
            why = f"{one.name}: too few T between where the support settles and rounding, or no encoder_rate"
            return not_measured(source, published, why)
        theory = rho**power
        said.append(f"{one.name}: {fit} (theory {theory:.4f})")
        holds = holds and fit.value - theory <= max(fit.half_width, SLACK * theory)
    law = f"c {'T ' * growing}q^T"
    why = f"q of {law} fitted once the support has settled; reproduced where no q exceeds rho{'^2' * (power == 2)} by "
    why += "more than its 95 % interval or 1 %"
    return judged(source, published, f"fitted rate q: {'; '.join(said)}", holds, why)


def _ratio_claim(instances: Sequence[Instance]) -> Claim:
    source, published = f"{SOURCE}, Theorem 3.3", "g_ae-lasso's exponent is twice that of g_dec"
    if (missing := _not_measured(source, published, instances)) is not None:
        return missing
    ratios = {one.name: one.ratio() for one in instances}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    if len(known) < len(ratios):
        name = next(name for name in ratios if name not in known)
        why = f"{name}: too few T between where the support settles and rounding"
        return not_measured(source, published, why)
    holds = all(
        2 - WIDEST <= one.low <= 2 * (1 + SLACK) and 2 * (1 - SLACK) <= one.high <= 2 + WIDEST for one in known.values()
    )
    return judged(
        source,
        published,
        f"ratio of the exponents: {'; '.join(f'{name}: {ratio}' for name, ratio in known.items())}",
        holds,
        "the interval spans fits of q^T and of T q^T with their 95 %; reproduced where it holds 2, to 1 %, and ends "
        f"within {WIDEST} of it",
    )


def _nearer_claim(instances: Sequence[Instance]) -> Claim:
    source, published = f"{SOURCE}, Figure 3", "of the three, g_ae-lasso falls fastest towards g^"
    if (missing := _not_measured(source, published, instances)) is not None:
        return missing
    before, after = list[bool](), list[bool]()
    for one in instances:
        dec, lasso = one.gradient(DEC), one.gradient(AE_LASSO)
        assert one.settled is not None
        for T in sorted(dec.keys() & lasso.keys()):
            if not math.isnan(dec[T]):  # the other may be at rounding already
                (after if one.settled <= T else before).append(not lasso[T] >= dec[T])
    if not after:
        return not_measured(source, published, "no T with an error above rounding")
    ours = f"nearer than g_dec at {sum(after)} of {len(after)} T after the support has settled"
    ours += f", at {sum(before)} of {len(before)} before"
    return judged(source, published, ours, all(after), "reproduced where it is nearer at all T after that")


def _bias_claim(instances: Sequence[Instance], order: str) -> Claim:
    source, published = f"{SOURCE}, Theorem 3.3, Figure 3", f"g_ae-ls is biased and levels off: {order}"
    if (missing := _not_measured(source, published, instances)) is not None:
        return missing
    said, holds = [], True
    for one in instances:
        ls, dec = one.gradient(AE_LS), one.by_steps[DEC]
        if len(ls) < 2 or max(ls) not in dec:
            why = f"{one.name}: two T are needed, with g_dec at the larger one"
            return not_measured(source, published, why)
        previous, last = sorted(ls)[-2:]
        change = abs(ls[previous] / ls[last] - 1)
        said.append(f"{one.name}: {plain(ls[last])}")
        holds = holds and change <= LEVEL and ls[last] >= FAR * (dec[last].error_relative or 0.0)
    why = "reproduced where the error changes by at most 1 % between the two largest T, and is at least "
    why += f"{FAR:.0f} times that of g_dec there"
    return judged(source, published, f"relative error at the largest T: {'; '.join(said)}", holds, why)


def _step_claim(instances: Sequence[Instance]) -> Claim:
    """Reproduced where the assumption holds on every instance of the paper's size."""
    source, published = f"{SOURCE}, Algorithm 2 and App. B.1", "alpha = 0.2 is below 1/sigma_max(D)^2"
    own = [
        (one, step) for one in instances if one.papers_size and (step := one.number("step_times_lipschitz")) is not None
    ]
    if not own:
        why = "this run has no instance of the paper's 50 x 100 with encoder_rate"
        return not_measured(source, published, why)
    said = "; ".join(f"{one.name}: alpha sigma_max^2 = {plain(step)}" for one, step in own)
    why = "the assumption asks for less than 1 (readings.md P.2, P.6, X.39)"
    if all(1 <= step < 2 for _, step in own):
        why += "; it fails here, and ISTA converges all the same, as that is below 2"
    return judged(source, published, said, all(step < 1 for _, step in own), why)


def _rates_table(instances: Sequence[Instance]) -> Table:
    columns = (
        "instance",
        "B, by T",
        "alpha sigma_max^2",
        "rho",
        "code",
        "Jacobian",
        "g_dec",
        "rho^2",
        "g_ae-lasso",
        "ratio of exponents",
    )
    return Table(
        "Fitted rates q beside the theory's",
        tuple(Column(title, numeric=place > 0) for place, title in enumerate(columns)),
        tuple(
            (
                one.name,
                ABSENT if one.settled is None else str(one.settled),
                plain(one.number("step_times_lipschitz")),
                plain(rho := one.number("rate_bound"), 4),
                written(one.rate(one.curve(_solution))),
                written(one.rate(one.curve(_jacobian), growing=True)),
                written(one.rate(one.gradient(DEC))),
                plain(rho**2 if rho else None, 4),
                written(one.rate(one.gradient(AE_LASSO), growing=True)),
                str(one.ratio() or ABSENT),
            )
            for one in instances
        ),
        (
            "B: the smallest T of this run from which on z_T has the support of z^. Fits: least squares on the "
            "logarithm with the 95 % interval, over the last two thirds of the T from B to 1e-11 or ten error bars of "
            "the reference; c q^T for the code and g_dec, c T q^T for the Jacobian and g_ae-lasso.",
        ),
    )


def _errors_table(instances: Sequence[Instance]) -> Table:
    columns = ("instance", "T", "support off by", "code", "Jacobian", *METHODS.values())
    rows = []
    for one in instances:
        off = one.curve(lambda record: record.quantities.get("support_difference_count"))
        code, jacobian = one.curve(_solution), one.curve(_jacobian)
        rows += [
            (
                one.name,
                str(T),
                f"{off[T]:.0f}" if T in off else ABSENT,
                scientific(code.get(T)),
                scientific(jacobian.get(T)),
                *(_cell(one.by_steps[method].get(T)) for method in METHODS),
            )
            for T in one.steps
        ]
    return Table(
        "Relative errors against the number of unfoldings T",
        tuple(Column(title, numeric=place > 0) for place, title in enumerate(columns)),
        tuple(rows),
        ("Support off by: entries on the support of one of z_T and z^ alone. Gradients: against the reference's g^.",),
    )


def _cell(record: Record | None) -> str:
    if record is None:
        return ABSENT
    return error(record.error_relative, record.reference_error_relative) if has_error(record) else str(record.status)


def _figure(
    instances: Sequence[Instance], stem: str, title: str, lines: Callable[[Instance], tuple[Line, ...]]
) -> StudyFigure:
    panels = [
        Panel(
            f"{one.name}, settled by T = {one.settled}" if one.settled else one.name,
            "unfoldings T",
            "relative error",
            lines(one),
            counts=True,
        )
        for one in instances
    ]

    def drawn(look: Look) -> Figure:
        del look
        return draw(panels)

    remarks = "A straight line is linear convergence. Errors below 1e-11 or at the reference's bar are left out."
    return StudyFigure(f"pudle_{stem}", title, remarks, drawn)


def _code_lines(one: Instance) -> tuple[Line, ...]:
    return _line("code z_T", one.curve(_solution), 0), _line("Jacobian J_T", one.curve(_jacobian), 1)


def _gradient_lines(one: Instance) -> tuple[Line, ...]:
    return tuple(_line(name, one.gradient(method), place) for place, (method, name) in enumerate(METHODS.items()))


def _line(label: str, errors: dict[int, float], place: int) -> Line:
    points = tuple((float(T), value) for T, value in sorted(errors.items()) if value > ROUNDING)  # a NaN is not
    return Line(label, points, place, place)
