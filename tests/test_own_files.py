"""Files of the suite's own that are torn, empty, of other keys or of another version: as if absent, and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import journal, reference
from bench.record import Record, read_journal
from bench.reference import cached, load, sources_sha256
from bench.references import cache_folder
from problems.analysis_l1 import AnalysisL1, Settings
from tests.in_process import bench
from tests.test_journal import record, written
from tests.test_paths import CONFIG, config, refused

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
        assert cache_folder() == folder / "hypergrad-bench"


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
