"""A run's cells on a Slurm cluster: each job is a run of its own over some of them, whose records are merged here.

A job executes `python -m bench run CONFIG --out RUN/jobs/0001 --only cell_id=...`: it has a journal and a lock of its
own, on a file system that it shares with this process. This process, the collector, submits the jobs, reads their
journals while they run, and is the only one that writes RUN's. So a job that is cancelled, pre-empted, late or lost
takes with it no more than the cells that it had not finished, and a collector that was killed finds its jobs again by
`RUN/jobs/*/job.json`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import journal, kept, output, provenance
from bench.cell import Cell, reproduce_command
from bench.cluster import Cluster, ClusterError, Seen, Slurm, census, ending
from bench.measure import record_of
from bench.own_files import read_own
from bench.record import Record, Status, read_journal
from bench.suite import timings_file
from bench.whole_file import copy_whole, write_whole

if TYPE_CHECKING:
    from bench.run import Plan

JOBS, JOB, LOGS = "jobs", "job.json", "logs"
STATUSES = {"TIMEOUT": Status.TIMEOUT, "OUT_OF_MEMORY": Status.OUT_OF_MEMORY}
"""Of a job's unfinished cells; for every other end they have crashed."""
BEFORE_IT_BEGAN = "between its submission and its start: not merged, the same command measures the cell as it is now"
SUPERSEDED = "SUPERSEDED"
"""In place of Slurm's word, of a job whose cells are others by now."""
CANCEL_SECONDS, LONGEST_PAUSE_SECONDS = 60.0, 10.0


