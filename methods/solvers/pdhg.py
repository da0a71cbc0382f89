"""Primal-dual hybrid gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from torch import Tensor

from methods.solvers._affine import Rows, constant, dual_origin, dual_projection, factorised, jacobian
from methods.solvers.contract import FirstOrder, Iteration, Point
from problems.contract import Problem, Structure, Theta, adjoint_norm, transform_norm


class State(NamedTuple):
    """x (b, n), u (b, k) and the extrapolated x (b, n)."""

    x: Tensor
    u: Tensor
    extrapolated: Tensor


class PdhgIteration(Iteration[State]):
    """Invariant of the limit: x = (I + tau F)^{-1} (x - tau M u) and u = proj(u + sigma K x)."""

    def __init__(self, problem: Problem, theta: Theta, tau: float, sigma: float) -> None:
        self._problem, self._theta, self._tau, self._sigma = problem, theta, tau, sigma
        self._project = dual_projection(problem)
        self._b = constant(problem, theta)
        self._resolvent = resolvent(problem, theta, tau)

    def start(self, warm: Point | None = None) -> State:
        if warm is None:
            zero = torch.zeros_like(self._b)
            return State(zero, dual_origin(self._problem, self._theta), zero)
        return State(warm.x, warm.u, warm.x)

    def step(self, state: State) -> State:
        z = self._problem.K(state.extrapolated, self._theta)
        u = self._project(torch.add(state.u, z, alpha=self._sigma))
        descent = self._b - self._problem.M(u, self._theta)
        x = self._resolvent(torch.add(state.x, descent, alpha=self._tau))
        return State(x, u, torch.sub(2 * x, state.x))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return state.u


class Pdhg(FirstOrder):
    """Chambolle and Pock (2011), Algorithm 1 with theta = 1:

        u <- proj(u + sigma K x_bar),   x+ = (I + tau F)^{-1} (x - tau M u),   x_bar <- 2 x+ - x,

    with tau = ratio / ||M|| and sigma = 1 / (ratio ||K||), both norms rounded up: sigma tau ||K|| ||M|| < 1, which for
    a minimisation is the usual sigma tau ||K||^2 < 1. The resolvent of the affine F is closed for F(x) = x - y, and one
    factorisation of I + tau F_x otherwise. A step costs two products, 2nk per sample, and n^2 for the resolvent. With
    M != K^T it converges for mild asymmetry only, and F need not be invertible.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.L1
    stationary: ClassVar[bool] = True

    ratio: Annotated[float, pydantic.Field(gt=0)] = 0.1
    """tau ||M||, which is 1 / (sigma ||K||). Of 0.03, 0.1, 0.3 and 1, 0.1 took the fewest steps, in the geometric mean
    over 36 instances of n = 64."""

    def bind(self, problem: Problem, theta: Theta) -> PdhgIteration:
        return PdhgIteration(problem, theta, *steps(problem, theta, self.ratio))


def steps(problem: Problem, theta: Theta, ratio: float) -> tuple[float, float]:
    """(tau, sigma); where a norm is 0 any step will do."""
    K = transform_norm(problem, theta) or 1.0
    M = K if Structure.MINIMISATION in problem.structure else adjoint_norm(problem, theta) or 1.0
    return ratio / M, 1.0 / (ratio * K)


def resolvent(problem: Problem, theta: Theta, tau: float) -> Rows:
    """r -> (I + tau H)^{-1} r."""
    if Structure.IDENTITY_FORWARD in problem.structure:
        return lambda r: r / (1.0 + tau)
    H = jacobian(problem, theta)
    return factorised(torch.eye(len(H), dtype=H.dtype, device=H.device) + tau * H, problem)
