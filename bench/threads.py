"""How many threads the numerical libraries use, set before they load and verified after the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


def cores() -> int:
    """That this process may run on: fewer than the machine's under taskset, Slurm or a container's cpuset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def thread_environment(threads: int, **others: str) -> Iterator[None]:
    """The environment in which a process is to start."""
    before = {name: os.environ.get(name) for name in (*VARIABLES, *others)}
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)), **others)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def set_threads(threads: int) -> None:
    """Of torch, numba and every BLAS and OpenMP pool loaded by now; libraries loaded later read the environment."""
    import threadpoolctl
    import torch

    settings = dict.fromkeys(VARIABLES, str(threads))
    if "numba" in sys.modules:
        import numba

        # Its pool keeps the size that the environment named at the import: it lends out fewer threads, never more.
        del settings["NUMBA_NUM_THREADS"]
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    os.environ.update(settings)
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)


def other_pools(threads: int) -> list[str]:
    """The pools that report another number of threads, torch's own included."""
    import threadpoolctl
    import torch

    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    pools["torch"] = torch.get_num_threads()
    if "numba" in sys.modules:
        import numba

        pools["numba"] = numba.get_num_threads()
    return [name for name, count in pools.items() if count != threads]
