"""Shapes in the signatures of `problems` are checked on every call of the tests."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

from bench.threads import set_threads

install_import_hook("problems", "beartype.beartype")
torch.set_num_threads(1)
settings.register_profile("suite", deadline=None)  # a busy machine is no failure; the harness has its own clock
settings.load_profile("suite")


CACHE = "HYPERGRAD_BENCH_CACHE"
OWN_CACHE = None if CACHE in os.environ else tempfile.mkdtemp(prefix="hypergrad-tests-")
"""Of this session, whose worker processes inherit it: never the user's."""
os.environ.setdefault(CACHE, OWN_CACHE or "")


def pytest_unconfigure() -> None:
    if OWN_CACHE is not None:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A command that a test before has run in this process may have left more: workers of the suite share the cores."""
    if torch.get_num_threads() != 1:
        set_threads(1)


@dataclass(frozen=True)
class LargePage:
    """The page of 5,000 cells, and the processor's seconds that it took: the machine may be shared, they are not."""

    path: Path
    seconds: float


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> LargePage:
    """Written once for all tests of a process."""
    from reports.write import write_report
    from tests.report_runs import large_run

    folder = tmp_path_factory.mktemp("large")
    run = large_run(folder / "run")
    started = time.process_time()
    (path,) = write_report([run], folder, {"html"})
    return LargePage(path, time.process_time() - started)
