"""Runs that are spread over jobs: what is merged, what a lost job costs, and a real Slurm of one node."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest

from bench import config
from bench.cell import Cell, Instance
from bench.cluster import FORGOTTEN, SETTINGS, Cluster, ClusterError, Seen, Slurm, settings_of
from bench.journal import Journal, read
from bench.measure import record_of
from bench.plan import matrix
from bench.record import Status, read_journal
from bench.run import Plan
from bench.slurm import SlurmOptions, measure_on_slurm
from tests.bench_plugins import write_config, write_method
from tests.slurm_cluster import DAEMONS, PATIENCE_SECONDS, LocalJobs, PrivateSlurm, wait_until

ROOT = Path(__file__).parents[1]


def collect(config_path: Path, out: Path, cluster: Cluster, retry: Sequence[str] = ()) -> list[str]:
    """A run whose cells go to a cluster; what it said."""
    said: list[str] = []
    asked = {"document": config.read(config_path), "file": str(config_path), "plugins": [], "devices": None, "only": ""}
    cells = [Cell.from_json(cell) for cell in matrix(asked)["cells"]]
    with Journal(out) as journal:
        settled = {cell_id for cell_id, record in journal.records.items() if record.status not in retry}
        pending = [cell for cell in cells if cell.cell_id not in settled]
        plan, options = plan_of(cells, config_path, out), SlurmOptions(cluster=cluster)
        measure_on_slurm(plan, pending, options, lambda _, record: journal.append(record), said.append)
    return said


def plan_of(cells: list[Cell], config_path: Path, out: Path, *plugins: str) -> Plan:
    """With what is asked of a plan here; the jobs make their own."""
    others: dict[str, Any] = {
        "config": None,
        "catalogue": None,
        "jobs": 1,
        "absent": frozenset(),
        "machine": {},
        "reads": None,
    }
    return Plan(config_path=config_path, plugins=plugins, cells=cells, out=out, **others)


class Collector:
    """The same in a process of its own. Leaving ends it, and then the jobs, by the file that they wait for."""

    def __init__(self, config_path: Path, run: Path, cluster: str, **environment: str) -> None:
        self._run, self._go = run, config_path.parent / "go"
        code = f"import sys; from tests.test_slurm import *; collect(*map(Path, sys.argv[1:]), {cluster}())"
        command = [sys.executable, "-c", code, str(config_path), str(run)]
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._go.touch()

    def wait_for(self, *expected: tuple[str, int, str]) -> None:
        """Until these are the newest lines of the journal, in any order."""

        def there() -> bool:
            assert self.process.poll() is None, "the collector has ended"
            return sorted(lines(self._run)[-len(expected) :]) == sorted(expected)

        wait_until(there)


def blocking_config(folder: Path, seeds: int) -> Path:
    """One job for each seed: `quick` goes through, `waits` does so once there is a file called `go`."""
    waits = f"while not os.path.exists({str(folder / 'go')!r}): time.sleep(0.05)"
    methods = [write_method(folder, "quick"), write_method(folder, "waits", in_solve=waits)]
    short = {"timing": False, "memory": False}
    problem = f"seed = {list(range(seeds))}"
    return write_config(folder, methods, problem, "[reference]\nenabled = false\n", **short)


def lines(run: Path) -> list[tuple[str, int, str]]:
    """Method, seed and status, as they came."""
    there = (run / "journal.jsonl").exists()
    return [(record.method, record.seed, str(record.status)) for record in read_journal(run)] if there else []


def kill_tree(pid: int) -> None:
    """Nothing of it has the time to say anything."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def test_a_killed_job_costs_its_unfinished_cells_and_a_killed_collector_nothing(tmp_path: Path) -> None:
    """Two jobs of two cells. Both hang in their second when the collector is killed, and then one of the jobs."""
    config_path, run = blocking_config(tmp_path, seeds=2), tmp_path / "run"
    with Collector(config_path, run, "LocalJobs") as collector:
        collector.wait_for(("quick", 0, "ok"), ("quick", 1, "ok"))
        collector.process.kill()
        job_ids = [json.loads(path.read_text())["job_id"] for path in sorted(run.glob("jobs/*/job.json"))]
        kill_tree(int(job_ids[1]))

    said = collect(config_path, run, LocalJobs())
    assert said[0] == f"submitted before, and waited for: {job_ids[0]}, {job_ids[1]}"
    assert sorted(lines(run)[2:]) == [("waits", 0, "ok"), ("waits", 1, "crashed")]
    (lost,) = (record for record in read(run).values() if record.status is Status.CRASHED)
    assert lost.message.startswith(f"Slurm job {job_ids[1]}: {FORGOTTEN} on no node: ")
    assert len(list(run.glob("jobs/*/job.json"))) == 2

    collect(config_path, run, LocalJobs(), retry=["crashed"])
    assert lines(run)[4:] == [("waits", 1, "ok")]
    assert collect(config_path, run, LocalJobs()) == []
    assert len(lines(run)) == 5


