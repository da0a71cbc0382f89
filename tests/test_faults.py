"""Methods that go wrong in every way that we know: each must become a row with the right word, and no process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from bench import config, isolation, plan, process_tree
from bench.catalogue import Catalogue
from bench.cli import app
from bench.isolation import ClosedError, Job, Workers
from bench.measure import CellRunner
from bench.record import Record, read_journal
from tests.bench_plugins import write_config, write_method

ROOT = Path(__file__).parents[1]
NO_REFERENCE = "[reference]\nenabled = false\n"
TIMEOUT_SECONDS = 3.0

LOOP_IN_C = "__import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)"
"""Never leaves one C function, in which no other thread can have Python's lock and no handler of a signal runs."""
DAEMON = "os.fork() == 0 and (os.setsid(), os.fork() and os._exit(0), {note}, time.sleep(300))"
"""A grandchild in a session of its own whose parent has ended: by Unix's rules no relative any more."""
FIFTY = "[os.fork() or time.sleep(300) for _ in range(50)]"
FLOOD = "[os.write(2, b'x' * 2**20) for _ in range(2**10)]"
"""A gibibyte."""
CHILD_THAT_EATS = "x = [b'1' * 2**24 for _ in range(250)]; import time; time.sleep(300)"

FAULTS: dict[str, tuple[dict[str, str], str, str]] = {
    "segfaults": (
        {"in_solve": "__import__('ctypes').string_at(0)"},
        "crashed",
        r'killed by SIGSEGV after \d+\.\d s in File ".*ctypes.*", line \d+ in string_at$',
    ),
    "exits": (
        {"in_gradient": "print('last words', flush=True); os._exit(7)"},
        "crashed",
        r"the process ended with exit code 7 after \d+\.\d s; last output: last words$",
    ),
    "leaves": (
        {"in_solve": "raise SystemExit(5)"},
        "crashed",
        r"the process ended with exit code 5 after \d+\.\d s$",
    ),
    "kills_itself": (
        {"in_solve": "os.kill(os.getpid(), signal.SIGKILL)"},
        "crashed",
        r"killed by SIGKILL after \d+\.\d s$",
    ),
    "kills_its_parent": (
        {"in_solve": "os.kill(os.getppid(), signal.SIGKILL); time.sleep(300)"},
        "crashed",
        r"the process that supervised it was killed or stopped, after \d+\.\d s$",
    ),
    "allocates_without_bound": (
        {"in_solve": "[*iter(lambda: b'1' * 2**24, None)]"},
        "out_of_memory",
        r"more than 0\.60 GiB resident \(\d\.\d\d GiB\) after \d+\.\d s \(\[measure\] memory_limit_gib\)",
    ),
    "feeds_a_child": (
        {"in_solve": f"__import__('subprocess').run([__import__('sys').executable, '-c', {CHILD_THAT_EATS!r}])"},
        "out_of_memory",
        r"more than 0\.60 GiB resident",
    ),
    "loops_in_python": (
        {"in_solve": "while True: pass"},
        "timeout",
        r'not finished after 3 s \(\[measure\] timeout_seconds\) in File ".*loops_in_python.py", line \d+ in solve$',
    ),
    "loops_in_c": (
        {"in_solve": LOOP_IN_C},
        "timeout",
        r'not finished after 3 s \(\[measure\] timeout_seconds\) in File ".*loops_in_c.py", line \d+ in solve$',
    ),
    "forks_fifty": (
        {"in_prepare": f"{FIFTY}; time.sleep(300)"},
        "timeout",
        r"not finished after 3 s \(\[measure\] timeout_seconds\) in File",
    ),
    "says_nan": ({"returned": "W * np.nan"}, "nonfinite", "the gradient has entries that are not finite"),
    "has_wrong_shape": (
        {"returned": "W[:, :3]"},
        "error",
        r"BadGradientError: the gradient of W must have shape \(8, 8\), it has \(8, 3\)",
    ),
    "has_wrong_dtype": (
        {"returned": "W.float()"},
        "error",
        r"BadGradientError: the gradient of W must be of torch\.float64, it is of torch\.float32",
    ),
    "raises_in_prepare": ({"in_prepare": "raise KeyError('two\\nlines')"}, "error", r"KeyError: 'two"),
    "deletes_the_worker_s_folder": (
        {"in_solve": "__import__('shutil').rmtree(os.path.dirname(os.environ['TMPDIR']))"},
        "error",
        "the worker's folder was deleted under it, with its result",
    ),
    # What follows is bad manners, but the gradient is right and the clock undisturbed.
    "deletes_its_temporary_folder": ({"in_solve": "__import__('shutil').rmtree(os.environ['TMPDIR'], True)"}, "ok", ""),
    "floods_stderr": ({"in_prepare": FLOOD}, "ok", ""),
    "closes_its_output": ({"in_prepare": "__import__('sys').stdout.close(); os.close(2)"}, "ok", ""),
    "returns_twice": ({"in_prepare": "os.fork()"}, "ok", ""),
    "leaves_a_daemon": ({"in_prepare": DAEMON.format(note="0")}, "ok", ""),
}
HEALTHY = ("healthy", "healthy_too")


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that were started, at whatever remove, with this in their environment."""

    def is_marked(process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("FAULTS") == mark
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if is_marked(process)]


def eventually(holds: Callable[[], Any], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(holds())


@dataclass(frozen=True)
class Ran:
    """The records of a run by their methods, what it said on stderr, and its processes that had not ended with it."""

    records: dict[str, Record]
    errors: str
    left: list[psutil.Process]


def written(folder: Path, faults: dict[str, dict[str, str]]) -> Path:
    """A configuration of the healthy methods with the faulty ones between them."""
    spoilt = [write_method(folder, key, **changes) for key, changes in faults.items()]
    methods = [write_method(folder, HEALTHY[0]), *spoilt, write_method(folder, HEALTHY[1], batched="False")]
    limits = {"memory": False, "timeout_seconds": TIMEOUT_SECONDS, "memory_limit_gib": 0.6}
    return write_config(folder, methods, "pairs = 2\nbatch = 2", **limits)


def records_of(folder: Path) -> dict[str, Record]:
    return {record.method: record for record in read_journal(folder / "run")}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("matrix")
    path = written(folder, {key: changes for key, (changes, _, _) in FAULTS.items()})
    command = [sys.executable, "-m", "bench", "run", str(path), "--out", str(folder / "run")]
    environment = {**os.environ, "FAULTS": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return Ran(records_of(folder), done.stderr, marked(str(folder)))


@pytest.mark.parametrize("key", FAULTS)
def test_each_fault_is_a_row_with_its_word(matrix: Ran, key: str) -> None:
    _, status, message = FAULTS[key]
    record = matrix.records[key]
    assert record.status == status, record.message
    assert re.match(message or "$", record.message), record.message
    assert "\n" not in record.message


def test_healthy_cells_beside_them_are_what_they_are_alone(matrix: Ran, tmp_path: Path) -> None:
    path = written(tmp_path, {})
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    alone = records_of(tmp_path)
    for key in HEALTHY:
        record = matrix.records[key]
        assert (record.status, record.message) == ("ok", "")
        assert record.error_relative == alone[key].error_relative
        assert record.kkt_residual == alone[key].kkt_residual
        assert record.error_relative is not None
        assert record.solve_seconds is not None


def test_no_process_is_left_and_the_runner_says_how_far_it_is(matrix: Ran) -> None:
    assert matrix.left == []
    progress = re.compile(r"references: \d+ pairs|\[\d+/\d+\] .+|\d+ of \d+ done, .+")
    assert [line for line in matrix.errors.splitlines() if not progress.fullmatch(line)] == []


# --- the runner's own end, and what only one worker shows -----------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_no_process_outlives_the_runner(tmp_path: Path, by: signal.Signals) -> None:
    """Although the method holds Python's lock in C, and has started a daemon that notes its own number."""
    note, scratch = tmp_path / "daemon", Path(tempfile.mkdtemp(prefix="scratch"))  # short, as it is a socket's place
    daemon = DAEMON.format(note=f"open({str(note)!r}, 'w').write(str(os.getpid()))")
    method = write_method(tmp_path, "stubborn", in_prepare=daemon, in_solve=LOOP_IN_C)
    path = write_config(tmp_path, [method], memory=False, timing=False, tail=NO_REFERENCE)
    environment = {**os.environ, "FAULTS": str(tmp_path), "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "bench", "run", str(path), "--out", str(tmp_path / "run")]
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: note.exists() and note.read_text(), seconds=60)
        time.sleep(0.2)  # for the loop to begin
        assert len(marked(str(tmp_path))) >= 4  # runner, supervisor, worker, daemon
        run.send_signal(by)
        run.wait(timeout=20)
        assert eventually(lambda: not marked(str(tmp_path)))
        assert not psutil.pid_exists(int(note.read_text()))
        assert eventually(lambda: not list(scratch.glob("hypergrad-bench-*")))
    finally:
        run.kill()
        shutil.rmtree(scratch)


