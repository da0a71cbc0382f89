"""The highest memory of one call, above what its process held before.

On Linux the kernel keeps the high-water mark of resident memory (VmHWM) and sets it back on request, so that nothing
is sampled and every allocator counts. Elsewhere a thread samples, and the record carries the flag `memory_sampled`.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

SAMPLE_SECONDS = 1e-3


@dataclass(frozen=True)
class Peak:
    """Growth in bytes on the host and on the device (None on the CPU)."""

    host_bytes: int
    device_bytes: int | None
    sampled: bool


def peak_of(work: Callable[[], object], device: str) -> Peak:
    """Runs `work` twice: the first time to load and compile, the second to measure."""
    work()
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    linux = sys.platform == "linux"
    host_bytes = _peak_by_kernel(work) if linux else _peak_by_sampling(work)
    device_bytes = None
    if device != "cpu":
        torch.cuda.synchronize(device)
        device_bytes = torch.cuda.max_memory_allocated(device) - held
    return Peak(host_bytes, device_bytes, sampled=not linux)


def _peak_by_kernel(work: Callable[[], object]) -> int:
    # Without the trim, memory that malloc kept from the warm-up is used again unseen: readings of 0 up to 16 MB.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    work()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def _peak_by_sampling(work: Callable[[], object]) -> int:
    process, done = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def sample() -> None:
        nonlocal highest
        while not done.wait(SAMPLE_SECONDS):
            highest = max(highest, process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        work()
        highest = max(highest, process.memory_info().rss)
    finally:
        done.set()
        sampler.join()
    return highest - before
