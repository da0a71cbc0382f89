"""The machine as the suite sees it, and what would make timings untrustworthy."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import psutil
import threadpoolctl
import torch

from bench import gpu
from bench.reads import source_sha256
from problems.registry import ROOT

CPU_FOLDER = Path("/sys/devices/system/cpu")
WITHOUT_RESULTS = ("--", ".", ":!results")
"""What a run writes does not make the code that it runs another."""
PACKAGES = (
    *("numpy", "scipy", "torch", "cvxpy", "cvxpylayers", "diffcp", "numba", "pandas", "pyperf", "pydantic"),
    *("scikit-image", "bm3d", "seaborn", "plotly"),
)
"""What computes and what draws, by the names that pip knows; one that is not installed is left out."""


def describe() -> dict[str, Any]:
    """Everything that a reader of the timings may ask about, as JSON."""
    frequency = psutil.cpu_freq()
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "thread_pools": _thread_pools(),
        "cpu_governor": _text(CPU_FOLDER / "cpu0/cpufreq/scaling_governor"),
        "cpu_mhz": frequency.current if frequency else None,
        "turbo": _turbo(),
        "load_1_minute": os.getloadavg()[0],
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "gpu_clocks": gpu.describe(),
        "cuda": torch.version.cuda,
        "git_sha": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", *WITHOUT_RESULTS)),
        "git_changes_sha256": _changes_sha256(),
        "source_sha256": source_sha256(),
        "command": sys.argv,
    }


def warnings(machine: dict[str, Any]) -> list[str]:
    """One line per thing that would make timings untrustworthy, with its remedy."""
    found = []
    if machine["cpu_governor"] not in (None, "performance"):
        found.append(f"the CPU governor is {machine['cpu_governor']}: run `cpupower frequency-set -g performance`")
    if machine["turbo"]:
        found.append(
            "the CPU raises its clock when cool (turbo): switch it off, or expect the first cells to be faster"
        )
    if machine["load_1_minute"] > 0.5:
        found.append(f"the load is {machine['load_1_minute']:.2f} before anything runs: stop what else is running")
    if sysconfig.get_config_var("Py_DEBUG"):
        found.append("this Python is a debug build: use a release build")
    if machine["logical_cores"] != machine["cores"]:
        found.append("two threads share a core (SMT): give the run as many threads as there are cores, not more")
    if "hypervisor" in (_text(Path("/proc/cpuinfo")) or ""):
        found.append("this is a virtual machine: its neighbours may take time from it (see the flag `loaded`)")
    return found


def _cpu_model() -> str:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _thread_pools() -> list[dict[str, Any]]:
    """The BLAS and OpenMP libraries that numpy, scipy and torch load."""
    kept = ("internal_api", "version", "num_threads", "architecture", "threading_layer")
    pools = [{name: pool[name] for name in kept if name in pool} for pool in threadpoolctl.threadpool_info()]
    return [*pools, {"internal_api": "torch", "version": torch.__version__, "num_threads": torch.get_num_threads()}]


def _turbo() -> bool | None:
    """None where the kernel does not say."""
    no_turbo, boost = _text(CPU_FOLDER / "intel_pstate/no_turbo"), _text(CPU_FOLDER / "cpufreq/boost")
    if no_turbo is not None:
        return no_turbo == "0"
    return None if boost is None else boost == "1"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _changes_sha256() -> str | None:
    """Of what is changed against the commit, new files by their names; None where nothing is."""
    parts = [
        _git("diff", "HEAD", *WITHOUT_RESULTS),
        _git("ls-files", "--others", "--exclude-standard", *WITHOUT_RESULTS),
    ]
    changes = "\n".join(part for part in parts if part)
    return hashlib.sha256(changes.encode()).hexdigest() if changes else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
