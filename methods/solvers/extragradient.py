"""The extra-gradient method: look ahead, then step."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._pseudo_gradient import lipschitz_constant, pseudo_gradient, smooth
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """x (b, n)."""

    x: Tensor


class ExtragradientIteration(Iteration[State]):
    """Invariant of the limit: H(x) = 0, u = phi'(K x)."""

    def __init__(self, problem: Problem, theta: Theta, step_size: float) -> None:
        self._problem, self._theta, self._step_size = problem, theta, step_size
        self._H = pseudo_gradient(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        return State(origin(self._problem, self._theta) if warm is None else warm.x)

    def step(self, state: State) -> State:
        ahead = state.x - self._step_size * self._H(state.x)
        return State(state.x - self._step_size * self._H(ahead))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return smooth(self._problem).derivative(self._problem.K(state.x, self._theta))


class Extragradient(FirstOrder):
    """x+ = x - eta H(x - eta H(x)), H(x) = F(x) + M phi'(K x) (Lecouat, Ponce and Mairal, (8); Korpelevich 1976).

    eta = step / L with L = ||F_x|| + max phi'' ||M|| ||K||. It converges wherever H is monotone and step < 1, H a
    gradient or not; the plain gradient can circle there. A step costs two H, four products: twice those of
    `game_gradient`. Where H hardly rotates it is no faster per step, and so half as fast per product.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.SMOOTH
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """eta L; L is rounded up, so that 1 stays below the bound."""

    def bind(self, problem: Problem, theta: Theta) -> ExtragradientIteration:
        return ExtragradientIteration(problem, theta, self.step / lipschitz_constant(problem, theta))
