"""What a training says while it goes: a live bar on a terminal, a line every half minute anywhere else."""

from __future__ import annotations

import abc
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from bench import units
from bench.learning.curves import Point
from bench.learning.trainer import Position
from bench.progress import print_line

LIVE_SECONDS, LINES_SECONDS = 0.5, 30.0


class Show(abc.ABC):
    """Told of every update; a context manager. `epochs` of `pairs` pairs are to be done."""

    def __init__(self, console: Console, epochs: int, pairs: int, start: Position, every_seconds: float) -> None:
        self._console, self._epochs, self._pairs = console, epochs, pairs
        self._first_epochs, self._first_seconds = self._done(start), start.seconds
        self._every_seconds, self._next = every_seconds, time.monotonic() + every_seconds
        self._point: Point | None = None

    @abc.abstractmethod
    def __enter__(self) -> Self: ...

    @abc.abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abc.abstractmethod
    def _say(self, position: Position) -> None:
        """How far it is, now."""

    def epoch(self, point: Point) -> None:
        self._point = point

    def update(self, position: Position) -> None:
        """Costs a reading of the clock unless something is due."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_seconds
            self._say(position)

    def _done(self, position: Position) -> float:
        return position.epoch + position.done / self._pairs

    def _words(self, position: Position) -> str:
        """`loss 0.31, validation 0.32, 24.7 dB, about 2.0 min left`."""
        parts = [] if self._point is None else [point_words(self._point)]
        gained, seconds = self._done(position) - self._first_epochs, position.seconds - self._first_seconds
        left = (self._epochs - self._done(position)) * seconds / gained if gained > 0 else None
        parts.append(units.time_left(left))
        return ", ".join(parts)


class Lines(Show):
    """Now and then a line, for a file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _say(self, position: Position) -> None:
        print_line(self._console, f"epoch {position.epoch}/{self._epochs}: {self._words(position)}")


class Bar(Show):
    """rich's progress bar, drawn when we say so: its own thread would take time from the training."""

    def __enter__(self) -> Self:
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[words]}", table_column=Column(overflow="fold")),
        )
        self._bar = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=self._epochs, epoch=0, words="")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _say(self, position: Position) -> None:
        done, words = self._done(position), self._words(position)
        self._bar.update(self._task, completed=done, refresh=True, epoch=position.epoch, words=words)


def show(console: Console, epochs: int, pairs: int, start: Position) -> Show:
    """The one that suits the console."""
    if console.is_terminal:
        return Bar(console, epochs, pairs, start, LIVE_SECONDS)
    return Lines(console, epochs, pairs, start, LINES_SECONDS)


def point_words(point: Point) -> str:
    """`training loss 0.31, 24.7 dB; validation loss 0.32, 24.6 dB`."""
    halves = (
        ("training", point.training_loss, point.training_psnr_db),
        ("validation", point.validation_loss, point.validation_psnr_db),
    )
    return "; ".join(
        f"{name} loss {loss:.5g}" + (f", {psnr:.2f} dB" if psnr is not None else "")
        for name, loss, psnr in halves
        if loss is not None
    )
