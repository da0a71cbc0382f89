"""Up to which noise learning finds the structure of the signals (BLORC, journal, Section 6: J.23, J.24)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.published import published_rows
from reports.rounding import ABSENT, plain
from reports.studies._learning import (
    CLOSE,
    closeness,
    conditions,
    curves_figure,
    differences,
    psnr_table,
    transform_figure,
)
from reports.study import Claim, Study, Verdict
from reports.trainings import Group

SOURCE = "BLORC, journal, Section 6"
LOW = 0.5
"""Part of its value after the first epoch to which a validation loss falls that counts as decreasing."""


def study(groups: Sequence[Group]) -> Study:
    """The page."""
    rows = published_rows("blorc_noise_levels.csv")
    losses = [row for row in rows if row["validation_loss"] != "not mentioned"]
    return Study(
        title="Noise levels from 0 to 0.7",
        question=(
            "From W = I, at which noise does the learned W still resemble first differences, and what do the losses do?"
        ),
        claims=(*(_structure(row, groups) for row in rows), *(_loss(row, groups) for row in losses)),
        tables=(psnr_table(groups),),
        figures=(
            curves_figure(groups, None),
            transform_figure(groups, "first differences", differences),
        ),
    )


def _at(row: dict[str, str], groups: Sequence[Group]) -> list[Group]:
    noise = float(row["noise_sigma_peak_1"])
    return [group for group in groups if group.trainings[0].outcome.problem.get("noise") == noise]


def _structure(row: dict[str, str], groups: Sequence[Group]) -> Claim:
    """Reproduced where W's rows are close to differences exactly where the paper says so.

    That they are not says nothing where they are at no noise: then the trainings were too short.
    """
    said = row["learned_W_close_to_finite_differences"] == "yes"
    published = (
        f"noise {row['noise_sigma_peak_1']}: the learned W is {'' if said else 'not '}close to first differences"
    )
    own = _at(row, groups)
    found = [(group, mean) for group in own if (mean := closeness(group, differences))]
    if not found:
        return Claim(f"{SOURCE}, Figure 6", published, ABSENT, Verdict.NOT_MEASURED, _reason(own))
    ours = "median |correlation| " + "; ".join(mean.text for _, mean in found)
    same = any((mean.value >= CLOSE) == said for _, mean in found)
    verdict = Verdict.REPRODUCED if same else Verdict.NOT_REPRODUCED
    rule = f"close: a median |correlation| of matched rows of {CLOSE:g} or more; the identity has 0.71{conditions(own)}"
    if not said and not any((mean := closeness(group, differences)) and mean.value >= CLOSE for group in groups):
        verdict, rule = Verdict.NOT_TESTABLE, f"{rule}: W is close at no noise, so that its absence says nothing"
    return Claim(f"{SOURCE}, Figure 6", published, ours, verdict, rule)


def _loss(row: dict[str, str], groups: Sequence[Group]) -> Claim:
    """Reproduced where the validation loss falls to LOW of what it was after an epoch exactly where the paper says."""
    falls = row["validation_loss"].startswith("decreases")
    published = f"noise {row['noise_sigma_peak_1']}: the validation loss {row['validation_loss']}"
    own = _at(row, groups)
    runs = [one for group in own for one in group.finished]
    curves = [[point.validation_loss for point in one.points if point.validation_loss is not None] for one in runs]
    parts = [losses[-1] / losses[0] for losses in curves if losses]
    if not parts:
        return Claim(f"{SOURCE}, Figure 7", published, ABSENT, Verdict.NOT_MEASURED, _reason(own))
    part = float(np.mean(parts))
    ends = plain(float(np.mean([losses[-1] for losses in curves if losses])))
    ours = f"{ends} in the end, {plain(part, 2)} of its value after the first epoch"
    verdict = Verdict.REPRODUCED if (part <= LOW) == falls else Verdict.NOT_REPRODUCED
    return Claim(
        f"{SOURCE}, Figure 7", published, ours, verdict, f"decreases: to {LOW:g} of that value or less{conditions(own)}"
    )


def _reason(own: Sequence[Group]) -> str:
    return own[0].reason if own else "no training at this noise in this run"
