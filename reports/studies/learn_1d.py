"""BLORC's one-dimensional denoising: learned, standard and noisy, supervised and unsupervised (J.12 to J.16, I.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.aligned import Column, Table
from bench.learning.outcome import LEARNED, NOISY
from reports.published import published_rows
from reports.rounding import ABSENT
from reports.studies._learning import (
    CLOSE,
    ERRORS,
    Mean,
    by_group,
    closeness,
    conditions,
    cosines,
    curves_figure,
    differences,
    gain_db,
    mean_db,
    psnr_table,
    signed,
    transform_figure,
)
from reports.study import Claim, Study, Verdict
from reports.trainings import Group
from reports.trainings_table import NAMES

PLACES = {"journal": "BLORC, journal, Section 5.1", "ICASSP": "BLORC, ICASSP, Section 4.1"}
COUNTERPART = {
    "learned W (BLORC)": LEARNED,
    "standard transform (finite differences)": "finite_differences",
    "none (noisy input)": NOISY,
    "orthogonal analysis dictionary (ADMM + Procrustes)": "orthogonal_dictionary",
}
"""The published rows, and what is ours."""
IDENTITY, FAILED = "identity", "failed"


def study(groups: Sequence[Group]) -> Study:
    """The page."""
    smooth = bool(groups) and all(_signal(group) == "dct_sparse" for group in groups)
    name, transform, beside = (
        ("the DCT", cosines, "cosine") if smooth else ("first differences", differences, "finite_differences")
    )
    numbers = () if smooth else tuple(_number(row, groups) for row in _rows() if _is_first(row))
    gains = () if smooth else tuple(_gain(paper, groups) for paper in PLACES)
    return Study(
        title="Learning W for one-dimensional signals",
        question=(
            "Does learning from W = I beat the tuned standard transform on held-out signals, under which reading of "
            "the paper, with which optimiser and schedule?"
        ),
        claims=(*gains, *numbers, _rows_of_W(groups, name, "J.13" if smooth else "J.12")),
        tables=(_readings_table(groups, name, smooth), psnr_table(groups), _gains_table(groups)),
        figures=(curves_figure(groups, beside), transform_figure(groups, name, transform)),
    )


def _signal(group: Group) -> str:
    return str(group.trainings[0].outcome.problem.get("signal"))


def _rows() -> list[dict[str, str]]:
    return published_rows("blorc_text_psnr_1d.csv")


def _is_first(row: dict[str, str]) -> bool:
    """The comparison with the unsupervised dictionary prints the learned W's PSNR a second time."""
    return row["experiment"] == "1D denoising" or COUNTERPART[row["transform"]] != LEARNED


def _papers(groups: Sequence[Group]) -> list[Group]:
    """Those with the paper's signals: piecewise constant, noise 0.1, n = 64."""

    def is_papers(group: Group) -> bool:
        problem = group.trainings[0].outcome.problem
        return (problem.get("signal"), problem.get("noise"), problem.get("n")) == ("piecewise_constant", 0.1, 64)

    return [group for group in groups if is_papers(group)]


def _start(group: Group) -> str:
    """`I`, the paper's (J.7); any other says nothing of what is learned from there."""
    problem = group.trainings[0].outcome.problem
    scale, transform = problem.get("scale", 1.0), str(problem.get("transform", IDENTITY))
    name = "I" if transform == IDENTITY else transform.replace("_", " ")
    return name if scale == 1.0 else f"{scale:g} {name}"


def _from_identity(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if _start(group) == "I"]


