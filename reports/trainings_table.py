"""Every training as a row: of the page's table, and of the files of the format csv."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import pandas as pd

from bench.aligned import Column
from bench.learning.outcome import LEARNED, Outcome
from reports.content import Failure
from reports.page_table import PageTable
from reports.rounding import ABSENT, plain
from reports.tables import assignments
from reports.trainings import Group, Training, Trainings, seed_of

NAMES = {
    LEARNED: "learned W",
    "noisy": "noisy",
    "finite_differences": "finite differences, tuned",
    "cosine": "DCT soft threshold, tuned",
    "orthogonal_dictionary": "orthogonal dictionary, unsupervised",
}
"""Of what a PSNR is of, for readers."""
MISSING = "missing"
"""The status of one that the configuration asks for, and that has not ended."""
NOT_ENDED = "it has not ended yet: the same learn command continues"

Value = Callable[[Outcome], float | None]


def test_names(groups: Sequence[Group]) -> list[str]:
    """Of all that the trainings have a PSNR of, the learned W first."""
    found = dict.fromkeys(name for group in groups for one in group.finished for name in one.outcome.psnr)
    return [LEARNED, *(name for name in found if name != LEARNED)] if found else []


def table(trainings: Trainings) -> PageTable:
    """A failed training and a missing one are rows with a word."""
    ended = trainings.ended
    outcomes = [training.outcome for _, training in ended]
    numbers = _numbers(test_names(trainings.groups))
    labels = [*(group.label for group, _ in ended), *(one.label for one in trainings.missing)]
    statuses = [*(one.status for one in outcomes), *[MISSING] * len(trainings.missing)]
    seeds = [*(_seed(one) for one in outcomes), *(one.seed or ABSENT for one in trainings.missing)]
    lost = [None] * len(trainings.missing)
    values = [(*map(value, outcomes), *lost) for _, value in numbers]
    return PageTable(
        stem="cells",
        columns=(
            Column("training", numeric=False),
            Column("status", numeric=False),
            Column("seed", numeric=False),
            *(column for column, _ in numbers),
        ),
        text=(
            tuple(labels),
            tuple(statuses),
            tuple(seeds),
            *(tuple(_text(value, status) for value, status in zip(own, statuses, strict=True)) for own in values),
        ),
        values=(None, None, None, *values),
        filters={"training": labels, "seed": seeds, "status": statuses},
        details={
            "message": [*(one.message for one in outcomes), *[NOT_ENDED] * len(trainings.missing)],
            "denoisers that failed": [*map(_failed_denoisers, outcomes), *[""] * len(trainings.missing)],
            "learner": [*(_said(one, "learner", "schedule", "batch") for one in outcomes), *[""] * len(lost)],
            "gradients": [*(_said(one, "backend", "readings") for one in outcomes), *[""] * len(lost)],
            "problem": [*(assignments(one.problem) for one in outcomes), *[""] * len(lost)],
            "folder": [*(one.run for one in outcomes), *(one.run for one in trainings.missing)],
        },
        tones=["good" if status == "finished" else "bad" for status in statuses],
        toned=frozenset({"status"}),
        noun="trainings",
        searched="setting, status, message",
        file="trainings.csv",
    )


def _numbers(names: Sequence[str]) -> list[tuple[Column, Value]]:
    """The columns that hold numbers, with their fields of an outcome; PSNR after them."""
    return [
        (Column("epochs", field="epochs"), lambda one: one.epochs),
        (Column("updates", field="updates"), lambda one: one.updates),
        (Column("time", "s", field="seconds"), lambda one: one.seconds),
        (Column("training loss", field="training_loss"), lambda one: one.training_loss),
        (Column("validation loss", field="validation_loss"), lambda one: one.validation_loss),
        *((Column(NAMES.get(name, name), "dB", field=f"psnr_{name}_mean_db"), _mean_db(name)) for name in names),
    ]


def _mean_db(name: str) -> Value:
    return lambda one: one.psnr[name].mean_db if name in one.psnr else None


def _text(value: float | None, status: str) -> str:
    if value is None:
        return ABSENT if status == "finished" else status
    return str(value) if isinstance(value, int) else plain(value, 4)


def _seed(one: Outcome) -> str:
    return seed_of(one.settings) or str(one.problem.get("seed", ABSENT))


def _failed_denoisers(one: Outcome) -> str:
    return "; ".join(f"{NAMES.get(name, name)}: {why}" for name, why in one.failed_denoisers.items())


def _said(one: Outcome, *names: str) -> str:
    return "; ".join(
        f"{name}: {assignments(value) if isinstance(value, dict) else value}"
        for name in names
        if (value := one.config.get(name)) is not None
    )


def failures(trainings: Trainings) -> tuple[Failure, ...]:
    """What has not finished, with its words."""
    failed = [
        Failure(group.label, f"seed {_seed(one.outcome)}", one.outcome.status, _words(one), "")
        for group, one in trainings.ended
        if one.outcome.status != "finished"
    ]
    missing = (Failure(one.label, f"seed {one.seed or ABSENT}", MISSING, NOT_ENDED, "") for one in trainings.missing)
    return (*failed, *missing)


def _words(one: Training) -> str:
    return " ".join(one.outcome.message.split()) or "no message"


NESTED = ("settings", "config", "problem", "failed_denoisers", "made_of")
"""Fields of an outcome that are tables of their own."""


def trainings_frame(trainings: Trainings) -> pd.DataFrame:
    """A row for each that has ended: its outcome, nested fields as `psnr_learned_mean_db`, settings as JSON."""
    rows = []
    for group, training in trainings.ended:
        one = training.outcome
        row = one.model_dump(mode="json", by_alias=True)
        for name in ("psnr", *NESTED):
            del row[name]
        row["group"] = group.label
        for name, psnr in one.psnr.items():
            row |= {f"psnr_{name}_{field}": value for field, value in psnr.model_dump().items()}
        for name in NESTED:
            row[name] = json.dumps(getattr(one, name), sort_keys=True)
        rows.append(row)
    return pd.DataFrame(rows)


def curves_frame(trainings: Trainings) -> pd.DataFrame:
    """A row for each epoch of each training."""
    return pd.DataFrame(
        [
            {"run": training.outcome.run, "group": group.label, **asdict(point)}
            for group, training in trainings.ended
            for point in training.points
        ]
    )
