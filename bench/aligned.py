"""Tables on a terminal of any width. A number is printed whole or not at all.

A cell of a numeric column stays on one line. One of a text column folds behind spaces and punctuation, and a name keeps
a readable width. Where that is too wide, the columns that matter least go, and a note says which; where it still is,
the columns that are left continue below, beside the first one again.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.plain_text import spelled

READABLE_NAME, READABLE_TEXT = 24, 12
"""Characters below which the first column, and any other of text, is not folded."""
GAP = 3
HEADING_WIDTH = 9
HYPHENS = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""The line under the heading where there is no better sign for one."""
WORDS = re.compile(r"[^\s,;\[\]()]*[\s,;\[\]()]*")
"""With the space or punctuation behind it."""
PARTS_OF_WORDS = re.compile(r"[^_/=]*[_/=]*")


@dataclass(frozen=True)
class Column:
    """A heading with its unit, whether its cells are numbers (aligned right), and the record's field behind it."""

    title: str
    unit: str = ""
    numeric: bool = True
    field: str = ""

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """Rows of unescaped text, each as long as `columns`."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def print_table(table: Table, console: Console, dropped_first: Sequence[str] = ()) -> None:
    """Aligned, in the console's width. `dropped_first` are titles of columns that a narrow console goes without."""
    shown = _Shown.of(table, console.encoding)
    kept, dropped = shown.kept(console.width, dropped_first)
    if table.title:
        console.print(Text(spelled(table.title, console.encoding), style="bold"))
    for block in shown.blocks(kept, console.width):
        widths = shown.widths(block, console.width)
        width = max(console.width, sum(widths) + GAP * len(widths))
        console.print(shown.rich(block, widths), width=width, crop=False)
    left_out = [f"Left out for the terminal's width: {', '.join(dropped)}."] if dropped else []
    for note in [*table.notes, *left_out]:
        console.print(Text(spelled(note, console.encoding), style="dim"))


def fold(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, longer only where one word or number is."""
    lines = [""]
    for piece in _pieces(" ".join(text.split("\n"))):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _pieces(text: str) -> Iterator[str]:
    """What is never torn apart: words and numbers, of long words such as names and paths their parts."""
    for word in WORDS.findall(text):
        yield from PARTS_OF_WORDS.findall(word) if cell_len(word.rstrip()) > READABLE_NAME else [word]


def _heading(column: Column) -> list[str]:
    lines = textwrap.wrap(column.title, HEADING_WIDTH, break_long_words=False)
    return [*lines, column.unit] if column.unit else lines


@dataclass(frozen=True)
class _Shown:
    """A table in the signs that the console has; columns by their place."""

    columns: tuple[Column, ...]
    headings: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[str, ...], ...]
    """By column."""
    frame: box.Box

    @classmethod
    def of(cls, table: Table, encoding: str) -> _Shown:
        headings = tuple(tuple(spelled(line, encoding) for line in _heading(column)) for column in table.columns)
        cells = (tuple(spelled(row[index], encoding) for row in table.rows) for index in range(len(table.columns)))
        return cls(table.columns, headings, tuple(cells), box.SIMPLE_HEAD if encoding.startswith("utf") else HYPHENS)

    def kept(self, width: int, dropped_first: Sequence[str]) -> tuple[list[int], list[str]]:
        """The columns that stay, and the titles of those that go."""
        kept = list(range(len(self.columns)))
        for title in dropped_first:
            if self._fits(kept, width):
                break
            kept = [index for index in kept if self.columns[index].title != title]
        return kept, [column.title for index, column in enumerate(self.columns) if index not in kept]

    def blocks(self, kept: Sequence[int], width: int) -> list[list[int]]:
        """Columns that are printed side by side, the first one in each block."""
        first, *others = kept
        blocks = [[first]]
        for index in others:
            if len(blocks[-1]) > 1 and not self._fits([*blocks[-1], index], width):
                blocks.append([first])
            blocks[-1].append(index)
        return blocks

    def widths(self, block: Sequence[int], width: int) -> list[int]:
        """Of the columns side by side: as wide as their longest cells, or narrower where they can be folded."""
        widths, least = [self._natural(index) for index in block], [self._least(index) for index in block]
        for _ in range(max(0, sum(widths) + GAP * len(block) - width)):
            can_shrink = [place for place in range(len(block)) if widths[place] > least[place]]
            if not can_shrink:
                break
            widths[max(can_shrink, key=widths.__getitem__)] -= 1
        return widths

    def rich(self, block: Sequence[int], widths: Sequence[int]) -> RichTable:
        table = RichTable(box=self.frame, pad_edge=False, padding=(0, 1))
        for index, width in zip(block, widths, strict=True):
            heading = Text("\n".join(self.headings[index]))
            justify = "right" if self.columns[index].numeric else "left"
            table.add_column(heading, justify=justify, width=width, no_wrap=True)  # type: ignore[arg-type]
        for row in zip(*(self.cells[index] for index in block), strict=True):
            table.add_row(*(Text("\n".join(self._lines(*each))) for each in zip(block, row, widths, strict=True)))
        return table

    def _lines(self, index: int, cell: str, width: int) -> list[str]:
        return [cell] if self.columns[index].numeric else fold(cell, width)

    def _fits(self, block: Sequence[int], width: int) -> bool:
        return sum(self._least(index) + GAP for index in block) <= width

    def _natural(self, index: int) -> int:
        return max(cell_len(text) for text in [*self.headings[index], *self.cells[index], ""])

    def _least(self, index: int) -> int:
        """The narrowest that the column can be without tearing a word or a number."""
        natural = self._natural(index)
        if self.columns[index].numeric:
            return natural
        pieces = (cell_len(piece.rstrip()) for cell in self.cells[index] for piece in _pieces(cell))
        readable = READABLE_NAME if index == 0 else READABLE_TEXT
        return max(*map(cell_len, self.headings[index]), *pieces, min(natural, readable), 0, 0)
