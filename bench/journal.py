"""The journal of a run folder: one line per finished cell, on the disk before the next one starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.lock import LOCK, hold
from bench.record import Record, parse_journal, read_journal, to_frame

JOURNAL, DAMAGED = "journal.jsonl", "journal.damaged"


class Journal:
    """A run folder held by this process: a second run is refused. The lock is the kernel's and dies with its holder.

    Entering repairs what a killed run or a bad disk left: a torn last line is dropped, and lines that are no records
    are moved to `journal.damaged`; `damage` says so. Leaving removes a folder that nothing was written into.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self.damage: list[str] = []
        self.records: dict[str, Record] = {}
        """The record that counts for each cell: its last one."""

    def __enter__(self) -> Self:
        """Raises InUseError."""
        self._run.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self._run)
        self._repair()
        self._lines = open(self._run / JOURNAL, "ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        (self._run / LOCK).unlink()
        if not (self._run / JOURNAL).stat().st_size and not (self._run / DAMAGED).exists():
            (self._run / JOURNAL).unlink()
            if not any(self._run.iterdir()):
                self._run.rmdir()
        self._lock.close()

    def append(self, record: Record) -> None:
        """One more line, on the disk when this returns."""
        self._lines.write(record.to_line().encode() + b"\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self.records[record.cell_id] = record

    def _repair(self) -> None:
        path = self._run / JOURNAL
        text = path.read_bytes() if path.exists() else b""
        parsed = parse_journal(text)
        self.records = newest(parsed.records)
        self.damage = [f"{path}: {line}" for line in parsed.damage]
        if parsed.damaged_lines:
            with open(self._run / DAMAGED, "ab") as kept:
                kept.writelines(parsed.damaged_lines)
                os.fsync(kept.fileno())
        if parsed.damage:
            partial = path.with_suffix(".part")
            with open(partial, "wb") as file:
                file.writelines(parsed.good_lines)
                os.fsync(file.fileno())
            os.replace(partial, path)


def newest(records: Iterable[Record]) -> dict[str, Record]:
    """The record that counts for each cell: its last one."""
    return {record.cell_id: record for record in records}


def read(run: Path) -> dict[str, Record]:
    """The records that count in a run folder, by cell; none where there is no journal."""
    return newest(read_journal(run)) if (run / JOURNAL).exists() else {}


def damage(run: Path) -> list[str]:
    """What is wrong with a run's journal, one line each; nothing is changed."""
    return [f"{run / JOURNAL}: {line}" for line in parse_journal((run / JOURNAL).read_bytes()).damage]


def write_parquet(run: Path) -> None:
    """`records.parquet`, written in one step."""
    partial = run / "records.parquet.part"
    to_frame(read(run).values()).to_parquet(partial)
    os.replace(partial, run / "records.parquet")
