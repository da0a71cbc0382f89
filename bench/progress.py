"""What a run says while it goes: a live table on a terminal, one line per finished cell anywhere else.

The display is drawn when something happens, four times a second at most, and once a second while nothing does, by a
thread that sleeps in between: 0.1 % of a core, where rich's own thread takes 1 % beside cells that are being timed.
"""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench import units
from bench.aligned import fold
from bench.cell import Cell
from bench.record import Record, Status
from bench.tally import Tally

LEAST_SECONDS_BETWEEN = 0.25
LIVE_SECONDS = 1.0
LINES_SECONDS = 30.0
MOST_RUNNING_SHOWN = 8
SECONDS_WIDTH = 9
"""Characters kept free beside the name of a running cell."""


class Watcher(abc.ABC):
    """Told what happens, from any thread; a context manager."""

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
    def planned(self, cells: Sequence[Cell], expected_seconds: Mapping[str, float]) -> None:
        """What is to be measured, and the seconds by cell_id of the cells for which there is a forecast."""

    @abc.abstractmethod
    def starting(self, cell: Cell) -> None:
        """A cell is being measured; others may be, too."""

    @abc.abstractmethod
    def finished(self, cell: Cell, record: Record) -> None:
        """It is in the journal; a cell that was pruned, or whose device is absent, never started."""


def watcher(console: Console) -> Watcher:
    """The one that suits the console."""
    return LiveTable(console) if console.is_terminal else Lines(console)


class Lines(Watcher):
    """One plain line per finished cell, and every half minute one on how far the run is."""

    def __init__(self, console: Console, every_seconds: float = LINES_SECONDS) -> None:
        self._console, self._lock, self._tally = console, threading.RLock(), Tally()
        self._ticker = _Ticker(every_seconds, self._say_how_far)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._ticker.stop()

    def say(self, line: str) -> None:
        with self._lock:
            print_line(self._console, line)

    def references(self, done: int, total: int) -> None:
        if done == total:
            self.say(f"references: {total} pairs")

    def planned(self, cells: Sequence[Cell], expected_seconds: Mapping[str, float]) -> None:
        with self._lock:
            self._tally.planned(cells, expected_seconds)

    def starting(self, cell: Cell) -> None:
        with self._lock:
            self._tally.starting(cell)

    def finished(self, cell: Cell, record: Record) -> None:
        with self._lock:
            self._tally.finished(cell, record)
            self.say(f"[{self._tally.done}/{self._tally.total}] {cell}: {outcome(record)}")

    def _say_how_far(self) -> None:
        with self._lock:
            tally = self._tally
            if tally.total > tally.done:
                running = [f"; running {cell} for {units.duration(seconds)}" for cell, seconds in tally.running[:1]]
                self.say(f"{tally.done} of {tally.total} done, {units.time_left(tally.left_seconds)}{''.join(running)}")


class LiveTable(Watcher):
    """Counts by status, a bar with the time that is left, and what is running; failures stay as lines above."""

    def __init__(self, console: Console) -> None:
        self._console, self._lock, self._tally = console, threading.RLock(), Tally()
        self._references = (0, 0)
        self._drawn_at = -LEAST_SECONDS_BETWEEN
        self._live = Live(console=console, get_renderable=self._drawn, auto_refresh=False, transient=True)
        self._ticker = _Ticker(LIVE_SECONDS, self._draw)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._ticker.stop()
        self._live.stop()

    def say(self, line: str) -> None:
        print_line(self._console, line)

    def references(self, done: int, total: int) -> None:
        with self._lock:
            self._references = (done, total)
        self._draw_unless_just_drawn()

    def planned(self, cells: Sequence[Cell], expected_seconds: Mapping[str, float]) -> None:
        with self._lock:
            self._tally.planned(cells, expected_seconds)
        self._draw_unless_just_drawn()

    def starting(self, cell: Cell) -> None:
        with self._lock:
            self._tally.starting(cell)
        self._draw_unless_just_drawn()

    def finished(self, cell: Cell, record: Record) -> None:
        with self._lock:
            self._tally.finished(cell, record)
        if record.status is not Status.OK:
            self.say(f"{cell}: {outcome(record)}")
        self._draw_unless_just_drawn()

    def _draw_unless_just_drawn(self) -> None:
        if time.monotonic() - self._drawn_at >= LEAST_SECONDS_BETWEEN:
            self._draw()

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        self._live.refresh()

    def _drawn(self) -> RenderableType:
        with self._lock:
            return drawn(self._tally, *self._references, self._console.width)


def drawn(tally: Tally, references: int, all_references: int, width: int) -> RenderableType:
    """The live table, in so many characters: the bar, what each cell is that runs, and a line of counts."""
    if not tally.total:
        return _bar("references", references, all_references, "") if all_references else Text("planning")
    counts = [f"{count} {status}" for status, count in tally.statuses.most_common()]
    counts += [f"{tally.pruned} pruned"] * bool(tally.pruned)
    running = Table.grid(padding=(0, 1), expand=True)
    running.add_column(ratio=1)
    running.add_column(justify="right", no_wrap=True)
    for cell, seconds in tally.running[:MOST_RUNNING_SHOWN]:
        running.add_row(Text("\n".join(fold(str(cell), width - SECONDS_WIDTH))), f"{seconds:.0f} s")
    more = len(tally.running) - MOST_RUNNING_SHOWN
    if more > 0:
        running.add_row(Text(f"and {more} more"), "")
    bar = _bar("cells", tally.done, tally.total, units.time_left(tally.left_seconds))
    return Group(bar, running, Text(", ".join(counts)))


def _bar(what: str, done: int, total: int, beside: str) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    for column in range(3):
        table.add_column(no_wrap=True, ratio=1 if column == 1 else None)
    table.add_row(f"{done}/{total} {what}", ProgressBar(total=total, completed=done), beside)
    return table


def outcome(record: Record) -> str:
    """`ok, solve 1.2e-04 s, gradient 3.1e-05 s, error 2.0e-14, right`; where it is not ok, its status and message."""
    words = [str(record.status)]
    words += [record.message] if record.message else []
    measured = (
        ("solve", record.solve_seconds, " s"),
        ("gradient", record.gradient_seconds, " s"),
        ("error", record.error_relative, ""),
    )
    words += [f"{name} {value:.1e}{unit}" for name, value, unit in measured if value is not None]
    return ", ".join([*words, str(record.accuracy)] if record.error_relative is not None else words)


class _Ticker:
    """Calls a function every so many seconds, from a thread that sleeps in between, until it is stopped."""

    def __init__(self, every_seconds: float, work: Callable[[], None]) -> None:
        self._every_seconds, self._work, self._stopped = every_seconds, work, threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._stopped.wait(self._every_seconds):
            self._work()


def print_line(console: Console, line: str) -> None:
    """As it is: neither marked up nor wrapped."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
