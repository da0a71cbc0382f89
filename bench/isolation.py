"""Worker processes: started, awaited, killed as a tree when late or large; what became of each, in a record's words.

A worker comes from a fork server that has torch loaded and no thread pool running (0.1 s), or, for CUDA and for
start = "spawn", from a fresh interpreter (2 s). Each has a supervisor (see bench/supervisor.py) for its parent. Results
come back as JSON and .npy files: nothing is unpickled.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.die_with_runner import RUNNER
from bench.process_tree import descendants, kill, kill_session, memory_bytes
from bench.record import Status
from bench.supervisor import JOB, RESULT, SCRATCH, Cause, Ending, Limits, supervise
from bench.threads import thread_environment
from problems.registry import ROOT

PRELOADED = [
    "bench.die_with_runner",
    "torch",
    "numpy",
    "scipy.linalg",
    "numba",
    "problems.contract",
    "methods.contract",
    "bench.supervisor",
    "bench.worker",
    "bench.preload",
    "torch._dynamo",
]
"""What every worker has loaded when it starts; torch.func takes 1.2 s to load torch._dynamo when it is first called."""

GRACE_SECONDS = 15.0
"""For a supervisor to end its worker's tree; one that takes longer was stopped or killed itself."""
MEMORY_SHARE = 0.8
"""Of what this process may use, the default limit of a worker's tree."""
GIB = 2**30


@dataclass(frozen=True)
class Job:
    """One role for one worker; `payload` is the role's JSON, and None the default limit of resident memory."""

    role: str
    payload: dict[str, Any]
    start: str
    threads: int
    timeout_seconds: float
    memory_limit_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a worker ended, and how long after its start. `numbers` is what its role returned, empty unless ok.

    `folder` is where its arrays are, `output` the end of what was printed, and the traceback of its exception.
    """

    status: Status
    message: str
    numbers: dict[str, Any]
    folder: Path
    seconds: float
    output: str = ""

    def remove_files(self) -> None:
        """Once its arrays have been read: they may be large, and the temporary folder may lie in memory."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class _Running:
    index: int
    job: Job
    memory_limit_bytes: int
    supervisor: BaseProcess
    report: Connection
    folder: Path
    started: float

    @property
    def overdue(self) -> float:
        """When its supervisor, too, is given up."""
        return self.started + self.job.timeout_seconds + GRACE_SECONDS


class NoSocketError(RuntimeError):
    """Workers cannot be started; one line."""


class ClosedError(RuntimeError):
    """A worker was asked for, by some other thread, when the context had ended."""


