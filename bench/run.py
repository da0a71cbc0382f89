"""A run: its plan, its references, its cells, its folder. What the folder holds already is not measured again.

The runner is a small process that loads no torch and no third party's code: its workers do.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import config, forecast, plugin_store, plugins, provenance, pruning, reads, stale
from bench.catalogue import Catalogue
from bench.cell import Cell
from bench.config import Config, ConfigError
from bench.isolation import Job, Workers
from bench.journal import Journal
from bench.measure import CellRunner
from bench.own_files import Say, read_own
from bench.progress import Watcher
from bench.record import Record, Status
from bench.references import References
from bench.slurm import SlurmOptions, measure_on_slurm
from bench.whole_file import write_whole

PLAN_SECONDS = 600.0
"""What building every problem of a matrix may take."""
FINISHED = "plan.json"


class TableError(RuntimeError):
    """The run's table of records could not be written, though each is in the journal; one line."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    document: dict[str, Any]
    """The configuration as it was written."""
    config_path: Path
    """Where; its lines of complaint begin with it."""
    out: Path
    devices: list[str] | None = None
    """In place of those of `[measure]`."""
    only: str = ""
    jobs: int = 1
    """References, and cells without a clock, at a time."""
    plugins: Sequence[Path] = ()
    retry: frozenset[Status] = frozenset()
    """Statuses whose cells are measured again."""
    slurm: SlurmOptions | None = None
    """Where the cells are measured by Slurm's jobs instead of this machine."""

    @property
    def home(self) -> Path:
        """The folder that the configuration's relative paths start from."""
        return config.home_of(self.document.get("relative_to"), self.config_path)

    def key(self) -> str:
        """The same where the same cells would follow, unless their data have changed: of the configuration, the
        options, the plug-ins with the modules beside them, and the source."""
        files = [*(self.home / name for name in self.document.get("plugins", [])), *self.plugins]
        there = [file.resolve() for file in files if file.is_file()]  # `plan` refuses one that is not
        versions = [[str(file), plugins.sources(file)] for file in there]
        asked = [self.document, str(self.home), self.devices, self.only, versions, reads.source_sha256()]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """What is to be run, and where it goes."""

    config: Config
    config_path: Path
    catalogue: Catalogue
    plugins: Sequence[str]
    """Those of the command line, as they were written there."""
    cells: Sequence[Cell]
    out: Path
    jobs: int
    absent: frozenset[str]
    """Devices of some cells that this machine does not have."""
    machine: dict[str, Any]
    reads: dict[str, str] | None
    """What the problems were built from (`bench.reads`); None where nobody knows."""


def run(request: Request, watcher: Watcher) -> list[Record]:
    """Measures what the folder does not hold; the records of all the cells, in the plan's order.

    Raises ConfigError where the configuration, a plug-in or an option is wrong, ChangedError where data or a plug-in
    change meanwhile, InUseError where another run holds the folder, and TableError where its `records.parquet` cannot
    be written, which the same command tries again.
    """
    settings = config.parse(request.document, str(request.config_path))
    with Journal(request.out) as journal, watcher:
        for line in journal.damage:
            watcher.say(line)
        finished = _finished(request, journal, watcher.say)
        if finished is not None:
            watcher.say(f"all {len(finished)} cells are in {request.out} already")
            return finished
        with Workers(settings.measure.preload) as workers:
            plan = make_plan(request, workers)
            for device in sorted(plan.absent) if request.slurm is None else ():
                watcher.say(f"this machine has no device '{device}': its cells are recorded as unsupported")
            environment = _write_folder(plan, journal, watcher)
            pending = _pending(plan, journal, request.retry, watcher)
            runner = CellRunner(plan.config.measure, plan.catalogue, workers, plan.out, environment)
            if request.slurm is None:
                _measure(plan, pending, runner, journal, watcher)
            else:
                _measure_on_slurm(plan, pending, request.slurm, journal, watcher)
            tabulated = workers.run_one(Job("tabulate", {"run": str(plan.out.resolve())}, "fork", 1, PLAN_SECONDS))
            if tabulated.status is not Status.OK:
                raise TableError(f"{plan.out}/records.parquet: cannot be written: {tabulated.message}")
        ground = {cell.cell_id: [cell.instance.sha256, cell.plugin_sha256] for cell in plan.cells}
        if plan.reads is not None:
            finished_plan = {"key": request.key(), "reads": plan.reads, "cells": ground}
            write_whole(plan.out / FINISHED, json.dumps(finished_plan) + "\n")
        return [journal.records[cell_id] for cell_id in ground]


def make_plan(request: Request, workers: Workers) -> Plan:
    """In a worker, as it imports third parties' files and builds every problem. Raises ConfigError."""
    payload = {
        "document": request.document,
        "file": str(request.config_path),
        "plugins": [str(path) for path in request.plugins],
        "devices": request.devices,
        "only": request.only,
    }
    outcome = workers.run_one(Job("plan", payload, "fork", 1, PLAN_SECONDS))
    if outcome.status is not Status.OK:
        raise ConfigError(f"{request.config_path}: its problems and plug-ins cannot be loaded: {outcome.message}")
    planned = outcome.numbers
    if "refused" in planned:
        raise ConfigError(planned["refused"])
    return Plan(
        config=Config.model_validate(planned["config"]),
        config_path=request.config_path,
        catalogue=Catalogue(**planned["catalogue"]),
        plugins=[str(path) for path in request.plugins],
        cells=[Cell.from_json(cell) for cell in planned["cells"]],
        out=request.out,
        jobs=request.jobs,
        absent=frozenset(planned["absent"]),
        machine=planned["machine"],
        reads=planned["reads"],
    )


