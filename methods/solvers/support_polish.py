"""Codes to rounding, also with more atoms than samples: a first-order guess of the support, and a proof of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pydantic
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.solvers._affine import constant, jacobian
from methods.solvers._proximal import weight
from methods.solvers.contract import Factor, Point, Solved, Solver, refuse_unless_met
from methods.solvers.fista import Fista
from problems.contract import Problem, Structure, Theta, kkt_residual, scales

FIRST_BURST = 20
"""Steps of FISTA before the second look at the support; the first is at the start, for a warm one may be right."""
GROWTH = 4
"""A burst is this fraction of the steps so far: at most a quarter of them is more than was needed."""


class SupportPolish(Solver):
    """FISTA until its support S and signs s solve the problem exactly (PUDLE, proposition 3.1: S settles after a finite
    number of steps).

    Invariant: x_S = H_SS^-1 (b_S - lambda s_S), zero elsewhere, and u = (b - H x) / lambda off S, s on S, satisfy
    every equation by construction. They are THE solution where moreover |u| <= 1 off S and x_S has the signs s: the
    relative KKT residual, computed anew from F, K and M, must be within `tolerance`, sample by sample. H need not be
    invertible, H_SS must be: where more columns than samples are on a guessed S, or dependent ones, it goes on.

    Time: H once, n products; FISTA's steps; per look O(s^3 + n s) per sample with s = |S| the largest of the batch.
    Memory: n^2 shared and s^2 per sample. The adjoint costs one product with H and O(s^2).

    Fails where FISTA does not settle within `max_steps`, at margins below its resolution; `converged` is then False
    and FISTA's own iterate is returned. Where the solution is not unique it returns one whose columns are independent.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Relative KKT residual that counts as a proof, no less than 100 epsilons of the float type."""
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 200_000
    """Of FISTA."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        theta = {name: value.detach() for name, value in theta.items()}
        relative_to, iteration = scales(problem, theta), Fista().bind(problem, theta)
        tolerance = max(self.tolerance, 100 * torch.finfo(relative_to.y.dtype).eps)
        quadratic = _Quadratic(jacobian(problem, theta), constant(problem, theta), weight(problem, theta))
        state, steps, burst = iteration.start(warm), 0, FIRST_BURST
        signs = iteration.primal(state).sign()
        while True:
            factor = OnSupport.of(quadratic, signs != 0)
            x, u = factor.solution(signs)
            residual = kkt_residual(problem, x, u, theta, relative_to)
            proved = residual <= tolerance
            if proved.all():
                return Solved(x, u, steps, float(residual.max()), True, factor)
            if steps >= self.max_steps:
                break
            burst = min(burst, self.max_steps - steps)
            for _ in range(burst):
                state = iteration.step(state)
            steps += burst
            burst = max(FIRST_BURST, steps // GROWTH)
            signs = torch.where(proved[:, None], signs, iteration.primal(state).sign())
        x = torch.where(proved[:, None], x, iteration.primal(state))
        u = torch.where(proved[:, None], u, iteration.dual(state))
        return Solved(x, u, steps, float(kkt_residual(problem, x, u, theta, relative_to).max()), False)


@dataclass(frozen=True)
class _Quadratic:
    """0 in H x - b + lambda d|.|_1(x)."""

    H: Float[Tensor, "n n"]
    b: Float[Tensor, "b n"]
    weight: Float[Tensor, "1 n"]


class OnSupport(Factor):
    """The Cholesky factors of H_SS, padded with ones to the largest support of the batch."""

    def __init__(
        self,
        quadratic: _Quadratic,
        support: Bool[Tensor, "b n"],
        places: Int[Tensor, "b s"],
        inside: Bool[Tensor, "b s"],
        lower: Float[Tensor, "b s s"],
    ) -> None:
        self._quadratic, self._support = quadratic, support
        self._places, self._inside, self._lower = places, inside, lower

    @classmethod
    def of(cls, quadratic: _Quadratic, support: Bool[Tensor, "b n"]) -> OnSupport:
        """Where H_SS is singular the factor is of no use, which its solution's residual shows."""
        H = quadratic.H
        places = support.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(support.sum(1).max())]
        inside = support.gather(1, places)
        block = H[places[:, :, None], places[:, None, :]]
        ones = torch.eye(places.shape[1], dtype=H.dtype, device=H.device)
        block = torch.where(inside[:, :, None] & inside[:, None, :], block, ones)
        return cls(quadratic, support, places, inside, torch.linalg.cholesky_ex(block).L)

    def solution(self, signs: Float[Tensor, "b n"]) -> Point:
        """(x, u) of the given signs, which are zero off the support; with one correction, for a relative 1e-16."""
        right = self._quadratic.b - self._quadratic.weight * signs
        x = self._solved(right)
        x = x + self._solved(right - x @ self._quadratic.H)
        off = (right - x @ self._quadratic.H) / self._quadratic.weight
        return Point(x, torch.where(self._support, signs, off))

    def adjoint(self, g: Tensor) -> Point:
        p = self._solved(g)
        a = (g - p @ self._quadratic.H) / self._quadratic.weight
        return Point(p, torch.where(self._support, 0.0, a))

    def _solved(self, right: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """H_SS^-1 right_S on the support, zero off it."""
        inner = torch.where(self._inside, right.gather(1, self._places), 0.0)
        solved = torch.cholesky_solve(inner[..., None], self._lower)[..., 0]
        return torch.zeros_like(right).scatter(1, self._places, solved)
