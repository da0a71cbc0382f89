"""Gradient steps of all players whose size is read off the last two iterates."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._pseudo_gradient import lipschitz_constant, pseudo_gradient, smooth
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta

LONGEST = 1e3
"""Step size in units of 1/L that none exceeds."""


class State(NamedTuple):
    """x (b, n), the x before it, and H there."""

    x: Tensor
    x_last: Tensor
    H_last: Tensor


class BarzilaiBorweinIteration(Iteration[State]):
    """Invariant of the limit: H(x) = 0, u = phi'(K x)."""

    def __init__(self, problem: Problem, theta: Theta, L: float, form: Literal["long", "short"]) -> None:
        self._problem, self._theta, self._L, self._form = problem, theta, L, form
        self._H = pseudo_gradient(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        x = origin(self._problem, self._theta) if warm is None else warm.x
        return State(x, x, torch.zeros_like(x))

    def step(self, state: State) -> State:
        H = self._H(state.x)
        eta = self._size(state.x - state.x_last, H - state.H_last)
        return State(state.x - eta * H, state.x, H)

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return smooth(self._problem).derivative(self._problem.K(state.x, self._theta))

    def _size(self, s: Tensor, r: Tensor) -> Float[Tensor, "b 1"]:
        """A constant, as all step sizes are."""
        s, r = s.detach(), r.detach()
        ss, sr, rr = ((one * other).sum(1, keepdim=True) for one, other in ((s, s), (s, r), (r, r)))
        moved = (ss > 0) & (sr > 0)
        above, below = (ss, sr) if self._form == "long" else (sr, rr)
        eta = above / torch.where(moved, below, 1.0)
        return torch.where(moved, eta.clamp(0.5 / self._L, LONGEST / self._L), 1.0 / self._L)


class BarzilaiBorwein(FirstOrder):
    """x <- x - eta H(x), eta by Barzilai and Borwein (1988), each sample its own, with s = x - x_last, r = H - H_last:

        long   <s, s> / <s, r>,        short   <s, r> / <r, r>.

    For H = D^T (D x - y) these are ||s||^2 / ||D s||^2 and ||D s||^2 / ||D^T D s||^2. Lecouat, Ponce and Mairal print
    ||D^T D s|| / ||D s||^2 (section 3.4), which is no step size: it doubles when s is halved (settings X.53). The first
    step, and any where <s, r> <= 0, is 1 / L; none is below half of that.

    A step costs one H, as `game_gradient`'s. It is no descent method and has no proof for asymmetric games: pixel games
    took a tenth to a fourth of the steps, but with a_jk / a_kj = 1000 the long form did not settle. Its map changes
    from step to step: it can be unrolled, step sizes being constants, but has no fixed point to differentiate.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH
    stationary: ClassVar[bool] = False

    form: Literal["long", "short"] = "short"

    def bind(self, problem: Problem, theta: Theta) -> BarzilaiBorweinIteration:
        return BarzilaiBorweinIteration(problem, theta, lipschitz_constant(problem, theta), self.form)
