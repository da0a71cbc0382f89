"""An upper-level algorithm: one step of theta, seen as one vector, from the batch's loss and gradient."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Annotated

import pydantic
from jaxtyping import Float
from torch import Tensor

from problems.registry import load

Vector = Float[Tensor, " size"]
"""All of theta's entries, one name after another."""

State = dict[str, Tensor]
"""What a learner remembers from one step to the next, as named arrays: a checkpoint holds them as they are."""

Objective = Callable[[Vector], tuple[Tensor, Vector]]
"""The loss and its gradient on the batch at hand, anywhere; each call solves the lower level of every pair."""

Rate = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class Learner(pydantic.BaseModel, abc.ABC):
    """An algorithm for the upper level. Its fields are its parameters; instances are frozen and hold no state."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    rate: Rate
    """alpha, the step size before the schedule's factor; tied to one reading of the loss (readings.md X.2, X.3)."""

    @abc.abstractmethod
    def start(self, theta: Vector) -> State:
        """The state before the first step."""

    @abc.abstractmethod
    def step(self, theta: Vector, objective: Objective, state: State, alpha: float) -> tuple[Vector, State]:
        """(theta, state) after one batch, in new tensors; alpha is the rate times the schedule's factor."""


def learner_class(key: str) -> type[Learner]:
    """The learner of that file. Raises UnknownKey."""
    return load("methods.learners", key, Learner)
