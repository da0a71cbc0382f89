"""A run folder belongs to one process at a time. The lock is the kernel's and dies with its holder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.whole_file import PART, make_folder, naming

LOCK = "lock"


class InUseError(RuntimeError):
    """Another run writes into this folder; the message says which."""


def hold(run: Path) -> IO[bytes]:
    """The lock's file, for `release`. What a killed process had half written is removed. Raises InUseError, OSError."""
    path = run / LOCK
    while True:
        lock = open(path, "a+b", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip() or "another process"
            lock.close()
            raise InUseError(f"{run}: {holder} is writing into it: wait for it, or choose another --out") from None
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            try:
                with naming(path):
                    lock.truncate(0)
                    lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            except OSError:
                release(run, lock)
                raise
            for partial in run.glob(f"*{PART}"):
                partial.unlink(missing_ok=True)
            return lock
        lock.close()  # its last holder had removed it when we got it


def release(run: Path, lock: IO[bytes]) -> None:
    """Lets another process have the folder; one that nothing was written into is gone."""
    (run / LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        run.rmdir()
    lock.close()


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The folder, made where there is none, for as long as the block lasts. Raises InUseError and OSError."""
    make_folder(run)
    lock = hold(run)
    try:
        yield
    finally:
        release(run, lock)
