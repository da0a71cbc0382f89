"""A run that is killed, continued, repeated on other ground, or finished already; and how small the runner is."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench import journal, plan
from bench.config import read
from bench.measure import record_of
from bench.record import Record, Status, read_journal
from bench.run import Request
from tests.bench_plugins import write_config, write_method
from tests.in_process import bench

ROOT = Path(__file__).parents[1]
WITHOUT_REFERENCE = "[reference]\nenabled = false\n"


def matrix_of(folder: Path, cells: int, **spoilt: str) -> Path:
    """A configuration of so many cells, which differ in a parameter of one fast method."""
    path = write_config(folder, [write_method(folder, "fast", **spoilt)], memory=False, tail=WITHOUT_REFERENCE)
    gains = ", ".join(f"{1 + index / 1000}" for index in range(cells))
    path.write_text(path.read_text().replace('key = "fast"', f'key = "fast"\ngain = [{gains}]'))
    return path


def command(config: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "bench", "run", str(config), "--out", str(out), *more]


def left_over(mark: str) -> list[psutil.Process]:
    """Processes that were started with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed, from its plan to its table."""

    config: Path
    run: Path
    cells: int
    seconds: float
    highest_bytes: int
    """Of the runner's resident memory, as the kernel keeps it."""


def undisturbed(folder: Path, cells: int) -> Whole:
    config, started, highest = matrix_of(folder, cells), time.monotonic(), 0
    run = subprocess.Popen(command(config, folder / "whole"), cwd=ROOT, stdout=subprocess.DEVNULL)
    while run.poll() is None:
        for line in Path(f"/proc/{run.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                highest = max(highest, int(line.split()[1]) * 1024)
        time.sleep(0.01)
    assert run.returncode == 0
    return Whole(config, folder / "whole", cells, time.monotonic() - started, highest)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(tmp_path_factory.mktemp("whole"), cells=6)


def killed_at_random_moments(folder: Path, kills: int, whole: Whole) -> None:
    """Kills the runner so often, each matrix being continued until it is done, and then looks at what is there."""
    rng, mark = random.Random(0), uuid.uuid4().hex
    environment = {**os.environ, "HYPERGRAD_TEST": mark}
    done, round_ = 0, 0
    while done < kills:
        round_ += 1
        out = folder / f"run{round_}"
        finished = False
        while not finished:
            run = subprocess.Popen(
                command(whole.config, out), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                run.wait(rng.uniform(0, 1.1 * whole.seconds) if done < kills else 120)
                finished = True
                assert run.stderr is not None
                assert run.returncode == 0, run.stderr.read()
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
                done += 1
                gone_by = time.monotonic() + 5
                while left_over(mark) and time.monotonic() < gone_by:
                    time.sleep(0.02)
                assert not left_over(mark)
            finally:
                assert run.stderr is not None
                run.stderr.close()
        lines = (out / "journal.jsonl").read_text().splitlines()
        rows = [Record.from_line(line) for line in lines]
        assert len(rows) == len({row.cell_id for row in rows}) == whole.cells
        assert {row.status for row in rows} == {Status.OK}


def test_a_run_killed_again_and_again_loses_and_repeats_nothing(tmp_path: Path, whole: Whole) -> None:
    killed_at_random_moments(tmp_path, kills=2, whole=whole)


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path) -> None:
    killed_at_random_moments(tmp_path, kills=50, whole=undisturbed(tmp_path, cells=30))


def finished_run(folder: Path, cells: int, status: Sequence[Status] = (Status.OK,)) -> tuple[Path, Path]:
    """A configuration and the folder of its run, as if all cells had been measured."""
    config, out = matrix_of(folder, cells), folder / "run"
    document = read(config)
    job = {"document": document, "file": str(config), "plugins": [], "devices": None, "only": ""}
    planned = plan.matrix(job)
    with journal.Journal(out) as kept:
        for index, cell in enumerate(map(plan.Cell.from_json, planned["cells"])):
            kept.append(record_of(cell, status[index % len(status)], "", solve_seconds=1e-3, solve_mad_seconds=1e-5))
        ground = {cell_id: [row.input_sha256, row.plugin_sha256] for cell_id, row in kept.records.items()}
    key = Request(document, config, out).key()
    (out / "plan.json").write_text(json.dumps({"key": key, "reads": planned["reads"], "cells": ground}))
    return config, out


def test_a_finished_matrix_of_a_thousand_cells_is_told_in_two_seconds(tmp_path: Path) -> None:
    config, out = finished_run(tmp_path, 1000)
    before = (out / "journal.jsonl").read_bytes()
    seconds = []
    for _ in range(3):  # the processor's seconds, which are the clock's for a single thread on an idle machine
        if seconds and min(seconds) < 2:
            break
        before_it = os.times()
        done = subprocess.run(command(config, out), cwd=ROOT, capture_output=True, text=True, check=True)
        after_it = os.times()
        spent = (after_it.children_user - before_it.children_user, after_it.children_system - before_it.children_system)
        seconds.append(sum(spent))
    assert f"all 1000 cells are in {out} already" in done.stderr
    assert done.stdout.count("fast[gain=") == 1000
    assert (out / "journal.jsonl").read_bytes() == before
    assert min(seconds) < 2


def test_the_runner_stays_small(whole: Whole) -> None:
    assert len(read_journal(whole.run)) == whole.cells
    assert 20e6 < whole.highest_bytes < 150e6


def test_only_what_is_asked_for_is_measured_again(tmp_path: Path) -> None:
    words = (Status.OK, Status.CRASHED, Status.TIMEOUT, Status.ERROR)
    config, out = finished_run(tmp_path, 8, words)
    (out / "plan.json").unlink()
    told = bench("run", config, "--out", out)
    assert told.exit_code == 0, told.stderr
    assert "8 of 8 cells are in" in told.stderr
    assert "some of them failed: --retry crashed,error,timeout measures those again" in told.stderr
    again = bench("run", config, "--out", out, "--retry", "crashed,timeout")
    assert again.exit_code == 0, again.stderr
    assert len(read_journal(out)) == 8 + 4
    counted = [record.status for record in journal.read(out).values()]
    assert sorted(counted) == sorted([Status.OK] * 6 + [Status.ERROR] * 2)


def test_rows_of_other_ground_are_told_apart(tmp_path: Path) -> None:
    config, out = matrix_of(tmp_path, 2), tmp_path / "run"
    assert bench("run", config, "--out", out, "--only", "gain=1.0").exit_code == 0
    config.write_text(config.read_text().replace("values = 2", "values = 3"))
    told = bench("run", config, "--out", out)
    assert "1 rows are from another environment, and are kept as they are: settings.measure.values 2, now 3" in (
        told.stderr
    )
    first, second = read_journal(out)
    assert first.environment != second.environment
    assert {path.stem for path in (out / "environments").glob("*.json")} == {first.environment, second.environment}


def test_a_cell_is_reproduced_from_its_run_folder_alone(tmp_path: Path) -> None:
    config, out = matrix_of(tmp_path, 2), tmp_path / "run"
    assert bench("run", config, "--out", out).exit_code == 0
    config.unlink()
    (tmp_path / "fast.py").unlink()
    record = read_journal(out)[1]
    words = record.reproduce.split()
    assert words[:5] == ["python", "-m", "bench", "reproduce", record.cell_id]
    same = bench(*words[3:])
    assert same.exit_code == 0, same.stderr
    assert same.stdout.rstrip().endswith("the same")
    (plugin,) = (out / "plugins").glob("*/fast.py")
    plugin.write_text(plugin.read_text().replace("return {", "raise ValueError('broken'); return {"))
    other = bench(*words[3:])
    assert other.exit_code == 2
    assert "does not hold the version" in other.stderr
    plugin.rename(out / "plugins" / "fast.py")  # as a run of before has it
    before = [row.model_copy(update={"plugin_sha256": None}).to_line() for row in read_journal(out)]
    (out / "journal.jsonl").write_text("".join(f"{line}\n" for line in before))
    unknown_version = bench(*words[3:])
    assert unknown_version.exit_code == 1
    assert unknown_version.stdout.rstrip().endswith("which version of the plug-in it came from was not recorded")
    unknown = bench("reproduce", "0" * 12, out)
    assert unknown.exit_code == 2
    assert "no cell '000000000000' was recorded" in unknown.stderr


def test_a_finished_run_whose_plugin_is_gone_is_refused_in_one_line(tmp_path: Path) -> None:
    config, out = finished_run(tmp_path, 2)
    (tmp_path / "fast.py").unlink()
    done = bench("run", config, "--out", out)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"plug-in {tmp_path / 'fast.py'} does not exist")
    assert len(read_journal(out)) == 2


