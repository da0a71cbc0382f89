"""What the problems share that a test makes itself, from tensors instead of settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydantic
import torch
from torch import Tensor

from problems._pairs import Pairs
from problems.contract import AutodiffProblem, Problem


class NoSettings(pydantic.BaseModel):
    """Of no problem that a configuration names."""


@dataclass(frozen=True)
class ToyFamily(Pairs, AutodiffProblem):
    """A subclass states the lower level and its tensors."""

    settings_type = NoSettings

    settings: NoSettings = field(default_factory=NoSettings, kw_only=True)

    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        raise NotImplementedError

    def conic_data(self) -> dict[str, Tensor]:
        raise NotImplementedError


def draws(problem: Problem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, p shaped (b, n) and u, a shaped (b, k), of normal entries."""
    rng = np.random.default_rng(0)
    sizes = (problem.x_shape, problem.x_shape, problem.u_shape, problem.u_shape)
    x, p, u, a = (torch.from_numpy(rng.normal(size=(problem.batch, *size))) for size in sizes)
    return x, p, u, a


def close(left: Tensor, right: Tensor, relative: float = 1e-12) -> bool:
    """Sums of at most some hundred products: 1e-16 each, relative to the larger side or to one."""
    return float((left - right).abs().max()) <= relative * max(1.0, float(right.abs().max()))