def test_a_temporary_folder_too_deep_for_a_socket_is_one_line(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    command = [sys.executable, "-m", "bench", "run", "bench/configs/smoke.toml", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(deep)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: TMPDIR: {deep} is too long a path for the socket that workers are started by: set a shorter one"
    ]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


def measured(folder: Path, workers: Workers, *, in_solve: str, **measure: Any) -> Record:
    method = write_method(folder, "plugged", in_solve=in_solve)
    path = write_config(folder, [method], **({"memory": False, "timing": False} | measure))
    settings = config.load(path)
    catalogue = Catalogue.of(plan.plugin_files(settings, path, []))
    (cell,) = plan.expand(settings, catalogue, str(path))
    return CellRunner(settings.measure, catalogue, workers, folder).measure(cell, None)


def test_a_gibibyte_of_output_takes_neither_memory_nor_disk(tmp_path: Path, workers: Workers) -> None:
    """The supervisor is a fork of a process with torch: what counts is by how much it grows. It keeps 64 KiB."""
    largest, files, done = list[int](), list[int](), threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            with suppress(psutil.Error, FileNotFoundError):
                supervisors = [each for server in psutil.Process().children() for each in server.children()]
                held = [supervisor.memory_info().rss for supervisor in supervisors]
                largest.extend(each for each in held if each)  # one that has ended holds nothing
                files.append(sum(path.stat().st_size for path in Path(workers._folder.name).rglob("*")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        record = measured(tmp_path, workers, in_solve=f"{FLOOD}; os.write(2, b' that was all'); os._exit(7)")
    finally:
        done.set()
        watcher.join()
    assert re.match(r"the process ended with exit code 7 after .* s; last output: x+$", record.message)
    assert max(largest) - min(largest) < 2**26
    assert max(files) < 2**20


def test_a_supervisor_that_a_method_stops_is_given_up(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 1.0)
    note = tmp_path / "worker"
    stops = f"open({str(note)!r}, 'w').write(str(os.getpid())); os.kill(os.getppid(), signal.SIGSTOP); time.sleep(300)"
    record = measured(tmp_path, workers, in_solve=stops, timeout_seconds=2)
    assert record.status == "crashed"
    assert re.match("the process that supervised it was killed or stopped", record.message)
    assert eventually(lambda: not psutil.pid_exists(int(note.read_text())))


def test_workers_of_other_threads_end_with_the_context(tmp_path: Path) -> None:
    note, started = tmp_path / "worker", time.monotonic()
    with Workers() as workers, ThreadPoolExecutor(1) as pool:
        sleeps = f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
        future = pool.submit(measured, tmp_path, workers, in_solve=sleeps)
        assert eventually(lambda: note.exists() and note.read_text(), seconds=60)
        workers.__exit__(None, None, None)
        assert future.result(timeout=10).status in ("crashed", "error")  # killed, and its folder is gone
        with pytest.raises(ClosedError):
            workers.run_one(Job("tabulate", {}, "fork", 1, 1.0))
    assert not psutil.pid_exists(int(note.read_text()))
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("module", ["bench.isolation", "bench.supervisor"])
def test_who_starts_workers_loads_no_torch(module: str) -> None:
    told = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], cwd=ROOT).returncode == 0


def test_a_tree_is_listed_and_weighed_as_psutil_has_it() -> None:
    """Within 2 %: psutil reads them at another moment. The page tables' sums must hold what each has to itself."""
    child = "import subprocess, time; x = b'1' * 2**26; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", child]) as parent:
        try:
            assert eventually(lambda: psutil.Process(parent.pid).children())
            known = {each.pid: each for each in psutil.Process().children(recursive=True)}
            assert set(process_tree.descendants(os.getpid())) == set(known)
            family = [parent.pid, *process_tree.descendants(parent.pid)]
            resident = sum(known[pid].memory_info().rss for pid in family)
            assert process_tree.resident_bytes(family) == pytest.approx(resident, rel=0.02)
            held = sum(process_tree.proportional_bytes(pid) for pid in family)
            assert sum(known[pid].memory_full_info().uss for pid in family) <= held <= 1.02 * resident
        finally:
            for pid in process_tree.descendants(parent.pid):
                process_tree.kill(pid)
            parent.kill()
