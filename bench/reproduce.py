"""One recorded cell measured again, from what its record and its run folder say of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench import config, journal, output, plugin_store, provenance
from bench.aligned import Column, Table
from bench.progress import Watcher
from bench.record import Record, read_journal
from bench.run import Request, run
from problems.registry import nearest

SHOWN = (
    "status",
    "message",
    "input_sha256",
    "plugin_sha256",
    "accuracy",
    "error_relative",
    "best_scalar",
    "reference_error_relative",
    "kkt_residual",
    "iterations",
    "solve_seconds",
    "gradient_seconds",
    "host_peak_bytes",
    "environment",
    "flags",
)


FACTOR, ROUNDING = 3.0, 1e-13
"""What another machine's order of summation may do to an error, and to one that is nothing but rounding."""


class NoSuchCellError(ValueError):
    """The run has no such cell; one line."""


def recorded(cell_id: str, folder: Path) -> Record:
    """The cell's last record, whether or not its input and its plug-in are today's. Raises NoSuchCellError."""
    records = journal.newest(read_journal(folder))
    if cell_id not in records:
        raise NoSuchCellError(f"{folder}: no cell '{cell_id}' was recorded: {nearest(cell_id, list(records))}")
    return records[cell_id]


def measure_again(record: Record, folder: Path, watcher: Watcher) -> tuple[Record, str]:
    """The record and what was printed, with the plug-ins as they were, in a folder that is gone afterwards.

    Raises NoVersionError where the run does not hold them, and ConfigError where the suite refuses the cell by now.
    """
    settings = provenance.read(folder).get(record.environment, {}).get("settings", {})
    document: dict[str, Any] = {
        "problem": [{"family": record.problem, **_written(record.problem_parameters), "batch": record.batch}],
        "method": [{"key": record.method, **_written(record.method_parameters)}],
        **{name: {key: value for key, value in table.items() if value is not None} for name, table in settings.items()},
    }
    measure = document.setdefault("measure", {})
    measure |= {"device": record.device, "dtype": record.dtype, "threads": record.threads}
    document |= _home(folder)
    plugins = plugin_store.kept(record, folder)
    with tempfile.TemporaryDirectory(prefix="hypergrad-reproduce-") as out:
        request = Request(document, folder / "config.toml", Path(out), plugins=plugins, only=f"method={record.method}")
        (again,) = run(request, watcher)
        return again, output.read(request.out, again.cell_id)


def _home(folder: Path) -> dict[str, Any]:
    """Where the paths of the run's configuration start, which the record has as they were written."""
    path = folder / "config.toml"
    relative_to = config.read(path).get("relative_to") if path.exists() else None
    return {} if relative_to is None else {"relative_to": relative_to}


def _written(value: Any) -> Any:
    """As a configuration writes it: a value that is itself a list is the one element of its axis."""
    if isinstance(value, dict):
        return {name: _written(entry) for name, entry in value.items()}
    return [value] if isinstance(value, list) else value


def side_by_side(record: Record, again: Record) -> Table:
    """What was recorded, and what came out now."""
    columns = tuple(Column(title, numeric=False) for title in ("", "recorded", "now"))
    rows = ((name, *(_text(getattr(one, name)) for one in (record, again))) for name in SHOWN)
    return Table(f"{record.variant} on {record.problem} n={record.n}", columns, tuple(rows))


def printed(record: Record, folder: Path, now: str) -> str:
    """What the methods printed and the tracebacks of their exceptions, recorded and now; empty where there is none."""
    recorded = output.read(folder, record.cell_id) or record.output_tail or ""
    parts = {f"printed when it was recorded ({folder / output.file_of(record.cell_id)}):": recorded}
    parts["printed now:"] = now
    return "\n".join(f"{heading}\n{text.rstrip()}\n" for heading, text in parts.items() if text)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def disagreement(record: Record, again: Record) -> str:
    """Why the two do not say the same of the gradient; empty where they do. Times are not compared."""
    if record.cell_id != again.cell_id:
        return f"the suite has become another: this cell is {again.cell_id} now"
    if record.input_sha256 != again.input_sha256:
        return "the problem's data are not the same"
    if record.plugin_sha256 is None and again.plugin_sha256 is not None:
        return "which version of the plug-in it came from was not recorded"
    if record.status != again.status:
        return f"status {again.status}, recorded {record.status}"
    if record.error_relative is None or again.error_relative is None:
        return "" if record.error_relative == again.error_relative else "an error was measured in one of the two only"
    bar = max(one.reference_error_relative or 0.0 for one in (record, again))
    low, high = sorted((record.error_relative, again.error_relative))
    if high <= FACTOR * low + bar + ROUNDING:
        return ""
    return f"error {again.error_relative:.1e}, recorded {record.error_relative:.1e}"
