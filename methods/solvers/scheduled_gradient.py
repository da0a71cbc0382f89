"""Gradient steps of all players with a step size and a smoothing of their own for every iteration, both in theta."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._pseudo_gradient import lipschitz_constant, pseudo_gradient, smooth
from methods.solvers.contract import FirstOrder, Iteration, Point
from methods.solvers.extragradient import DEFAULT_STEP as EXTRAGRADIENT_STEP
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """x (b, n), and the number t of the next iteration."""

    x: Tensor
    t: Int[Tensor, " one"]


class ScheduledGradientIteration(Iteration[State]):
    """Invariant of the limit: H(x) = 0 with the last smoothing, u = phi'(K x)."""

    def __init__(self, problem: Problem, theta: Theta, look_ahead: bool) -> None:
        self._problem, self._theta, self._look_ahead = problem, theta, look_ahead
        step = EXTRAGRADIENT_STEP if look_ahead else 1.0
        self._step_size = None if "eta" in theta else step / lipschitz_constant(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        x = origin(self._problem, self._theta) if warm is None else warm.x
        return State(x, torch.zeros(1, dtype=torch.int64, device=x.device))

    def step(self, state: State) -> State:
        now = {name: self._entry(name, state.t) if name == "alpha" else value for name, value in self._theta.items()}
        H = pseudo_gradient(self._problem, now)
        eta = self._entry("eta", state.t) if self._step_size is None else self._step_size
        ahead = state.x - eta * H(state.x)
        return State(state.x - eta * H(ahead) if self._look_ahead else ahead, state.t + 1)

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return smooth(self._problem).derivative(self._problem.K(state.x, self._theta))

    def _entry(self, name: str, t: Tensor) -> Tensor:
        """theta[name][t], the last one from there on."""
        values = self._theta[name]
        return values.index_select(0, t.clamp(max=values.shape[0] - 1))


class ScheduledGradient(FirstOrder):
    """x <- x - eta_t H_t(x), H_t(x) = F(x) + M phi'(K x) at alpha_t (Lecouat, Ponce and Mairal, end of section 3.3).

    theta["eta"] and theta["alpha"] hold an entry for each iteration, which an unrolled gradient differentiates; the
    last is used from there on, and alone says which problem is solved. Where theta has no eta it is 1 / L, as in
    `game_gradient`; where it has no alpha all H_t are H. With `look_ahead` x <- x - eta_t H_t(x - eta_t H_t(x)), twice
    the cost, and without an eta the step of `extragradient`. Nothing keeps a learned eta_t from diverging, or with
    `look_ahead` from standing still at 1 / L; for pixel games every eta_t (1 + alpha_t max_j sum_k a_jk) up to 1
    contracts without it. The map changes from step to step: it can be unrolled, but has no fixed point to
    differentiate.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH
    stationary: ClassVar[bool] = False

    look_ahead: bool = False

    def bind(self, problem: Problem, theta: Theta) -> ScheduledGradientIteration:
        return ScheduledGradientIteration(problem, theta, self.look_ahead)
