"""Where compiled kernels come from: one line, one compilation, no folder needed, nothing before the first call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from methods.solvers import _machine_code
from methods.solvers._machine_code import MachineCode

ROOT = str(Path(__file__).parents[1])
TWICE = """
from methods.solvers._machine_code import MachineCode
from tests import kernels_of_one
MachineCode(kernels_of_one.__name__, "the doubling", 1).load()
print(kernels_of_one.twice(21.0))
"""
COMPILING = "compiling the doubling for this machine, once: about 1 seconds\n"


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    """With no cache but what `environment` names."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**kept, "PYTHONPATH": ROOT, **environment},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(script: str, **environment: str) -> tuple[str, str]:
    process = start(script, **environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


def only_file(folder: Path) -> Path:
    (file,) = folder.rglob("*.bin")
    return file


def test_the_first_process_compiles_and_says_so_and_the_next_does_not(tmp_path: Path) -> None:
    assert said(TWICE, XDG_CACHE_HOME=str(tmp_path)) == ("42.0\n", COMPILING)
    assert said(TWICE, XDG_CACHE_HOME=str(tmp_path)) == ("42.0\n", "")
    assert only_file(tmp_path).parent == tmp_path / "hypergrad-bench" / "kernels"


def test_of_two_at_once_one_compiles_and_a_damaged_file_is_as_if_absent(tmp_path: Path) -> None:
    folder = tmp_path / "hypergrad-bench"
    both = [start(TWICE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in ended] == ["42.0\n"] * 2
    assert "".join(err for _, err in ended).count(COMPILING) == 1
    file = only_file(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert said(TWICE, NUMBA_CACHE_DIR=str(tmp_path)) == ("42.0\n", COMPILING)
    assert len(file.read_bytes()) == len(whole)
    assert sorted(path.name for path in folder.iterdir()) == sorted([file.name, "lock"])


def test_a_home_that_cannot_be_written_costs_nothing_but_the_line(tmp_path: Path) -> None:
    """/dev/null is no folder for anybody; the temporary one is private."""
    environment = {"HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    assert said(TWICE, **environment) == ("42.0\n", COMPILING)
    assert said(TWICE, **environment) == ("42.0\n", "")
    folder = only_file(tmp_path).parent
    folder.chmod(0o777)  # where others may write, code is neither read nor kept
    assert said(TWICE, **environment) == ("42.0\n", COMPILING)


def test_neither_a_folder_nor_another_process_is_needed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests import kernels_of_one

    monkeypatch.setattr(_machine_code, "_folders", lambda: iter(()))
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    MachineCode(kernels_of_one.__name__, "the doubling", 1).load()
    assert kernels_of_one.twice(21.0) == 42.0
    assert capfd.readouterr() == ("", COMPILING)
    with pytest.raises(TypeError, match="No matching definition"):
        kernels_of_one.twice(1j)


IMPORTS = """
import os, sys, threading, torch, numba
def tasks(): return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
before = tasks()
import methods.active_set_adjoint
from methods.solvers import _active_set_cpu, _taut_string_cpu, exact
assert tasks() == before and threading.active_count() == 1
for module in (_active_set_cpu, _taut_string_cpu):
    assert not any(getattr(module, name).overloads for name in module.SIGNATURES)
"""


def test_importing_the_solvers_compiles_prints_starts_and_writes_nothing(tmp_path: Path) -> None:
    assert said(IMPORTS, XDG_CACHE_HOME=str(tmp_path), HOME="/dev/null", PYTHONDONTWRITEBYTECODE="1") == ("", "")
    assert not list(tmp_path.iterdir())


DAEMON = """
import multiprocessing
from methods.solvers._machine_code import MachineCode
from tests import kernels_of_one
code = MachineCode(kernels_of_one.__name__, "the doubling", 1)
def work():
    code.load()
    print(kernels_of_one.twice(21.0), flush=True)
context = multiprocessing.get_context("fork")
workers = [context.Process(target=work, daemon=True) for _ in range(2)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
work()
"""


def test_daemonic_workers_compile_once(tmp_path: Path) -> None:
    """As a DataLoader's are, which may have no children of multiprocessing's."""
    out, err = said(DAEMON, XDG_CACHE_HOME=str(tmp_path))
    assert out.splitlines() == ["42.0"] * 3
    assert err.count(COMPILING) == 1
