"""The commands, from a configuration to the report and the gate, and what becomes of methods that misbehave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from bench import journal
from bench.record import Record, Status, read_journal
from tests.bench_plugins import write_config, write_method
from tests.in_process import bench

ROOT = Path(__file__).parents[1]


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


# What ends a worker's process is in test_faults.py; these are the methods that come back.
MISBEHAVIOUR: dict[str, tuple[dict[str, str], Status, str]] = {
    "says_nan": ({"returned": "W * np.nan"}, Status.NONFINITE, "the gradient has entries that are not finite"),
    "has_wrong_keys": (
        {"returned": "W, 'V': W"},
        Status.ERROR,
        "BadGradientError: the gradient must be a dict with theta's keys ['W'], it has ['V', 'W']",
    ),
    "raises": ({"in_prepare": "raise KeyError('two\\nlines')"}, Status.ERROR, "KeyError: 'two"),
    "needs_too_much": ({"in_solve": "torch.empty(2**50)"}, Status.OUT_OF_MEMORY, "RuntimeError"),
    "gives_up": (
        {"converged": "False"},
        Status.INACCURATE_SOLVER,
        "the lower level's solver stopped before its tolerance",
    ),
    "refuses": ({"refusal": "'needs the moon: fetch it'"}, Status.UNSUPPORTED, "needs the moon: fetch it"),
}


@dataclass(frozen=True)
class Ran:
    """A run of the healthy method between the misbehaving ones, by the command."""

    folder: Path
    config: Path
    output: str
    records: dict[str, Record]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("ran")
    spoilt = [write_method(folder, key, **changes) for key, (changes, _, _) in MISBEHAVIOUR.items()]
    methods = [write_method(folder, "healthy"), *spoilt, write_method(folder, "healthy_too", batched="False")]
    config = write_config(folder, methods, "pairs = 2", processes=2, timeout_seconds=3)
    done = bench("run", config, "--out", folder / "run")
    assert done.exit_code == 0, done.output
    records = {record.method: record for record in journal.read(folder / "run").values()}
    return Ran(folder / "run", config, done.output, records)


@pytest.mark.parametrize("key", MISBEHAVIOUR)
def test_each_misbehaviour_is_a_row_with_its_word(ran: Ran, key: str) -> None:
    _, status, message = MISBEHAVIOUR[key]
    record = ran.records[key]
    assert (record.status, record.message[: len(message)]) == (status, message)
    assert "\n" not in record.message


@pytest.mark.parametrize("key", ["healthy", "healthy_too"])
def test_healthy_cells_beside_them_are_measured(ran: Ran, key: str) -> None:
    record = ran.records[key]
    assert record.status == "ok"
    assert (record.n, record.k, record.theta_size, record.pairs, record.batch) == (8, 8, 64, 2, 1)
    assert record.error_relative is not None
    assert record.reference_error_relative is not None
    # The formula is exact: what is left is the reference's own error, which its bar bounds.
    assert record.error_relative <= record.reference_error_relative < 1e-8
    assert record.reference_kind == "coordinates x 2"
    assert record.kkt_residual is not None
    assert record.kkt_residual < 1e-14  # of a closed form: a few roundings
    seconds = (record.prepare_seconds, record.solve_seconds, record.gradient_seconds, record.total_seconds)
    assert all(value is not None and 0 < value < 0.1 for value in seconds)
    assert record.host_peak_bytes is not None


def test_numbers_of_an_unconverged_solver_are_kept(ran: Ran) -> None:
    record = ran.records["gives_up"]
    assert record.solve_seconds is not None
    assert record.error_relative is not None


def test_a_run_folder_is_complete_and_plain(ran: Ran) -> None:
    names = {path.name for path in ran.folder.iterdir()}
    plain = {"config.toml", "environment.json", "journal.jsonl", "plan.json", "records.parquet"}
    assert names == plain | {"environments", "gradients", "output", "plugins", "pyperf", "references"}
    written = tomllib.loads(ran.config.read_text())  # with plug-ins that lie beside it
    home = {"relative_to": str(ran.config.parent)}
    assert tomllib.loads((ran.folder / "config.toml").read_text()) == {**home, **written}
    machine = json.loads((ran.folder / "environment.json").read_text())
    assert machine["packages"]["torch"] == torch.__version__
    assert machine["logical_cores"] == os.cpu_count()
    assert set(pd.read_parquet(ran.folder / "records.parquet")["method"]) == {*MISBEHAVIOUR, "healthy", "healthy_too"}


def test_the_run_tells_each_cell_and_where_it_is(ran: Ran) -> None:
    assert f"run: {ran.folder}" in ran.output
    assert f"[1/{len(MISBEHAVIOUR) + 2}] healthy on analysis_l1 identity n=8: ok, solve" in ran.output
    assert "refuses on analysis_l1 identity n=8: unsupported, needs the moon: fetch it" in ran.output


def test_pyperf_reads_the_timings(ran: Ran) -> None:
    first, second = (ran.records[key] for key in ("healthy", "healthy_too"))
    suite = ran.folder / "pyperf" / f"{first.cell_id}.json"
    stats = python("-m", "pyperf", "stats", suite)
    assert stats.returncode == 0, stats.stderr
    for phase in ("solve", "gradient", "total", "prepare"):
        assert f"{first.cell_id} {phase}" in stats.stdout
    assert "Total number of run: 2" in stats.stdout
    renamed = ran.folder.parent / "renamed.json"
    renamed.write_text(
        (ran.folder / "pyperf" / f"{second.cell_id}.json").read_text().replace(second.cell_id, first.cell_id)
    )
    compared = python("-m", "pyperf", "compare_to", "--table", suite, renamed)
    assert compared.returncode == 0, compared.stderr


def test_the_same_command_continues(ran: Ran) -> None:
    """What is settled is skipped; of the rest, one cell is asked for, and measured again."""
    before = len(read_journal(ran.folder))
    only = ("--only", "method=healthy,method=raises,method=refuses")
    again = bench("run", ran.config, "--out", ran.folder, *only, "--retry", "error")
    assert again.exit_code == 0, again.output
    assert f"2 of 3 cells are in {ran.folder} already" in again.output
    assert [record.method for record in read_journal(ran.folder)[before:]] == ["raises"]


def test_the_report_of_a_run_is_written(ran: Ran) -> None:
    out = ran.folder.parent / "report"
    done = bench("report", ran.folder, "--format", "md,csv", "--out", out)
    assert done.exit_code == 0, done.output
    suffixes = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert {".md", ".csv"} <= suffixes
    assert ".tex" not in suffixes


def test_a_damaged_line_is_told_and_takes_nothing_with_it(ran: Ran, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ran.folder, folder)
    lines = (folder / "journal.jsonl").read_bytes().split(b"\n")
    (folder / "journal.jsonl").write_bytes(b"\n".join([lines[0][:50], *lines[1:]]))
    done = bench("report", folder, "--format", "csv")
    assert done.exit_code == 0, done.output
    assert "journal.jsonl: line 1 is no record" in done.stderr
    cells = {json.loads(line)["cell_id"] for line in lines[1:-1]}
    assert len((folder / "report" / "records.csv").read_text().splitlines()) == 1 + len(cells)


def test_the_gate_passes_on_its_own_baseline_and_fails_on_a_better_one(ran: Ran) -> None:
    baseline, junit, summary = (ran.folder.parent / name for name in ("baseline.json", "junit.xml", "summary.md"))
    assert bench("check", ran.folder, "--baseline", baseline).exit_code == 2
    assert bench("check", ran.folder, "--baseline", baseline, "--update").exit_code == 0
    assert bench("check", ran.folder, "--baseline", baseline).exit_code == 0

    held_to = json.loads(baseline.read_text())
    held_to["cells"][ran.records["says_nan"].cell_id]["status"] = "ok"
    baseline.write_text(json.dumps(held_to))
    failed = bench("check", ran.folder, "--baseline", baseline, "--junit", junit, "--summary", summary)
    assert failed.exit_code == 1
    lines = [line for line in failed.output.splitlines() if line.startswith("says_nan on analysis_l1 identity n=8: ")]
    assert lines == [lines[0]]
    assert "status nonfinite, baseline ok" in lines[0]
    assert "<failure" in junit.read_text()
    assert "says_nan" in summary.read_text()


def test_the_gate_runs_a_configuration_and_leaves_nothing_but_the_baseline(tmp_path: Path) -> None:
    config = write_config(tmp_path, [write_method(tmp_path, "healthy")], timing=False, memory=False)
    baseline = tmp_path / "baseline.json"
    updated = bench("check", config, "--baseline", baseline, "--update")
    assert updated.exit_code == 0, updated.output
    write_method(tmp_path, "healthy", returned="1.001 * W")
    drifted = bench("check", config, "--baseline", baseline)
    assert drifted.exit_code == 1
    verdict = drifted.stderr.splitlines()[-1]
    assert verdict.startswith("healthy on analysis_l1 identity n=8: error 1.0e-03, baseline ")
    assert {path.name for path in tmp_path.iterdir()} == {"baseline.json", "config.toml", "healthy.py"}


def test_an_absent_device_is_one_line_and_rows(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    config = write_config(tmp_path, [write_method(tmp_path, "healthy")])
    done = bench("run", config, "--out", tmp_path / "run", "--device", "cuda")
    assert done.exit_code == 0, done.output
    assert done.output.count("this machine has no device 'cuda': its cells are recorded as unsupported") == 1
    (record,) = read_journal(tmp_path / "run")
    assert (record.status, record.device) == ("unsupported", "cuda")


BAD_INPUT = {
    "missing file": (["run", "absent.toml"], "absent.toml: there is no such file"),
    "bad device": (
        ["run", "CONFIG", "--device", "gpu"],
        "--device gpu: there is no device 'gpu': write cpu, cuda",
    ),
    "bad only": (["run", "CONFIG", "--only", "n"], "--only n: 'n' is not key=value"),
    "bad plug-in": (["run", "CONFIG", "--plugin", "absent.py"], "does not exist"),
    "bad format": (["report", ".", "--format", "pdf"], "--format pdf: choose from"),
    "no run": (["report", "tests"], "tests: not a run: it holds no journal.jsonl"),
    "no baseline": (["check", "CONFIG", "--baseline", "absent.json"], "absent.json: there is no such baseline"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, name: str) -> None:
    arguments, expected = BAD_INPUT[name]
    config = write_config(tmp_path, [write_method(tmp_path, "healthy")])
    done = bench(*(str(config) if argument == "CONFIG" else argument for argument in arguments))
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr
    assert done.stdout == ""


def test_a_stopped_run_leaves_its_journal_and_no_process(tmp_path: Path) -> None:
    """By Ctrl-C; test_faults.py has the ways that leave it no time."""
    pid_file = tmp_path / "pid"
    sleeps = f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    methods = [write_method(tmp_path, "healthy"), write_method(tmp_path, "sleeps", in_solve=sleeps)]
    config = write_config(tmp_path, methods, memory=False, tail="[reference]\nenabled = false\n")
    command = [sys.executable, "-m", "bench", "run", str(config), "--out", str(tmp_path / "run")]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=20)
    assert run.returncode == 1
    assert said.splitlines()[-1] == f"stopped; the same command with --out {tmp_path / 'run'} continues"
    assert [record.method for record in read_journal(tmp_path / "run")] == ["healthy"]
    until = time.monotonic() + 10
    while psutil.pid_exists(int(pid_file.read_text())) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_help_answers_at_once() -> None:
    """The brief allows 0.7 s. The best of three is the command's own time on a busy machine."""
    seconds = []
    for _ in range(3):
        if seconds and min(seconds) < 0.7:
            break
        started = time.perf_counter()
        assert python("-m", "bench", "--help").returncode == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.7


def test_list_and_env_say_what_there_is(tmp_path: Path) -> None:
    write_method(tmp_path, "healthy", refusal="'needs the moon: fetch it'")
    methods = bench("list", "methods", "--plugin", tmp_path / "healthy.py")
    assert methods.exit_code == 0, methods.output
    assert "Soft thresholding, for W a multiple of the identity." in methods.output
    assert "blorc" in methods.output
    pairs = bench("list", "pairs", "--plugin", tmp_path / "healthy.py")
    assert "no: needs the moon: fetch it" in pairs.output
    machine = bench("env")
    assert machine.exit_code == 0
    assert f"logical_cores: {os.cpu_count()}" in machine.output


def test_sigterm_ends_a_background_job_too() -> None:
    """A shell starts those with SIGINT ignored, which Python leaves so."""
    code = """
import os, signal, time
from bench.cli import _interruptible
with _interruptible("stopped"):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
print("went on")
"""
    command = f"trap '' INT; exec {sys.executable} -c '{code}'"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "stopped" in done.stderr
    assert done.stdout == ""
