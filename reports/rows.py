"""Charts of a row per cell: which rows share a page, and where each stands under the heading of its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bench.record import Record
from reports.cells import FLAGGED
from reports.instances import Group
from reports.short_names import cut

MOST_ROWS = 48
LONGEST_LABEL = 60


class Cell(Protocol):
    """What a row shows."""

    @property
    def record(self) -> Record: ...
    @property
    def label(self) -> str: ...
    @property
    def is_flagged(self) -> bool: ...


Shown = TypeVar("Shown", bound=Cell)


@dataclass(frozen=True)
class Panel(Generic[Shown]):
    """The rows of one instance, sizes one after the other."""

    group: Group
    cells: tuple[Shown, ...]

    @property
    def rows(self) -> list[tuple[str, Shown | None]]:
        """From top to bottom: a cell under its label, and above those of a size its heading, without a cell."""
        several_k = len({(cell.record.n, cell.record.k) for cell in self.cells}) > len(
            {cell.record.n for cell in self.cells}
        )
        listed: list[tuple[str, Shown | None]] = []
        before = None
        for cell in self.cells:
            size = f"n = {cell.record.n}, k = {cell.record.k}" if several_k else f"n = {cell.record.n}"
            if size != before:
                listed.append((size, None))
                before = size
            listed.append((cut(cell.label, LONGEST_LABEL) + FLAGGED * cell.is_flagged, cell))
        return listed


def pages(panels: Sequence[Panel[Shown]]) -> list[list[Panel[Shown]]]:
    """Panels in their order, as many to a page as it has rows for; one with more rows has a page of its own."""
    filled: list[list[Panel[Shown]]] = []
    used = MOST_ROWS
    for panel in panels:
        if used + len(panel.rows) > MOST_ROWS:
            filled.append([])
            used = 0
        filled[-1].append(panel)
        used += len(panel.rows)
    return filled


def divided(panel: Panel[Shown]) -> dict[str, Panel[Shown]]:
    """A panel by its heading; one with too many cells for a screen in parts, by the cells that each holds."""
    cells, heading = panel.cells, panel.group.heading
    if len(cells) <= MOST_ROWS:
        return {heading: panel}
    parts = [cells[start : start + MOST_ROWS] for start in range(0, len(cells), MOST_ROWS)]
    names = [f"{heading}; {_ends(part)}, part {number}" for number, part in enumerate(parts, 1)]
    return {name: Panel(panel.group, part) for name, part in zip(names, parts, strict=True)}


def _ends(cells: Sequence[Cell]) -> str:
    return "n = " + " to ".join(dict.fromkeys([str(cells[0].record.n), str(cells[-1].record.n)]))
