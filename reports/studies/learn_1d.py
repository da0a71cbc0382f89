"""BLORC's one-dimensional denoising: learned, standard and noisy, supervised and unsupervised (J12 to J16, I.3)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from bench.learning.outcome import LEARNED, NOISY
from reports.rounding import ABSENT
from reports.studies._learning import (
    CLOSE,
    NAMES,
    Mean,
    closeness,
    cosines,
    curves_figure,
    differences,
    gain_db,
    lengths,
    mean_db,
    psnr_table,
    transform_figure,
)
from reports.study import Claim, Study, Verdict
from reports.tables import Column, Table
from reports.trainings import Group

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "blorc_text_psnr_1d.csv"
PLACES = {"journal": "Crockett & Fessler, journal, Section 5.1", "ICASSP": "Crockett & Fessler, ICASSP, Section 4.1"}
COUNTERPART = {
    "learned W (BLORC)": LEARNED,
    "standard transform (finite differences)": "finite_differences",
    "none (noisy input)": NOISY,
    "orthogonal analysis dictionary (ADMM + Procrustes)": "orthogonal_dictionary",
}
"""The published rows, and what is ours."""
ERRORS = 2.0
"""Standard errors within which two means count as one."""


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
        claims=(*gains, *numbers, _rows_of_W(groups, name, "J13" if smooth else "J12")),
        tables=(psnr_table(groups), _gains_table(groups)),
        figures=(curves_figure(groups, beside), transform_figure(groups, name, transform)),
    )


def _signal(group: Group) -> str:
    return str(group.trainings[0].outcome.problem.get("signal"))


def _rows() -> list[dict[str, str]]:
    with PUBLISHED.open(newline="") as file:
        return list(csv.DictReader(file))


def _is_first(row: dict[str, str]) -> bool:
    """The comparison with the unsupervised dictionary prints the learned W's PSNR a second time."""
    return row["experiment"] == "1D denoising" or COUNTERPART[row["transform"]] != LEARNED


def _papers(groups: Sequence[Group]) -> list[Group]:
    """Those with the paper's signals: piecewise constant, noise 0.1, n = 64, an identity to start from."""

    def is_papers(group: Group) -> bool:
        problem = group.trainings[0].outcome.problem
        return (problem.get("signal"), problem.get("noise"), problem.get("n")) == ("piecewise_constant", 0.1, 64)

    return [group for group in groups if is_papers(group)]


def _number(row: dict[str, str], groups: Sequence[Group]) -> Claim:
    """Reproduced where one group's mean is within two standard errors of a mean over as many signals as the paper's."""
    name, printed, signals = COUNTERPART[row["transform"]], float(row["psnr_db"]), int(row["n_test_signals"])
    source = PLACES[row["paper"]]
    published = f"{row['transform']}: {printed:.1f} dB, mean of {signals} signals"
    found = _distinct([(group, mean) for group in _papers(groups) if (mean := mean_db(group, name))], name)
    if not found:
        return Claim(source, published, ABSENT, Verdict.NOT_MEASURED, _reason(groups, name))
    ours = "; ".join(f"{group.label}: {mean.text}" for group, mean in found) + " dB"
    spread = max(one.deviation_db or 0.0 for group, _ in found for one in group.psnr(name))
    room = ERRORS * spread / math.sqrt(signals)
    near = [group.label for group, mean in found if abs(mean.value - printed) <= room]
    rule = f"within {room:.2f} dB, two standard errors of a mean of {signals} of our signals"
    rule += lengths([group for group, _ in found]) if name == LEARNED else ""
    if near:
        return Claim(source, published, ours, Verdict.REPRODUCED, f"{rule}: {'; '.join(near)}")
    off = min((mean.value - printed for _, mean in found), key=abs)
    why = f"none is {rule}: the nearest is {off:+.2f} dB away; the signals are not published (settings.md U.6)"
    return Claim(source, published, ours, Verdict.NOT_REPRODUCED, why)


