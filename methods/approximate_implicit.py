"""Approximate implicit differentiation: t steps for x, k steps for the adjoint, and whatever error they leave."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pydantic
import torch
from torch import Tensor

from methods._conjugate_gradients import conjugate_gradients
from methods._first_order import starting_point, steps_were_enough
from methods._implicit_gradient import implicit_gradient
from methods.contract import Method, Prepared, Solution, refuse_unless_met
from methods.solvers._pseudo_gradient import smooth
from methods.solvers._smooth import curvature_bound, hessian
from methods.solvers.accelerated_gradient import AcceleratedGradientIteration
from methods.solvers.contract import Iteration, Point
from methods.solvers.game_gradient import GameGradientIteration
from problems.contract import LinearMap, Problem, Structure, Theta

ADJOINT_TOLERANCE = 1e-8
"""Relative residual of H p = g_x that passes where no number of steps was given."""


class ApproximateImplicit(Method):
    """The minimizer approach stopped early (Grazzi, Franceschi, Pontil and Salzo, ICML 2020, "On the iteration
    complexity of hypergradient computation", section 2.2; Ji, Yang and Liang, ICML 2021, algorithm 1, AID; the review's
    section 4.5, its [117] and [116]).

    Invariant: with x_t the t-th iterate of the solver, H = F_x + M diag(phi'') K at x_t, and p_k the k-th iterate for
    H p = g_x(x_t) from p_0 = 0,

        a = phi'' * (K p_k),   grad = g_theta - pullback(p_k, a, x_t, phi'(K x_t)),

    which is `minimizer`'s gradient in the limit of both. Where numbers of steps are asked for, no tolerance is, and
    none is reported as missed: it is for the error at equal numbers of steps, beside that of `unrolled_reverse`. Where
    they are left out, `converged` says whether x_t has settled, and an adjoint p_k that has not raises RuntimeError.

        cg            conjugate gradients: its part of the error falls like ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^k
        fixed_point   p <- p + s (g_x - H p), s the step of gradient_descent: like that solver's own rate

    kappa is the condition number of H. Time: a step for x costs F, K and M once, one for p the same; memory: O(n + k),
    whatever t is. Where phi is not convex, H at x_t need not be positive definite, which both take for granted.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.SMOOTH
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    solver: Literal["gradient_descent", "accelerated_gradient"] = "gradient_descent"
    steps: Annotated[int, pydantic.Field(ge=1)] = 500
    """t."""
    adjoint: Literal["cg", "fixed_point"] = "cg"
    adjoint_steps: Annotated[int, pydantic.Field(ge=1)] | None = None
    """k; left out, t."""
    step: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.9
    """Of gradient_descent and of fixed_point, as a fraction of 2/L."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        problem = prepared.problem
        with torch.no_grad():
            L = curvature_bound(problem, theta)
            iteration = self._iteration(problem, theta, L)
            state = iteration.start(starting_point(warm))
            for _ in range(self.steps):
                state = iteration.step(state)
            point = Point(iteration.primal(state), iteration.dual(state))
        return Solution(*point, self.steps, steps_were_enough(self._steps_were_given, problem, theta, point), L)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        return implicit_gradient(prepared.problem, theta, solution, self._adjoint)

    def _iteration(self, problem: Problem, theta: Theta, L: float) -> Iteration[Any]:
        if self.solver == "gradient_descent":
            return GameGradientIteration(problem, theta, 2 * self.step / L)
        return AcceleratedGradientIteration(problem, theta, 1 / L)

    def _adjoint(self, problem: Problem, theta: Theta, solution: Solution, g_x: Tensor) -> Point:
        curvature = smooth(problem).second_derivative(problem.K(solution.x, theta))
        p = self._p(hessian(problem, theta, solution.x, curvature), g_x, 2 * self.step / solution.memory)
        return Point(p, curvature * problem.K(p, theta))

    def _p(self, H: LinearMap, g: Tensor, s: float) -> Tensor:
        k = self.adjoint_steps or self.steps
        if self.adjoint == "cg":
            p = conjugate_gradients(H.matvec, g, g.new_zeros((g.shape[0], 1)), k)[0]
        else:
            p = torch.zeros_like(g)
            for _ in range(k):
                p = p + s * (g - H.matvec(p))
        if not self._steps_were_given:
            left = float(((g - H.matvec(p)).norm(dim=1) / g.norm(dim=1).clamp(min=torch.finfo(g.dtype).tiny)).max())
            tolerance = max(ADJOINT_TOLERANCE, 100 * torch.finfo(g.dtype).eps)
            if not left <= tolerance:
                raise RuntimeError(
                    f"approximate_implicit: {self.adjoint} left a residual of {left:.1e} in the adjoint equation after "
                    f"{k} steps, {tolerance:.1e} is required where their number is left out: set adjoint_steps"
                )
        return p

    @property
    def _steps_were_given(self) -> bool:
        return not self.model_fields_set.isdisjoint({"steps", "adjoint_steps"})
