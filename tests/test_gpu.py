"""What is said of GPUs: by a stand-in for NVIDIA's library here, by the library itself where there is a device."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch

from bench import gpu
from bench.record import read_journal
from tests.bench_plugins import write_config
from tests.test_commands import bench

SW_POWER_CAP, HW_THERMAL = 0x4, 0x40


def stand_in(reasons: int) -> types.ModuleType:
    """The functions and constants that are used, with the values of nvidia-ml-py 13."""
    library = types.ModuleType("pynvml")
    members = {
        "NVMLError": OSError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "nvmlClocksEventReasonNone": 0x0,
        "nvmlClocksEventReasonGpuIdle": 0x1,
        "nvmlClocksEventReasonApplicationsClocksSetting": 0x2,
        "nvmlClocksEventReasonSwPowerCap": SW_POWER_CAP,
        "nvmlClocksEventReasonHwThermalSlowdown": HW_THERMAL,
        "nvmlClocksEventReasonAll": 0x1FF,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: f"handle {index}",
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetName": lambda handle: "NVIDIA H200",
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=150_754_820_096),
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 345, 2: 3201}[kind],
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: reasons,
    }
    vars(library).update(members)
    library.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    return library


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (0x0, []),
        (0x1 | 0x2, []),
        (SW_POWER_CAP, ["SwPowerCap"]),
        (0x1 | SW_POWER_CAP | HW_THERMAL, ["HwThermalSlowdown", "SwPowerCap"]),
    ],
)
def test_only_what_slows_work_down_is_told(monkeypatch: pytest.MonkeyPatch, reasons: int, told: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(reasons))
    properties = types.SimpleNamespace(uuid="0123")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert gpu.Clocks("cuda").throttled() == told
    assert gpu.Clocks("cpu").throttled() == []


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(0))
    (found,) = gpu.describe()
    assert found == {
        "name": "NVIDIA H200",
        "driver": "580.1",
        "memory_bytes": 150_754_820_096,
        "sm_clock_most_mhz": 1980,
        "sm_clock_mhz": 345,
        "memory_clock_mhz": 3201,
    }


def test_without_the_library_or_a_driver_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert gpu.describe() == []
    monkeypatch.undo()
    without_driver = stand_in(0)

    def fails() -> None:
        raise OSError("NVML Shared Library Not Found")

    without_driver.nvmlInit = fails  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", without_driver)
    assert gpu.describe() == []


@pytest.mark.gpu
def test_a_cell_on_the_device_agrees_with_the_cpu(tmp_path: Path) -> None:
    config = write_config(tmp_path, [], tail='[[method]]\nkey = "active_set_adjoint"\n[reference]\nenabled = false\n')
    done = bench("run", config, "--out", tmp_path / "run", "--device", "cpu,cuda:0")
    assert done.exit_code == 0, done.output
    cpu, cuda = read_journal(tmp_path / "run")
    assert (cpu.device, cuda.device) == ("cpu", "cuda:0")
    assert cpu.device_difference_relative is None
    assert cuda.device_difference_relative is not None
    assert cuda.device_difference_relative < 1e-12
    assert cuda.device_peak_bytes is not None
    assert cuda.device_peak_bytes > 0
