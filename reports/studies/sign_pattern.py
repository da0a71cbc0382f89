"""BLORC's section 3.2.3: whether a small change of W keeps the sign pattern of W x*(W), and how small is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bench.aligned import Column, Table
from bench.record import Record, Status
from reports.published import published_rows
from reports.rounding import ABSENT, scientific, upper_bound
from reports.study import Claim, Study, StudyFigure, Verdict, judged, not_measured
from reports.style import MARKERS, PAGE_INCHES, Look, legend_below, literal, say_not_measured

SOURCE = "BLORC journal, Section 3.2.3"
KEPT = "pattern_kept_share_"
RADIUS = "pattern_change_exact_smallest_relative"
PAPERS = "papers_perturbation_relative"
WAYS = ("exact", "experiment", "linear")
SAME = 1e-6
"""The experiment and the explicit path agree where they differ by no more: a bisection's end, and rounding."""


@dataclass(frozen=True)
class Transform:
    """The record of one W."""

    name: str
    published: str | None
    """What the paper calls it, where it is one of its four."""
    record: Record

    @property
    def reason(self) -> str | None:
        """Why there is nothing to say of it."""
        if self.record.status not in (Status.OK, Status.KINK):
            return f"W = {self.name}: {self.record.status} {self.record.message}".strip()
        return None if self.kept else f"W = {self.name}: this run did not measure pattern_radius"

    @property
    def kept(self) -> dict[float, float]:
        """The share of perturbations that keep the pattern, by the size of their entries."""
        found = {name: value for name, value in self.record.quantities.items() if name.startswith(KEPT)}
        return dict(sorted((float(name.removeprefix(KEPT)), value) for name, value in found.items()))

    def number(self, name: str) -> float | None:
        return self.record.quantities.get(name)


def study(records: Sequence[Record]) -> Study:
    """The page."""
    transforms = sorted(map(_transform, records), key=lambda one: (one.published is None, one.name))
    return Study(
        title="Sign pattern: how far W can move",
        question=(
            "The gradient holds where the sign pattern of W x*(W) is locally constant in W. How many perturbations "
            "keep it, and at what distance does it change first, along random directions? n = 64, several y for each W."
        ),
        claims=(
            *(_kept(row, transforms) for row in published_rows("blorc_text_sign_pattern.csv")),
            _room(transforms),
            _training(transforms),
        ),
        tables=(_shares(transforms), _distances(transforms)),
        figures=(
            StudyFigure(
                "sign_pattern",
                "Perturbations of W that keep the sign pattern, and the distance at which it changes.",
                "Left: the paper tests 1e-8 alone. Right: the first change along random directions, by the explicit "
                "path, and the size of the paper's perturbation.",
                lambda look: _draw(transforms, look),
            ),
        ),
    )


def _transform(record: Record) -> Transform:
    settings = record.problem_parameters
    kind, scale = str(settings.get("transform", "identity")), float(settings.get("scale", 1.0))
    if scale == 0.0:
        return Transform("0", "zero matrix", record)
    if kind == "gaussian":  # of entries N(0, 1/n)
        variance = scale**2 / record.n
        return Transform(f"N(0, {variance:g})", "Gaussian N(0,1) entries" if variance == 1 else None, record)
    named = {"identity": ("I", "identity"), "finite_difference": ("differences", "1D finite differences")}
    name, published = named.get(kind, (kind, None))
    return Transform(name if scale == 1.0 else f"{scale:g} {name}", published if scale == 1.0 else None, record)


def _eta(row: dict[str, str]) -> float:
    return float(row["perturbation_eta_max_abs"])


def _kept(row: dict[str, str], transforms: Sequence[Transform]) -> Claim:
    """Reproduced where every trial keeps the pattern."""
    eta, W = _eta(row), row["W"]
    said = "no trial of thousands changed it" if row["fraction_pattern_unchanged"] == "1.0" else "reported as similar"
    published = f"W = {W}: perturbations with entries up to {eta:.0e} keep the pattern ({said})"
    own = next((one for one in transforms if one.published == W), None)
    if own is None:
        return not_measured(SOURCE, published, f"this run has no W = {W}")
    if own.reason or eta not in own.kept:
        why = own.reason or f"this run has no perturbations of {eta:.0e}"
        return not_measured(SOURCE, published, why)
    share, trials = own.kept[eta], own.number("pattern_trials_count") or 0.0
    ours = f"{_percent(share)} of {trials:.0f} trials keep it"
    rule = "reproduced asks for every trial"
    if share == 1.0:
        return Claim(SOURCE, published, ours, Verdict.REPRODUCED, rule)
    if W == "zero matrix":
        rule += "; at W = 0 every (W x)_i is zero, and any generic change of W makes all of them nonzero, so that the "
        rule += "published outcome needs a threshold on |W x| (readings.md X.11)"
    return Claim(SOURCE, published, ours, Verdict.NOT_REPRODUCED, rule)


def _room(transforms: Sequence[Transform]) -> Claim:
    """Reproduced where the nearest change is further than the paper's perturbation, for every W that is not zero."""
    published = "the pattern is constant in a neighbourhood of W (needed by Theorem 3.2; tested at 1e-8)"
    found = [
        (one, radius, size)
        for one in transforms
        if (radius := one.number(RADIUS)) is not None and (size := one.number(PAPERS)) is not None
    ]
    if not found:
        why = next((one.reason for one in transforms if one.reason), None) or "no distance in this run"
        return not_measured(SOURCE, published, why)
    said = "; ".join(
        f"W = {one.name}: {scientific(radius)} ||W||_F, {scientific(radius / size)} times the paper's"
        for one, radius, size in found
    )
    holds = all(radius > size for _, radius, size in found)
    why = "reproduced where the nearest change found along random directions is further away than the size of the "
    why += "paper's perturbation; the nearest of all directions is nearer still. W = 0 has no such neighbourhood"
    return judged(f"{SOURCE}; readings.md X.10", published, f"nearest change: {said}", holds, why)