@dataclass
class Scripted(Cluster):
    """Each submitted job writes so many records at once, the last of a given status; the answers about it are given."""

    answers: list[Seen | BaseException]
    finishes: int = 1
    last: Status = Status.OK
    refuses: str = ""
    commands: list[Sequence[str]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def submit(
        self, logs: Path, commands: Sequence[Sequence[str]], settings: Mapping[str, Any], at_once: int
    ) -> list[str]:
        del settings, at_once
        if self.refuses:
            raise ClusterError(self.refuses)
        logs.mkdir(parents=True, exist_ok=True)
        known = {cell.cell_id: cell for cell in CELLS}
        for number, command in enumerate(commands, start=len(self.commands)):
            (logs / f"7_{number}_0_log.err").write_text("a warning\n\nslurmstepd: last words\n")
            options = dict(zip(command[5::2], command[6::2], strict=True))
            asked = [known[clause.removeprefix("cell_id=")] for clause in options["--only"].split(",")]
            statuses = [Status.OK] * (self.finishes - 1) + [self.last]
            with Journal(Path(options["--out"])) as journal:
                for cell, status in zip(asked, statuses, strict=False):
                    journal.append(record_of(cell, status, "", solve_seconds=0.1, environment="e"))
            (Path(options["--out"]) / "environments").mkdir()
            (Path(options["--out"]) / "environments" / "e.json").write_text("{}")
        job_ids = [f"7_{number}" for number in range(len(self.commands), len(self.commands) + len(commands))]
        self.commands += commands
        return job_ids

    def states(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return dict.fromkeys(job_ids, answer)

    def cancel(self, job_ids: Sequence[str]) -> None:
        self.cancelled += job_ids


def cell(method: str, seed: int) -> Cell:
    instance = Instance("analysis_l1", {"seed": seed}, {"seed": seed}, "analysis_l1", 8, 8, 64, 1, f"sha{seed}")
    return Cell(instance, method, {}, 1, "cpu", "float64", 1)


CELLS = [cell(method, seed) for seed in (0, 1) for method in ("first", "second")]


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., list[str]]:
    """Called with a cluster and cells, appends to the journal in `tmp_path`; what was said."""

    def call(cluster: Cluster, cells: list[Cell] = CELLS) -> list[str]:
        said: list[str] = []
        plan, options = plan_of(CELLS, Path("c.toml"), tmp_path, "p.py"), SlurmOptions(cluster=cluster)
        with Journal(tmp_path) as journal:
            measure_on_slurm(plan, cells, options, lambda _, record: journal.append(record), said.append)
        return said

    return call


RUNNING, COMPLETED = Seen("RUNNING", "node3"), Seen("COMPLETED", "node3")


def test_the_cells_of_an_instance_share_a_job(measure: Callable[..., list[str]], tmp_path: Path) -> None:
    cluster = Scripted([RUNNING, COMPLETED], finishes=2)
    measure(cluster)
    assert [(method, seed) for method, seed, _ in lines(tmp_path)] == [
        (cell.method, cell.instance.parameters["seed"]) for cell in CELLS
    ]
    for number, command in enumerate(cluster.commands):
        only = ",".join(f"cell_id={cell.cell_id}" for cell in CELLS[2 * number : 2 * number + 2])
        folder = str(tmp_path / "jobs" / f"000{number + 1}")
        expected = [sys.executable, "-m", "bench", "run", "c.toml", "--jobs", "1", "--plugin", "p.py"]
        assert command == [*expected, "--out", folder, "--device", "cpu", "--only", only]
    assert {record.reproduce for record in read(tmp_path).values()} == {
        f"python -m bench reproduce {cell.cell_id} {tmp_path}" for cell in CELLS
    }
    assert (tmp_path / "environments" / "e.json").exists()


@pytest.mark.parametrize(
    ("state", "status"),
    [("TIMEOUT", "timeout"), ("OUT_OF_MEMORY", "out_of_memory"), ("PREEMPTED", "crashed"), ("NODE_FAIL", "crashed")],
)
def test_slurm_says_what_became_of_unfinished_cells(
    measure: Callable[..., list[str]], tmp_path: Path, state: str, status: str
) -> None:
    measure(Scripted([RUNNING, Seen(state, "node3")]))
    assert [(method, was) for method, _, was in lines(tmp_path)] == [("first", "ok")] * 2 + [("second", status)] * 2
    messages = [record.message for record in read(tmp_path).values() if record.message]
    assert messages == [
        f"Slurm job 7_{number}: {state} on node3: a warning; slurmstepd: last words" for number in (0, 1)
    ]


@pytest.mark.parametrize(("end", "believed"), [("COMPLETED", 1), ("CANCELLED", 0)])
def test_a_crash_may_be_slurms_own_signal(
    measure: Callable[..., list[str]], tmp_path: Path, end: str, believed: int
) -> None:
    """A job that is cancelled may still write that its worker was killed; one that comes to its end knows better."""
    measure(Scripted([RUNNING, Seen(end)], last=Status.CRASHED), CELLS[:2])
    assert [status for _, _, status in lines(tmp_path)] == ["crashed", "crashed"]
    assert sum(not record.message for record in read(tmp_path).values()) == believed


def test_a_silent_slurm_is_asked_again(measure: Callable[..., list[str]], tmp_path: Path) -> None:
    silent = ClusterError("squeue: Unable to contact slurm controller")
    said = measure(Scripted([Seen("PENDING", "", "Resources"), silent, COMPLETED], finishes=2))
    assert said[1:] == ["jobs: 2 pending (Resources)", "squeue: Unable to contact slurm controller: asking again"]
    assert len(lines(tmp_path)) == 4


def test_ctrl_c_cancels_and_keeps_what_is_finished(measure: Callable[..., list[str]], tmp_path: Path) -> None:
    cluster = Scripted([RUNNING, KeyboardInterrupt(), Seen("CANCELLED")])
    with pytest.raises(KeyboardInterrupt):
        measure(cluster)
    assert cluster.cancelled == ["7_0", "7_1"]
    assert [(method, status) for method, _, status in lines(tmp_path)] == [("first", "ok")] * 2
    again = Scripted([COMPLETED], finishes=1)
    measure(again, [cell for cell in CELLS if cell.method == "second"])
    assert len(again.commands) == 2
    assert Counter(method for method, _, _ in lines(tmp_path)) == {"first": 2, "second": 2}


def test_a_refused_submission_loses_nothing(measure: Callable[..., list[str]], tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no job was submitted: invalid partition"):
        measure(Scripted([], refuses="no job was submitted: invalid partition specified: nope"))
    assert not list(tmp_path.glob("jobs/*/job.json"))
    measure(Scripted([COMPLETED], finishes=2))
    assert len(lines(tmp_path)) == 4


def test_settings_are_sbatchs_own() -> None:
    given = ["partition=gpu", "time=2:00:00", "exclusive=true", "setup=module load cuda", "setup=ulimit -c 0"]
    expected = {"partition": "gpu", "time": "2:00:00", "exclusive": True}
    assert settings_of(given) == {**expected, "setup": ["module load cuda", "ulimit -c 0"]}


@pytest.mark.parametrize(
    ("clause", "line"),
    [
        ("partion=gpu", "--slurm partion=gpu: there is no 'partion': did you mean 'partition'?"),
        ("partition", "--slurm partition: a value is missing, as in time=2:00:00 or exclusive=true"),
    ],
)
def test_settings_that_are_none_are_refused(clause: str, line: str) -> None:
    with pytest.raises(ClusterError) as refused:
        settings_of([clause])
    assert str(refused.value) == line


def test_submitit_takes_all_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an sbatch that says what it was asked for, and refuses."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in SETTINGS:
        option = "# setup" if name == "setup" else f"#SBATCH --{name.replace('_', '-')}=5"
        for command in ("sbatch", "srun"):
            (tmp_path / command).write_text(f'#!/bin/sh\ngrep "^{option}" "$1" >&2; exit 1\n')
            (tmp_path / command).chmod(0o755)
        with pytest.raises(ClusterError, match=f"^no job was submitted: {option}$"):
            Slurm().submit(tmp_path / "logs", [["true"]], {name: ["true"] if name == "setup" else "5"}, 1)


ABSENT = [name for name in DAEMONS if shutil.which(name) is None]
WHY = "needs root" if os.geteuid() != 0 else f"{', '.join(ABSENT)} absent: apt-get install slurm-wlm munge"


@pytest.fixture
def slurm() -> Iterator[PrivateSlurm]:
    with PrivateSlurm() as cluster:
        yield cluster
    wait_until(lambda: not cluster.processes())


@pytest.mark.slurm
@pytest.mark.skipif(bool(ABSENT) or os.geteuid() != 0, reason=WHY)
class TestOnSlurm:
    """One node of two processors, hence two jobs at a time."""

    def test_a_matrix_outlives_a_cancelled_job_and_a_drained_node(
        self, slurm: PrivateSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config_path, run = blocking_config(tmp_path, seeds=3), tmp_path / "run"
        with Collector(config_path, run, "Slurm", **slurm.variables) as collector:
            collector.wait_for(("quick", 0, "ok"), ("quick", 1, "ok"))
            jobs = [json.loads(path.read_text())["job_id"] for path in sorted(run.glob("jobs/*/job.json"))]

            slurm.ask("scontrol", "update", f"NodeName={slurm.node}", "State=DRAIN", "Reason=test")
            slurm.ask("scancel", jobs[1])
            collector.wait_for(("waits", 1, "crashed"))
            (lost,) = (record for record in read(run).values() if record.status is Status.CRASHED)
            assert lost.message.startswith(f"Slurm job {jobs[1]}: CANCELLED on {slurm.node}: ")
            (tmp_path / "go").touch()
            collector.wait_for(("waits", 0, "ok"))
            wait_until(lambda: slurm.ask("squeue", "--array", "--noheader", "--format=%T %i") == f"PENDING {jobs[2]}\n")

            slurm.ask("scontrol", "update", f"NodeName={slurm.node}", "State=RESUME")
            assert collector.process.wait(PATIENCE_SECONDS) == 0
        assert lines(run)[4:] == [("quick", 2, "ok"), ("waits", 2, "ok")]
        for name, value in slurm.variables.items():
            monkeypatch.setenv(name, value)
        collect(config_path, run, Slurm(), retry=["crashed"])
        assert lines(run)[6:] == [("waits", 1, "ok")]
        assert {record.status for record in read(run).values()} == {Status.OK}

    def test_ctrl_c_cancels_the_jobs(self, slurm: PrivateSlurm, tmp_path: Path) -> None:
        """One of them has not begun: Slurm forgets it at once."""
        config_path, run = blocking_config(tmp_path, seeds=3), tmp_path / "run"
        with Collector(config_path, run, "Slurm", **slurm.variables) as collector:
            collector.wait_for(("quick", 0, "ok"), ("quick", 1, "ok"))
            collector.process.send_signal(signal.SIGINT)
            assert collector.process.wait(PATIENCE_SECONDS) == -signal.SIGINT
        assert sorted(lines(run)) == [("quick", 0, "ok"), ("quick", 1, "ok")]
        assert slurm.ask("squeue", "--noheader") == ""

    def test_an_unknown_partition_is_one_line(
        self, slurm: PrivateSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in slurm.variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ClusterError) as refused:
            Slurm().submit(tmp_path, [["true"], ["true"]], {"partition": "nope"}, 1)
        assert "invalid partition specified: nope" in str(refused.value)
        assert "\n" not in str(refused.value)
