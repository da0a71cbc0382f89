"""The minimizer approach: differentiate the optimality condition of a smooth lower level."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor

from methods import _adjoint_system
from methods._conjugate_gradients import Product, conjugate_gradients
from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods._implicit_gradient import implicit_gradient
from methods.contract import Prepared, Solution
from methods.solvers._pseudo_gradient import smooth
from methods.solvers._smooth import hessian
from methods.solvers.contract import AnySolver, Point
from methods.solvers.lbfgs import Lbfgs, SharedInverse
from methods.solvers.smooth import Smooth
from problems.contract import Linearised, LinearMap, Problem, Structure, Theta

Adjoint = Literal["dense", "kkt", "cg", "preconditioned_cg", "gmres", "quasi_newton"]
NEEDS_SYMMETRY = ("cg", "preconditioned_cg", "quasi_newton")
NEEDS_LBFGS = ("preconditioned_cg", "quasi_newton")
REFINEMENTS = 5
"""Times that conjugate gradients start again on the residual, which rounding keeps from what their recurrence has."""


class Minimizer(FromSolution):
    """The exact hypergradient of a lower level with a smooth penalty (Crockett and Fessler, "Bilevel methods for image
    reconstruction", section 4.2, (4.3) to (4.11); BLORC, journal, sections 2.1 and 2.2).

    Invariant: F(x*) + M phi'(Kx*) = 0 for every theta, hence with u = phi'(Kx*)

        H^T p = g_x, H = F_x + M diag(phi'') K,   a = phi'' * (M^T p),   grad = g_theta - pullback(p, a, x*, u).

    The implicit function theorem and the Lagrangian, whose multiplier is p, lead to this one system (the review's
    section 4.2.2). `adjoint` says how it is solved, per sample:

        dense               H laid out and factorised, O(n^3 + n^2 k) time, O(n (n + k)) memory
        kkt                 not eliminating a: F_x^T p + K^T a = g_x, phi'' M^T p - a = 0, O((n + k)^3), and digits of a
                            that phi'' times a small M^T p loses where phi'' is large
        cg                  conjugate gradients, a product with H per step, O(n + k) memory
        preconditioned_cg   the same in the metric of the inverse Hessian that the solver lbfgs is left with
        gmres               where H is not symmetric: a game; up to 100 vectors of memory
        quasi_newton        p = B g_x with that estimate B itself, no product with H at all: an approximation, whose
                            error is B's along g_x (Ramzi et al., "SHINE", ICLR 2022; the review's section 4.2.4)

    Left out, it is preconditioned_cg after lbfgs, gmres on a game, and cg otherwise.

    Fails where H is singular. Where phi is not convex it is exact at the stationary point that the solver found, if H
    is positive definite there, as it is at a strict minimiser; elsewhere dense, kkt or gmres. An adjoint equation that
    misses its tolerance raises RuntimeError.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    solver: AnySolver = Smooth()
    adjoint: Adjoint | None = None
    adjoint_tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-10
    """Largest residual of the adjoint equation of any sample, relative to g_x, where it is solved by iteration; no less
    than 100 epsilons of the float type."""
    adjoint_steps: Annotated[int, pydantic.Field(ge=1)] = 10_000
    """Products with H after which it gives up."""

    def refusal(self, problem: Problem) -> str | None:
        if self.adjoint in NEEDS_LBFGS and not isinstance(self.solver, Lbfgs | Smooth):
            return f"{self.adjoint} takes the inverse that lbfgs estimates: set solver = 'lbfgs', or adjoint = 'cg'"
        if self.adjoint in NEEDS_SYMMETRY and Structure.MINIMISATION not in problem.structure:
            return f"{self.adjoint} needs a symmetric H, which a game has not: set adjoint = 'gmres'"
        return refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        """Raises RuntimeError where the adjoint equation does not reach its tolerance."""
        return implicit_gradient(prepared.problem, theta, solution, self._adjoint)

    def _adjoint(self, problem: Problem, theta: Theta, solution: Solution, g_x: Tensor) -> Point:
        x = solution.x
        shared = solution.memory if isinstance(solution.memory, SharedInverse) else None
        if self.adjoint == "quasi_newton":
            assert shared is not None
            return shared.adjoint(g_x)
        linear = problem.linearise(x, theta)
        curvature = smooth(problem).second_derivative(linear.K.matvec(x))
        if self.adjoint == "kkt":
            return _saddle(linear, curvature, g_x)
        H = hessian(problem, theta, x, curvature)
        symmetric = Structure.MINIMISATION in problem.structure
        if self.adjoint == "dense":
            p = torch.linalg.solve(H.dense().mT, g_x[..., None])[..., 0]
        elif self.adjoint == "gmres" or not symmetric:
            p = self._within_tolerance("gmres", *self._gmres(H, g_x))
        else:
            estimate = None if shared is None or self.adjoint == "cg" else shared.estimate.product
            p = self._within_tolerance("cg", *self._conjugate_gradients(H, g_x, estimate))
        return Point(p, curvature * (linear.K.matvec(p) if symmetric else linear.M.rmatvec(p)))

    def _gmres(self, H: LinearMap, g: Tensor) -> tuple[Tensor, float]:
        return _adjoint_system.gmres(lambda w: w - H.rmatvec(w), g, self._tolerance(g), self.adjoint_steps)

    def _conjugate_gradients(self, H: LinearMap, g: Tensor, estimate: Product | None) -> tuple[Tensor, float]:
        size = g.norm(dim=1, keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        p, r, left = torch.zeros_like(g), g, self.adjoint_steps
        for _ in range(REFINEMENTS):
            correction, _, taken = conjugate_gradients(H.rmatvec, r, 0.5 * self._tolerance(g) * size, left, estimate)
            p, left = p + correction, left - taken
            r = g - H.rmatvec(p)
            residual = float((r.norm(dim=1, keepdim=True) / size).max())
            if residual <= self._tolerance(g) or left <= 0:
                break
        return p, residual

    def _tolerance(self, g: Tensor) -> float:
        return max(self.adjoint_tolerance, 100 * torch.finfo(g.dtype).eps)

    def _within_tolerance(self, by: str, p: Tensor, residual: float) -> Tensor:
        tolerance = self._tolerance(p)
        if not residual <= tolerance and bool(p.isfinite().all()):  # NaN and infinity speak for themselves
            raise RuntimeError(
                f"minimizer: {by} left a residual of {residual:.1e} in the adjoint equation, {tolerance:.1e} is "
                "required: raise adjoint_steps, or set adjoint = 'dense'"
            )
        return p


def _saddle(linear: Linearised, curvature: Tensor, g: Tensor) -> Point:
    """p and a together. The second row is divided by 1 + phi'', so that neither end of phi'' spoils its scale."""
    F_x, K, M = linear.F_x.dense(), linear.K.dense(), linear.M.dense()
    weight = (curvature / (1 + curvature))[..., None]
    upper = torch.cat([F_x.mT, K.mT], 2)
    lower = torch.cat([weight * M.mT, -torch.diag_embed(1 / (1 + curvature))], 2)
    right = torch.cat([g, torch.zeros_like(curvature)], 1)
    solved = torch.linalg.solve(torch.cat([upper, lower], 1), right[..., None])[..., 0]
    return Point(solved[:, : g.shape[1]], solved[:, g.shape[1] :])
