"""Accelerated gradient descent on a smooth penalty, with restarts."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._momentum import extrapolated
from methods.solvers._pseudo_gradient import pseudo_gradient, smooth
from methods.solvers._smooth import curvature_bound
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """x (b, n), the extrapolated v (b, n), and t (b, 1), which sets the momentum of each sample."""

    x: Tensor
    v: Tensor
    t: Tensor


class AcceleratedGradientIteration(Iteration[State]):
    """Invariant of the limit: F(x) + M phi'(Kx) = 0."""

    def __init__(self, problem: Problem, theta: Theta, step_size: float) -> None:
        self._problem, self._theta, self._step_size = problem, theta, step_size
        self._gradient = pseudo_gradient(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        x = origin(self._problem, self._theta) if warm is None else warm.x
        return State(x, x, x.new_ones((x.shape[0], 1)))

    def step(self, state: State) -> State:
        r = self._gradient(state.v)
        x = state.v - self._step_size * r
        return State(x, *extrapolated(x, state.x, r, state.t))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return smooth(self._problem).derivative(self._problem.K(state.x, self._theta))


class AcceleratedGradient(FirstOrder):
    """Nesterov's method with the gradient restart of O'Donoghue and Candes (2015), for a convex phi:

        x+ = v - r(v) / L,   t+ = 1/2 + sqrt(1/4 + t^2),   v+ = x+ + (t - 1)/t+ (x+ - x),   r(v) = F(v) + M phi'(Kv),

    and t+ = 1, v+ = x+ for each sample that steps uphill, <r(v), x+ - x> > 0 (Crockett and Fessler, appendix D, unroll
    its relative OGM). L is that of gradient_descent, and so are the costs; it takes some sqrt(L / mu) steps where that
    takes L / mu. Its momentum changes from step to step: it can be unrolled but not differentiated as an equilibrium.
    Restarts are treated as constant.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.SMOOTH
    stationary: ClassVar[bool] = False

    def bind(self, problem: Problem, theta: Theta) -> AcceleratedGradientIteration:
        return AcceleratedGradientIteration(problem, theta, 1.0 / curvature_bound(problem, theta))
