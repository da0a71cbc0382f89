"""The deep-equilibrium gradient: differentiate a solver's fixed point, not the way to it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor

from methods import _adjoint_system
from methods._first_order import TO_SETTLE, constant_state, fitting, refusal_of, starting_point
from methods.contract import Method, Prepared, Solution
from methods.solvers.contract import AnyFirstOrderOrNone, FirstOrder, Point, key_of
from problems.contract import Problem, Structure, Theta

ADJOINT_SOLVERS = {
    "neumann": _adjoint_system.neumann,
    "anderson": _adjoint_system.anderson,
    "gmres": _adjoint_system.gmres,
}


class Equilibrium(Method):
    """The gradient through the fixed point z* = T(z*, theta) of a stationary first-order solver, x* = x(z*, theta).

    Invariant: with J = dT/dz at z*, the implicit function theorem gives

        (I - J^T) w = (dx/dz)^T g_x,     grad L = d/dtheta [loss(x(z*, theta), theta) + <w, T(z*, theta)>],

    z* and w held fixed (BLORC, journal, section 2.3; Bai, Kolter and Koltun 2019). The adjoint equation is solved by a
    Neumann series, by Anderson's acceleration of it, or by GMRES, as J is not symmetric; `one_step` takes w = (dx/dz)^T
    g_x, the derivative of a single step (Bolte, Pauwels and Vaiter 2023), exact only in so far as J vanishes. That is
    the Jacobian-free backpropagation of Fung et al. 2022 (the review's section 7.2): no gradient, but a direction of
    descent where J is a contraction and dT/dtheta well enough conditioned.

    Time: one backward step of the solver per product with J^T, whatever number of steps led to z*; binding and one such
    pass for theta. Memory: one step's graph, and for GMRES up to 100 adjoint states.

    Fails where T is not differentiable (a kink) or no contraction near z*; where I - J is singular (rank-deficient K0)
    it gives one of several one-sided answers. An adjoint equation that misses its tolerance raises RuntimeError.
    """

    requires: ClassVar[Structure] = Structure(0)
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    solver: AnyFirstOrderOrNone = None
    """Left out: admm for l1 minimisations, ista for a dictionary's, dual_pgd for l1 games, gradient_descent for smooth
    minimisations, extragradient for smooth games, each to a tolerance of 1e-12."""
    adjoint: Literal["neumann", "anderson", "gmres", "one_step"] = "gmres"
    adjoint_tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-10
    """Largest residual of the adjoint equation, relative to its right side, of any sample; no less than 100 epsilons of
    the float type."""
    adjoint_steps: Annotated[int, pydantic.Field(ge=1)] = 2000
    """Products with J^T after which it gives up."""

    def refusal(self, problem: Problem) -> str | None:
        solver = self._solver(problem)
        if not solver.stationary:
            key = key_of(solver)
            return f"differentiates a fixed point, and {key} changes its map at every step: set solver = 'admm'"
        return refusal_of(self, solver, problem)

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        solved = self._solver(prepared.problem).solve(prepared.problem, theta, starting_point(warm))
        return Solution(solved.x, solved.u, solved.iterations, solved.converged)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        """Raises RuntimeError where the adjoint equation does not reach its tolerance."""
        assert solution.u is not None
        leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
        with torch.enable_grad():
            iteration = self._solver(prepared.problem).bind(prepared.problem, leaves)
            fixed_point = constant_state(iteration, Point(solution.x, solution.u))
            z = type(fixed_point)(*(part.requires_grad_() for part in fixed_point))
            T = iteration.step(z)
            loss = prepared.problem.loss(iteration.primal(z), leaves)
        right_side = torch.autograd.grad(loss, z, retain_graph=True, materialize_grads=True)
        w = self._adjoint(T, z, right_side)
        ends, weights = (loss, *T), (torch.ones_like(loss), *w)
        gradients = torch.autograd.grad(ends, tuple(leaves.values()), weights, materialize_grads=True)
        return dict(zip(leaves, gradients, strict=True))

    def _solver(self, problem: Problem) -> FirstOrder:
        return fitting(self.solver, TO_SETTLE, problem)

    def _adjoint(
        self, T: tuple[Tensor, ...], z: tuple[Tensor, ...], right_side: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """w, in the parts of the state. Autograd computes only the paths from T to z, none to theta."""
        if self.adjoint == "one_step":
            return right_side
        widths = [part.shape[1] for part in z]

        def product(w: Tensor) -> Tensor:
            parts = torch.split_with_sizes(w, widths, 1)
            return torch.cat(torch.autograd.grad(T, z, parts, retain_graph=True, materialize_grads=True), 1)

        solve = ADJOINT_SOLVERS[self.adjoint]
        tolerance = max(self.adjoint_tolerance, 100 * torch.finfo(z[0].dtype).eps)
        w, residual = solve(product, torch.cat(right_side, 1), tolerance, self.adjoint_steps)
        if not residual <= tolerance and bool(w.isfinite().all()):  # NaN and infinity speak for themselves
            raise RuntimeError(
                f"equilibrium: {self.adjoint} left a residual of {residual:.1e} in the adjoint equation of "
                f"the solver after {self.adjoint_steps} steps, {tolerance:.1e} is required: "
                "raise adjoint_steps, or set adjoint = 'gmres'"
            )
        return tuple(torch.split_with_sizes(w, widths, 1))
