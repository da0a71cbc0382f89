"""Accelerated proximal gradient on the primal, with restarts."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._momentum import extrapolated
from methods.solvers._proximal import certificate, soft_threshold, step_size, weight
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """x (b, n), the extrapolated v (b, n), and t (b, 1), which sets the momentum of each sample."""

    x: Tensor
    v: Tensor
    t: Tensor


class FistaIteration(Iteration[State]):
    """Invariant of the limit: x = v = soft(x - F(x) / L, lambda / L)."""

    def __init__(self, problem: Problem, theta: Theta, alpha: float) -> None:
        self._problem, self._theta, self._alpha = problem, theta, alpha
        self._threshold = alpha * weight(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        x = origin(self._problem, self._theta) if warm is None else warm.x
        return State(x, x, x.new_ones((x.shape[0], 1)))

    def step(self, state: State) -> State:
        x = soft_threshold(self._descended(state.v), self._threshold)
        return State(x, *extrapolated(x, state.x, state.v - x, state.t))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return certificate(self._descended(state.x), self._threshold)

    def _descended(self, x: Tensor) -> Tensor:
        return x - self._alpha * self._problem.F(x, self._theta)


class Fista(FirstOrder):
    """FISTA (Beck and Teboulle 2009), from zero, with the gradient restart of O'Donoghue and Candes (2015):

        x+ = soft(v - F(v) / L, lambda / L),   t+ = 1/2 + sqrt(1/4 + t^2),   v+ = x+ + (t - 1)/t+ (x+ - x),

    and t+ = 1, v+ = x+ for each sample that steps uphill, <v - x+, x+ - x> > 0. L is the largest eigenvalue of F_x. A
    step is one product with F and keeps three tensors. O(1/T^2) in the objective until the support has settled, then
    linear with the square root of ISTA's condition number. Its momentum changes from step to step: it can be unrolled
    but not differentiated as an equilibrium. Restarts are treated as constant.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1
    stationary: ClassVar[bool] = False

    def bind(self, problem: Problem, theta: Theta) -> FistaIteration:
        return FistaIteration(problem, theta, step_size(problem, theta))
