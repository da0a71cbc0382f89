"""The extra-gradient method: look ahead, then step."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic

from methods.solvers._pseudo_gradient import PseudoGradientIteration, State, lipschitz_constant
from methods.solvers.contract import FirstOrder
from problems.contract import Problem, Structure, Theta

DEFAULT_STEP = 0.8
"""eta L, derived at `Extragradient`."""


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

    For an eigenvalue h of H' a step multiplies the error by 1 - t + t^2, t = eta h. With r = |t| <= step and Re h >= 0
    that is, in magnitude, at most the larger of

        1 - r + r^2               h real: H is a gradient
        sqrt(1 - r^2 + r^4)       h imaginary: H only rotates

    as its square is a convex function of the cosine of h's angle. Both are 1 at r = 0 and at r = 1: with step = 1 what
    lies at the top of the spectrum stays where it is, and in a game of weak coupling, where H' is nearly the identity
    and L nearly 1, that is everything. A long step is slow at the top, a short one at the bottom. Of all steps 0.8 (to
    two digits 0.79) gives away least against the best step for a spectrum that is known, m L <= |h| <= L, real or
    imaginary, whatever m: never more than 40 % of the rate, where 0.5 gives away 75 % and 1 all of it.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, lt=1)] = DEFAULT_STEP
    """eta L."""

    def bind(self, problem: Problem, theta: Theta) -> ExtragradientIteration:
        return ExtragradientIteration(problem, theta, self.step / lipschitz_constant(problem, theta))
