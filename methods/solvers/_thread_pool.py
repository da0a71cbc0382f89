"""Kernels on several threads: plain Python threads, as the kernels leave the interpreter to others while they run.

Unlike OpenMP and numba's own pools these survive `fork()` and may be used by several threads of the caller at once.
Nobody waits for a thread that another job keeps from its core: the work is cut into pieces, each thread takes the next
one, and a thread that has not begun when none is left is called off.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

_making = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def share_out(task: Callable[[int], None], pieces: int, threads: int) -> None:
    """task(0) to task(pieces - 1), in any order, on this thread and up to `threads` - 1 others, which are started when
    first needed; a forked process starts its own."""
    todo = iter(range(pieces))

    def work() -> None:
        for piece in todo:
            task(piece)

    futures: list[Future[None]] = []
    with suppress(RuntimeError):  # no thread can be started, or the interpreter is shutting down
        futures.extend(_executor().submit(work) for _ in range(1, min(threads, pieces)))
    work()
    for future in futures:
        if not future.cancel():
            future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        with _making:
            if _pool is None:
                _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="exact-solver")
    return _pool


def _forget() -> None:
    """In a forked process, in which none of the threads live."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)
