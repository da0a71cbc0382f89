"""Accelerated projected gradient on the dual, with restarts."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from methods.solvers._affine import dual_curvature, dual_origin, dual_projection, primal_of_dual
from methods.solvers._momentum import extrapolated
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """u (b, k), the extrapolated v (b, k), and t (b, 1), which sets the momentum of each sample."""

    u: Tensor
    v: Tensor
    t: Tensor


class DualFistaIteration(Iteration[State]):
    """Invariant: F(x(u)) + M u = 0 at every step."""

    def __init__(self, problem: Problem, theta: Theta, step_size: float) -> None:
        self._problem, self._theta, self._step_size = problem, theta, step_size
        self._project = dual_projection(problem)
        self._x = primal_of_dual(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        u = dual_origin(self._problem, self._theta) if warm is None else warm.u
        return State(u, u, u.new_ones((u.shape[0], 1)))

    def step(self, state: State) -> State:
        z = self._problem.K(self._x(state.v), self._theta)
        u = self._project(torch.add(state.v, z, alpha=self._step_size))
        return State(u, *extrapolated(u, state.u, state.v - u, state.t))

    def primal(self, state: State) -> Tensor:
        return self._x(state.u)

    def dual(self, state: State) -> Tensor:
        return state.u


class DualFista(FirstOrder):
    """FISTA (Beck and Teboulle 2009) on the dual, with the gradient restart of O'Donoghue and Candes (2015):

        u+ = proj(v + K x(v) / L),   t+ = 1/2 + sqrt(1/4 + t^2),   v+ = u+ + (t - 1)/t+ (u+ - u),

    and t+ = 1, v+ = u+ for each sample that steps uphill, <v - u+, u+ - u> > 0. L = ||K F_x^{-1} M||. A step costs two
    products, 2nk per sample, and keeps three tensors. Its momentum changes from step to step: its limit is no fixed
    point of one map, and it can be unrolled but not differentiated as an equilibrium. Restarts are treated as constant.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    stationary: ClassVar[bool] = False

    def bind(self, problem: Problem, theta: Theta) -> DualFistaIteration:
        return DualFistaIteration(problem, theta, 1.0 / dual_curvature(problem, theta))
