"""The trainings of a folder that `python -m bench learn` wrote: their outcomes, their curves and the learned W."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bench.learning import curves, outcome
from bench.learning.curves import Point
from bench.learning.matrix import expand
from bench.learning.outcome import Outcome, Psnr
from bench.own_files import read_own
from bench.run_folder import configuration_of
from problems.arrays import read_arrays
from reports.content import machine_of

Transform = Float[np.ndarray, "k n"]

SEEDS = ("seed", "problem.seed")
OF_ONE = ("command", "load at the start")
"""Entries of the machine that say nothing of another training."""


@dataclass(frozen=True)
class Training:
    """One that has ended."""

    outcome: Outcome
    points: tuple[Point, ...]
    W: Transform | None
    """What it has learned; None where that is no single matrix, or is not there."""


@dataclass(frozen=True)
class Missing:
    """One that the configuration asks for, and that has not ended yet."""

    run: str
    """Its folder."""
    label: str
    """That of its group."""
    seed: str


@dataclass(frozen=True)
class Group:
    """Trainings that differ in their seeds alone; those that have ended, one at least."""

    label: str
    trainings: tuple[Training, ...]
    missing: tuple[Missing, ...] = ()
    """What the configuration asks for besides."""

    @property
    def finished(self) -> tuple[Training, ...]:
        return tuple(one for one in self.trainings if one.outcome.status == "finished")

    @property
    def first(self) -> Training | None:
        """The first one that has finished."""
        return next(iter(self.finished), None)

    @property
    def seeds(self) -> str:
        """`5`, `4 of 5`: how many have finished, of those that were asked for."""
        finished, asked = len(self.finished), len(self.trainings) + len(self.missing)
        return str(finished) if self.is_whole else f"{finished} of {asked}"

    @property
    def is_whole(self) -> bool:
        """Whether all that were asked for have finished."""
        return len(self.finished) == len(self.trainings) and not self.missing

    def psnr(self, name: str) -> list[Psnr]:
        """Of each that has finished and has it."""
        return [one.outcome.psnr[name] for one in self.finished if name in one.outcome.psnr]

    @cached_property
    def reason(self) -> str:
        """Why there is no number, where none has finished."""
        return next((one.outcome.message for one in self.trainings if one.outcome.message), "no training has finished")


@dataclass(frozen=True)
class Trainings:
    """A folder."""

    folder: Path
    title: str
    machine: tuple[tuple[str, str], ...]
    study: str | None
    groups: tuple[Group, ...]
    missing: tuple[Missing, ...] = ()
    """All of those."""

    @property
    def ended(self) -> list[tuple[Group, Training]]:
        """All, group by group."""
        return [(group, training) for group in self.groups for training in group.trainings]


def read(folder: Path) -> Trainings:
    """Raises ValueError where no training has ended yet, or the configuration is none."""
    found = outcome.read(folder)
    if not found:
        raise ValueError(f"{folder}: no training has ended yet: the same learn command with --out {folder} continues")
    config = folder / "config.toml"
    said = configuration_of(folder)
    trainings = [
        Training(one, tuple(curves.read(folder / one.run)), _transform(folder / one.run / "theta.npz")) for one in found
    ]
    ended = {one.run for one in found}
    asked = expand(said, config) if said else []
    missing = tuple(
        Missing(run.name, label_of(run.settings), seed_of(run.settings)) for run in asked if run.name not in ended
    )
    title = str(said.get("title") or folder.resolve().name)
    return Trainings(
        folder,
        title,
        _machine([folder / one.run for one in found]),
        said.get("study"),
        grouped(trainings, missing),
        missing,
    )


def _machine(folders: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """That of the first training, and where another had something else, that as well."""
    machines = [dict(machine_of(folder)) for folder in folders]
    return tuple(
        (name, first if name in OF_ONE else "; in other trainings ".join(dict.fromkeys(one[name] for one in machines)))
        for name, first in machines[0].items()
    )


def grouped(trainings: Sequence[Training], missing: Sequence[Missing] = ()) -> tuple[Group, ...]:
    """By everything but the seeds, in the order of the configuration."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(label_of(training.outcome.settings), []).append(training)
    return tuple(
        Group(label, tuple(own), tuple(one for one in missing if one.label == label)) for label, own in groups.items()
    )


def seed_of(settings: Mapping[str, Any]) -> str:
    """`3`; of the problem, then of the shuffles where these are an axis, too; empty where neither is."""
    return ", ".join(str(settings[path]) for path in reversed(SEEDS) if path in settings)


def label_of(given: Mapping[str, Any]) -> str:
    """`Adam, cosine; noise = 0.1`; a key, such as a backend's, stands alone."""
    settings = {path: value for path, value in given.items() if path not in SEEDS}
    variant = [str(settings.pop("variant"))] if "variant" in settings else []
    keys = [
        str(value) if path.endswith(".key") else f"{path.split('.')[-1]} = {value}" for path, value in settings.items()
    ]
    return "; ".join([*variant, *keys]) or "as configured"


def _transform(path: Path) -> Transform | None:
    W = read_own(path, lambda file: read_arrays(file).get("W"))
    return W if W is not None and W.ndim == 2 else None
