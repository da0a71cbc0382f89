"""Piggyback differentiation: primal-dual iterations that carry the adjoint variables along."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from jaxtyping import Bool
from torch import Tensor

from methods._implicit_gradient import implicit_gradient
from methods.contract import Method, Prepared, Solution, refuse_unless_met
from methods.solvers._affine import constant, dual_origin, dual_projection
from methods.solvers.pdhg import resolvent
from problems.contract import Problem, Scales, Structure, Theta, kkt_residual, scales, transform_norm


class Adjoint(NamedTuple):
    """The adjoint variables: p (b, n) and a (b, k)."""

    p: Tensor
    a: Tensor


class Piggyback(Method):
    """(x, u) and the adjoint pair (p, a) by one primal-dual method (Bogensperger, Chambolle and Pock, "Convergence of a
    piggyback-style method for the differentiation of solutions of standard saddle-point problems", SIAM Journal on
    Mathematics of Data Science, 2022; Chambolle and Pock, "Learning consistent discretizations of the total variation",
    SIAM Journal on Imaging Sciences, 2021).

    Invariant: (x*, u*) is the saddle point of <K x, u> + f(x) over |u| <= 1, and (p, a) that of the quadratic with the
    same K on the cosupport. One step, with R = (I + tau F_x)^-1 and F(x) = F_x x - b:

        v = u + sigma K x_bar         u <- proj(v)                       x <- R (x - tau (M u - b))
                                      a <- [|v| < 1] (a + sigma K p_bar)  p <- R (p - tau (M a - g_x))

    so that the adjoint step is the derivative of the primal-dual one at v; x_bar = 2 x+ - x, p_bar likewise. At the
    limit (p, a) solves the saddle system of problems/README.md, and the gradient is its pull-back. Nothing is recorded
    along the way.

    Time: per step 4 n k and, unless F(x) = x - y, 2 n^2 per sample, twice those of the solver `pdhg`; the gradient is a
    pull-back on top, as `solve` has done the rest. Memory: O(n + k) per sample. The adjoint pair converges linearly
    once the cosupport has settled. Fails where that takes too long, at small margins; on a kink the pattern does not
    settle, and where K0 has dependent rows a is not unique and p is one of several one-sided answers.

    `converged` is False where, after `max_steps`, a residual of (x, u) or of (p, a) exceeds the tolerance.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    ratio: Annotated[float, pydantic.Field(gt=0)] = 0.1
    """tau ||K||, which is 1 / (sigma ||K||), as in the solver `pdhg`."""
    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-10
    """Relative residual of both saddle systems at which it stops, no less than 100 epsilons of the float type."""
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 200_000

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        with torch.no_grad():
            theta = {name: value.detach() for name, value in theta.items()}
            iteration = _Iteration(prepared.problem, theta, self.ratio)
            tolerance = max(self.tolerance, 100 * torch.finfo(iteration.b.dtype).eps)
            state, steps, burst = iteration.start(warm), 0, 10
            while True:
                residual = iteration.residual(state)
                if residual <= tolerance or steps >= self.max_steps or residual != residual:
                    break
                burst = min(burst, self.max_steps - steps)
                for _ in range(burst):
                    state = iteration.step(state)
                steps += burst
                burst = max(10, steps // 10)
        return Solution(state.x, state.u, steps, residual <= tolerance, Adjoint(state.p, state.a))

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        return implicit_gradient(prepared.problem, theta, solution, lambda *_: solution.memory)


class _State(NamedTuple):
    """The primal-dual pair, the adjoint pair, and the extrapolated x and p."""

    x: Tensor
    u: Tensor
    p: Tensor
    a: Tensor
    x_bar: Tensor
    p_bar: Tensor


class _Iteration:
    """The step at one theta. Both pairs go through K and M in one product."""

    def __init__(self, problem: Problem, theta: Theta, ratio: float) -> None:
        self.problem, self.theta = problem, theta
        self.b = constant(problem, theta)
        self.norm = transform_norm(problem, theta) or 1.0  # K = 0: any step will do
        self.tau, self.sigma = ratio / self.norm, 1.0 / (ratio * self.norm)
        self.project = dual_projection(problem)
        self.resolvent = resolvent(problem, theta, self.tau)
        self.relative_to: Scales = scales(problem, theta)

    def start(self, warm: Solution | None) -> _State:
        if warm is not None and warm.u is not None:
            none = Adjoint(torch.zeros_like(warm.x), torch.zeros_like(warm.u))
            p, a = none if warm.memory is None else warm.memory  # a training keeps x and u alone
            return _State(warm.x, warm.u, p, a, warm.x, p)
        x, u = torch.zeros_like(self.b), dual_origin(self.problem, self.theta)
        return _State(x, u, x, u, x, x)

    def step(self, state: _State) -> _State:
        Kx, Kp = self.problem.K(torch.cat([state.x_bar, state.p_bar]), self.theta).chunk(2)
        v = torch.add(state.u, Kx, alpha=self.sigma)
        u, a = self.project(v), _inside(v) * torch.add(state.a, Kp, alpha=self.sigma)
        Mu, Ma = self.problem.M(torch.cat([u, a]), self.theta).chunk(2)
        x = self.resolvent(torch.add(state.x, self.b - Mu, alpha=self.tau))
        g_x, _ = self.problem.loss_gradient(x, self.theta)
        p = self.resolvent(torch.add(state.p, g_x - Ma, alpha=self.tau))
        return _State(x, u, p, a, torch.sub(2 * x, state.x), torch.sub(2 * p, state.p))

    def residual(self, state: _State) -> float:
        """The largest of any sample, of either saddle system; relative to the size of y, and of g_x."""
        x, u, p, a = state[:4]
        g_x, _ = self.problem.loss_gradient(x, self.theta)
        size = g_x.abs().amax(1, keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        first = (self.problem.F(p, self.theta) + self.b + self.problem.M(a, self.theta) - g_x) / size
        inside = _inside(u + self.sigma * self.problem.K(x, self.theta))
        second = (a - inside * (a + self.problem.K(p, self.theta) / self.norm**2)) * (self.norm / size)
        adjoint = max(float(part.abs().max()) for part in (first, second) if part.numel())
        primal = float(kkt_residual(self.problem, x, u, self.theta, self.relative_to).max())
        return max(primal, adjoint) if adjoint == adjoint else adjoint


def _inside(v: Tensor) -> Bool[Tensor, "b k"]:
    """Where the projection on |u| <= 1 has derivative 1."""
    return v.abs() < 1.0
