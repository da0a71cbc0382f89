"""The trainings of a folder that `python -m bench learn` wrote: their outcomes, their curves and the learned W."""

from __future__ import annotations

import tomllib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bench.learning import curves, outcome
from bench.learning.curves import Point
from bench.learning.outcome import Outcome, Psnr
from reports.content import machine_of

Transform = Float[np.ndarray, "k n"]

SEEDS = ("seed", "problem.seed")


@dataclass(frozen=True)
class Training:
    """One that has ended."""

    outcome: Outcome
    points: tuple[Point, ...]
    W: Transform | None
    """What it has learned; None where that is no single matrix, or is not there."""


@dataclass(frozen=True)
class Group:
    """Trainings that differ in their seeds alone."""

    label: str
    trainings: tuple[Training, ...]

    @property
    def finished(self) -> tuple[Training, ...]:
        return tuple(one for one in self.trainings if one.outcome.status == "finished")

    @property
    def first(self) -> Training | None:
        """The first one that has finished."""
        return next(iter(self.finished), None)

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


def read(folder: Path) -> Trainings:
    """Raises ValueError where no training has ended yet."""
    found = outcome.read(folder)
    if not found:
        raise ValueError(f"{folder}: no training has ended yet: the same learn command with --out {folder} continues")
    config = folder / "config.toml"
    said = tomllib.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    trainings = [
        Training(one, tuple(curves.read(folder / one.run)), _transform(folder / one.run / "theta.npz")) for one in found
    ]
    machine = machine_of(folder if (folder / "environment.json").exists() else folder / found[0].run)
    title = str(said.get("title") or folder.resolve().name)
    return Trainings(folder, title, machine, said.get("study"), grouped(trainings))


def grouped(trainings: list[Training]) -> tuple[Group, ...]:
    """By everything but the seeds, in the order of the configuration."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(_label(training.outcome), []).append(training)
    return tuple(Group(label, tuple(own)) for label, own in groups.items())


def _label(one: Outcome) -> str:
    """`Adam, cosine; noise = 0.1`; a key, such as a backend's, stands alone."""
    settings = {path: value for path, value in one.settings.items() if path not in SEEDS}
    variant = [str(settings.pop("variant"))] if "variant" in settings else []
    keys = [
        str(value) if path.endswith(".key") else f"{path.split('.')[-1]} = {value}" for path, value in settings.items()
    ]
    return "; ".join([*variant, *keys]) or "as configured"


def _transform(path: Path) -> Transform | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            W = file["W"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return W if W.ndim == 2 else None
