"""The command in the tests' own process. Its workers come from one fork server for all tests of that process.

A command in a process of its own starts a fork server of its own, which takes 4 s of a core: that is for the tests of
what a process does with its memory, its signals and its end.
"""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from bench.cli import app


def bench(*arguments: str | Path) -> Result:
    """`python -m bench` with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
