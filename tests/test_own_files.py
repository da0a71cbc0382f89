"""Files of the suite's own that are torn, empty, of other keys or of another version: as if absent, and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import journal, reference
from bench.learning.outcome import Outcome
from bench.own_files import read_own
from bench.record import Record, read_journal
from bench.reference import cached, load, sources_sha256
from bench.references import cache_folder
from bench.roles import _reference as reference_of
from bench.run import _finished_plan
from methods.denoisers.patch_transform import picture_of
from problems.analysis_l1 import AnalysisL1, Settings
from tests.in_process import bench
from tests.report_folders import denoise_folder, learn_folder
from tests.test_journal import record, written
from tests.test_paths import CONFIG, DENOISE, LEARN, config, refused

STACK = '[[denoiser]]\nkey = "patch_transform"\nfiles = ["{}"]\n[pictures]\nnames = ["camera"]\ncrop = 16\n'

# --- cached references ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cached reference of `problem()`."""
    (path, said) = cached(problem(), 3, 0, [tmp_path_factory.mktemp("stored")])
    assert said == []
    return path


def problem() -> AnalysisL1:
    return AnalysisL1.build(Settings(n=6, transform="dct", scale=0.2))


def spoilt(path: Path, how: str) -> bytes:
    whole = path.read_bytes()
    if how == "other keys":
        np.savez(path, values=np.zeros(3))
    elif how == "other lengths":
        with np.load(path) as there:
            np.savez(path, **{**there, "bars": there["bars"][:-1]})
    elif how == "an array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "torn": whole[: len(whole) // 2], "zeros": bytes(len(whole))}[how])
    return whole


@pytest.mark.parametrize("how", ["empty", "torn", "zeros", "other keys", "other lengths", "an array"])
def test_a_damaged_reference_is_made_again_and_said(stored: Path, how: str) -> None:
    whole = spoilt(stored, how)
    (again, said) = cached(problem(), 3, 0, [stored.parent])
    assert again == stored
    assert said == [f"{stored}: damaged, and taken as if it were not there"]
    assert stored.read_bytes() == whole
    assert cached(problem(), 3, 0, [stored.parent]) == (stored, [])


def test_a_cache_that_cannot_be_written_costs_a_line_and_not_the_reference(tmp_path: Path, stored: Path) -> None:
    (tmp_path / "a_file").touch()
    path, said = cached(problem(), 3, 0, [tmp_path / "a_file" / "cache", tmp_path / "run" / "cache"])
    assert path.parent == tmp_path / "run" / "cache"
    (line,) = said
    assert line.startswith(f"{tmp_path}/a_file/cache: not a directory: a part of the path is a file")
    assert np.array_equal(load(path).values, load(stored).values)


