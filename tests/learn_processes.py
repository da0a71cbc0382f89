"""`learn` in processes that start from one which has everything loaded; imports nothing that they would wait for."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["bench.preload", "bench.learn", "methods.contract", "problems.analysis_l1", "learn_processes"]


def start(config: Path, out: Path, environment: dict[str, str] | None = None) -> BaseProcess:
    """A process whose exit code is that of `learn`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_learn, args=(config, out, environment or {}))
    process.start()
    return process


def _learn(config: Path, out: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    from rich.console import Console

    from bench.learn import learn

    sys.exit(learn(config, out, [], Console(quiet=True), Console(quiet=True)))