def test_a_plugin_that_dies_on_import_is_one_line(tmp_path: Path) -> None:
    config = matrix_of(tmp_path, 1)
    (tmp_path / "deadly.py").write_text("import ctypes\nctypes.string_at(0)\n")
    done = bench("run", config, "--out", tmp_path / "run", "--plugin", str(tmp_path / "deadly.py"))
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "its problems and plug-ins cannot be loaded: killed by SIGSEGV" in line
    assert not (tmp_path / "run").exists()


def test_a_size_that_is_out_of_time_prunes_the_larger_ones(tmp_path: Path) -> None:
    sleeps = "time.sleep(60 * (len(prepared.problem.y[0]) > 8))"
    methods = [write_method(tmp_path, "sleeps", in_solve=sleeps), write_method(tmp_path, "healthy")]
    config = write_config(tmp_path, methods, memory=False, timeout_seconds=2, tail=WITHOUT_REFERENCE)
    config.write_text(config.read_text().replace("n = 8", "n = [32, 8, 16]"))
    assert bench("run", config, "--out", tmp_path / "run").exit_code == 0
    rows = {(row.method, row.n): row for row in read_journal(tmp_path / "run")}
    assert {size: rows["sleeps", size].status for size in (8, 16, 32)} == {8: "ok", 16: "timeout", 32: "timeout"}
    assert rows["sleeps", 32].flags == ["pruned"]
    assert rows["sleeps", 32].message.startswith("not run: n=16, k=16 of this series timed out: not finished after 2 s")
    assert {rows["healthy", size].status for size in (8, 16, 32)} == {"ok"}
    told = bench("run", config, "--out", tmp_path / "run", "--retry", "timeout", "--only", "n=32")
    assert "--retry" not in told.stderr
    assert "pruned" not in journal.read(tmp_path / "run")[rows["sleeps", 32].cell_id].flags
