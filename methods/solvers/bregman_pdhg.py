"""Primal-dual hybrid gradient with an entropy on the dual, whose steps are smooth."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from torch import Tensor

from methods.solvers._affine import constant, dual_origin
from methods.solvers.contract import FirstOrder, Iteration, Point
from methods.solvers.pdhg import resolvent, steps
from problems.contract import Problem, Structure, Theta


class State(NamedTuple):
    """x (b, n), v = artanh(u) (b, k) and the extrapolated x (b, n)."""

    x: Tensor
    v: Tensor
    extrapolated: Tensor


class BregmanPdhgIteration(Iteration[State]):
    """Invariant: |u| < 1 at every step; in the limit F(x) + M u = 0, and K x = 0 wherever v settles."""

    def __init__(self, problem: Problem, theta: Theta, tau: float, sigma: float) -> None:
        self._problem, self._theta, self._tau, self._sigma = problem, theta, tau, sigma
        self._b = constant(problem, theta)
        self._resolvent = resolvent(problem, theta, tau)

    def start(self, warm: Point | None = None) -> State:
        if warm is None:
            zero = torch.zeros_like(self._b)
            return State(zero, dual_origin(self._problem, self._theta), zero)
        nearly = 1.0 - torch.finfo(warm.u.dtype).eps
        return State(warm.x, torch.atanh(warm.u.clamp(-nearly, nearly)), warm.x)

    def step(self, state: State) -> State:
        v = torch.add(state.v, self._problem.K(state.extrapolated, self._theta), alpha=self._sigma)
        descent = self._b - self._problem.M(torch.tanh(v), self._theta)
        x = self._resolvent(torch.add(state.x, descent, alpha=self._tau))
        return State(x, v, torch.sub(2 * x, state.x))

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return torch.tanh(state.v)


class BregmanPdhg(FirstOrder):
    """Ochs, Ranftl, Brox and Pock, "Techniques for gradient-based bilevel optimization with non-smooth lower level
    problems", 2016; Crockett and Fessler, "Bilevel methods for image reconstruction", (4.20) to (4.22).

    The method of `pdhg` with the distance of the entropy 1/2 ((1 + u) log(1 + u) + (1 - u) log(1 - u)) in the place of
    the Euclidean one, on |u| <= 1. Its mirror map is artanh, so that instead of clipping

        u <- tanh(artanh(u) + sigma K x_bar),   x+ = (I + tau F)^{-1} (x - tau M u),   x_bar <- 2 x+ - x.

    Every step is smooth in theta, also on kinks, which is what it is unrolled for; the entropy is 1-strongly convex,
    hence the steps are those of `pdhg`, and its costs. On the support u comes as near to its bound as
    e^(-2 sigma t |Kx|), the slower the smaller |Kx|, and v = artanh(u) grows without end: it is to be unrolled, and no
    equilibrium.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.L1
    stationary: ClassVar[bool] = False

    ratio: Annotated[float, pydantic.Field(gt=0)] = 0.1
    """tau ||M||, which is 1 / (sigma ||K||)."""

    def bind(self, problem: Problem, theta: Theta) -> BregmanPdhgIteration:
        return BregmanPdhgIteration(problem, theta, *steps(problem, theta, self.ratio))
