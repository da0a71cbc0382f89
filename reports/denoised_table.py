"""Every score as a row: of the page's table, and of the files of the format csv."""

from __future__ import annotations

import json
from dataclasses import asdict

import pandas as pd

from bench.aligned import Column
from bench.denoising.score import Denoised, Score, best
from reports.content import Failure
from reports.denoised import DONE, MISSING, status
from reports.page_table import PageTable
from reports.rounding import ABSENT, plain
from reports.tables import assignments

NOT_TAKEN = "it has not been taken yet: the same denoise command continues"


def table(denoised: Denoised) -> PageTable:
    """A failed score and a missing one are rows with a word; what was tuned and not chosen is there, too."""
    scores = list(denoised.scores)
    statuses = [status(score) for score in scores]
    chosen = _chosen(denoised)
    words = {
        "denoiser": [score.label for score in scores],
        "status": statuses,
        "picture": [score.picture for score in scores],
        "tuned to": [_tuned(score) for score in scores],
        "chosen": ["yes" if score.id in chosen else "no" for score in scores],
    }
    numbers: list[tuple[Column, list[float | None]]] = [
        (Column("sigma", "of 255", field="sigma"), [score.sigma for score in scores]),
        (Column("seed", field="seed"), [float(score.seed) for score in scores]),
        (Column("PSNR", "dB", field="psnr_db"), [score.psnr_db for score in scores]),
        (Column("SSIM", field="ssim"), [score.ssim for score in scores]),
        (Column("time", "s", field="seconds"), [_seconds(score) for score in scores]),
    ]
    text = [
        tuple(_text(column, value, word) for value, word in zip(own, statuses, strict=True)) for column, own in numbers
    ]
    return PageTable(
        stem="cells",
        columns=(*(Column(title, numeric=False) for title in words), *(column for column, _ in numbers)),
        text=(*map(tuple, words.values()), *text),
        values=(*[None] * len(words), *(tuple(own) for _, own in numbers)),
        filters={
            **{name: words[name] for name in ("denoiser", "picture", "chosen", "status")},
            "sigma": [f"{score.sigma:g}" for score in scores],
        },
        details={
            "message": [NOT_TAKEN if status(score) == MISSING else score.message for score in scores],
            "method": [score.key for score in scores],
            "parameters": [assignments(score.parameters) for score in scores],
            "pixels": [f"{score.height} x {score.width}" for score in scores],
            "picture's file": [score.image for score in scores],
            "score": [score.id for score in scores],
        },
        tones=["good" if word == DONE else "bad" for word in statuses],
        toned=frozenset({"status"}),
        noun="scores",
        searched="denoiser, picture, message",
        file="scores.csv",
    )


def _chosen(denoised: Denoised) -> set[str]:
    return {score.id for score in best(denoised.scores)}


def _seconds(score: Score) -> float | None:
    return None if score.psnr_db is None else score.seconds


def _tuned(score: Score) -> str:
    return assignments(score.tuned) or ABSENT


def _text(column: Column, value: float | None, word: str) -> str:
    if value is None:
        return word
    return {"psnr_db": f"{value:.2f}", "ssim": f"{value:.3f}", "seconds": plain(value)}.get(column.field, f"{value:g}")


def failures(denoised: Denoised) -> tuple[Failure, ...]:
    """What has no numbers, with its words."""
    return tuple(
        Failure(
            score.label,
            f"{score.picture}, sigma {score.sigma:g}, seed {score.seed}{f', {_tuned(score)}' if score.tuned else ''}",
            status(score),
            " ".join(score.message.split()) or NOT_TAKEN,
            "",
        )
        for score in denoised.scores
        if status(score) != DONE
    )


def scores_frame(denoised: Denoised) -> pd.DataFrame:
    """A row for each that was asked for, parameters as JSON."""
    chosen = _chosen(denoised)
    return pd.DataFrame(
        [
            {
                **asdict(score),
                "status": status(score),
                "chosen": score.id in chosen,
                "parameters": json.dumps(score.parameters, sort_keys=True),
                "tuned": json.dumps(score.tuned, sort_keys=True),
            }
            for score in denoised.scores
        ]
    )
