"""One supervisor for each worker: its deadline, its memory, its output, its end and that of all that it has started.

The supervisor is the worker's parent and runs none of its code, so that a method which holds Python's lock, floods its
output or forks cannot keep it from working. It imports nothing heavy and never touches a device. It ends the worker's
tree when the worker ends, when time or memory run out, and when the runner is gone, however that came about.

Cost: a second process per worker, which sleeps but for a look at the tree's memory every POLL_SECONDS.
"""

from __future__ import annotations

import enum
import faulthandler
import itertools
import json
import multiprocessing
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn, Self

from bench.process_tree import (
    adopt_orphans,
    descendants,
    die_with,
    kernel_oom_kills,
    kill_descendants,
    proportional_bytes,
    resident_bytes,
)

JOB, RESULT, SCRATCH = "job.json", "result.json", "tmp"
"""In the worker's folder: what it is to do, what came of it, and the folder that is its TMPDIR."""

POLL_SECONDS = 0.05
MOST_POLLING = 0.05
"""The share of its time that the supervisor may spend on looking: large trees are looked at less often."""
KEPT_BYTES = 2**16
"""Of the worker's output, the end."""
KEPT_LINES, KEPT_WIDTH = 3, 300
ASK_WHERE = signal.SIGUSR1
ANSWER_SECONDS = 0.5


class Cause(enum.StrEnum):
    """What ended a worker."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    KERNEL = "killed by the kernel for want of memory"
    OUT_OF_TIME = "out of time"
    OUT_OF_MEMORY = "out of memory"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Ending:
    """How and when a worker ended. `number` is its exit code, its signal or the bytes that its tree held."""

    cause: Cause
    number: int
    seconds: float
    where: str
    """The innermost Python frame, as faulthandler writes it; empty where it could not be asked."""
    output: str
    """The end of what it and what it started wrote, KEPT_BYTES at most."""
    left_out_bytes: int
    """Of what they wrote before."""

    @property
    def last_lines(self) -> list[str]:
        """Of its output, a few."""
        lines = [line.strip() for line in self.output.splitlines()]
        return [line[:KEPT_WIDTH] for line in lines if line][-KEPT_LINES:]

    def to_json(self) -> bytes:
        """For the pipe to the runner."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Back from the pipe."""
        given = json.loads(text)
        return cls(**(given | {"cause": Cause(given["cause"])}))


@dataclass(frozen=True)
class Limits:
    """Of a worker's whole tree."""

    seconds: float
    resident_bytes: int


