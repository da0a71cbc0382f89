"""Rows that no longer count, since the input or the plug-in that they were made with is another now.

A row counts as the cell's while `Cell.changes` says nothing. In a folder alone, without its plan, the newest row of an
instance says which input counts, and the newest of a method on a family which plug-in: `counting`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.catalogue import Catalogue
from bench.cell import Cell
from bench.plugin_store import files_changed_since
from bench.record import Record


def counting(records: Iterable[Record]) -> dict[str, Record]:
    """The records of a folder that count, by cell: of each cell its last one, in the order in which they finished,
    without those of an earlier input of their instance, or of an earlier version of their plug-in."""
    last = {record.cell_id: record for record in records}
    inputs = {_instance(record): record.input_sha256 for record in records}
    versions = {_program(record): record.plugin_sha256 for record in records}
    return {
        cell_id: record
        for cell_id, record in last.items()
        if record.input_sha256 == inputs[_instance(record)] and record.plugin_sha256 == versions[_program(record)]
    }


def _instance(record: Record) -> str:
    return json.dumps([record.problem, record.problem_parameters, record.pairs], sort_keys=True)


def _program(record: Record) -> tuple[str, str]:
    return record.method, record.problem


def said(stale: Sequence[tuple[Cell, Record]], catalogue: Catalogue, run: Path) -> list[str]:
    """One line for each instance whose input has changed, and for each plug-in that has, with its rows' number."""
    counts: dict[str, int] = defaultdict(int)
    for cell, record in stale:
        changed = cell.changes(record)
        if "input" in changed:
            instance = cell.instance
            what = f"the input of {instance.label} n={instance.n} seed={instance.parameters.get('seed', 0)}"
            counts[f"{what}: {_short(record.input_sha256)}, now {_short(instance.sha256)}"] += 1
        if "plug-in" in changed:
            counts[_plugin_words(cell, record, catalogue, run)] += 1
    return [f"{line}: {rows} {'row is' if rows == 1 else 'rows are'} measured again" for line, rows in counts.items()]


def _plugin_words(cell: Cell, record: Record, catalogue: Catalogue, run: Path) -> str:
    keys = [key for key in (cell.method, cell.instance.family) if key in catalogue.sources]
    paths = {**catalogue.plugin_problems, **catalogue.plugin_methods}
    files = files_changed_since(run, record, {key: catalogue.sources[key] for key in keys})
    where = " and ".join(f"the plug-in {paths[key]}" for key in keys) or f"what made {cell.method}"
    versions = f"{_short(record.plugin_sha256)}, now {_short(cell.plugin_sha256)}"
    return f"{where}: {versions}" + (f" ({', '.join(files)} changed)" if files else "")


def _short(sha256: str | None) -> str:
    return sha256[:8] if sha256 else "not recorded"
