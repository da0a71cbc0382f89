"""One cell measured: its workers one after another, and what they say put together in one record."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench import kept, output
from bench.catalogue import Catalogue, ChangedError
from bench.cell import Cell, reproduce_command
from bench.config import Measure
from bench.isolation import Job, Outcome, Workers
from bench.record import Record, Status
from bench.samples import Timed, summarise
from bench.suite import is_unstable, timings_file, write_suite

STOLEN_SHARE = 0.02
"""Of the processors' time, taken by other machines on the same host, above which a cell counts as disturbed."""
THROTTLE_COUNTS = "/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"


@dataclass
class _Findings:
    """What the workers of a cell have said so far."""

    status: Status = Status.OK
    message: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    processes: list[Timed] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    printed: list[tuple[str, str]] = field(default_factory=list)
    """What each process said, after its role."""

    def failed(self, outcome: Outcome, role: str) -> bool:
        """Takes over the first failure of a worker, and says in which process it was."""
        if outcome.status is not Status.OK:
            self.status = outcome.status
            self.message = outcome.message if role == "measure" else f"{outcome.message} (in the {role} process)"
        return outcome.status is not Status.OK

    def took(self, outcome: Outcome) -> None:
        """The circumstances of a worker that measured, and the clock's readings where it has any."""
        numbers = outcome.numbers
        self.numbers["measured_seconds"] = self.numbers.get("measured_seconds", 0.0) + numbers["measured_seconds"]
        if numbers.get("timed") is not None:
            self.processes.append(Timed.from_json(numbers["timed"]))
        self.flags += ["threads"] * bool(numbers["other_pools"]) + ["throttled"] * bool(numbers["throttled"])


@dataclass(frozen=True)
class CellRunner:
    """What the cells of a run have in common."""

    settings: Measure
    catalogue: Catalogue
    workers: Workers
    run: Path
    """The folder of the run, for pyperf's files and for the command that reproduces a row."""
    environment: str = ""

    def measure(self, cell: Cell, references: list[dict[str, Any]] | None) -> Record:
        """The cell's record; its timings also go into a pyperf suite. `references` as `References.of` gives them.

        Raises ChangedError.
        """
        found, started = _Findings(), time.perf_counter()
        with _disturbance(found, cell.threads):
            self._run_workers(cell, references, found)
        if found.processes:
            self._take_times(cell, found)
        found.numbers["output_tail"] = output.keep(self.run, cell.cell_id, found.printed)
        found.numbers["wall_seconds"] = time.perf_counter() - started
        return self.record(cell, found.status, found.message, flags=sorted(set(found.flags)), **found.numbers)

    def forget(self, cell: Cell) -> None:
        """The files of an earlier row of the cell, which another one is to follow."""
        kept.forget(self.run, cell.cell_id)
        timings_file(self.run, cell.cell_id).unlink(missing_ok=True)

    def record(self, cell: Cell, status: Status, message: str, **numbers: Any) -> Record:
        """A record with what the cell and the run say filled in."""
        reproduce = reproduce_command(cell.cell_id, self.run)
        return record_of(cell, status, message, reproduce=reproduce, environment=self.environment, **numbers)

    def _take_times(self, cell: Cell, found: _Findings) -> None:
        for phase, summary in summarise(found.processes).items():
            found.numbers[f"{phase}_seconds"] = summary.median
            found.numbers[f"{phase}_mad_seconds"] = summary.mad
        settings = self.settings
        taken, wanted = sum(len(process.values) for process in found.processes), settings.values * settings.processes
        found.flags += [f"values={taken}/{wanted}"] * (taken < wanted)
        found.flags += [] if settings.warm is None else [f"warm={settings.warm:g}"]
        suite = write_suite(timings_file(self.run, cell.cell_id), cell, found.processes)
        found.flags += ["unstable"] * is_unstable(suite)

    def _run_workers(self, cell: Cell, references: list[dict[str, Any]] | None, found: _Findings) -> None:
        first = self._worker("measure", cell, found, references=references)
        if found.failed(first, "measure"):
            return
        numbers = first.numbers
        found.took(first)
        found.numbers |= {name: numbers[name] for name in ("iterations", "kkt_residual", "device_difference_relative")}
        if numbers["calls"] < len(cell.chunks):
            found.flags.append(f"pairs={numbers['calls'] * cell.batch}/{cell.instance.pairs}")
        if numbers["not_finite"]:
            found.status, found.message = Status.NONFINITE, numbers["not_finite"]
            return
        if not numbers["converged"]:
            found.status = Status.INACCURATE_SOLVER
            found.message = f"the lower level's solver stopped before its tolerance: KKT residual {_rounded(numbers)}"
        elif not numbers["settled"]:
            found.flags.append(f"unsettled={_rounded(numbers)}")
        if numbers["accuracy"] is not None:
            _take_accuracy(found, numbers["accuracy"])
        if self.settings.keep_gradients and references:
            self._keep(cell, references[0], first.folder / kept.FIRST_GRADIENT)
        first.remove_files()
        for _ in range(self.settings.processes - 1 if self.settings.timing else 0):
            outcome = self._worker("time", cell, found)
            if found.failed(outcome, "time"):
                return
            found.took(outcome)
        if self.settings.quantities:
            outcome = self._worker("quantities", cell, found, quantities=self.settings.quantities)
            if not found.failed(outcome, "quantities"):
                found.numbers["quantities"] = outcome.numbers["quantities"]
                found.flags += [f"{name}_not_finite" for name in outcome.numbers["not_finite"]]
        if self.settings.memory:
            outcome = self._worker("memory", cell, found)
            if not found.failed(outcome, "memory"):
                found.took(outcome)
                found.numbers["host_peak_bytes"] = outcome.numbers["host_bytes"]
                found.numbers["device_peak_bytes"] = outcome.numbers["device_bytes"]
                found.flags += ["memory_sampled"] * outcome.numbers["sampled"]

    def _keep(self, cell: Cell, reference: dict[str, Any], gradient: Path) -> None:
        if gradient.exists():
            kept.keep(gradient, self.run, kept.gradient_file(cell.cell_id))
        if "file" in reference and Path(reference["file"]).exists():  # nobody need leave the cache alone
            kind = "coordinates" if gradient.exists() else "directions"  # whatever was asked for
            kept.keep(Path(reference["file"]), self.run, kept.reference_file(cell.instance.sha256, kind))

    def _worker(self, role: str, cell: Cell, found: _Findings, **payload: Any) -> Outcome:
        outcome = unless_changed(self.workers.run_one(_job(role, cell, self.settings, self.catalogue, payload)))
        found.printed.append((role, outcome.output))
        return outcome


