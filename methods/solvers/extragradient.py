"""The extra-gradient method: look ahead, then step."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic

from methods.solvers._pseudo_gradient import PseudoGradientIteration, State, lipschitz_constant
from methods.solvers.contract import FirstOrder
from problems.contract import Problem, Structure, Theta


class ExtragradientIteration(PseudoGradientIteration):
    """From x along the pseudo-gradient of the point ahead of it."""

    def step(self, state: State) -> State:
        ahead = state.x - self._step_size * self._H(state.x)
        return State(state.x - self._step_size * self._H(ahead))


class Extragradient(FirstOrder):
    """x+ = x - eta H(x - eta H(x)), H(x) = F(x) + M phi'(K x) (Lecouat, Ponce and Mairal, (8); Korpelevich 1976).

    eta = step / L with L = ||F_x|| + max phi'' ||M|| ||K||. It converges wherever H is monotone and step < 1, H a
    gradient or not; the plain gradient can circle there. A step costs two H, four products: twice those of
    `game_gradient`. Where H hardly rotates it is no faster per step, and so half as fast per product.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """eta L; L is rounded up, so that 1 stays below the bound."""

    def bind(self, problem: Problem, theta: Theta) -> ExtragradientIteration:
        return ExtragradientIteration(problem, theta, self.step / lipschitz_constant(problem, theta))
