"""The journal: what survives a kill, which record counts, what a resumed run leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import journal
from bench.journal import Journal
from bench.lock import InUseError
from bench.record import Record, Status, parse_journal, read_journal

ROOT = Path(__file__).parents[1]


def record(cell_id: str, status: Status = Status.OK, **others: Any) -> Record:
    required: dict[str, Any] = {"method": "blorc", "method_parameters": {}, "problem": "analysis_l1"}
    required |= {"problem_parameters": {"n": 8}, "n": 8, "k": 8, "theta_size": 64, "pairs": 1, "batch": 1}
    required |= {"device": "cpu", "dtype": "float64", "threads": 1, "seed": 0}
    return Record(cell_id=cell_id, status=status, **required, **others)


def written(run: Path, *records: Record) -> None:
    with Journal(run) as journal:
        for one in records:
            journal.append(one)


def test_the_newest_record_of_a_cell_counts(tmp_path: Path) -> None:
    first, second = (record("a", status, message=status) for status in (Status.TIMEOUT, Status.OK))
    written(tmp_path, first, second, record("b", Status.CRASHED))
    assert len(read_journal(tmp_path)) == 3
    assert {cell: found.status for cell, found in journal.read(tmp_path).items()} == {"a": "ok", "b": "crashed"}
    assert journal.read(tmp_path)["a"].message == "ok"


def test_a_torn_line_is_lost_alone(tmp_path: Path) -> None:
    """A run killed in the middle of a write leaves a line without its end; the next run must not glue on to it."""
    written(tmp_path, record("a"))
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write(record("b").to_line()[:-20])
    assert list(journal.read(tmp_path)) == ["a"]
    with Journal(tmp_path) as resumed:
        assert resumed.damage == [
            f"{tmp_path}/journal.jsonl: line 2 is torn, as a run was killed while it wrote: left out"
        ]
        resumed.append(record("c"))
    assert [json.loads(line)["cell_id"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()] == ["a", "c"]


def test_a_journal_that_is_one_torn_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"schema": 1, "cell')
    written(tmp_path, record("a"))
    assert list(journal.read(tmp_path)) == ["a"]


@pytest.mark.parametrize("damaged", [b'{"schema": 1}', b"\0" * 40, b"\xff\xfe", b"{}", b""])
def test_a_damaged_line_is_kept_aside_and_told(tmp_path: Path, damaged: bytes) -> None:
    good = [record(name).to_line().encode() for name in "ab"]
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join([good[0], damaged, good[1], b""]))
    told = [f"{tmp_path}/journal.jsonl: line 2 is no record: left out, its cell counts as not measured"]
    assert journal.damage(tmp_path) == told
    assert list(journal.read(tmp_path)) == ["a", "b"]
    with Journal(tmp_path) as repaired:
        assert repaired.damage == told
        assert list(repaired.records) == ["a", "b"]
    assert (tmp_path / "journal.damaged").read_bytes() == damaged + b"\n"
    assert (tmp_path / "journal.jsonl").read_bytes().split(b"\n")[:-1] == good
    with Journal(tmp_path) as again:
        assert again.damage == []


@given(cut=st.integers(0, 3000), flipped=st.integers(0, 3000), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_no_damage_takes_other_lines_with_it(cut: int, flipped: int, bit: int) -> None:
    """Cut anywhere, with any one bit flipped: every line but the one that was hit, and the torn one, is read."""
    lines = [record(name).to_line().encode() + b"\n" for name in "abc"]
    text = bytearray(b"".join(lines))[: cut + 1]
    flipped = flipped % len(text)
    text[flipped] ^= 1 << bit
    whole = [index for index in range(3) if sum(map(len, lines[: index + 1])) <= len(text)]
    hit = next(index for index in range(3) if flipped < sum(map(len, lines[: index + 1])))
    beside = {hit, hit + 1} if flipped == sum(map(len, lines[: hit + 1])) - 1 else {hit}  # a lost line break joins two
    found = {one.cell_id for one in parse_journal(bytes(text)).values}
    assert found >= {"abc"[index] for index in whole if index not in beside}


def test_a_second_run_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    holder = f"""
import sys, time
from pathlib import Path
from bench.journal import Journal
with Journal(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InUseError, match=f"process {other.pid} on .* is writing into it"), Journal(tmp_path):
            pass
        other.kill()
    written(tmp_path, record("a"))
    assert list(journal.read(tmp_path)) == ["a"]


def test_a_folder_that_nothing_came_of_is_gone(tmp_path: Path) -> None:
    with Journal(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_parquet_holds_the_records(tmp_path: Path) -> None:
    written(tmp_path, record("a", error_relative=1e-12), record("b", Status.TIMEOUT))
    journal.write_parquet(tmp_path)
    frame = pd.read_parquet(tmp_path / "records.parquet")
    assert list(frame["cell_id"]) == ["a", "b"]
    assert frame["error_relative"][0] == 1e-12
    assert pd.isna(frame["error_relative"][1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.jsonl", "records.parquet"]
