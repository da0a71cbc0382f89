"""A process and all that it has started: found, weighed and killed, by the kernel's own lists where it has them.

Invariant on Linux: a supervisor is the reaper of its descendants, so that none can leave its tree, whatever sessions
they open and whichever of their parents have ended; when it has no child left, nothing of the tree is left.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform == "linux"
KERNEL_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Of one process at a time, so that nobody need read the table of all of them."""
MOST_SECONDS_BETWEEN_KILLS = 0.02

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """From now on, descendants whose parents end become this process's children. Does nothing but on Linux."""
    if LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """The kernel kills this process when its parent ends, even where no Python can run. Linux only."""
    if LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it had ended before that
        os._exit(1)


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, as far as they are seen at this moment."""
    if not KERNEL_LISTS_CHILDREN:
        return _descendants_by_psutil(pid)
    found = [pid]
    for parent in found:  # which grows meanwhile
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                found += map(int, _read(f"/proc/{parent}/task/{thread}/children").split())
    return found[1:]


def _descendants_by_psutil(pid: int) -> list[int]:
    import psutil  # reads the table of all processes, which takes milliseconds

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def resident_bytes(pids: Iterable[int]) -> int:
    """The sum of what each has in memory, where pages that several share count for each: an upper bound, quickly."""
    if not LINUX:
        return _resident_bytes_by_psutil(pids)
    pages = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            pages += int(_read(f"/proc/{pid}/statm").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _resident_bytes_by_psutil(pids: Iterable[int]) -> int:
    import psutil

    found = 0
    for pid in pids:
        with suppress(psutil.Error):
            found += psutil.Process(pid).memory_info().rss
    return found


def proportional_bytes(pid: int) -> int:
    """What a process has in memory, shared pages divided among their holders. Walks its page table: milliseconds."""
    try:
        rollup = _read(f"/proc/{pid}/smaps_rollup").splitlines()
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:"))
    except (OSError, StopIteration):  # not Linux, not ours to read, or gone
        return resident_bytes([pid])


def kill_descendants(group: int) -> None:
    """Of this process, until it has no child left; `group` is the one in which most of them are.

    Where orphans are not adopted, those that have left the group are missed.
    """
    pause = 0.001
    while True:
        if not LINUX:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for pid in descendants(os.getpid()):
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(pause)
        pause = min(2 * pause, MOST_SECONDS_BETWEEN_KILLS)


def kill_session(session: int, scratch: str, patience_seconds: float = 5.0) -> None:
    """Kills the processes of a session, and those that were told this folder as their TMPDIR.

    For a tree that has lost its supervisor, and with it the list of its members.
    """
    import psutil

    def belongs(process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return os.getsid(process.pid) == session or process.environ().get("TMPDIR") == scratch
        except (psutil.Error, OSError):
            return False

    until = time.monotonic() + patience_seconds
    while left := [process.pid for process in psutil.process_iter() if belongs(process)]:
        for pid in left:
            kill(pid)
        if time.monotonic() > until:
            return
        time.sleep(MOST_SECONDS_BETWEEN_KILLS)


def kill(pid: int) -> None:
    """At once; no error where it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kernel_oom_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory; 0 where it does not say."""
    with suppress(OSError):
        for line in _read("/proc/vmstat").splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


def memory_bytes() -> int:
    """The machine's memory, or less where this process's control group grants less."""
    import psutil

    limits = [psutil.virtual_memory().total]
    with suppress(OSError):
        for line in _read("/proc/self/cgroup").decode().splitlines():
            _, controllers, inner = line.split(":", 2)
            if controllers == "":
                limits += _granted(Path("/sys/fs/cgroup"), inner, "memory.max")
            elif controllers == "memory":
                limits += _granted(Path("/sys/fs/cgroup/memory"), inner, "memory.limit_in_bytes")
    return min(limits)


def _granted(root: Path, inner: str, name: str) -> list[int]:
    """What the files of this name say, from a control group up to the root."""
    found: list[int] = []
    group = root / inner.lstrip("/")
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int((folder / name).read_text()))
    return found


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
