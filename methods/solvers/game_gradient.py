"""Simultaneous gradient steps of all players."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic

from methods.solvers._pseudo_gradient import PseudoGradientIteration, State, lipschitz_constant
from methods.solvers.contract import FirstOrder
from problems.contract import Problem, Structure, Theta


class GameGradientIteration(PseudoGradientIteration):
    """All players at once, each along its own gradient."""

    def step(self, state: State) -> State:
        return State(state.x - self._step_size * self._H(state.x))


class GameGradient(FirstOrder):
    """x <- x - eta H(x), H(x) = F(x) + M phi'(K x) (Lecouat, Ponce and Mairal, (6) and (7)), eta = step / L.

    L = ||F_x|| + max phi'' ||M|| ||K||. A step costs one H, two products. Where H is a gradient it converges for
    step < 2; at 2 what lies at the top of the spectrum would only change its sign. Elsewhere eta < 2 mu / L^2 is the
    bound in general, mu the strong monotonicity, and a rotating H needs it.
    In the pixel games of tv_game every step up to 1 is a contraction in the maximum norm, by 1 - eta, however
    asymmetric the weights: I - eta H' has entries >= 0 and row sums 1 - eta. Slow for a large alpha, as eta falls like
    1 / alpha.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, lt=2)] = 1.0
    """eta L."""

    def bind(self, problem: Problem, theta: Theta) -> GameGradientIteration:
        return GameGradientIteration(problem, theta, self.step / lipschitz_constant(problem, theta))