def _number(row: dict[str, str], groups: Sequence[Group]) -> Claim:
    """Reproduced where one group's mean is within two standard errors of a mean over as many signals as the paper's."""
    name, printed, signals = COUNTERPART[row["transform"]], float(row["psnr_db"]), int(row["n_test_signals"])
    source = PLACES[row["paper"]]
    published = f"{row['transform']}: {printed:.1f} dB, mean of {signals} signals"
    own = _from_identity(_papers(groups)) if name == LEARNED else _papers(groups)
    found = [(group, mean) for group in own if (mean := mean_db(group, name))]
    found = found if name == LEARNED else _distinct(found)
    if not found:
        return Claim(source, published, ABSENT, Verdict.NOT_MEASURED, _reason(groups, name))
    ours = by_group([(group, mean.text) for group, mean in found], "dB")
    near = [group.label for group, mean in found if abs(mean.value - printed) <= _room(group, mean, name, signals)]
    group, nearest = min(found, key=lambda one: abs(one[1].value - printed))
    room = _room(group, nearest, name, signals)
    rule = f"within {room:.2f} dB, two standard errors of a mean of {signals} of our signals and of ours over the seeds"
    rule += conditions(own) if name == LEARNED else conditions([group for group, _ in found], learned=False)
    if near:
        which = f": {'; '.join(near)}" if name == LEARNED else ""
        return Claim(source, published, ours, Verdict.REPRODUCED, f"{rule}{which}")
    off = nearest.value - printed
    why = f"none is {rule}: the nearest is {off:+.2f} dB away; the signals are not published (readings.md U.6)"
    return Claim(source, published, ours, Verdict.NOT_REPRODUCED, why)


def _room(group: Group, mean: Mean, name: str, signals: int) -> float:
    """In which a published mean over so many signals counts as this one."""
    spread = max(one.deviation_db or 0.0 for one in group.psnr(name))
    return ERRORS * math.hypot(spread / math.sqrt(signals), mean.error or 0.0)


def _distinct(found: Sequence[tuple[Group, Mean]]) -> list[tuple[Group, Mean]]:
    """What no training has learned is the same for all of them on the same data: that of whole groups, each once."""
    whole = [(group, mean) for group, mean in found if group.is_whole] or found
    return list({mean.text: (group, mean) for group, mean in reversed(whole)}.values())[::-1]


def _reason(groups: Sequence[Group], name: str) -> str:
    if not _papers(groups):
        return "no training on the paper's signals in this run"
    if not _from_identity(_papers(groups)):
        return "no training from W = I in this run"
    failed = [group.reason for group in _papers(groups) if not group.finished]
    return failed[0] if failed else f"[test] has no {name}, or there is no [test]"


def _gain(paper: str, groups: Sequence[Group]) -> Claim:
    """Reproduced where, for a group, the learned W is above the standard transform, and by as much as published."""
    rows = {COUNTERPART[row["transform"]]: row for row in _rows() if row["paper"] == paper}
    printed = float(rows[LEARNED]["psnr_db"]) - float(rows["finite_differences"]["psnr_db"])
    signals = int(rows[LEARNED]["n_test_signals"])
    published = f"the learned W is above the standard transform by {printed:.1f} dB"
    own = _from_identity(_papers(groups))
    found = [(group, mean) for group in own if (mean := gain_db(group, "finite_differences"))]
    if not found:
        return Claim(PLACES[paper], published, ABSENT, Verdict.NOT_MEASURED, _reason(groups, "finite_differences"))
    ours = by_group([(group, signed(mean)) for group, mean in found], "dB")
    above = [(group, mean) for group, mean in found if _is_above(mean)]
    as_much = [group.label for group, mean in above if abs(mean.value - printed) <= _gain_room(group, mean, signals)]
    rule = (
        "reproduced asks for a gain over differences of tuned weight by more than two standard errors, and within two "
        f"standard errors of a mean of {signals} signals, and of ours, of the published one{conditions(own)}"
    )
    if as_much:
        return Claim(PLACES[paper], published, ours, Verdict.REPRODUCED, f"{rule}: {'; '.join(as_much)}")
    best, nearest = max(above or found, key=lambda one: one[1].value)
    by = f"above it, by {nearest.value:.2f} dB: {best.label}"
    said = by if above else f"none is above: the nearest, {best.label}, has {nearest.value:+.2f} dB"
    return Claim(PLACES[paper], published, ours, Verdict.NOT_REPRODUCED, f"{rule}; {said}")


def _gain_room(group: Group, gain: Mean, signals: int) -> float:
    """In which a published mean gain over so many signals counts as this one."""
    spread = max(one.gain_deviation_db or 0.0 for one in group.psnr("finite_differences"))
    return ERRORS * math.hypot(spread / math.sqrt(signals), gain.error or 0.0)