def _distinct(found: list[tuple[Group, Mean]], name: str) -> list[tuple[Group, Mean]]:
    """What is not learned by the training is the same for all groups with the same data."""
    if name == LEARNED:
        return found
    by_data: dict[str, tuple[Group, Mean]] = {}
    for group, mean in found:
        own = [{**one.outcome.problem, "seed": 0} for one in group.trainings][:1]
        by_data.setdefault(str((own, len(group.finished))), (group, mean))
    return list(by_data.values())


def _reason(groups: Sequence[Group], name: str) -> str:
    if not _papers(groups):
        return "no training on the paper's signals in this run"
    failed = [group.reason for group in groups if not group.finished]
    return failed[0] if failed else f"[test] has no {name}, or there is no [test]"


def _gain(paper: str, groups: Sequence[Group]) -> Claim:
    """Reproduced where the learned W is above the standard transform by more than two standard errors, for a group."""
    by_name = {COUNTERPART[row["transform"]]: float(row["psnr_db"]) for row in _rows() if row["paper"] == paper}
    printed = by_name[LEARNED] - by_name["finite_differences"]
    published = f"the learned W is above the standard transform by {printed:.1f} dB"
    found = [(group, mean) for group in _papers(groups) if (mean := gain_db(group, "finite_differences"))]
    if not found:
        return Claim(PLACES[paper], published, ABSENT, Verdict.NOT_MEASURED, _reason(groups, "finite_differences"))
    ours = "; ".join(f"{group.label}: {_signed(mean)}" for group, mean in found) + " dB"
    above = [group.label for group, mean in found if mean.value > ERRORS * (mean.error or 0.0)]
    rule = "reproduced asks for a gain over differences of tuned weight by more than two standard errors"
    rule += lengths([group for group, _ in found])
    if above:
        return Claim(PLACES[paper], published, ours, Verdict.REPRODUCED, f"{rule}; it is one under: {'; '.join(above)}")
    best, nearest = max(found, key=lambda one: one[1].value)
    why = f"{rule}; the nearest, {best.label}, has {nearest.value:+.2f} dB"
    return Claim(PLACES[paper], published, ours, Verdict.NOT_REPRODUCED, why)


def _signed(mean: Mean) -> str:
    return f"{mean.value:+.2f}" + (f" ± {mean.error:.2f}" if mean.error is not None else "")


def _rows_of_W(groups: Sequence[Group], name: str, place: str) -> Claim:
    """Reproduced where the median correlation of the rows is at least CLOSE, for a group."""
    transform = cosines if name == "the DCT" else differences
    published = f"the rows of the learned W resemble those of {name} (a picture)"
    source = f"{PLACES['journal']} ({place})"
    found = [(group, mean) for group in groups if (mean := closeness(group, transform))]
    if not found:
        return Claim(source, published, ABSENT, Verdict.NOT_MEASURED, "no learned W in this run")
    ours = "median |correlation|: " + "; ".join(f"{group.label}: {mean.text}" for group, mean in found)
    close = [group.label for group, mean in found if mean.value >= CLOSE]
    rule = f"reproduced asks for a median |correlation| of matched rows of {CLOSE:g} or more"
    rule += "; the identity has 0.71" if transform is differences else ""
    rule += lengths([group for group, _ in found])
    verdict = Verdict.REPRODUCED if close else Verdict.NOT_REPRODUCED
    return Claim(source, published, ours, verdict, f"{rule}: {'; '.join(close) or 'none has it'}")


def _gains_table(groups: Sequence[Group]) -> Table:
    names = list(dict.fromkeys(name for group in groups for one in group.finished for name in one.outcome.psnr))
    names = [name for name in names if name != LEARNED]
    return Table(
        "Gain of the learned W, signal by signal",
        (Column("training", numeric=False), *(Column(f"over {NAMES.get(name, name)}", "dB") for name in names)),
        tuple(
            (group.label, *(_signed(mean) if (mean := gain_db(group, name)) else ABSENT for name in names))
            for group in groups
        ),
        (
            "± is the standard error: over seeds where there are several, else over the test signals. Seeds draw new "
            "data for training and for the test.",
        ),
    )