class Workers:
    """A temporary folder, and the processes whose files lie in it; all are gone when the context ends.

    Threads may share it. `preload` names modules that forked workers find loaded, beside those that every one of them
    has.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = [*PRELOADED, *preload]
        self._count = itertools.count()
        self._lock, self._alive, self._closed = threading.Lock(), set[_Running](), False

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="hypergrad-bench-", ignore_cleanup_errors=True)
        self._memory_limit_bytes = int(MEMORY_SHARE * memory_bytes())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
        _stop(self._alive.copy())  # those of other threads, which see them end
        self._folder.cleanup()

    def run(self, jobs: Sequence[Job], at_once: int = 1) -> Iterator[tuple[int, Outcome]]:
        """(index, outcome) in the order in which they finish. Closing the iterator kills what still runs.

        Raises ClosedError.
        """
        waiting = list(enumerate(jobs))[::-1]
        running: list[_Running] = []
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(self._start(*waiting.pop()))
                for worker in _finished(running):
                    outcome = _outcome(worker)
                    running.remove(worker)
                    self._alive.discard(worker)
                    yield worker.index, outcome
        finally:
            _stop(running)
            for worker in running:
                _end(worker)
            self._alive.difference_update(running)

    def run_one(self, job: Job) -> Outcome:
        """The outcome of a single job."""
        return next(outcome for _, outcome in self.run([job]))

    def _start(self, index: int, job: Job) -> _Running:
        with self._lock:  # the environment, which a fresh interpreter inherits, is one for all threads
            if self._closed:
                raise ClosedError("these workers are gone")
            worker = self._started(index, job)
            self._alive.add(worker)
            return worker

    def _started(self, index: int, job: Job) -> _Running:
        folder = Path(self._folder.name) / str(next(self._count))
        (folder / SCRATCH).mkdir(parents=True)
        (folder / JOB).write_text(json.dumps({"role": job.role, "threads": job.threads, **job.payload}))
        limit = self._memory_limit_bytes if job.memory_limit_bytes is None else job.memory_limit_bytes
        context = multiprocessing.get_context("forkserver" if job.start == "fork" else "spawn")
        report, theirs = context.Pipe(duplex=False)
        arguments = (str(folder), Limits(job.timeout_seconds, limit), theirs)
        supervisor: BaseProcess = context.Process(target=supervise, args=arguments)  # type: ignore[attr-defined]
        if job.start == "fork":
            _start_fork_server(self._preload)
            supervisor.start()
        else:
            with thread_environment(job.threads, PYTHONPATH=_python_path()):
                supervisor.start()
        theirs.close()  # so that the pipe ends with the supervisor
        return _Running(index, job, limit, supervisor, report, folder, time.monotonic())


def _start_fork_server(preload: list[str]) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload(preload)
    # One thread: no pool may run before a fork. numba starts its own with the first parallel kernel, in the worker,
    # which can have fewer threads than were named when numba was loaded, but not more.
    cores = str(os.cpu_count() or 1)
    # A worker that is killed leaves numba's semaphore behind; Python's tracker removes it, and need not tell the user.
    quiet = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"]))
    others = {"PYTHONPATH": _python_path(), "NUMBA_NUM_THREADS": cores, "PYTHONWARNINGS": quiet}
    with thread_environment(1, **others, **{RUNNER: str(os.getpid())}):
        try:
            multiprocessing.forkserver.ensure_running()
        except OSError as error:
            if "AF_UNIX" not in str(error):
                raise
            folder = tempfile.gettempdir()
            raise NoSocketError(
                f"TMPDIR: {folder} is too long a path for the socket that workers are started by: set a shorter one"
            ) from None


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _finished(running: list[_Running]) -> list[_Running]:
    """Those whose supervisor has reported or ended, and those that are overdue; waits for the first of either."""
    patience = max(0.0, min(worker.overdue for worker in running) - time.monotonic())
    ready = multiprocessing.connection.wait([worker.report for worker in running], timeout=patience)
    return [worker for worker in running if worker.report in ready or worker.overdue <= time.monotonic()]


def _stop(running: Collection[_Running]) -> None:
    """Has the supervisors kill their trees, and sees that they end."""
    for worker in running:
        worker.supervisor.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for worker in running:
        patience = max(0.0, until - time.monotonic())
        if not multiprocessing.connection.wait([worker.supervisor.sentinel], timeout=patience):
            _kill_tree(worker)


def _kill_tree(worker: _Running) -> None:
    """In place of a supervisor that is stopped, or was killed itself."""
    supervisor = worker.supervisor
    assert supervisor.pid is not None
    for pid in descendants(supervisor.pid):
        kill(pid)
    supervisor.kill()
    kill_session(supervisor.pid, str(worker.folder / SCRATCH))


def _end(worker: _Running) -> None:
    """Sees that neither the supervisor nor anything of its tree is left."""
    overdue = worker.overdue <= time.monotonic()
    worker.supervisor.join(0.0 if overdue else GRACE_SECONDS)
    if worker.supervisor.exitcode != 0:
        _kill_tree(worker)
        worker.supervisor.join()
    worker.report.close()


def _outcome(worker: _Running) -> Outcome:
    ending = _reported(worker)
    _end(worker)
    seconds = time.monotonic() - worker.started if ending is None else ending.seconds
    output = "" if ending is None else ending.output
    if ending is not None and ending.left_out_bytes:
        output = f"[{ending.left_out_bytes} bytes before this were not kept]\n{output}"
    with suppress(FileNotFoundError):
        numbers = json.loads((worker.folder / RESULT).read_text())
        status, message = Status(numbers.pop("status")), numbers.pop("message", "")
        output += ("\n" if output and not output.endswith("\n") else "") + numbers.pop("traceback", "")
        return Outcome(status, message, numbers, worker.folder, seconds, output)
    if not worker.folder.exists():
        status, message = Status.ERROR, f"the worker's folder was deleted under it, with its result: {worker.folder}"
    elif ending is None:
        status, message = Status.CRASHED, f"the process that supervised it was killed or stopped, after {seconds:.1f} s"
    else:
        status, message = _verdict(ending, worker)
    return Outcome(status, message, {}, worker.folder, seconds, output)


def _reported(worker: _Running) -> Ending | None:
    with suppress(EOFError, OSError):
        if worker.report.poll():
            return Ending.from_json(worker.report.recv_bytes())
    return None


def _verdict(ending: Ending, worker: _Running) -> tuple[Status, str]:
    """The status of a worker that left no result, and the sentence for it."""
    after = f"after {ending.seconds:.1f} s"
    status, cause = Status.CRASHED, ""
    match ending.cause:
        case Cause.EXITED:
            cause = f"the process ended with exit code {ending.number} {after}"
        case Cause.SIGNALLED:
            cause = f"killed by {_name_of(ending.number)} {after}"
        case Cause.KERNEL:
            status, cause = Status.OUT_OF_MEMORY, f"{ending.cause} {after}"
        case Cause.OUT_OF_TIME:
            seconds = f"{worker.job.timeout_seconds:g}"
            status, cause = Status.TIMEOUT, f"not finished after {seconds} s ([measure] timeout_seconds)"
        case Cause.OUT_OF_MEMORY:
            limit, held = worker.memory_limit_bytes / GIB, ending.number / GIB
            resident = f"more than {limit:.2f} GiB resident ({held:.2f} GiB) {after}"
            status, cause = Status.OUT_OF_MEMORY, f"{resident} ([measure] memory_limit_gib)"
    where = f" in {ending.where}" if ending.where else ""
    said = f"; last output: {' | '.join(ending.last_lines)}" if ending.last_lines else ""
    return status, f"{cause}{where}{said}"


def _name_of(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"  # a real-time one
