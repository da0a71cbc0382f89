"""The reports of `learn` and `denoise` without a browser: numbers held against the Parquet, escaping, failures."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.denoising.score import SCORES
from bench.learning.outcome import OUTCOMES, Outcome, read
from reports.denoised_page import write_denoised
from reports.summary import MOST_LINES
from reports.trainings_page import write_trainings
from tests import report_folders
from tests.report_runs import FORMULA, MARKUP
from tests.test_html_report import Elements, unpacked

BOTH = {
    "learn": (report_folders.learn_folder, write_trainings),
    "denoise": (report_folders.denoise_folder, write_denoised),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each, with its report in all formats below it."""
    made = {}
    for name, (make, write) in BOTH.items():
        made[name] = make(tmp_path_factory.mktemp(name) / "run")
        write(made[name], made[name] / "report")
    return made


def page_of(folder: Path) -> Elements:
    return Elements((folder / "report" / "report.html").read_text(encoding="utf-8"))


def cells_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page_of(folder).data["data-cells"])
    return found


def column(table: dict[str, Any], title: str) -> tuple[list[str], list[float | None]]:
    """What stands there, and what it is sorted by."""
    place = [each["title"] for each in table["columns"]].index(title)
    return unpacked(table["text"][place]), table["values"][place]


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_a_page_is_one_file_without_a_network_or_foreign_markup(reports: dict[str, Path], name: str) -> None:
    page, text = page_of(reports[name]), (reports[name] / "report" / "report.html").read_text(encoding="utf-8")
    assert page.names["script"] == 4  # cells, plots, plotly, ours
    assert page.names["link"] == 1  # an empty icon
    assert page.names["iframe"] == 0
    links = [value for key, value in page.attributes if key in {"src", "href"}]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert "default-src 'none'" in text
    assert any(MARKUP in each for each in page.text)  # letter by letter
    assert page.names["img"] == (0 if name == "learn" else PICTURES_SHOWN)


PICTURES_SHOWN = 2 * (5 + 4)
"""Two sigmas: of the one picture clean, noisy and three denoisers; of the other one that failed is a word."""


def test_every_number_of_a_training_is_the_parquets_and_the_records(reports: dict[str, Path]) -> None:
    folder = reports["learn"]
    table = cells_of(folder)
    frame = pd.read_parquet(folder / "report" / "trainings.parquet").set_index("run")
    outcomes = {one.run: one for one in read(folder)}
    ended = [run for run in unpacked(table["details"]["folder"]) if run in outcomes]
    assert set(ended) == set(frame.index) == set(outcomes)
    fields = {
        "epochs": ("epochs", lambda one: one.epochs),
        "time": ("seconds", lambda one: one.seconds),
        "validation loss": ("validation_loss", lambda one: one.validation_loss),
        "learned W": ("psnr_learned_mean_db", lambda one: one.psnr["learned"].mean_db if one.psnr else None),
    }
    for title, (field, truth) in fields.items():
        texts, values = column(table, title)
        for run, text, value in zip(ended, texts, values, strict=False):
            stored = frame.loc[run, field]
            assert value == truth(outcomes[run]) == (None if pd.isna(stored) else stored)
            if value is None:
                assert text == outcomes[run].status
            else:
                assert float(text) == pytest.approx(value, rel=5e-4)  # four digits


def test_every_number_of_a_score_is_the_parquets_and_the_records(reports: dict[str, Path]) -> None:
    folder = reports["denoise"]
    table = cells_of(folder)
    frame = pd.read_parquet(folder / "report" / "scores.parquet").set_index("id")
    known = report_folders.scores_by_hand(folder)
    ids = unpacked(table["details"]["score"])
    for title, field, room in (("PSNR", "psnr_db", 5.1e-3), ("SSIM", "ssim", 5.1e-4)):  # half of the last digit
        for identifier, text, value in zip(ids, *column(table, title), strict=True):
            stored = frame.loc[identifier, field]
            if identifier in known:
                assert value == stored == getattr(known[identifier], field)
                assert float(text) == pytest.approx(value, abs=room)
            else:
                assert value is None
                assert pd.isna(stored)
                assert text == frame.loc[identifier, "status"]


def test_what_failed_and_what_is_missing_is_counted_in_words(reports: dict[str, Path]) -> None:
    statuses = Counter(unpacked(cells_of(reports["learn"])["tones"]))
    assert statuses == {"good": 12, "bad": 3}
    text = " ".join(page_of(reports["learn"]).text)
    assert f"Of 15 trainings 2 failed ({MARKUP}: it broke: {MARKUP}), 1 is missing ({FORMULA}, seed 4)" in text
    statuses = Counter(column(cells_of(reports["denoise"]), "status")[0])
    # Of 8 times five: what fails does on one of two pictures; what is missing is one of two seeds, at two weights.
    assert statuses == {"ok": 28, "failed": 4, "missing": 8}
    assert "Of 40 scores 4 have failed and 8 have not been taken yet." in " ".join(page_of(reports["denoise"]).text)


