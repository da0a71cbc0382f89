"""Projected gradient on the dual."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from torch import Tensor

from methods.solvers._affine import dual_curvature, dual_origin, dual_projection, primal_of_dual
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """u (b, k)."""

    u: Tensor


class DualPgdIteration(Iteration[State]):
    """Invariant: F(x(u)) + M u = 0 at every step."""

    def __init__(self, problem: Problem, theta: Theta, step_size: float) -> None:
        self._problem, self._theta, self._step_size = problem, theta, step_size
        self._project = dual_projection(problem)
        self._x = primal_of_dual(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        return State(dual_origin(self._problem, self._theta) if warm is None else warm.u)

    def step(self, state: State) -> State:
        z = self._problem.K(self._x(state.u), self._theta)
        return State(self._project(torch.add(state.u, z, alpha=self._step_size)))

    def primal(self, state: State) -> Tensor:
        return self._x(state.u)

    def dual(self, state: State) -> Tensor:
        return state.u


class DualPgd(FirstOrder):
    """Projected gradient on the dual:  u <- proj(u + s K x(u)),  x(u) the solution of F(x) + M u = 0.

    For F(x) = x - y it is Chambolle's projection algorithm, x(u) = y - M u; otherwise F_x is factorised once. It needs
    no M = K^T, and finds equilibria of games too. With L = ||K F_x^{-1} M|| it converges for s < 2/L where the lower
    level is a minimisation and was seen to for s <= 1/L elsewhere (problems/README.md). A step costs two products, 2nk
    per sample; binding is free of factorisations for F(x) = x - y, n^3/3 + n^2 k otherwise. The rate is 1 - s lambda,
    lambda the smallest eigenvalue of K0 F_x^{-1} M0: slow for an ill-conditioned K0.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.9
    """s as a fraction of the largest admissible step: 2/L for a minimisation, 1/L otherwise. Steps fall slowly up to 1,
    but with an orthogonal W, where 1/L is exact, they grow from 80 at 0.9 to 500 at 1."""

    def bind(self, problem: Problem, theta: Theta) -> DualPgdIteration:
        largest = 2.0 if Structure.MINIMISATION in problem.structure else 1.0
        return DualPgdIteration(problem, theta, self.step * largest / dual_curvature(problem, theta))
