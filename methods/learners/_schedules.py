"""By what the rate is multiplied in each update, a function of the update's number alone."""

from __future__ import annotations

import abc
import math
from typing import Annotated

import pydantic

Factor = Annotated[float, pydantic.Field(ge=0, le=1)]


class Schedule(pydantic.BaseModel, abc.ABC):
    """A factor in [0, 1] for every update."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    @abc.abstractmethod
    def factor(self, epoch: int, part: float, epochs: int) -> float:
        """After `epoch` whole epochs of `epochs`, and that part of the next."""


class Constant(Schedule):
    """No schedule, as in BLORC (J.7)."""

    def factor(self, epoch: int, part: float, epochs: int) -> float:
        del epoch, part, epochs
        return 1.0


class Cosine(Schedule):
    """From 1 down to `last` along half a cosine, update by update (Loshchilov and Hutter, "SGDR", 2017, equation 5)."""

    last: Factor = 0.0

    def factor(self, epoch: int, part: float, epochs: int) -> float:
        return self.last + (1 - self.last) * (1 + math.cos(math.pi * (epoch + part) / epochs)) / 2


class Step(Schedule):
    """Multiplied by `by` once in `every` epochs (Lecouat, Ponce and Mairal, App. B: 0.35 every 80; readings.md L.5)."""

    every: Annotated[int, pydantic.Field(ge=1)] = 80
    by: Factor = 0.35

    def factor(self, epoch: int, part: float, epochs: int) -> float:
        del part, epochs
        return self.by ** (epoch // self.every)


SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "cosine": Cosine, "step": Step}
"""By the key that `[schedule]` gives."""