# --- the other formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_all_formats_are_written_and_say_the_same(reports: dict[str, Path], name: str) -> None:
    folder = reports[name] / "report"
    written = {path.name for path in folder.iterdir()}
    frame = {"learn": "trainings", "denoise": "scores"}[name]
    assert {"report.html", "report.md", "report.tex", "tables.tex", "summary.md", f"{frame}.csv"} <= written
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert linked
    assert set(linked) <= written
    assert len((folder / "summary.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    sentences = [text for text in page_of(reports[name]).text if text.startswith("Of ")]
    assert sentences
    for sentence in sentences:
        assert sentence.split(" (")[0] in markdown
    csv = pd.read_csv(folder / f"{frame}.csv")
    assert len(csv) == len(pd.read_parquet(folder / f"{frame}.parquet"))
    assert not [text for text in csv.select_dtypes("str").stack() if str(text).startswith(("=", "@"))]  # no formula
    assert "<img" not in re.sub(r"\\<img", "", markdown)


def test_a_folder_of_its_own_kind_is_reported_alone(reports: dict[str, Path]) -> None:
    for folders in ([reports["learn"], reports["denoise"]], [reports["denoise"], reports["denoise"]]):
        result = CliRunner().invoke(app, ["report", *map(str, folders)])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "one folder at a time" in result.stderr


@pytest.mark.parametrize("name", BOTH)
def test_a_study_that_does_not_exist_is_one_line(reports: dict[str, Path], name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(reports[name], tmp_path / "run")
    config = folder / "config.toml"
    config.write_text(re.sub(r'study = "\w+"', 'study = "learn_1d.os"', config.read_text()))
    result = CliRunner().invoke(app, ["report", str(folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "learn_1d.os" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_does_not_say_what_was_asked_for_is_one_line(tmp_path: Path) -> None:
    (tmp_path / SCORES).write_text("")
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"error: {tmp_path}: holds no asked.jsonl: the same denoise command with --out {tmp_path} writes it\n"
    )


# --- the page of the reproduction -------------------------------------------------------------------------------------


def claims(folder: Path) -> dict[tuple[str, str], list[str]]:
    """By source and statement: this run, verdict, what decides."""
    table = re.search(r"what is published, and this run\n\n(.*?)\n\n", (folder / "report.md").read_text(), re.DOTALL)
    assert table
    rows = [line.strip("| ").split(" | ") for line in table[1].splitlines()[2:]]
    return {(row[0], row[1]): row[2:] for row in rows}


def by_variant(folder: Path) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for one in read(folder):
        if one.psnr:
            found.setdefault(str(one.settings["variant"]), []).append(one)
    return found


def test_claims_have_mean_spread_seeds_verdict_and_why(reports: dict[str, Path]) -> None:
    folder = reports["learn"]
    found = {
        statement: cells for (source, statement), cells in claims(folder / "report").items() if "journal" in source
    }
    variants = by_variant(folder)
    assert [len(own) for own in variants.values()] == [5, 3, 4]
    ours, verdict, why = found["learned W (BLORC): 26.2 dB, mean of 20 signals"]
    for own in variants.values():
        values = [one.psnr["learned"].mean_db for one in own]
        assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} dB" in ours
    assert ours.endswith("Seeds: 5, 3 of 5, 4 of 5")
    assert verdict == "reproduced"
    assert "within 0.89 dB" in why  # 2 sqrt(2^2 / 20) of signals, and next to nothing of seeds
    assert "has 3 of 5 seeds" in why
    assert "fewer than 5 seeds" in why
    gain, verdict, why = found["the learned W is above the standard transform by 0.4 dB"]
    for own in variants.values():
        values = [one.psnr["finite_differences"].gain_db for one in own]
        assert f"{np.mean(values):+.2f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f} dB" in gain
    assert verdict == "reproduced"
    standard, verdict, _ = found["standard transform (finite differences): 25.8 dB, mean of 20 signals"]
    assert standard == "as printed: 26.01 ± 0.01 dB. Seeds: 5"  # whole groups alone: that of all trainings


def test_without_a_study_the_rows_of_patches_are_filters_and_those_of_signals_lie_beside_differences(
    tmp_path: Path,
) -> None:
    folder = report_folders.learn_folder(tmp_path / "run")
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('study = "learn_1d"', ""))
    write_trainings(folder, tmp_path / "signals", {"md"})
    assert {path.name for path in (tmp_path / "signals").iterdir()} == {
        "report.md",
        "learning_curves.png",
        "learned_transforms.png",
    }
    patches = {"signal": "patches", "picture": "brick"}
    lines = [one.model_copy(update={"problem": {**one.problem, **patches}}).to_line() for one in read(folder)]
    (folder / OUTCOMES).write_text("".join(f"{line}\n" for line in lines))
    write_trainings(folder, tmp_path / "patches", {"md"})
    assert (tmp_path / "patches" / "filters.png").stat().st_size > 1000
    assert "what is published" not in (tmp_path / "patches" / "report.md").read_text()


def test_a_setting_whose_trainings_all_failed_is_words(tmp_path: Path) -> None:
    folder = report_folders.learn_folder(tmp_path / "run")
    lines = [
        one.model_copy(update={"status": "failed", "message": "it broke", "psnr": {}}).to_line() for one in read(folder)
    ]
    (folder / OUTCOMES).write_text("".join(f"{line}\n" for line in lines))
    write_trainings(folder, tmp_path / "out", {"md", "html"})
    verdicts = Counter(cells[1] for cells in claims(tmp_path / "out").values())
    assert set(verdicts) == {"not measured"}
    assert all(cells[2] for cells in claims(tmp_path / "out").values())
    assert "| as printed | I | 0 of 5 | failed |" in (tmp_path / "out" / "report.md").read_text()