class _Tail:
    """The end of what is written into a pipe, however much it is."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._kept, self.left_out = b"", 0
        os.set_blocking(self.reader, False)

    def read(self) -> bytes | None:
        """Takes what there is now: None where that is nothing, and no bytes once there will be no more."""
        try:
            part = os.read(self.reader, KEPT_BYTES)
        except BlockingIOError:
            return None
        whole = self._kept + part
        self._kept = whole[-KEPT_BYTES:]
        self.left_out += len(whole) - len(self._kept)
        return part

    def drain(self) -> str:
        """What is kept in the end, when nobody writes any more."""
        while self.read():
            pass
        return self.text

    @property
    def text(self) -> str:
        """What is kept."""
        return self._kept.decode(errors="replace")


def supervise(folder: str, limits: Limits, report: Connection) -> None:
    """A supervisor's life. What became of the worker is its one message; it sends none where it was stopped.

    `folder` lies alone in the run's folder of temporary files, which goes where the run was killed.
    """
    os.setsid()
    adopt_orphans()
    events = _Events()
    kills_before, started = kernel_oom_kills(), time.monotonic()
    supervisor, output, trace = os.getpid(), _Tail(), _Tail()
    worker = os.fork()
    if worker == 0:
        report.close()
        events.close()
        _work(Path(folder), supervisor, output, trace)
    for tail in (output, trace):
        os.close(tail.writer)
        events.watch(tail)
    try:
        cause, number = events.until_the_end_of(worker, started, limits)
        seconds = time.monotonic() - started
        if cause is Cause.OUT_OF_TIME:
            _ask_where(worker, trace)
    finally:
        kill_descendants(group=worker)
    if cause is Cause.SIGNALLED and number == signal.SIGKILL and kernel_oom_kills() > kills_before:
        cause = Cause.KERNEL
    shutil.rmtree(Path(folder) / SCRATCH, ignore_errors=True)
    if cause is not Cause.STOPPED:
        ending = Ending(cause, number, seconds, _innermost_frame(trace.drain()), output.drain(), output.left_out)
        with suppress(OSError):  # the runner no longer listens
            report.send_bytes(ending.to_json())
    elif events.runner_is_gone():
        shutil.rmtree(Path(folder).parent, ignore_errors=True)


class _Events:
    """What a supervisor waits for: its worker's end and output, the runner's end, a signal to stop, the next look."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._signals, self._wake = os.pipe()
        for end in (self._signals, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # the number comes through the pipe
        runner = multiprocessing.parent_process()
        assert runner is not None
        self._runner = runner.sentinel
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._selector.register(self._runner, selectors.EVENT_READ)

    def close(self) -> None:
        """In the worker, where signals do what they always do."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        os.close(self._signals)
        os.close(self._wake)

    def watch(self, tail: _Tail) -> None:
        """Reads it as long as somebody can write into it."""
        self._selector.register(tail.reader, selectors.EVENT_READ, tail)

    def runner_is_gone(self) -> bool:
        """Whether its end of the pipe is closed."""
        return bool(multiprocessing.connection.wait([self._runner], timeout=0))

    def until_the_end_of(self, worker: int, started: float, limits: Limits) -> tuple[Cause, int]:
        """What ended it, or is to end it now, and the number that goes with that."""
        deadline, next_look = started + limits.seconds, started
        gauge = _Gauge(limits, deadline)
        while True:
            now = time.monotonic()
            if now >= deadline:
                return Cause.OUT_OF_TIME, 0
            if now >= next_look:
                held = gauge.held_bytes()
                if held > limits.resident_bytes:
                    return Cause.OUT_OF_MEMORY, held
                next_look = time.monotonic() + gauge.rest_seconds
            ended = self._next(worker, max(0.0, min(deadline, next_look) - time.monotonic()))
            if ended is not None:
                return ended

    def _next(self, worker: int, patience_seconds: float) -> tuple[Cause, int] | None:
        ready = {key.fd: key.data for key, _ in self._selector.select(patience_seconds)}
        for reader, tail in ready.items():
            if tail is not None and tail.read() == b"":
                self._selector.unregister(reader)
        if self._signals in ready:
            numbers = os.read(self._signals, 4096)
            status = _reaped(worker)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                return (Cause.EXITED, code) if code >= 0 else (Cause.SIGNALLED, -code)
            if signal.SIGTERM in numbers:
                return Cause.STOPPED, 0
        return (Cause.STOPPED, 0) if self._runner in ready else None


def _reaped(worker: int) -> int | None:
    """The worker's status, once it has ended; reaps what else has, as it may be any orphan of the tree."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found = status if pid == worker else found
    return found


class _Gauge:
    """The memory that the tree holds, exact only beyond the limit.

    Invariant: held = resident - shared, where resident counts a page that several share for each of them, and is quick
    to read. What is shared is slow to read; it is read when held would exceed the limit by the last reading, and again
    now and then while resident exceeds it, as processes that write to shared pages come to hold their own.
    """

    def __init__(self, limits: Limits, deadline: float) -> None:
        self._limit, self._deadline = limits.resident_bytes, deadline
        self._shared, self._share_again = 0, 0.0
        self.rest_seconds = POLL_SECONDS
        """Until the next look."""

    def held_bytes(self) -> int:
        """Of all descendants of this process."""
        started = time.monotonic()
        pids = descendants(os.getpid())
        resident = resident_bytes(pids)
        read = time.monotonic()
        self.rest_seconds = max(POLL_SECONDS, (read - started) / MOST_POLLING)
        if resident - self._shared > self._limit or (resident > self._limit and read > self._share_again):
            self._shared = resident - self._exactly(pids)
            self._share_again = time.monotonic() + (time.monotonic() - read) / MOST_POLLING
        return resident - self._shared

    def _exactly(self, pids: list[int]) -> int:
        held = 0
        for pid in pids:
            held += proportional_bytes(pid)
            if time.monotonic() > self._deadline:
                break
        return held


def _ask_where(worker: int, trace: _Tail) -> None:
    """faulthandler answers from within the signal's handler, so that it need not wait for Python's lock."""
    until = time.monotonic() + ANSWER_SECONDS
    with suppress(ProcessLookupError):
        os.kill(worker, ASK_WHERE)
    while not _innermost_frame(trace.text) and time.monotonic() < until:
        multiprocessing.connection.wait([trace.reader], timeout=max(0.0, until - time.monotonic()))
        if trace.read() == b"":
            break


def _innermost_frame(trace: str) -> str:
    """The first line of its last list of frames, once that line is complete."""
    lines = trace.split("\n")[:-1]
    frames = [frame.strip() for line, frame in itertools.pairwise(lines) if "most recent call first" in line]
    return frames[-1][:KEPT_WIDTH] if frames else ""


def _work(folder: Path, supervisor: int, output: _Tail, trace: _Tail) -> NoReturn:
    """The worker's life, from the fork on: a process group of its own, its output in a pipe, its end here."""
    code = 1
    try:
        os.setpgid(0, 0)
        die_with(supervisor)
        for tail in (output, trace):
            os.close(tail.reader)
        for number in (1, 2):
            os.dup2(output.writer, number)
        os.close(output.writer)
        # Line by line, so that little is lost with the process; and what cannot be encoded is no error.
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", buffering=1, errors="backslashreplace", closefd=False) for number in (1, 2)
        )
        faulthandler.enable(trace.writer, all_threads=False)
        faulthandler.register(ASK_WHERE, trace.writer, all_threads=False)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is a row, not a file
        with suppress(OSError):  # the kernel, short of memory, is to take a worker and not the runner
            Path("/proc/self/oom_score_adj").write_text("1000")
        os.environ["TMPDIR"] = str(folder / SCRATCH)
        tempfile.tempdir = None  # it remembers the fork server's
        from bench.worker import enter

        enter(folder)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code & 0xFF)
