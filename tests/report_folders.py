"""Folders of `learn` and of `denoise` made up for tests: hostile names, what failed, what is missing."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from bench.denoising.score import ASKED, IMAGES, NOISY, SCORES, Learned, Score, keep_transforms
from bench.learning.curves import CURVES, Point
from bench.learning.matrix import Run, expand
from bench.learning.outcome import OUTCOMES, SCHEMA, Outcome, Psnr
from tests.report_runs import FORMULA, MARKUP
from tests.test_reports import ENVIRONMENT

LEARN = f"""
title = '''{MARKUP}'''
study = "learn_1d"
epochs = 6
[problem]
transform = "identity"
seed = [0, 1, 2, 3, 4]
[test]
pairs = 100
denoisers = ["finite_differences"]
[[variant]]
name = "as printed"
[[variant]]
name = '''{MARKUP}'''
[[variant]]
name = '''{FORMULA}'''
"""
FAILED_SEEDS, MISSING_SEED = (1, 3), 4
SIGMAS, PICTURES, SEEDS = (25.5, 38.25), ("camera", "coins"), (0, 1)
LABELS = {"noisy input": NOISY, "W": "patch_transform", MARKUP: "bm3d", FORMULA: "total_variation"}


def learn_folder(folder: Path) -> Path:
    """Three settings of five seeds: one whole, one with two failures, one that lacks a seed."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(LEARN, encoding="utf-8")
    outcomes = []
    for number, run in enumerate(expand(tomllib.loads(LEARN), folder / "config.toml")):
        variant, seed = str(run.settings["variant"]), int(run.settings["problem.seed"])
        if variant == FORMULA and seed == MISSING_SEED:
            continue
        outcome = _outcome(run, variant == MARKUP and seed in FAILED_SEEDS, 0.01 * number)
        own = folder / run.name
        own.mkdir()
        (own / "environment.json").write_text(json.dumps({**ENVIRONMENT, "cpu": MARKUP}))
        points = [_point(epoch, 10.0 / epoch + number) for epoch in range(1, 7)]
        (own / CURVES).write_text("".join(f"{point.to_line()}\n" for point in points))
        np.savez(own / "theta.npz", W=np.eye(64) + 0.01 * np.random.default_rng(number).normal(size=(64, 64)))
        outcomes.append(outcome)
    (folder / OUTCOMES).write_text("".join(f"{one.to_line()}\n" for one in outcomes), encoding="utf-8")
    return folder


def _outcome(run: Run, failed: bool, more_db: float) -> Outcome:
    seed = int(run.settings["problem.seed"])
    means = {"learned": 26.1 + more_db, "noisy": 19.9, "finite_differences": 26.0 + 0.5 * more_db}
    psnr = {
        name: Psnr(mean_db=mean, deviation_db=2.0, gain_db=means["learned"] - mean, gain_deviation_db=0.7)
        for name, mean in means.items()
    }
    return Outcome(
        schema=SCHEMA,
        run=run.name,
        settings=run.settings,
        config={"test": {"pairs": 100}, "backend": {"key": MARKUP}},
        problem={"signal": "piecewise_constant", "noise": 0.1, "n": 64, "transform": "identity", "seed": seed},
        status="failed" if failed else "finished",
        message=f"it broke: {MARKUP}" if failed else "",
        epochs=6,
        updates=60,
        gradients=60,
        seconds=1.25 + more_db,
        training_loss=1.5 + more_db,
        validation_loss=1.75 + more_db,
        psnr={} if failed else psnr,
    )


def _point(epoch: int, loss: float) -> Point:
    return Point(epoch, 10 * epoch, 10 * epoch, 0.2 * epoch, loss, 20.0, 1.1 * loss, 19.0, 1e-3, 0)


def denoise_folder(folder: Path) -> Path:
    """Two pictures, sigmas, seeds. What is called MARKUP fails on one picture, what is called FORMULA lacks a seed."""
    (folder / IMAGES).mkdir(parents=True)
    title = f"title = '''{MARKUP}'''\nstudy = \"denoise_pictures\"\n"
    (folder / "config.toml").write_text(title, encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({**ENVIRONMENT, "cpu": MARKUP}))
    rng = np.random.default_rng(0)
    for name in PICTURES:
        _save(folder / IMAGES / f"{name}.png", rng, 24)
    asked, done = [], []
    for sigma in SIGMAS:
        for picture in PICTURES:
            for seed in SEEDS:
                for label, key in LABELS.items():
                    for tuned in [{"weight": 0.5}, {"weight": 1.0}] if key == "total_variation" else [{}]:
                        name = f"{len(asked):016x}"
                        one = Score(name, picture, 24, 24, sigma, seed, label, key, {"name": MARKUP, **tuned}, tuned)
                        asked.append(one)
                        if key == "total_variation" and seed == 1:
                            continue
                        if key == "bm3d" and picture == "coins":
                            done.append(replace(one, message=f"ValueError: {MARKUP}"))
                            continue
                        image = f"{IMAGES}/{name}.png" if seed == SEEDS[0] else ""
                        if image:
                            _save(folder / image, rng, 24)
                        psnr = 30.0 - sigma / 10 + len(key) / 7 + seed / 10 + 2.0 * tuned.get("weight", 0.0)
                        done.append(replace(one, psnr_db=psnr, ssim=psnr / 40, seconds=0.01 * psnr, image=image))
    for name, scores in ((ASKED, asked), (SCORES, done)):
        (folder / name).write_text("".join(f"{score.to_line()}\n" for score in scores), encoding="utf-8")
    keep_transforms(folder, [Learned(MARKUP, "brick", rng.normal(size=(8, 16)))])
    return folder


def _save(path: Path, rng: np.random.Generator, side: int) -> None:
    Image.fromarray(rng.integers(0, 256, size=(side, side), dtype=np.uint8)).save(path)


def scores_by_hand(folder: Path) -> dict[str, Score]:
    """Of the folder, those that have numbers, by id."""
    lines = (folder / SCORES).read_text(encoding="utf-8").splitlines()
    found = [Score(**json.loads(line)) for line in lines]
    return {score.id: score for score in found if asdict(score)["psnr_db"] is not None}
