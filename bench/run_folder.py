"""A run's folder as the commands see it that judge runs: its records and where they are from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import journal, provenance
from bench.record import Record


class RunError(ValueError):
    """A run folder that cannot be read; one line."""


@dataclass(frozen=True)
class Run:
    """The records that count, by cell, and the newest environment; empty where the folder has none."""

    folder: Path
    records: Mapping[str, Record]
    environment: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises RunError."""
        try:
            records = journal.read(folder)
        except OSError as error:
            raise RunError(f"{folder / journal.JOURNAL}: cannot be read: {error}") from None
        if not records:
            raise RunError(f"{folder}: holds no finished cell: `run` writes them to {journal.JOURNAL}")
        return cls(folder, records, environment_of(folder))


def environment_of(folder: Path) -> dict[str, Any]:
    """Raises RunError."""
    path = folder / provenance.NEWEST
    try:
        environment = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not JSON: {' '.join(str(error).split())}") from None
    if not isinstance(environment, dict):
        raise RunError(f"{path}: must hold a JSON object, it holds a {type(environment).__name__}")
    return environment
