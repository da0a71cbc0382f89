"""A run: its references, its cells one after another, its folder. What the folder has already settled is skipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import environment, journal
from bench.catalogue import Catalogue
from bench.cell import Cell, reproduce_command
from bench.config import Config
from bench.isolation import Workers
from bench.measure import measure_cell, record_of
from bench.progress import Watcher
from bench.record import Record, Status
from bench.references import References


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
    """References computed at a time."""


def run(plan: Plan, watcher: Watcher) -> list[Record]:
    """Measures what is not settled yet; the records of all the plan's cells, in the plan's order."""
    plan.out.mkdir(parents=True, exist_ok=True)
    copied = plan.out / "config.toml"
    if plan.config_path.resolve() != copied.resolve():
        shutil.copyfile(plan.config_path, copied)
    (plan.out / "environment.json").write_text(json.dumps(environment.describe(), indent=2) + "\n")
    settled = journal.settled(plan.out)
    pending = [cell for cell in plan.cells if cell.cell_id not in settled]
    with watcher:
        if len(pending) < len(plan.cells):
            watcher.say(f"{len(plan.cells) - len(pending)} of {len(plan.cells)} cells are in {plan.out} already")
        _measure(plan, pending, watcher)
    records = journal.read(plan.out)
    journal.write_parquet(plan.out, records.values())
    return [records[cell.cell_id] for cell in plan.cells]


def _measure(plan: Plan, pending: list[Cell], watcher: Watcher) -> None:
    config = plan.config
    references = References(config.reference, plan.catalogue)
    possible = [cell for cell in pending if device_is_present(cell.device)]
    with Workers(config.measure.preload) as workers:
        if config.reference.enabled and possible:
            references.compute(possible, workers, plan.jobs, watcher.references)
        for done, cell in enumerate(pending):
            watcher.starting(cell, done, len(pending))
            reproduce = reproduce_command(cell, str(plan.config_path), plan.plugins)
            if device_is_present(cell.device):
                judged_by = (lambda cell=cell: references.of(cell)) if config.reference.enabled else None
                record = measure_cell(
                    cell, config.measure, plan.catalogue, workers, judged_by, plan.out / "pyperf", reproduce
                )
            else:
                record = record_of(cell, Status.UNSUPPORTED, f"this machine has no device '{cell.device}'", reproduce)
            journal.append(plan.out, record)
            watcher.finished(cell, record, done + 1, len(pending))


def device_is_present(device: str) -> bool:
    """Whether this machine has it."""
    return device == "cpu" or torch.cuda.is_available()
