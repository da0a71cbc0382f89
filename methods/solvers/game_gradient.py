"""Simultaneous gradient steps of all players."""

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


class GameGradientIteration(Iteration[State]):
    """Invariant of the limit: H(x) = 0, u = phi'(K x)."""

    def __init__(self, problem: Problem, theta: Theta, step_size: float) -> None:
        self._problem, self._theta, self._step_size = problem, theta, step_size
        self._H = pseudo_gradient(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        return State(origin(self._problem, self._theta) if warm is None else warm.x)

    def step(self, state: State) -> State:
        return State(state.x - self._step_size * self._H(state.x))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return smooth(self._problem).derivative(self._problem.K(state.x, self._theta))


class GameGradient(FirstOrder):
    """x <- x - eta H(x), H(x) = F(x) + M phi'(K x) (Lecouat, Ponce and Mairal, (6) and (7)), eta = step / L.

    L = ||F_x|| + max phi'' ||M|| ||K||. A step costs one H, two products. Where H is a gradient it converges for
    step < 2. Elsewhere eta < 2 mu / L^2 is the bound in general, mu the strong monotonicity, and a rotating H needs it.
    In the pixel games of tv_game every step up to 1 is a contraction in the maximum norm, by 1 - eta, however
    asymmetric the weights: I - eta H' has entries >= 0 and row sums 1 - eta. Slow for a large alpha, as eta falls like
    1 / alpha.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.SMOOTH
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, le=2)] = 1.0
    """eta L."""

    def bind(self, problem: Problem, theta: Theta) -> GameGradientIteration:
        return GameGradientIteration(problem, theta, self.step / lipschitz_constant(problem, theta))