def unless_changed(outcome: Outcome) -> Outcome:
    """The outcome. Raises ChangedError where its worker found another input or plug-in than the plan's."""
    if "changed" in outcome.numbers:
        raise ChangedError(outcome.message)
    return outcome


def record_of(cell: Cell, status: Status, message: str, **numbers: Any) -> Record:
    """A record with what the cell itself says filled in."""
    instance = cell.instance
    return Record(
        cell_id=cell.cell_id,
        input_sha256=instance.sha256,
        plugin_sha256=cell.plugin_sha256,
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
        **numbers,
    )


def _job(role: str, cell: Cell, settings: Measure, catalogue: Catalogue, more: dict[str, Any]) -> Job:
    payload = {
        "method_key": cell.method,
        "method_parameters": cell.method_parameters,
        "family": cell.instance.family,
        "problem_parameters": cell.instance.located,
        "input_sha256": cell.instance.sha256,
        "chunks": [(chunk.start, chunk.stop) for chunk in cell.chunks],
        "device": cell.device,
        "dtype": cell.dtype,
        "catalogue": catalogue.to_json(),
        "timing": settings.timing,
        "clock": settings.model_dump(include={"warmups", "values", "min_seconds", "budget_seconds", "warm"}),
        **more,
    }
    start = "spawn" if cell.device != "cpu" else settings.start  # a CUDA context does not survive a fork
    limit = None if settings.memory_limit_gib is None else int(settings.memory_limit_gib * 2**30)
    return Job(role, payload, start, cell.threads, settings.timeout_seconds, limit)


def _take_accuracy(found: _Findings, accuracy: dict[str, Any]) -> None:
    compared = dict(accuracy)
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


def _rounded(numbers: dict[str, Any]) -> str:
    """The residual of the first pass, to one digit."""
    return "unknown" if numbers["kkt_residual"] is None else f"{numbers['kkt_residual']:.0e}"


@contextmanager
def _disturbance(found: _Findings, threads: int) -> Iterator[None]:
    """Flags a cell before or during which the machine had more to do than it has processors, lost time to its host, or
    was slowed down for its heat."""
    before, crowded, hot = psutil.cpu_times(), _is_crowded(threads), _throttle_counts()
    yield
    after = psutil.cpu_times()
    elapsed = sum(after) - sum(before)
    stolen = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
    found.flags += ["loaded"] * (crowded or _is_crowded(threads) or stolen > STOLEN_SHARE * elapsed)
    found.flags += ["throttled"] * (_throttle_counts() != hot)


def _is_crowded(threads: int) -> bool:
    return os.getloadavg()[0] - threads > (os.cpu_count() or 1)


def _throttle_counts() -> list[str]:
    """How often each core has been slowed down since the machine started; empty where the kernel does not count."""
    return [Path(name).read_text() for name in sorted(glob.glob(THROTTLE_COUNTS))]
