"""The references that a run's cells are judged by, computed before the cells, several workers at a time."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from bench.catalogue import Catalogue
from bench.cell import Cell, Instance
from bench.config import ReferenceEntry
from bench.isolation import Job, Outcome, Workers
from bench.measure import unless_changed
from bench.record import Status

OWN_CACHE = "cache"
"""Of a run's folder, where the user's cache folder cannot be written."""
SEED = 0
"""Of the random directions."""
TIMEOUT_SECONDS = 1800.0
PAIRS_PER_JOB = 16
MOST_COORDINATES = 8192

Kind = Literal["coordinates"] | int
Key = tuple[str, int, Kind]
"""Instance, pair, kind."""


class References:
    """Filled by `compute`, asked by `of`. Holds file names: the numbers stay with the workers."""

    def __init__(self, settings: ReferenceEntry, catalogue: Catalogue, run: Path, say: Callable[[str], None]) -> None:
        """What is wrong with the cache is said once."""
        self._settings, self._catalogue, self._say = settings, catalogue, say
        self._folders = [*filter(None, [cache_folder()]), run.resolve() / OWN_CACHE]
        self._said: set[str] = set()
        self._known: dict[Key, dict[str, Any]] = {}

    def of(self, cell: Cell) -> list[dict[str, Any]]:
        """Where each pair's reference is, in order: `{"kind", "file"}`, or why there is none: `{"kind", "failure"}`."""
        return [self._known[key] for key in self._keys(cell)]

    def compute(self, cells: Iterable[Cell], workers: Workers, at_once: int, done: Callable[[int, int], None]) -> None:
        """All that these cells need; `done(pairs, of_pairs)` is called as workers finish. Raises ChangedError."""
        instances = {cell.instance.sha256: cell.instance for cell in cells}
        wanted: dict[str, list[Key]] = {sha256: [] for sha256 in instances}
        for key in dict.fromkeys(key for cell in cells for key in self._keys(cell)):
            wanted[key[0]].append(key)
        shares = [(instances[sha256], share) for sha256, keys in wanted.items() for share in _shares(keys, at_once)]
        total, finished = sum(len(keys) for keys in wanted.values()), 0
        done(0, total)
        for index, outcome in workers.run([self._job(*share) for share in shares], at_once):
            unless_changed(outcome)
            keys = shares[index][1]
            self._known.update(zip(keys, _located(outcome, keys), strict=True))
            outcome.remove_files()
            for line in outcome.numbers.get("said", ()):
                if line not in self._said:
                    self._say(line)
                self._said.add(line)
            finished += len(keys)
            done(finished, total)

    def _keys(self, cell: Cell) -> list[Key]:
        instance, settings = cell.instance, self._settings
        kinds = kinds_of(
            instance.pairs, instance.theta_size, cell.batch, settings.coordinate_pairs, settings.directions
        )
        return [(instance.sha256, pair, kind) for pair, kind in enumerate(kinds)]

    def _job(self, instance: Instance, keys: list[Key]) -> Job:
        payload = {
            "catalogue": self._catalogue.to_json(),
            "family": instance.family,
            "problem_parameters": instance.located,
            "input_sha256": instance.sha256,
            "pairs": [(pair, kind) for _, pair, kind in keys],
            "seed": SEED,
            "folders": [str(folder) for folder in self._folders],
        }
        return Job("reference", payload, "fork", threads=1, timeout_seconds=TIMEOUT_SECONDS)


def cache_folder() -> Path | None:
    """The user's, which outlives runs and checkouts: `$HYPERGRAD_BENCH_CACHE`, or `hypergrad-bench/references` where
    the platform keeps caches (`$XDG_CACHE_HOME`, `~/.cache`); None for a user without a home."""
    given = os.environ.get("HYPERGRAD_BENCH_CACHE")
    if given:
        return Path(given).absolute()
    caches = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(RuntimeError):
        home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
        return (Path(caches) if os.path.isabs(caches) else home) / "hypergrad-bench" / "references"
    return None


def kinds_of(pairs: int, size: int, batch: int, coordinate_pairs: int, directions: int) -> list[Kind]:
    """What is asked for, pair by pair: every coordinate of the first few, so many directions of the others."""
    whole = coordinate_pairs if batch == 1 and size <= MOST_COORDINATES else 0
    return ["coordinates" if pair < whole else directions for pair in range(pairs)]


def _shares(keys: list[Key], at_once: int) -> list[list[Key]]:
    size = max(1, min(PAIRS_PER_JOB, math.ceil(len(keys) / at_once)))
    return [keys[first : first + size] for first in range(0, len(keys), size)]


def _located(outcome: Outcome, keys: list[Key]) -> list[dict[str, Any]]:
    if outcome.status is not Status.OK:
        failure = f"reference: {outcome.status}: {outcome.message}"
        return [{"kind": kind, "failure": failure} for _, _, kind in keys]
    return [{"kind": kind, "file": file} for (_, _, kind), file in zip(keys, outcome.numbers["files"], strict=True)]
