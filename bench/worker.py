"""A worker process from its start to its result, which it leaves in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from bench.catalogue import ChangedError
from bench.output import plain, said, traceback_of
from bench.roles import ROLES, RefusedError
from bench.supervisor import JOB, RESULT
from bench.threads import set_threads
from bench.whole_file import write_whole

KEPT_CHARACTERS = 1000
"""Of an exception's text: what it names may be an array."""


def enter(folder: Path) -> None:
    """Does the folder's job and leaves its result there, in one step. Raises OSError where that cannot be written."""
    process = os.getpid()
    result = _attempt(json.loads((folder / JOB).read_text()), folder)
    if os.getpid() == process:  # else a child that the method forked, and that came back with it
        write_whole(folder / RESULT, json.dumps(result))


def _attempt(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    set_threads(job["threads"])
    try:
        return {"status": "ok", **ROLES[job["role"]](job, folder)}
    except RefusedError as refusal:
        return {"status": "unsupported", "message": " ".join(plain(str(refusal)).split())[:KEPT_CHARACTERS]}
    except ChangedError as change:
        return {"status": "error", "message": str(change), "changed": True}
    except SystemExit:  # the process is to end, with this exit code
        raise
    except BaseException as error:  # a method may raise KeyboardInterrupt, too; the runner's goes by its supervisor
        status = "out_of_memory" if _is_out_of_memory(error) else "error"
        return {"status": status, "message": said(error)[:KEPT_CHARACTERS], "traceback": traceback_of(error)}


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator raises a plain RuntimeError
    ours = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return ours or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate" in said(error))
