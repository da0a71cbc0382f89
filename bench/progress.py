"""What a run says while it goes: a live bar on a terminal, one line per finished cell anywhere else."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.cell import Cell
from bench.record import Record, Status


class Watcher(abc.ABC):
    """Told what happens, in order; a context manager."""

    @abc.abstractmethod
    def __enter__(self) -> Self: ...

    @abc.abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abc.abstractmethod
    def say(self, line: str) -> None:
        """A line of its own."""

    @abc.abstractmethod
    def references(self, done: int, total: int) -> None:
        """So many of the references are there."""

    @abc.abstractmethod
    def starting(self, cell: Cell, done: int, total: int) -> None:
        """A cell is being measured, after so many others."""

    @abc.abstractmethod
    def finished(self, cell: Cell, record: Record, done: int, total: int) -> None:
        """It is in the journal."""


def watcher(console: Console) -> Watcher:
    """The one that suits the console."""
    return Bar(console) if console.is_terminal else Lines(console)


class Lines(Watcher):
    """One plain line per finished cell."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace

    def say(self, line: str) -> None:
        _print(self._console, line)

    def references(self, done: int, total: int) -> None:
        if done == total:
            self.say(f"references: {total} pairs")

    def starting(self, cell: Cell, done: int, total: int) -> None:
        del cell, done, total

    def finished(self, cell: Cell, record: Record, done: int, total: int) -> None:
        self.say(f"[{done}/{total}] {cell}: {outcome(record)}")


class Bar(Watcher):
    """What is being measured, how many are done, and the time that is left."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._console = console
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._progress.stop()

    def say(self, line: str) -> None:
        _print(self._console, line)

    def references(self, done: int, total: int) -> None:
        self._progress.update(self._task, description="references", completed=done, total=total)

    def starting(self, cell: Cell, done: int, total: int) -> None:
        if done == 0:
            self._progress.reset(self._task)
        self._progress.update(self._task, description=str(cell).replace("[", r"\["), completed=done, total=total)

    def finished(self, cell: Cell, record: Record, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)
        if record.status is not Status.OK:
            self.say(f"{cell}: {outcome(record)}")


def outcome(record: Record) -> str:
    """`ok, solve 1.2e-04 s, gradient 3.1e-05 s, error 2.0e-14`; where it is not ok, its status and message."""
    words = [str(record.status)]
    words += [record.message] if record.message else []
    measured = (
        ("solve", record.solve_seconds, " s"),
        ("gradient", record.gradient_seconds, " s"),
        ("error", record.error_relative, ""),
    )
    words += [f"{name} {value:.1e}{unit}" for name, value, unit in measured if value is not None]
    return ", ".join(words)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
