"""ADMM with a proximal step that is differentiable: the penalty |z| plus a small power of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from torch import Tensor

from methods.solvers._affine import constant, factorised, jacobian, origin
from methods.solvers.admm import default_rho
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """z (b, k) and the scaled dual w = u / rho (b, k)."""

    z: Tensor
    w: Tensor


class PNormAdmmIteration(Iteration[State]):
    """Invariant of the limit: z = K x, F(x) + K^T u = 0 and u in the subdifferential of |z| + 4/3 beta |z|^{3/2}."""

    def __init__(self, problem: Problem, theta: Theta, rho: float | None, beta: float) -> None:
        K = problem.linearise(origin(problem, theta)[:1], theta).K.dense()[0]
        self._rho = rho or default_rho(K.detach())
        self._problem, self._theta, self._beta = problem, theta, beta
        self._solve = factorised(jacobian(problem, theta) + self._rho * K.T @ K, problem)
        self._b = constant(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        if warm is None:
            z = self._problem.K(torch.zeros_like(self._b), self._theta)
            return State(z, torch.zeros_like(z))
        return State(self._problem.K(warm.x, self._theta), warm.u / self._rho)

    def step(self, state: State) -> State:
        v = self._problem.K(self.primal(state), self._theta) + state.w
        z = smooth_shrinkage(v, 1.0 / self._rho, self._beta)
        return State(z, v - z)

    def primal(self, state: State) -> Tensor:
        return self._solve(self._b + self._rho * self._problem.M(state.z - state.w, self._theta))

    def dual(self, state: State) -> Tensor:
        return self._rho * state.w


def smooth_shrinkage(v: Tensor, step: float, beta: float) -> Tensor:
    """argmin_z step (|z| + 2 beta / p |z|^p) + 1/2 (z - v)^2 for p = 3/2: sign(v) w^2 with w^2 + 2 beta step w = r,
    r = max(|v| - step, 0). It has a continuous derivative, 0 at |v| = step, where soft thresholding jumps from 0 to 1.
    """
    r = (v.abs() - step).clamp(min=0.0)
    half = beta * step
    w = r / (half + torch.sqrt(half * half + r))  # the root without its cancellation
    return v.sign() * w * w


class PNormAdmm(FirstOrder):
    """Christof, "Gradient-based solution algorithms for a class of bilevel optimization and optimal control problems
    with a non-smooth lower level", 2020; Crockett and Fessler, "Bilevel methods for image reconstruction", (4.23).

    The penalty becomes |z| + 2 beta / p |z|^p, here with p = 3/2 (readings.md R.8), which keeps exact zeros and makes
    the proximal step differentiable. In ADMM, with F(x) = H x - b,

        x <- (H + rho K^T K)^{-1} (b + rho K^T (z - w)),   z <- prox(K x + w),   w <- w + K x - z,   u = rho w.

    Its limit is not the l1 solution: the bias falls with beta, and so does the length over which the step bends. It
    never certifies an l1 solution, and is to be unrolled. Costs are those of `admm`, a step one product with K, one
    with K^T and n^2.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    stationary: ClassVar[bool] = False

    rho: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Left out, that of `admm`."""
    beta: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1e-3
    """Of the added power (the review's beta-tilde)."""

    def bind(self, problem: Problem, theta: Theta) -> PNormAdmmIteration:
        return PNormAdmmIteration(problem, theta, self.rho, self.beta)