def _finished(request: Request, journal: Journal, say: Say) -> list[Record] | None:
    """The records of all cells, where the folder says that the same plan was finished: that needs no worker."""
    path = request.out / FINISHED
    if not path.exists() or request.retry:
        return None
    known = read_own(path, _finished_plan, say)
    if known is None or known[0] != request.key() or not reads.are_as_they_were(known[1]):
        return None
    rows = [(journal.records.get(cell_id), ground) for cell_id, ground in known[2].items()]
    settled = [row for row, ground in rows if row is not None and ground == [row.input_sha256, row.plugin_sha256]]
    return settled if len(settled) == len(rows) else None


def _finished_plan(path: Path) -> tuple[str, dict[str, str], dict[str, list[str | None]]]:
    """Its key, what it was built from, and each cell's input and plug-in; no cells in the files of before."""
    known = json.loads(path.read_text(encoding="utf-8"))
    cells = known["cells"]
    return known["key"], dict(known.get("reads", {})), {} if isinstance(cells, list) else dict(cells)


def _write_folder(plan: Plan, journal: Journal, watcher: Watcher) -> str:
    """The configuration, the plug-ins and the environment; says where earlier rows stand on other ground."""
    provenance.copy_config(plan.config_path, plan.out)
    plugin_store.keep(plan.catalogue, plan.out)
    settings = plan.config.model_dump(mode="json", include={"measure", "reference"})
    environment = {**plan.machine, "settings": settings, "command": sys.argv}
    known = provenance.read(plan.out, watcher.say)
    name = provenance.write(plan.out, environment)
    for earlier in sorted({record.environment for record in journal.records.values()} - {name}):
        rows = sum(record.environment == earlier for record in journal.records.values())
        apart = provenance.differences(known.get(earlier, {}), environment)
        watcher.say(f"{rows} rows are from another environment, and are kept as they are: {'; '.join(apart)}")
    return name


def _pending(plan: Plan, journal: Journal, retry: frozenset[Status], watcher: Watcher) -> list[Cell]:
    recorded = [(cell, journal.records[cell.cell_id]) for cell in plan.cells if cell.cell_id in journal.records]
    changed = [(cell, record) for cell, record in recorded if cell.changes(record)]
    for line in stale.said(changed, plan.catalogue, plan.out):
        watcher.say(line)
    counting = [(cell, record) for cell, record in recorded if not cell.changes(record) and record.status not in retry]
    again = [cell for cell, _ in changed]
    settled = [(cell, record) for cell, record in counting if not _waits_for(cell, record, again, counting)]
    if settled:
        watcher.say(f"{len(settled)} of {len(plan.cells)} cells are in {plan.out} already")
    failed = sorted({str(record.status) for _, record in settled if is_failure(record)})
    if failed:
        watcher.say(f"some of them failed: --retry {','.join(failed)} measures those again")
    done = {cell.cell_id for cell, _ in settled}
    return pruning.in_order([cell for cell in plan.cells if cell.cell_id not in done])


def _waits_for(cell: Cell, record: Record, again: list[Cell], counting: list[tuple[Cell, Record]]) -> bool:
    """Whether it was pruned by a row that counts no longer."""
    if pruning.PRUNED not in record.flags or pruning.pruned_by(cell, counting) is not None:
        return False
    return any(pruning.is_larger(cell, other) for other in again)


def is_failure(record: Record) -> bool:
    """Whether measuring the cell again might say something else."""
    return record.status not in (Status.OK, Status.UNSUPPORTED, Status.KINK)


def _measure(plan: Plan, pending: list[Cell], runner: CellRunner, journal: Journal, watcher: Watcher) -> None:
    settings = plan.config
    references = References(settings.reference, plan.catalogue, plan.out, watcher.say)
    possible = [cell for cell in pending if cell.device not in plan.absent]
    if settings.reference.enabled and possible:
        references.compute(possible, runner.workers, plan.jobs, watcher.references)

    watcher.planned(pending, forecast.expected_seconds(pending, [*forecast.RUNS, plan.out], settings.measure))
    waiting = {cell.cell_id for cell in pending}
    rows = [(cell, journal.records[cell.cell_id]) for cell in plan.cells if cell.cell_id not in waiting]

    def measured(cell: Cell) -> Record:
        runner.forget(cell)
        if cell.device in plan.absent:
            return runner.record(cell, Status.UNSUPPORTED, f"this machine has no device '{cell.device}'")
        cause = pruning.pruned_by(cell, rows)
        if cause is not None:
            message = pruning.pruned_record_message(cell, cause)
            return runner.record(cell, cause.status, message, flags=[pruning.PRUNED])
        watcher.starting(cell)
        return runner.measure(cell, references.of(cell) if settings.reference.enabled else None)

    at_once = 1 if settings.measure.timing else plan.jobs
    with closing(_each(measured, pending, at_once)) as finished:
        for cell, record in finished:
            journal.append(record)
            rows.append((cell, record))
            watcher.finished(cell, record)


def _measure_on_slurm(
    plan: Plan, pending: list[Cell], options: SlurmOptions, journal: Journal, watcher: Watcher
) -> None:
    def done(cell: Cell, record: Record) -> None:
        journal.append(record)
        watcher.finished(cell, record)

    watcher.planned(pending, {})
    measure_on_slurm(plan, pending, options, done, watcher.say)


def _each(
    measure: Callable[[Cell], Record], cells: Iterable[Cell], at_once: int
) -> Generator[tuple[Cell, Record], None, None]:
    """Cells and their records as they finish. Closing it starts no other cell."""
    if at_once == 1:
        for cell in cells:
            yield cell, measure(cell)
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        futures = {pool.submit(measure, cell): cell for cell in cells}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
