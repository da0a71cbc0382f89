"""The journal of a run folder: one line per finished cell, on the disk before the next one starts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.lines import Lines, accepted, repair
from bench.lock import hold, release
from bench.record import Record, parse_journal, read_journal, to_frame
from bench.stale import counting
from bench.whole_file import make_folder, whole

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
        """Raises InUseError, SchemaError and OSError."""
        make_folder(self._run)
        self._lock = hold(self._run)
        try:
            self._repair()
            self._lines = Lines(self._run / JOURNAL)
        except BaseException:
            release(self._run, self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        if not (self._run / JOURNAL).stat().st_size and not (self._run / DAMAGED).exists():
            (self._run / JOURNAL).unlink()
        release(self._run, self._lock)

    def append(self, record: Record) -> None:
        """One more line, on the disk when this returns. Raises OSError."""
        self._lines.append(record.to_line())
        self._lines.sync()
        self.records[record.cell_id] = record

    def _repair(self) -> None:
        path = self._run / JOURNAL
        text = path.read_bytes() if path.exists() else b""
        parsed = accepted(path, parse_journal(text))
        self.records = newest(parsed.values)
        self.damage = [f"{path}: {line}" for line in parsed.damage]
        repair(path, parsed)


def newest(records: Iterable[Record]) -> dict[str, Record]:
    """The record that counts for each cell: its last one."""
    return {record.cell_id: record for record in records}


def read(run: Path) -> dict[str, Record]:
    """The records that count in a run folder, by cell; none where there is no journal."""
    return counting(read_journal(run)) if (run / JOURNAL).exists() else {}


def damage(run: Path) -> list[str]:
    """What is wrong with a run's journal, and what of it does not count, one line each; nothing is changed."""
    parsed = parse_journal((run / JOURNAL).read_bytes())
    left_out = len(newest(parsed.values)) - len(counting(parsed.values))
    rows = f"{left_out} {'row is' if left_out == 1 else 'rows are'} left out"
    aged = [f"{rows}: of an earlier input, or an earlier version of a plug-in, than newer rows"] if left_out else []
    return [f"{run / JOURNAL}: {line}" for line in [*parsed.damage, *aged]]


def write_parquet(run: Path) -> None:
    """`records.parquet`, written in one step."""
    frame = to_frame(read(run).values())
    with whole(run / "records.parquet") as file:
        frame.to_parquet(file)
