"""Iterative soft-thresholding: proximal gradient on the primal."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._proximal import certificate, soft_threshold, step_size, weight
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """x (b, n)."""

    x: Tensor


class IstaIteration(Iteration[State]):
    """Invariant of the limit: x = soft(x - alpha F(x), alpha lambda)."""

    def __init__(self, problem: Problem, theta: Theta, alpha: float) -> None:
        self._problem, self._theta, self._alpha = problem, theta, alpha
        self._threshold = alpha * weight(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        return State(origin(self._problem, self._theta) if warm is None else warm.x)

    def step(self, state: State) -> State:
        return State(soft_threshold(self._descended(state.x), self._threshold))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return certificate(self._descended(state.x), self._threshold)

    def _descended(self, x: Tensor) -> Tensor:
        return x - self._alpha * self._problem.F(x, self._theta)


class Ista(FirstOrder):
    """ISTA (Daubechies, Defrise and De Mol 2004; PUDLE, Algorithm 2), from zero:

        x <- soft(x - alpha F(x), alpha lambda),       alpha = step / L,  L the largest eigenvalue of F_x.

    A step is one product with F, 2 m p per sample for a dictionary, and keeps one tensor. It needs no unique x*: its
    limit is a solution, O(1/T) in the objective until the support has settled, and linear from there, by the factor
    max |1 - alpha mu| over the eigenvalues mu of F_x on the support. Slow where these spread, or a margin is small.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, lt=2)] = 1.0
    """alpha L. It converges below 2; PUDLE assumes at most 1."""

    def bind(self, problem: Problem, theta: Theta) -> IstaIteration:
        return IstaIteration(problem, theta, self.step * step_size(problem, theta))
