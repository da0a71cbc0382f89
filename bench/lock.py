"""A run folder belongs to one process at a time. The lock is the kernel's and dies with its holder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = "lock"


class InUseError(RuntimeError):
    """Another run writes into this folder; the message says which."""


def hold(run: Path) -> IO[str]:
    """The lock's file, which the caller removes and closes, in this order. Raises InUseError."""
    path = run / LOCK
    while True:
        lock = open(path, "a+")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise InUseError(f"{run}: {holder} is writing into it: wait for it, or choose another --out") from None
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            return lock
        lock.close()  # its last holder had removed it when we got it


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The folder, made where there is none, for as long as the block lasts. Raises InUseError."""
    run.mkdir(parents=True, exist_ok=True)
    with hold(run):
        try:
            yield
        finally:
            (run / LOCK).unlink()
