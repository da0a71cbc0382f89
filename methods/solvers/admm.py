"""Alternating direction method of multipliers on the splitting z = K x."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers._affine import constant, dual_origin, dual_projection, factorised, jacobian, origin
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta, operator_norm


class State(NamedTuple):
    """v = u + rho K x before the dual projection (b, k): it determines x, z and u."""

    v: Tensor


class AdmmIteration(Iteration[State]):
    """Invariant: v = u + rho K x with u = proj(v), and then rho z = v - u and F_x x = b - K^T u."""

    def __init__(self, problem: Problem, theta: Theta, rho: float | None) -> None:
        K = problem.linearise(origin(problem, theta)[:1], theta).K.dense()[0]
        rho = rho or default_rho(K.detach())
        self._problem, self._theta, self._rho = problem, theta, rho
        self._solve = factorised(jacobian(problem, theta) + rho * K.T @ K, problem)
        self._project = dual_projection(problem)
        self._b = constant(problem, theta)
        self._offset = rho * self._solve(self._b) @ K.T
        self._product = rho * self._solve(K) @ K.T

    def start(self, warm: Point | None = None) -> State:
        if warm is None:
            return State(dual_origin(self._problem, self._theta))
        return State(warm.u + self._rho * self._problem.K(warm.x, self._theta))

    def step(self, state: State) -> State:
        u = self.dual(state)
        reflected = torch.sub(state.v, u, alpha=2)  # rho z - u
        return State(u + torch.addmm(self._offset, reflected, self._product))

    def primal(self, state: State) -> Tensor:
        reflected = torch.sub(state.v, self.dual(state), alpha=2)
        return self._solve(self._b + self._problem.M(reflected, self._theta))

    def dual(self, state: State) -> Tensor:
        return self._project(state.v)


class Admm(FirstOrder):
    """ADMM (BLORC journal, Algorithm 4.1 step 1): with F(x) = H x - b and the scaled dual w,

        x <- (H + rho K^T K)^{-1} (b + rho K^T (z - w)),   z <- soft(K x + w, 1/rho),   w <- w + K x - z,   u = rho w.

    The three updates are one map of v = u + rho K x, as z and u are its soft-thresholded and its clipped part; that map
    is written with rho K (H + rho K^T K)^{-1} K^T formed once from one Cholesky factorisation, so that a step is one
    product of k^2 per sample. Binding costs n^3/3 + n^2 k + n k^2, memory k^2 + n^2. The limit does not depend on rho,
    its rate does. Slow where a margin of the sign pattern is small.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    stationary: ClassVar[bool] = True

    rho: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Left out, 10 / ||K||^2, a constant that is not differentiated; a fixed number suits one scale of K only. With
    n = 64, K scaled by 0.05, 0.2 and 1, four data terms and five transforms, it took at most 9 times
    the steps of the best of nine choices."""

    def bind(self, problem: Problem, theta: Theta) -> AdmmIteration:
        return AdmmIteration(problem, theta, self.rho)


def default_rho(K: Float[Tensor, "k n"]) -> float:
    norm = operator_norm(lambda x: x @ K.T, lambda z: z @ K, K[:1])
    return 10.0 / (norm**2 or 1.0)  # K = 0: any rho will do
