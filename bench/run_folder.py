"""A run's folder as the commands see it that judge runs: its records and where they are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import config, journal, provenance
from bench.own_files import read_object, read_own
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
        """Raises RunError, SchemaError and OSError."""
        records = journal.read(folder)
        if not records:
            raise RunError(f"{folder}: holds no finished cell: `run` writes them to {journal.JOURNAL}")
        return cls(folder, records, environment_of(folder))


def environment_of(folder: Path) -> dict[str, Any]:
    """Empty where the folder has none, or a damaged one, which is said."""
    return read_object(folder / provenance.NEWEST) or {}


def configuration_of(folder: Path) -> dict[str, Any]:
    """The folder's copy of it; empty where the folder has none, or a damaged one, which is said."""
    path = folder / "config.toml"
    return (read_own(path, config.read) if path.is_file() else None) or {}
