"""What NVIDIA's management library says of a GPU: its name, its clocks, and whether it was slowed down meanwhile.

The library comes with the optional group `gpu` (nvidia-ml-py); without it, or without a GPU, there is nothing to say.
"""

from __future__ import annotations

import importlib.util
from typing import Any

IDLE, APPLICATION_CLOCKS = 0x1, 0x2
"""Reasons for low clocks that do not slow a measurement down: no work, and clocks that the user has set."""


class Clocks:
    """Watches a device from its construction on."""

    def __init__(self, device: str) -> None:
        self._handle = _handle(device)

    def throttled(self) -> list[str]:
        """Why the clocks are lowered now, straight after the work; empty where they are not, or nothing is known."""
        if self._handle is None:
            return []
        import pynvml

        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle) & ~(IDLE | APPLICATION_CLOCKS)
        names = {
            value: name.removeprefix("nvmlClocksEventReason")
            for name, value in vars(pynvml).items()
            if name.startswith("nvmlClocksEventReason") and isinstance(value, int) and value
        }
        return sorted(name for value, name in names.items() if value & reasons == value)


def describe() -> list[dict[str, Any]]:
    """Name, driver, memory and clocks of every GPU that the library knows; empty without it."""
    if not _initialised():
        return []
    import pynvml

    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        clocks = {
            f"{name}_mhz": pynvml.nvmlDeviceGetClockInfo(handle, kind)
            for name, kind in (("sm_clock", pynvml.NVML_CLOCK_SM), ("memory_clock", pynvml.NVML_CLOCK_MEM))
        }
        found.append(
            {
                "name": pynvml.nvmlDeviceGetName(handle),
                "driver": pynvml.nvmlSystemGetDriverVersion(),
                "memory_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).total,
                "sm_clock_most_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
                **clocks,
            }
        )
    return found


def _handle(device: str) -> Any:
    if not device.startswith("cuda") or not _initialised():
        return None
    import pynvml
    import torch

    uuid = torch.cuda.get_device_properties(device).uuid  # CUDA_VISIBLE_DEVICES renumbers, the library does not
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")


def _initialised() -> bool:
    if importlib.util.find_spec("pynvml") is None:
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, no GPU
        return False
    return True
