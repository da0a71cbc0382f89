"""`[test]`: pairs that are neither for training nor for validation, and the denoisers that theta is held against there.

Everything that would fail once theta is learned is refused here, before any training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.config import ConfigError
from bench.learning.pairs import comparable
from methods.contract import Method
from methods.denoisers.contract import SignalDenoiser
from problems.contract import Measurement, Problem, input_sha256
from problems.registry import UnknownKey, load

SIGNALS_AND_NOISE = (Measurement.NOISY, Measurement.EXACT)


@dataclass(frozen=True)
class HeldOut:
    """The pairs, and the denoisers by their names."""

    pairs: Problem
    denoisers: dict[str, SignalDenoiser]


@dataclass(frozen=True)
class Seen:
    """What the pairs must be new to, and alike."""

    key: str
    """Of the family."""
    family: type[Problem]
    settings: Any
    """Of the family; `pairs` are for training alone."""
    parts: tuple[Problem, ...]
    """Training, and validation where there is one."""

    @property
    def training(self) -> Problem:
        return self.parts[0]


def held_out(
    seen: Seen, method: Method, count: int, seed_shift: int, denoisers: tuple[str, ...], batch: int, file: Path
) -> HeldOut:
    """Raises ConfigError."""
    try:
        pairs = _pairs(seen, count, seed_shift)
    except Exception as error:  # of a third party's family, too
        raise ConfigError(f"{file}: test: its pairs cannot be built: {' '.join(str(error).split())}") from None
    if comparable(pairs) is None:
        wrong = f"{seen.key} states no x_true that its `reconstruct` could be compared with: leave [test] out"
        raise ConfigError(f"{file}: test: {wrong}")
    if (refusal := method.refusal(pairs.subset(slice(0, batch)))) is not None:
        raise ConfigError(f"{file}: test: the backend cannot run on these pairs: {refusal}")
    return HeldOut(pairs, {key: _denoiser(key, pairs, seen.key, file) for key in denoisers})


def _pairs(seen: Seen, count: int, seed_shift: int) -> Problem:
    """By another seed, where it changes nothing but the pairs and makes none of those again.

    Elsewhere (a random A, or a dictionary that the signals are made of) those that come after all that were seen.
    """
    like = next(iter(seen.training.theta0().values()))
    changed = {"pairs": count, "seed": getattr(seen.settings, "seed", 0) + seed_shift}
    if "seed" in seen.family.settings_type.model_fields:
        others = seen.family.build(seen.settings.model_copy(update=changed)).to(like.device, like.dtype)
        fresh = not _signals(others) & set[bytes]().union(*map(_signals, seen.parts))
        if fresh and _without_pairs(others) == _without_pairs(seen.training):
            return others
    had = sum(part.batch for part in seen.parts)
    more = seen.family.build(seen.settings.model_copy(update={"pairs": had + count}))
    if more.batch != had + count:
        raise ValueError(f"{more.batch} pairs of these settings, not {had} and {count} more")
    return more.to(like.device, like.dtype).subset(slice(had, None))


def _without_pairs(problem: Problem) -> str:
    return input_sha256(problem.subset(slice(0, 0)))


def _signals(problem: Problem) -> set[bytes]:
    x_true = problem.tensors().get("x_true", torch.empty(0))
    return {signal.cpu().numpy().tobytes() for signal in x_true}


def _denoiser(key: str, pairs: Problem, family: str, file: Path) -> SignalDenoiser:
    try:
        denoiser = load("methods.denoisers", key, SignalDenoiser)()
    except UnknownKey as error:
        raise ConfigError(f"{file}: test.denoisers: {error}") from None
    except TypeError:
        raise ConfigError(f"{file}: test.denoisers: {key} is for pictures: choose one for signals") from None
    if pairs.measurement not in SIGNALS_AND_NOISE:
        wrong = f"{key} takes y = x_true + noise, and y of {family} is {pairs.measurement} here"
        raise ConfigError(f"{file}: test.denoisers: {wrong}: leave it out, or set forward = 'identity'")
    if denoiser.one_dimensional and len(pairs.signal_shape) != 1:
        rows, columns = pairs.signal_shape
        wrong = f"{key} is for one-dimensional signals, not for pictures of {rows} x {columns} pixels"
        raise ConfigError(f"{file}: test.denoisers: {wrong}: leave it out")
    return denoiser
