"""A worker process from its start to its result, which it leaves in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

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
        return {"status": "unsupported", "message": str(refusal)}
    except Exception as error:
        import traceback

        traceback.print_exc()  # into the worker's output, for whoever debugs
        text = " ".join(str(error).split())
        status = "out_of_memory" if _is_out_of_memory(error) else "error"
        return {"status": status, "message": f"{type(error).__name__}: {text}"[:KEPT_CHARACTERS]}


def _is_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator raises a plain RuntimeError
    ours = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return ours or "DefaultCPUAllocator: can't allocate" in str(error)