def _is_above(gain: Mean) -> bool:
    return gain.value > ERRORS * (gain.error or 0.0)


def _is_close(correlation: Mean) -> bool:
    return correlation.value - ERRORS * (correlation.error or 0.0) >= CLOSE


def _rows_of_W(groups: Sequence[Group], name: str, place: str) -> Claim:
    """Reproduced where the median correlation of the rows is at least CLOSE, for a group."""
    transform = cosines if name == "the DCT" else differences
    published = f"the rows of the learned W resemble those of {name} (a picture)"
    source = f"{PLACES['journal']} ({place})"
    own = _from_identity(groups)
    found = [(group, mean) for group in own if (mean := closeness(group, transform))]
    if not found:
        return Claim(source, published, ABSENT, Verdict.NOT_MEASURED, "no W was learned from I in this run")
    ours = "median |correlation|: " + by_group([(group, mean.text) for group, mean in found])
    close = [group.label for group, mean in found if _is_close(mean)]
    rule = f"reproduced asks for a median |correlation| of matched rows of {CLOSE:g} or more, less two standard errors"
    rule += "; the identity has 0.71" if transform is differences else ""
    rule += conditions(own)
    verdict = Verdict.REPRODUCED if close else Verdict.NOT_REPRODUCED
    return Claim(source, published, ours, verdict, f"{rule}: {'; '.join(close) or 'none has it'}")


def _readings_table(groups: Sequence[Group], name: str, smooth: bool) -> Table:
    """Setting by setting what the claims rest on, and which of them it bears out."""
    rival, transform = ("cosine", cosines) if smooth else ("finite_differences", differences)
    learned_rows = [] if smooth else [row for row in _rows() if COUNTERPART[row["transform"]] == LEARNED]
    numbers = list(dict.fromkeys((float(row["psnr_db"]), int(row["n_test_signals"])) for row in learned_rows))
    columns = (
        Column("reading and optimiser", numeric=False),
        Column("starts from", numeric=False),
        Column("seeds"),
        Column("learned W", "dB"),
        *(Column(f"{value:g} dB of {signals} signals?", numeric=False) for value, signals in numbers),
        Column(f"over {NAMES[rival]}", "dB"),
        Column("above it?", numeric=False),
        Column(f"median |correlation| with {name}"),
        Column("close?", numeric=False),
    )
    rows = []
    for group in groups:
        learned, gain, rows_of_W = mean_db(group, LEARNED), gain_db(group, rival), closeness(group, transform)
        is_papers = group in _papers(groups)
        cells = [
            learned.text if learned else ABSENT,
            *(
                _said(abs(learned.value - value) <= _room(group, learned, LEARNED, signals))
                if learned and is_papers
                else ABSENT
                for value, signals in numbers
            ),
            signed(gain) if gain else ABSENT,
            _said(_is_above(gain)) if gain else ABSENT,
            rows_of_W.text if rows_of_W else ABSENT,
            _said(_is_close(rows_of_W)) if rows_of_W else ABSENT,
        ]
        rows.append((group.label, _start(group), group.seeds, *(cells if group.finished else [FAILED] * len(cells))))
    notes = (
        "PSNR and correlation: mean ± standard deviation over the seeds; the gain: mean ± standard error. yes: by the "
        "rule that stands beside the claim, for which only trainings from W = I count.",
    )
    return Table("Which claims hold under which reading", columns, tuple(rows), notes)


def _said(holds: bool) -> str:
    return "yes" if holds else "no"


def _gains_table(groups: Sequence[Group]) -> Table:
    names = list(dict.fromkeys(name for group in groups for one in group.finished for name in one.outcome.psnr))
    names = [name for name in names if name != LEARNED]
    return Table(
        "Gain of the learned W, signal by signal",
        (Column("training", numeric=False), *(Column(f"over {NAMES.get(name, name)}", "dB") for name in names)),
        tuple(
            (
                group.label,
                *(
                    (signed(mean) if (mean := gain_db(group, name)) else ABSENT) if group.finished else FAILED
                    for name in names
                ),
            )
            for group in groups
        ),
        (
            "± is the standard error: over seeds where there are several, else over the test signals. Seeds draw new "
            "data for training and for the test.",
        ),
    )
