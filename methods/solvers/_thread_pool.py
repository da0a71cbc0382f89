"""Kernels on several threads: plain Python threads, as the kernels leave the interpreter to others while they run.

Unlike OpenMP and numba's own pools these survive `fork()`, may be used by several threads of the caller at once, and
nobody waits for a thread that another job keeps from its core longer than that takes.
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


def share_out(task: Callable[[int], None], threads: int) -> None:
    """task(0) to task(threads - 1), the first of them here. The threads that run the others are started when first
    needed, and a forked process starts its own."""
    futures: list[Future[None]] = []
    with suppress(RuntimeError):  # no thread can be started, or the interpreter is shutting down
        futures.extend(_executor().submit(task, thread) for thread in range(1, threads))
    for thread in (0, *range(len(futures) + 1, threads)):
        task(thread)
    for future in futures:
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
