"""A gradient method: three steps, prepared, solved, differentiated, each timed apart by the harness.

A third party's method is one file with one class (see README, "your method as a row"): it declares what it requires
of a problem, and the harness refuses the rest with the reason that `refusal` gives.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic
from torch import Tensor

from problems.contract import Problem, Structure, Theta, missing_structure


@dataclass(frozen=True)
class Prepared:
    """What a method sets up once per problem: compiled code, a canonical form. Holds no result."""

    problem: Problem
    tool: Any = None
    """Whatever the method compiled; its own business."""


@dataclass(frozen=True)
class Solution:
    """One solved lower level.

    x is (b, n); u the certificate, (b, k), or None where the method has none. `memory` is what the method's own
    `hypergradient` needs besides, such as a recorded graph.
    """

    x: Tensor
    u: Tensor | None
    iterations: int
    converged: bool | None = True
    """Whether it met the tolerance that it states; None where it states none, as a number of steps was asked for and
    nothing else. The harness then says how far it is from settled."""
    memory: Any = None


class Method(pydantic.BaseModel, abc.ABC):
    """A way to compute dL/dtheta. Its fields are its hyperparameters; instances are frozen."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    requires: ClassVar[Structure]
    devices: ClassVar[frozenset[str]]
    batched: ClassVar[bool]
    """Whether one call takes several samples; where it does not, the harness loops and sums."""

    @abc.abstractmethod
    def refusal(self, problem: Problem) -> str | None:
        """Why this method cannot run on this problem and what would make it run; None where it can."""

    @abc.abstractmethod
    def prepare(self, problem: Problem) -> Prepared:
        """Everything that does not depend on theta's values."""

    @abc.abstractmethod
    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        """The lower level's solution at theta, from scratch or from a nearby solution."""

    @abc.abstractmethod
    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        """dL/dtheta, summed over the batch. Repeatable on one solution, which it leaves as it was."""


def refuse_unless_met(method: Method, problem: Problem) -> str | None:
    """The refusal that follows from `requires` and `devices` alone."""
    device = next(iter(problem.theta0().values())).device.type
    if device not in method.devices:
        return f"runs on {', '.join(sorted(method.devices))} only: choose another device than {device}"
    return missing_structure(method.requires, problem)