def test_a_reference_of_another_source_is_not_taken(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, other = sources_sha256(AnalysisL1), stored.parent / "module.py"
    other.write_text("# one more module")
    monkeypatch.setattr(reference, "SOURCES", (*reference.SOURCES, other))
    sources_sha256.cache_clear()
    try:
        assert sources_sha256(AnalysisL1) != before
        assert cached(problem(), 3, 0, [stored.parent])[0] != stored
    finally:
        sources_sha256.cache_clear()
    names = {path.name for path in reference.SOURCES}
    assert {"reference.py", "_exact_lower_level.py", "_slopes.py", "contract.py", "analysis_l1.py"} <= names


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HYPERGRAD_BENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, folder in {"": tmp_path / ".cache", "relative": tmp_path / ".cache", "/else": Path("/else")}.items():
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_folder() == folder / "hypergrad-bench" / "references"


def test_a_run_says_once_where_its_references_are_and_heals_torn_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pairs, each of whose references would say the same of the same folder."""
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("HYPERGRAD_BENCH_CACHE", str(tmp_path / "a_file"))
    path = config(tmp_path, CONFIG.replace("n = 6", "n = 6\npairs = 2"))
    done = bench("run", path, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert done.output.count(f"no reference can be kept in {tmp_path / 'a_file'}") == 1
    (first,) = read_journal(tmp_path / "run")
    files = sorted((tmp_path / "run" / "cache").glob("*.npz"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(b"")
    again = bench("run", path, "--out", tmp_path / "run", "--retry", "ok")
    assert again.output.count("damaged, and taken as if it were not there") == 2
    _, second = read_journal(tmp_path / "run")
    assert (first.status, second.status) == ("ok", "ok")
    assert first.error_relative == second.error_relative is not None


@pytest.mark.parametrize("how", ["empty", "torn", "gone"])
def test_a_reference_that_is_lost_later_is_no_fault_of_the_method(stored: Path, tmp_path: Path, how: str) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(stored.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        spoilt(path, how)
    found = reference_of({"kind": 3, "file": str(path)})
    assert (found.verdict, found.message) == ("failed", f"reference: {path} cannot be read")


# --- schemas ----------------------------------------------------------------------------------------------------------


def test_a_record_of_another_schema_is_refused_by_every_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    written(run, record("a"), record("b"))
    text = (run / "journal.jsonl").read_text()
    (run / "journal.jsonl").write_text(text.replace('"schema": 1', '"schema": 99'))
    for arguments in (["compare", run, run], ["report", run], ["run", config(tmp_path), "--out", run]):
        line = refused(*arguments)
        assert "journal.jsonl: line 1: it has schema 99, and this suite reads schema 1: use the version" in line
    assert (run / "journal.jsonl").read_text().count('"schema": 99') == 2


def test_fields_of_a_later_suite_are_kept(tmp_path: Path) -> None:
    """Through reading, the repair of a torn journal, a copy, and the table."""
    later = json.loads(record("a").to_line()) | {"colour": "red", "more": {"a": [1, 2]}}
    (tmp_path / "journal.jsonl").write_text(json.dumps(later) + '\n{"torn')
    with journal.Journal(tmp_path) as kept:
        copied = kept.records["a"].model_copy(update={"cell_id": "b"})
        kept.append(copied)
    first, second = (json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines())
    assert first == later
    assert second == later | {"cell_id": "b"}
    assert Record.from_line(json.dumps(first)).to_line() == json.dumps(first)
    journal.write_parquet(tmp_path)
    import pandas as pd

    frame = pd.read_parquet(tmp_path / "records.parquet")
    assert list(frame["colour"]) == ["red", "red"]
    assert json.loads(frame["more"][0]) == {"a": [1, 2]}


@pytest.mark.parametrize("name", ["outcomes.jsonl", "scores.jsonl", "curves.jsonl"])
def test_lines_of_another_schema_are_refused(tmp_path: Path, name: str) -> None:
    folder = (denoise_folder if name == "scores.jsonl" else learn_folder)(tmp_path / "run")
    for path in folder.rglob(name):
        lines = [json.loads(line) | {"schema": 99} for line in path.read_text().splitlines()]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    line = refused("report", folder, "--format", "csv")
    assert f"{name}: line 1: it has schema 99, and this suite reads schema 1: use the version of the suite" in line


def test_a_baseline_of_another_schema_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "run", record("a"))
    (tmp_path / "b.json").write_text('{"schema": 99, "tolerances": {}, "machine": {}, "cells": {}}')
    line = refused("check", tmp_path / "run", "--baseline", tmp_path / "b.json")
    assert "b.json: not a baseline for this suite: it has schema 99, and this suite reads schema 2: use the" in line


def test_outcomes_keep_the_fields_of_a_later_suite() -> None:
    required = {"run": "", "settings": {}, "config": {}, "problem": {}, "status": "finished"}
    psnr = {"mean_db": 1.0, "deviation_db": None, "gain_db": None, "gain_deviation_db": None, "median_db": 2.0}
    later = {"schema": 1, **required, "psnr": {"learned": psnr}, "colour": "red"}
    again = json.loads(Outcome.from_line(json.dumps(later)).to_line())
    assert again["colour"] == "red"
    assert again["psnr"]["learned"]["median_db"] == 2.0


# --- a run's folder ---------------------------------------------------------------------------------------------------


def test_what_power_loss_leaves_of_a_runs_folder_stops_no_command(tmp_path: Path) -> None:
    """Every file of the folder but the journal and its records' own: empty."""
    run, path = tmp_path / "run", config(tmp_path)
    assert bench("run", path, "--out", run).exit_code == 0
    (one,) = read_journal(run)
    for file in run.rglob("*"):
        if file.is_file() and file.name not in ("journal.jsonl", "config.toml"):
            file.write_bytes(b"")
    reproduced = bench("reproduce", one.cell_id, run)
    assert reproduced.exit_code == 0, reproduced.output
    said = f"warning: {run}/environments/{one.environment}.json: damaged, and taken as if it were not there"
    assert reproduced.stderr.splitlines().count(said) == 1
    reported = bench("report", run, "--format", "md", "--out", tmp_path / "report")
    assert reported.exit_code == 0, reported.output
    for name in ("environment.json", f"gradients/{one.cell_id}.npz"):
        assert f"warning: {run / name}: damaged, and taken as if it were not there" in reported.stderr
    assert bench("compare", run, run).exit_code == 0
    again = bench("run", path, "--out", run)
    assert again.exit_code == 0, again.output
    assert f"{run}/plan.json: damaged, and taken as if it were not there" in again.output
    assert len(read_journal(run)) == 1
    assert list(json.loads((run / "plan.json").read_text())["cells"]) == [one.cell_id]


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"key": 1, "cells": 5}', '{"key"', "\0" * 40])
def test_a_damaged_plan_is_no_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    said: list[str] = []
    assert read_own(tmp_path / "plan.json", _finished_plan, said.append) is None
    assert said == [f"{tmp_path}/plan.json: damaged, and taken as if it were not there"]


@pytest.mark.parametrize("text", [b"", b"process 1 on \xff\xfe\0" * 9])
def test_a_damaged_lock_is_in_nobodys_way(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "lock").write_bytes(text)
    written(tmp_path, record("a"))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


# --- a training's folder, and one of pictures -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["empty", "torn", "other keys", "an array"])
def test_a_damaged_checkpoint_starts_its_training_anew(tmp_path: Path, how: str) -> None:
    path = config(tmp_path, LEARN)
    first = bench("learn", path, "--out", tmp_path / "run")
    assert first.exit_code == 0, first.output
    before = (tmp_path / "run" / "curves.jsonl").read_text()
    spoilt(tmp_path / "run" / "checkpoint.npz", how)
    (tmp_path / "run" / "outcomes.jsonl").write_bytes(b"\0" * 40 + b"\n")
    (tmp_path / "run" / "status.json").write_bytes(b"")
    with open(tmp_path / "run" / "curves.jsonl", "a") as file:
        file.write('no point\n{"epoch": 2')
    again = bench("learn", path, "--out", tmp_path / "run")
    assert again.exit_code == 0, again.output
    assert f"{tmp_path}/run/checkpoint.npz: damaged, and taken as if it were not there" in again.stderr
    assert f"{tmp_path}/run/outcomes.jsonl: line 1 is no record: left out, its training counts as not" in again.stderr
    assert f"{tmp_path}/run/curves.jsonl: line 2 is no record: left out" in again.stderr
    after = (tmp_path / "run" / "curves.jsonl").read_text()
    losses = [json.loads(text)["training_loss"] for text in (before, after)]
    assert losses[0] == losses[1]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"


def test_damaged_scores_are_taken_again(tmp_path: Path) -> None:
    path, scores = config(tmp_path, DENOISE), tmp_path / "run" / "scores.jsonl"
    assert bench("denoise", path, "--out", tmp_path / "run").exit_code == 0
    first, *others = scores.read_text().splitlines()
    assert len(others) == 3
    scores.write_text(f"{first}\nno score\n{others[0]}\n{others[1]}\n{others[2][:20]}")
    for picture in (tmp_path / "run" / "images").iterdir():
        picture.write_bytes(b"")
    again = bench("denoise", path, "--out", tmp_path / "run")
    assert again.exit_code == 0, again.output
    assert f"{scores}: line 2 is no record: left out, its score counts as not taken" in again.stderr
    assert f"{scores}: line 5 is torn" in again.stderr
    assert [json.loads(line)["id"] for line in scores.read_text().splitlines()] == [
        json.loads(line)["id"] for line in (first, *others)
    ]
    assert scores.with_suffix(".damaged").read_text() == "no score\n"


# --- what `learn` has saved, given to `denoise` -----------------------------------------------------------------------

W = np.eye(16)
THETAS: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"W": np.zeros((0, 16))}, "its W is float64 of shape (0, 16)"),
    "no columns": ({"W": np.zeros((16, 0))}, "its W is float64 of shape (16, 0)"),
    "one axis": ({"W": np.zeros(16)}, "its W is float64 of shape (16,)"),
    "three axes": ({"W": np.zeros((2, 4, 16))}, "its W is float64 of shape (2, 4, 16)"),
    "no square": ({"W": np.zeros((3, 15))}, "transforms of [15] columns cannot be stacked: each needs side^2"),
    "not finite": ({"W": np.full((16, 16), np.nan)}, "or not finite"),
    "words": ({"W": np.full((16, 16), "1")}, "its W is <U1 of shape (16, 16)"),
    "complex": ({"W": 1j * W}, "its W is complex128 of shape (16, 16)"),
    "pickled": ({"W": np.array([[{}]])}, "is not a whole .npz file of plain arrays"),
    "other names": ({"D": W, "about": "{}"}, "holds no transform W"),
}


@pytest.mark.parametrize("case", [*THETAS, "empty", "torn", "zeros", "an array"])
def test_a_theta_that_is_none_is_one_line_that_says_what_would_be_right(tmp_path: Path, case: str) -> None:
    arrays, said = THETAS.get(case, ({"W": W}, "is not a whole .npz file of plain arrays"))
    np.savez(tmp_path / "theta.npz", **arrays)
    if case not in THETAS:
        spoilt(tmp_path / "theta.npz", case)
    line = refused("denoise", config(tmp_path, STACK.format(tmp_path / "theta.npz")), "--out", tmp_path / "run")
    assert said in line
    assert line.endswith(("a matrix of finite numbers with one row at least", "of the same side"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("about", ["not json", "[1]", "{}", '{"problem": 3}', '{"problem": {"picture": "brick"}}'])
def test_what_a_theta_says_of_itself_is_no_condition(tmp_path: Path, about: str) -> None:
    np.savez(tmp_path / "theta.npz", W=W, about=np.array(about))
    assert picture_of(tmp_path / "theta.npz") == ("brick" if "brick" in about else "")
