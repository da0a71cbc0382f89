"""Newton's method for a smooth penalty, on games too, its systems by GMRES."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import pydantic
import torch
from torch import Tensor

from methods._adjoint_system import gmres
from methods.solvers._affine import origin
from methods.solvers._pseudo_gradient import smooth
from methods.solvers._smooth import data_size, hessian
from methods.solvers.contract import Point, Solved, Solver, refuse_unless_met
from problems.contract import LinearMap, Problem, Structure, Theta

FORCING = 1e-2
"""Relative residual left in a Newton system: each step then gains two digits or more."""
HALVINGS = 30
"""Of a step that does not shorten r."""


class NewtonKrylov(Solver):
    """Newton's method on r(x) = F(x) + M phi'(Kx) = 0 with H = F_x + M diag(phi'') K by products alone (Knoll and Keyes
    2004), a step halved until it shortens r, sample by sample.

    Neither H nor M K need be symmetric: it finds equilibria of games. Time: some ten steps, each with as many products
    with H as GMRES takes, up to n; memory: up to 100 vectors of n per sample. For the Moreau envelope, whose phi''
    jumps, it is the semismooth method, finite near the solution. Fails where H is singular on the way, and where no
    step shortens r: `converged` is then False.
    """

    requires: ClassVar[Structure] = Structure.SMOOTH

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Largest |F(x) + M u| / |F(0)|, no less than 100 epsilons of the float type."""
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 100
    krylov_steps: Annotated[int, pydantic.Field(ge=1)] = 2000
    """Products with H in one Newton step, at most."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        penalty = smooth(problem)

        def equation(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            z = problem.K(x, theta)
            u = penalty.derivative(z)
            return problem.F(x, theta) + problem.M(u, theta), z, u

        with torch.no_grad():
            theta = {name: value.detach() for name, value in theta.items()}
            size = data_size(problem, theta)
            tolerance = max(self.tolerance, 100 * torch.finfo(size.dtype).eps)
            x = origin(problem, theta) if warm is None else warm.x
            r, z, u = equation(x)
            for steps in range(self.max_steps + 1):
                residual = float((r.abs().amax(1, keepdim=True) / size).max())
                if not residual > tolerance or steps == self.max_steps:
                    break
                H = hessian(problem, theta, x, penalty.second_derivative(z))
                d, _ = gmres(partial(_identity_less, H), -r, FORCING, self.krylov_steps)
                x_next, (r_next, z, u) = x + d, equation(x + d)
                t = torch.ones_like(size)
                for _ in range(HALVINGS):
                    longer = ~(r_next.norm(dim=1, keepdim=True) <= (1 - 1e-4 * t) * r.norm(dim=1, keepdim=True))
                    if not bool(longer.any()):
                        break
                    t = torch.where(longer, 0.5 * t, t)
                    x_next = x + t * d
                    r_next, z, u = equation(x_next)
                x, r = x_next, r_next
                if bool((t <= 0.5 ** (HALVINGS - 1)).all()):
                    break
        return Solved(x, u, steps, residual, residual <= tolerance)


def _identity_less(H: LinearMap, v: Tensor) -> Tensor:
    """(I - H) v, as GMRES is written for I less a map."""
    return v - H.matvec(v)
