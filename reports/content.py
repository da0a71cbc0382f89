"""What a report says, whatever the format: read from the run folders once."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import journal
from bench.aligned import Table
from bench.own_files import read_object
from bench.record import Record, Status
from bench.run_folder import RunError, configuration_of
from reports.comparison import comparison_table
from reports.crossovers import crossover_table, crossovers
from reports.instances import Group, group
from reports.published import OPEN_QUESTIONS, is_papers_instance, said_of_the_error
from reports.scaling import all_series, scaling_table
from reports.tables import main_table

NOT_RECORDED = "not recorded"
GIBIBYTE = 2.0**30


@dataclass(frozen=True)
class Failure:
    """A cell without a result: where it stands in the tables, its word, and what the program said."""

    label: str
    size: str
    status: str
    message: str
    reproduce: str


@dataclass(frozen=True)
class Section:
    """One problem instance."""

    table: Table
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Run:
    """One run folder: where it is, its title, its machine and its records."""

    folder: Path
    title: str
    machine: tuple[tuple[str, str], ...]
    records: tuple[Record, ...]
    study: str | None
    """The name of its study, where it is one."""


@dataclass(frozen=True)
class Content:
    """Everything that a format writes down, figures apart."""

    title: str
    runs: tuple[Run, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Table, ...]
    open_questions: tuple[tuple[str, str], ...]
    said_of_the_error: tuple[str, ...]
    scaling: Table | None
    crossovers: Table | None
    sections: tuple[Section, ...]

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Of all groups, in their order: the rows of the page's table."""
        return tuple(record for group in self.groups for record in group.records)

    def number(self, record: Record) -> int:
        """The place of one of the `records`."""
        return self._numbers[id(record)]

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(record): number for number, record in enumerate(self.records)}


def read_content(folders: Sequence[Path]) -> Content:
    """Raises ValueError, naming the folder, where there is no run or no finished cell."""
    if not folders:
        raise ValueError("a report needs a run folder: python -m bench report RUN")
    runs = [read_run(folder) for folder in folders]
    several, every = len(runs) > 1, [record for run in runs for record in run.records]
    groups = [
        found
        for number, run in enumerate(runs, 1)
        for found in group(run.records, f"run {number} ({run.title})" if several else "", every)
    ]
    series = all_series(groups)
    return Content(
        title=" / ".join(dict.fromkeys(run.title for run in runs)),
        runs=tuple(runs),
        groups=tuple(groups),
        comparisons=tuple(comparison_table(own) for own in groups if is_papers_instance(own)),
        open_questions=tuple(OPEN_QUESTIONS.items()),
        said_of_the_error=tuple(said_of_the_error(groups)),
        scaling=scaling_table(series) if series else None,
        crossovers=crossover_table(crossed) if (crossed := crossovers(series)) else None,
        sections=tuple(Section(main_table(own), _failures(own)) for own in groups),
    )


def read_run(folder: Path) -> Run:
    """A run folder's title, machine and records. Raises RunError where it holds no finished cell."""
    if not (folder / "journal.jsonl").is_file():
        raise RunError(
            f"{folder} is no run folder: it has no journal.jsonl (python -m bench run CONFIG --out {folder})"
        )
    records = journal.read(folder).values()
    if not records:
        raise RunError(f"{folder} has no finished cell yet: run or resume it with python -m bench run")
    said = configuration_of(folder)
    title = str(said.get("title") or folder.resolve().name)
    return Run(folder, title, machine_of(folder), tuple(records), said.get("study"))


def machine_of(folder: Path) -> tuple[tuple[str, str], ...]:
    """What `environment.json` says, by name."""
    path = folder / "environment.json"
    found = read_object(path) or {}
    memory = found.get("memory_bytes")
    commit = _written(found.get("git_sha"))
    return (
        ("command", _command(found.get("command"))),
        ("CPU", _written(found.get("cpu"))),
        ("cores", _written(found.get("cores"))),
        ("logical cores", _written(found.get("logical_cores"))),
        ("CPU governor", _written(found.get("cpu_governor"))),
        ("load at the start", _written(found.get("load_1_minute"))),
        ("memory", f"{memory / GIBIBYTE:.1f} GiB" if isinstance(memory, int | float) else NOT_RECORDED),
        ("GPU", _gpu(found)),
        ("operating system", _written(found.get("os"))),
        ("Python", _written(found.get("python"))),
        ("packages", _written(found.get("packages"))),
        ("commit", f"{commit} with uncommitted changes" if found.get("git_dirty") else commit),
    )


def _gpu(found: dict[str, Any]) -> str:
    named = [found[name] for name in ("gpus", "gpu") if name in found]
    return NOT_RECORDED if not named else _written(named[0]) if named[0] else "none"


def _command(arguments: Any) -> str:
    """As it was typed: Python sets the first argument of `python -m bench` to a file's path."""
    if isinstance(arguments, list) and arguments and str(arguments[0]).endswith("__main__.py"):
        package = Path(str(arguments[0])).parent.name
        return shlex.join(["python", "-m", package, *map(str, arguments[1:])])
    return _written(arguments)


def _written(value: Any) -> str:
    if value is None or value == "":
        return NOT_RECORDED
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(entry)}" for name, entry in value.items()) or NOT_RECORDED
    if isinstance(value, list):
        return " ".join(_written(entry) for entry in value) or NOT_RECORDED
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _failures(own: Group) -> tuple[Failure, ...]:
    return tuple(
        Failure(
            own.label(record),
            f"n = {record.n}, k = {record.k}",
            str(record.status),
            " ".join(record.message.split()) or "no message",
            record.reproduce,
        )
        for record in own.records
        if record.status != Status.OK
    )
