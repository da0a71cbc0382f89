"""A table of the page: sorted and filtered by its reader, thousands of rows long, as one compact JSON object.

Invariant: `text` is what every other format prints; `values` are the record's own numbers, unrounded, in SI units and
bytes, and serve sorting alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.aligned import Column
from bench.record import Correctness, Record
from reports.cells import has_result
from reports.changes import Changes
from reports.content import Content
from reports.instances import Group
from reports.rounding import ABSENT, plain, scientific, upper_bound
from reports.short_names import told_apart
from reports.tables import main_columns


@dataclass(frozen=True)
class PageTable:
    """Columns of text and of numbers to sort by, what to filter by, and what a row shows when it is opened."""

    stem: str
    columns: tuple[Column, ...]
    text: tuple[tuple[str, ...], ...]
    """Per column, as long as there are rows; so are the next four."""
    values: tuple[tuple[float | None, ...] | None, ...]
    filters: Mapping[str, Sequence[str]]
    details: Mapping[str, Sequence[str]]
    """Empty ones are not shown."""
    tones: Sequence[str]
    """How a row went, for its colour: `good`, `bad` or nothing."""
    toned: frozenset[str]
    """The titles of the columns of words that take this colour."""
    command: Sequence[str] = ()
    """A row's command, to be copied."""
    noun: str = "cells"
    """What a row is, several of them."""
    searched: str = "method, flag, message"
    """What one would look for among them."""
    file: str = "records.csv"
    """Of the format csv, which has them all."""

    @property
    def payload(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "columns": [
                {"title": column.title, "unit": column.unit, "numeric": column.numeric} for column in self.columns
            ],
            "text": [_packed(column) for column in self.text],
            "values": self.values,
            "filters": {name: _packed(words) for name, words in self.filters.items()},
            "details": {name: _packed(words) for name, words in self.details.items() if any(words)},
            "tones": _packed(self.tones),
            "toned": [index for index, column in enumerate(self.columns) if column.title in self.toned],
            "command": _packed(self.command),
            "noun": self.noun,
        }

    def first(self, count: int) -> list[tuple[str, ...]]:
        """Rows for a reader without scripts."""
        return list(zip(*(column[:count] for column in self.text), strict=True))

    def __len__(self) -> int:
        return len(self.tones)


def cell_table(content: Content) -> PageTable:
    """Every record, in the order of the groups; a column of the instance where there are several."""
    group_of = {id(record): group for group in content.groups for record in group.records}
    records = content.records
    columns = main_columns(records, lambda record: group_of[id(record)].label(record))
    columns.insert(1, columns.pop())  # the status, where a narrow screen shows it
    headings = [group.heading for group in content.groups]
    place = {heading: str(number) for number, heading in enumerate(headings, 1)}
    short = {
        heading: f"{place[heading]}: {words}" for heading, words in zip(headings, told_apart(headings), strict=True)
    }
    if len(short) > 1:
        columns.insert(2, (Column("instance", numeric=False), lambda record: place[group_of[id(record)].heading]))
    return PageTable(
        stem="cells",
        columns=tuple(column for column, _ in columns),
        text=tuple(tuple(cell(record) for record in records) for _, cell in columns),
        values=tuple(_values(column, records) for column, _ in columns),
        filters={
            "problem": [short[group_of[id(record)].heading] for record in records],
            "n": [str(record.n) for record in records],
            "device": [f"{record.device}, {record.dtype}" for record in records],
            "status": [str(record.status) for record in records],
            "accuracy": [str(record.accuracy) for record in records],
        },
        details=_details(records, group_of),
        tones=[_tone(record) for record in records],
        toned=frozenset({"status, accuracy, flags"}),
        command=[record.reproduce for record in records],
    )


def _tone(record: Record) -> str:
    if not has_result(record) or record.accuracy is Correctness.WRONG:
        return "bad"
    return "good" if record.status == "ok" and record.accuracy is Correctness.RIGHT else ""


def _values(column: Column, records: Sequence[Record]) -> tuple[float | None, ...] | None:
    return tuple(getattr(record, column.field) for record in records) if column.field else None


def _details(records: Sequence[Record], group_of: Mapping[int, Group]) -> dict[str, list[str]]:
    return {
        "instance": [group_of[id(record)].heading for record in records],
        "message": [record.message for record in records],
        "flags": [", ".join(record.flags) for record in records],
        "factor to the reference": [scientific(best) if (best := record.best_scalar) else "" for record in records],
        "printed": [record.output_tail or "" for record in records],
        "reference": [_reference(record) for record in records],
        "margins to a kink": [_margins(record) for record in records],
        "iterations": [plain(record.iterations) if record.iterations else "" for record in records],
        "device, precision, threads": [f"{record.device}, {record.dtype}, {record.threads}" for record in records],
        "cell": [record.cell_id for record in records],
    }


def _reference(record: Record) -> str:
    if not record.reference_kind:
        return ""
    bar = record.reference_error_relative
    return f"{record.reference_kind}; its own relative error {ABSENT if bar is None else upper_bound(bar)}"


def _margins(record: Record) -> str:
    if record.margin_primal is None and record.margin_dual is None:
        return ""
    return f"primal {scientific(record.margin_primal)}, dual {scientific(record.margin_dual)}"


def change_table(changes: Changes, stem: str) -> PageTable:
    """The cells that two runs share."""
    rows = changes.rows
    return PageTable(
        stem=stem,
        columns=tuple(Column(title, numeric=title in changes.numeric) for title in changes.headings),
        text=tuple(tuple(row.text[index] for row in rows) for index in range(len(changes.headings))),
        values=tuple(
            tuple(row.numbers[index] for row in rows) if title in changes.numeric else None
            for index, title in enumerate(changes.headings)
        ),
        filters={name: [row.words[name] for row in rows] for name in (rows[0].words if rows else {})},
        details={"cell": [row.cell_id for row in rows]},
        tones=[row.tone for row in rows],
        toned=frozenset(changes.headings) - changes.numeric,
    )


def _packed(words: Sequence[str]) -> dict[str, list[Any]] | list[str]:
    """Repeated words once, and their places."""
    different = list(dict.fromkeys(words))
    if 2 * len(different) > len(words):
        return list(words)
    place = {word: number for number, word in enumerate(different)}
    return {"words": different, "at": [place[word] for word in words]}