def _training(transforms: Sequence[Transform]) -> Claim:
    """Not testable: the paper claims nothing of larger steps; the shares say what happens there."""
    published = "training thresholds |W x| at 1e-3 and takes steps far longer than 1e-8; nothing is said of them"
    found = [one for one in transforms if 1e-3 in one.kept and one.published not in (None, "zero matrix")]
    if not found:
        return not_measured("readings.md X.10", published, "no perturbations of 1e-3 in this run")
    said = ", ".join(f"W = {one.name}: {_percent(one.kept[1e-3])}" for one in found)
    return Claim(
        "readings.md X.10",
        published,
        f"perturbations with entries up to 1e-3 that keep the pattern: {said}",
        Verdict.NOT_TESTABLE,
        "a test at 1e-8 says nothing of steps that cross to another pattern",
    )


def _shares(transforms: Sequence[Transform]) -> Table:
    etas = sorted({eta for one in transforms for eta in one.kept})
    return Table(
        "Perturbations that keep the sign pattern, by the largest size of an entry",
        (Column("W", numeric=False), *(Column(f"{eta:.0e}") for eta in etas), Column("trials each")),
        tuple(
            (
                f"{one.name} ({one.record.k} x {one.record.n})",
                *(_percent(one.kept[eta]) if eta in one.kept else ABSENT for eta in etas),
                f"{trials:.0f}" if (trials := one.number("pattern_trials_count")) else str(one.record.status),
            )
            for one in transforms
        ),
        ("Entries of a perturbation are independent and uniform; a trial is one perturbation with one y.",),
    )


def _distances(transforms: Sequence[Transform]) -> Table:
    worst = [value for one in transforms if (value := one.number("pattern_change_exact_deviation")) is not None]
    agree = not worst or max(worst) <= SAME
    remark = "agree" if agree else "DISAGREE somewhere: between two looks a row left and returned"
    return Table(
        "First change of the sign pattern along random directions, relative to ||W||_F",
        (
            Column("W", numeric=False),
            *(Column(f"{way}, median") for way in WAYS),
            *(Column(f"{way}, smallest") for way in WAYS),
            Column("experiment off exact, at most"),
            Column("linear off exact, median"),
            Column("paper's perturbation"),
            Column("directions"),
        ),
        tuple(
            (
                one.name,
                *(scientific(one.number(f"pattern_change_{way}_relative"), 3) for way in WAYS),
                *(scientific(one.number(f"pattern_change_{way}_smallest_relative"), 3) for way in WAYS),
                _bound(one.number("pattern_change_exact_deviation")),
                _percent(one.number("pattern_change_linear_deviation")),
                scientific(one.number(PAPERS)),
                f"{count:.0f}" if (count := one.number("pattern_directions_count")) else ABSENT,
            )
            for one in transforms
        ),
        (
            "Experiment: larger and larger steps, then bisection, with the active-set solver. Exact: where on the "
            "pattern's own path x(t), u(t) the first margin vanishes. Linear: from the margins and their slopes at W.",
            f"Experiment and exact path {remark} (to {SAME:g}). W = 0 has no distance: u is not unique, and every "
            "change of W changes the pattern.",
        ),
    )


def _percent(share: float | None) -> str:
    """Never 100 % or 0 % but where it is."""
    if share is None:
        return ABSENT
    text = f"{100 * share:.3g}"
    return f"{100 * share:.6g} %" if text in ("100", "0") and share not in (0.0, 1.0) else f"{text} %"


def _bound(value: float | None) -> str:
    return ABSENT if value is None else upper_bound(value)


def _draw(transforms: Sequence[Transform], look: Look) -> Figure:
    del look
    figure = Figure(figsize=(PAGE_INCHES, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = sns.color_palette("colorblind", 10)
    handles = []
    for place, one in enumerate(transforms):
        style = {"color": colours[place % 10], "marker": MARKERS[place % len(MARKERS)], "markersize": 4}
        (line,) = left.plot(
            list(one.kept), list(one.kept.values()), linewidth=0.9, label=literal(f"W = {one.name}"), **style
        )
        handles.append(line)
        smallest, median = one.number(RADIUS), one.number("pattern_change_exact_relative")
        if smallest and median:
            right.plot([smallest, median], [place, place], linewidth=0.9, color=style["color"])
            right.plot([median], [place], linestyle="", **style)
            right.plot([smallest], [place], linestyle="", **style, fillstyle="none")
        if size := one.number(PAPERS):
            right.plot([size], [place], linestyle="", marker="|", markersize=9, color="black")
    left.set(
        xscale="log",
        ylim=(-0.05, 1.05),
        xlabel="largest entry of the perturbation of W",
        ylabel="trials that keep\nthe sign pattern",
    )
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set(xscale="log", xlabel="change of W relative to its Frobenius norm", ylim=(len(transforms) - 0.5, -0.5))
    right.set_yticks(range(len(transforms)), [literal(one.name) for one in transforms])
    if not any(one.number(RADIUS) for one in transforms):
        say_not_measured(right)
    right.set_title("filled: median, hollow: smallest, bar: the paper's", loc="left")
    left.set_title("share of perturbations", loc="left")
    legend_below(figure, handles)
    return figure
