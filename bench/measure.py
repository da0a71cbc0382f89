"""One cell measured: its workers one after another, and what they say put together in one record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.accuracy import Accuracy, compare
from bench.catalogue import Catalogue
from bench.cell import Cell
from bench.config import Measure
from bench.isolation import Job, Outcome, Workers
from bench.record import Record, Status
from bench.reference import Reference
from bench.suite import write_suite
from bench.timing import Timed, summarise
from bench.worker import GRADIENTS

STOLEN_SHARE = 0.02
"""Of the processors' time, taken by other machines on the same host, above which a cell counts as disturbed."""


@dataclass
class _Findings:
    """What the workers of a cell have said so far."""

    status: Status = Status.OK
    message: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    processes: list[Timed] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    def failed(self, outcome: Outcome, role: str) -> bool:
        """Takes over the first failure of a worker, and says in which process it was."""
        if outcome.status is not Status.OK:
            self.status = outcome.status
            self.message = outcome.message if role == "measure" else f"{outcome.message} (in the {role} process)"
        return outcome.status is not Status.OK

    def timed(self, outcome: Outcome) -> None:
        """The clock's readings of one process."""
        if outcome.numbers["timed"] is not None:
            self.processes.append(Timed.from_json(outcome.numbers["timed"]))
        if outcome.numbers["other_pools"]:
            self.flags.append("threads")


def measure_cell(
    cell: Cell,
    settings: Measure,
    catalogue: Catalogue,
    workers: Workers,
    references: Callable[[], list[Reference]] | None,
    pyperf_folder: Path,
    reproduce: str,
) -> Record:
    """The cell's record; its timings also go into a pyperf suite. `references` is None where none are wanted."""
    found = _Findings()
    with _disturbance(found, cell.threads):
        _run_workers(cell, settings, catalogue, workers, references, found)
    if found.processes:
        _summarise(found)
        taken, wanted = sum(len(process.values) for process in found.processes), settings.values * settings.processes
        if taken < wanted:
            found.flags.append(f"values={taken}/{wanted}")
        write_suite(pyperf_folder / f"{cell.cell_id}.json", cell, found.processes)
    return record_of(cell, found.status, found.message, reproduce, flags=sorted(set(found.flags)), **found.numbers)


def record_of(cell: Cell, status: Status, message: str, reproduce: str, **numbers: Any) -> Record:
    """A record with what the cell itself says filled in."""
    instance = cell.instance
    return Record(
        cell_id=cell.cell_id,
        input_sha256=instance.sha256,
        method=cell.method,
        method_parameters=cell.method_parameters,
        problem=instance.family,
        problem_parameters=instance.parameters,
        n=instance.n,
        k=instance.k,
        theta_size=instance.theta_size,
        pairs=instance.pairs,
        batch=cell.batch,
        device=cell.device,
        dtype=cell.dtype,
        threads=cell.threads,
        seed=instance.parameters.get("seed", 0),
        status=status,
        message=message,
        reproduce=reproduce,
        **numbers,
    )


def _run_workers(
    cell: Cell,
    settings: Measure,
    catalogue: Catalogue,
    workers: Workers,
    references: Callable[[], list[Reference]] | None,
    found: _Findings,
) -> None:
    def run(role: str) -> Outcome:
        return workers.run_one(_job(role, cell, settings, catalogue))

    first = run("measure")
    if found.failed(first, "measure"):
        return
    found.numbers |= {name: first.numbers[name] for name in ("iterations", "kkt_residual")}
    if first.numbers["calls"] < len(cell.chunks):
        found.flags.append(f"pairs={first.numbers['calls'] * cell.batch}/{cell.instance.pairs}")
    if not first.numbers["finite"]:
        found.status, found.message = Status.NONFINITE, "the gradient has entries that are not finite"
        return
    found.timed(first)
    if not first.numbers["converged"]:
        found.status, found.message = Status.INACCURATE_SOLVER, "the lower level's solver stopped before its tolerance"
    if references is not None:
        calls = first.numbers["calls"]
        gradients = np.load(first.folder / GRADIENTS, mmap_mode="r", allow_pickle=False)[:calls]
        _take_accuracy(found, compare(gradients, cell.batch, references()[: calls * cell.batch]))
    first.remove_files()
    for _ in range(settings.processes - 1 if settings.timing else 0):
        outcome = run("time")
        if found.failed(outcome, "time"):
            return
        found.timed(outcome)
    if settings.memory:
        outcome = run("memory")
        if not found.failed(outcome, "memory"):
            found.numbers["host_peak_bytes"] = outcome.numbers["host_bytes"]
            found.numbers["device_peak_bytes"] = outcome.numbers["device_bytes"]
            found.flags += ["memory_sampled"] * outcome.numbers["sampled"]


def _job(role: str, cell: Cell, settings: Measure, catalogue: Catalogue) -> Job:
    payload = {
        "method_key": cell.method,
        "method_parameters": cell.method_parameters,
        "family": cell.instance.family,
        "problem_parameters": cell.instance.parameters,
        "chunks": [(chunk.start, chunk.stop) for chunk in cell.chunks],
        "device": cell.device,
        "dtype": cell.dtype,
        "catalogue": catalogue.to_json(),
        "timing": settings.timing,
        "clock": settings.model_dump(include={"warmups", "values", "min_seconds", "budget_seconds"}),
    }
    start = "spawn" if cell.device == "cuda" else settings.start  # a CUDA context does not survive a fork
    return Job(role, payload, start, cell.threads, settings.timeout_seconds)


def _take_accuracy(found: _Findings, accuracy: Accuracy) -> None:
    compared = vars(accuracy).copy()
    found.flags += compared.pop("flags")
    note = compared.pop("note")
    if note and not found.message:
        found.message = f"no reference: {note}"
    if compared.pop("all_kinks"):
        found.status, found.message = (
            Status.KINK,
            "the loss has a kink here, for every pair: error_outside_interval holds the entries against their slopes",
        )
    found.numbers |= compared


def _summarise(found: _Findings) -> None:
    summaries = summarise(found.processes)
    for phase, summary in summaries.items():
        found.numbers[f"{phase}_seconds"] = summary.median
        found.numbers[f"{phase}_mad_seconds"] = summary.mad
    found.flags += ["noisy"] * (summaries["solve"].noisy or summaries["gradient"].noisy)


@contextmanager
def _disturbance(found: _Findings, threads: int) -> Iterator[None]:
    """Flags a cell during which the machine had more to do than it has processors, or lost time to its host."""
    before = psutil.cpu_times()
    yield
    after = psutil.cpu_times()
    elapsed = sum(after) - sum(before)
    stolen = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
    crowded = os.getloadavg()[0] - threads > (os.cpu_count() or 1)
    if crowded or stolen > STOLEN_SHARE * elapsed:
        found.flags.append("loaded")