@dataclass(frozen=True)
class SlurmOptions:
    """How the cells are spread."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """As `cluster.settings_of` gives them."""
    at_once: int | None = None
    """Jobs that may run at the same time; None leaves that to Slurm."""
    cluster: Cluster = field(default_factory=Slurm)


def measure_on_slurm(
    plan: Plan,
    pending: list[Cell],
    options: SlurmOptions,
    done: Callable[[Cell, Record], None],
    say: Callable[[str], None],
) -> None:
    """Calls `done`, which appends to RUN's journal, once for each pending cell.

    Jobs of an earlier call that are still out are waited for, their cells not submitted again, unless an input or a
    plug-in has changed since: those are cancelled. The cells of one instance share a job, as they share its references.
    A record of another input or plug-in than the plan's, which changed before the job began, is not merged: its cell
    has crashed, and says so. Raises ClusterError where nothing can be submitted. On
    KeyboardInterrupt the jobs are cancelled; what they had finished is merged, and their other cells stay pending.
    """
    planned = {cell.cell_id: cell for cell in plan.cells}
    wanted, merged, jobs = {cell.cell_id for cell in pending}, _merged(plan.out), list[_Job]()
    for job in _open_jobs(plan.out):
        there = wanted & job.expected(merged)
        if there & job.as_planned(planned):
            jobs.append(job)
        elif there:
            say(f"submitted before an input or a plug-in changed, and cancelled: {job.job_id}")
            with suppress(ClusterError):
                options.cluster.cancel([job.job_id])
            job.write(SUPERSEDED)
    if jobs:
        say(f"submitted before, and waited for: {', '.join(job.job_id for job in jobs)}")
    for job in jobs:
        wanted -= job.expected(merged) & job.as_planned(planned)
    groups: dict[str, list[Cell]] = {}
    for cell in pending:
        if cell.cell_id in wanted:
            groups.setdefault(cell.instance.sha256, []).append(cell)
    if groups:
        jobs += _submit(plan, list(groups.values()), options)
        say(f"submitted: {len(groups)} jobs for {len(wanted)} cells")
    collector = _Collector(plan.out, options.cluster, planned, done, say)
    try:
        collector.collect(jobs)
    except KeyboardInterrupt:
        say("cancelling the jobs, and merging what they have finished")
        with suppress(ClusterError):  # where Slurm is silent, they are waited for by the next call
            options.cluster.cancel([job.job_id for job in jobs])
            collector.collect(jobs, stopping=True)
        raise


@dataclass(frozen=True)
class _Job:
    run: Path
    folder: Path
    job_id: str
    cells: list[Cell]

    def write(self, state: str) -> None:
        """`job.json`, in one step; `state` is empty until the job has ended."""
        noted = {"job_id": self.job_id, "state": state, "cells": [cell.to_json() for cell in self.cells]}
        write_whole(self.folder / JOB, json.dumps(noted))

    def records(self, state: str) -> dict[str, Record]:
        """What it has finished, by cell, as it is to stand in RUN's journal.

        Slurm ends a job by a signal to every process of it. So where it has not come to its own end, a crash that is
        the last to be heard of may be no fault of the cell.
        """
        records = journal.read(self.folder)
        if records and state != "COMPLETED" and next(reversed(records.values())).status is Status.CRASHED:
            records.popitem()
        return {cell_id: _rerooted(record, self.run) for cell_id, record in records.items()}

    def as_planned(self, planned: Mapping[str, Cell]) -> set[str]:
        """Its cells that were submitted with the input and the plug-ins of this plan."""
        own = [(cell, planned.get(cell.cell_id)) for cell in self.cells]
        return {cell.cell_id for cell, now in own if now is not None and _ground(cell) == _ground(now)}

    def expected(self, merged: set[str]) -> set[str]:
        """The cells whose records are still to be had from it."""
        had = {cell_id for cell_id, record in self.records("").items() if record.to_line() in merged}
        return {cell.cell_id for cell in self.cells} - had


def _ground(cell: Cell) -> tuple[str, str | None]:
    return cell.instance.sha256, cell.plugin_sha256


def _open_jobs(run: Path) -> Iterator[_Job]:
    for path in sorted((run / JOBS).glob(f"*/{JOB}")):
        noted = read_own(path, _noted)
        if noted is not None and not noted[0]:
            yield _Job(run, path.parent, *noted[1:])


def _noted(path: Path) -> tuple[str, str, list[Cell]]:
    noted = json.loads(path.read_text(encoding="utf-8"))
    return noted["state"], noted["job_id"], [Cell.from_json(cell) for cell in noted["cells"]]


def _submit(plan: Plan, groups: list[list[Cell]], options: SlurmOptions) -> list[_Job]:
    parent = plan.out.resolve() / JOBS
    first = 1 + max((int(path.name) for path in parent.glob("[0-9]*")), default=0)
    folders = [parent / f"{number:04d}" for number in range(first, first + len(groups))]
    threads = max(cell.threads for cells in groups for cell in cells)
    settings = {"job_name": f"bench-{plan.out.name}", "cpus_per_task": threads, **options.settings}
    run = [sys.executable, "-m", "bench", "run", str(plan.config_path), "--jobs", str(settings["cpus_per_task"])]
    run += [word for file in plan.plugins for word in ("--plugin", file)]
    commands = [[*run, "--out", str(folder), *_choice(of_job)] for folder, of_job in zip(folders, groups, strict=True)]
    job_ids = options.cluster.submit(parent / LOGS, commands, settings, options.at_once or len(groups))
    jobs = [_Job(plan.out, *of_job) for of_job in zip(folders, job_ids, groups, strict=True)]
    for job in jobs:
        job.folder.mkdir(exist_ok=True)
        (job.folder / journal.JOURNAL).touch()  # NFS remembers for a minute that a file is not there
        job.write("")
    return jobs


def _choice(cells: list[Cell]) -> list[str]:
    devices = ",".join(sorted({cell.device for cell in cells}))
    return ["--device", devices, "--only", ",".join(f"cell_id={cell.cell_id}" for cell in cells)]


@dataclass(frozen=True)
class _Collector:
    run: Path
    cluster: Cluster
    planned: Mapping[str, Cell]
    """With the input and the plug-ins of today; a job may have others, and cells that are in no plan of today."""
    done: Callable[[Cell, Record], None]
    say: Callable[[str], None]

    def collect(self, left: list[_Job], stopping: bool = False) -> None:
        """Until all jobs have ended, and are out of the list. A `stopping` run gives no row to what is unfinished."""
        merged, said, started = _merged(self.run), "", time.monotonic()
        while left and not (stopping and time.monotonic() > started + CANCEL_SECONDS):
            seen: dict[str, Seen] = {}
            try:  # before the journals are read: those of jobs that have ended are then complete
                seen = self.cluster.states([job.job_id for job in left])
                summary = census(seen.values())
            except ClusterError as error:
                summary = f"{error}: asking again"
            if summary not in ("", said):
                self.say(summary)
            said = summary
            for job in left.copy():
                state = seen.get(job.job_id, Seen("RUNNING"))
                finished = self._merge(job, state, merged)
                if state.ended:
                    left.remove(job)
                    job.write(state.state)  # first: a collector that is killed here measures again what has no row
                    if not stopping:
                        self._give_up(job, state, finished)
            if left:
                time.sleep(min(LONGEST_PAUSE_SECONDS, 0.2 + (time.monotonic() - started) / 20))

    def _merge(self, job: _Job, seen: Seen, merged: set[str]) -> set[str]:
        cells = {cell.cell_id: self.planned.get(cell.cell_id, cell) for cell in job.cells}
        all_records = job.records(seen.state).items()
        records = {cell_id: record for cell_id, record in all_records if not cells[cell_id].changes(record)}
        for cell_id, record in records.items():
            if record.to_line() not in merged:
                timings_file(self.run, cell_id).unlink(missing_ok=True)
                environment = Path(provenance.FOLDER, f"{record.environment}.json")
                for file in (Path("pyperf", f"{cell_id}.json"), environment, output.file_of(cell_id)):
                    if (job.folder / file).exists():
                        (self.run / file).parent.mkdir(exist_ok=True)
                        copy_whole(job.folder / file, self.run / file)
                kept.forget(self.run, cell_id)
                for file in kept.files_of(record):
                    if (job.folder / file).exists():
                        kept.keep(job.folder / file, self.run, file)
                self.done(cells[cell_id], record)
                merged.add(record.to_line())
        return set(records)

    def _give_up(self, job: _Job, seen: Seen, finished: set[str]) -> None:
        log = self.run / JOBS / LOGS / f"{job.job_id}_0_log.err"
        words = ending(log.read_text(errors="replace")) if log.exists() else "it wrote nothing to stderr"
        end = f"{seen.state} on {seen.node or 'no node'}: {words}"
        others = job.records(seen.state)
        for cell in job.cells:
            is_todays = _ground(cell) == _ground(self.planned.get(cell.cell_id, cell))
            if cell.cell_id not in finished and is_todays:  # else another job has it
                changed = cell.changes(others[cell.cell_id]) if cell.cell_id in others else []
                why = f"the {' and the '.join(changed)} changed {BEFORE_IT_BEGAN}" if changed else end
                message = f"Slurm job {job.job_id}: {why}"
                kept.forget(self.run, cell.cell_id)
                timings_file(self.run, cell.cell_id).unlink(missing_ok=True)
                record = record_of(cell, STATUSES.get(seen.state, Status.CRASHED), message)
                self.done(cell, _rerooted(record, self.run))


def _merged(run: Path) -> set[str]:
    return {record.to_line() for record in read_journal(run)} if (run / journal.JOURNAL).exists() else set()


def _rerooted(record: Record, run: Path) -> Record:
    return record.model_copy(update={"reproduce": reproduce_command(record.cell_id, run)})
