"""How far a run is: what is done, what is running and since when, and how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bench.cell import Cell
from bench.pruning import PRUNED
from bench.record import Record, Status

BELIEF_SECONDS = 10.0
"""Of measured cells, after which they say as much as the forecast about how fast this machine is."""


class Tally:
    """Counts of one run. Not safe between threads: who shares it holds a lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, float | None] = {}
        self._running: dict[str, tuple[Cell, float, float | None]] = {}
        self._spent, self._expected = 0.0, 0.0
        self._durations: list[float] = []
        self._most_at_once = 1
        self.statuses: Counter[Status] = Counter()
        """Of the cells that were run."""
        self.pruned = 0
        self.done, self.total = 0, 0

    def planned(self, cells: Sequence[Cell], expected_seconds: Mapping[str, float]) -> None:
        """What is to be measured; the seconds by cell_id, of those cells for which there is a forecast."""
        self._waiting = {cell.cell_id: expected_seconds.get(cell.cell_id) for cell in cells}
        self.total = len(cells)

    def starting(self, cell: Cell) -> None:
        """It runs from now on."""
        self._running[cell.cell_id] = (cell, self._clock(), self._waiting.pop(cell.cell_id, None))
        self._most_at_once = max(self._most_at_once, len(self._running))

    def finished(self, cell: Cell, record: Record) -> None:
        """It has its row, whether it ran or not."""
        self.done += 1
        self._waiting.pop(cell.cell_id, None)
        if PRUNED in record.flags:
            self.pruned += 1
        else:
            self.statuses[record.status] += 1
        if cell.cell_id in self._running:
            _, since, expected = self._running.pop(cell.cell_id)
            self._durations.append(self._clock() - since)
            if expected is not None:
                self._spent, self._expected = self._spent + self._durations[-1], self._expected + expected

    @property
    def running(self) -> list[tuple[Cell, float]]:
        """Cells and the seconds that each has run, the longest first."""
        now = self._clock()
        return sorted(((cell, now - since) for cell, since, _ in self._running.values()), key=lambda known: -known[1])

    @property
    def left_seconds(self) -> float | None:
        """Of the cells that are not done, as many at once as there were; None while nothing is known of them.

        The forecast, corrected by how the cells so far went against it; for cells without one, the mean of all so far.
        """
        mean = sum(self._durations) / len(self._durations) if self._durations else None
        pace = (self._spent + BELIEF_SECONDS) / (self._expected + BELIEF_SECONDS)
        now = self._clock()
        left = 0.0
        to_come = [(expected, 0.0) for expected in self._waiting.values()]
        to_come += [(expected, now - since) for _, since, expected in self._running.values()]
        for expected, gone in to_come:
            seconds = mean if expected is None else pace * expected
            if seconds is None:
                return None
            left += max(0.0, seconds - gone)
        return left / self._most_at_once
