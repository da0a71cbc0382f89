"""What the first-order solvers need of an affine F(x) = H x - b, the same H for every sample.

A sample is a row: `solve` maps r (b, n) to H^{-1} r, row by row. Nothing is detached but step sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from problems.contract import Problem, Structure, Theta, operator_norm
from problems.penalties import L1

Rows = Callable[[Tensor], Tensor]


def origin(problem: Problem, theta: Theta) -> Float[Tensor, "b n"]:
    """x = 0, on theta's device and in its precision."""
    return next(iter(theta.values())).new_zeros((problem.batch, *problem.x_shape))


def dual_origin(problem: Problem, theta: Theta) -> Float[Tensor, "b k"]:
    """u = 0, likewise."""
    return next(iter(theta.values())).new_zeros((problem.batch, *problem.u_shape))


def dual_projection(problem: Problem) -> Rows:
    """The projection on the dual ball. Raises TypeError where the penalty has none."""
    if not isinstance(problem.penalty, L1):
        raise TypeError(f"a dual projection needs the l1 penalty, not {type(problem.penalty).__name__}")
    return problem.penalty.project_dual


def constant(problem: Problem, theta: Theta) -> Float[Tensor, "b n"]:
    """b = -F(0)."""
    return -problem.F(origin(problem, theta), theta)


def jacobian(problem: Problem, theta: Theta) -> Float[Tensor, "n n"]:
    """H = F_x, dense."""
    x = origin(problem, theta)
    if Structure.IDENTITY_FORWARD in problem.structure:
        return torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return problem.linearise(x, theta).F_x.dense()[0]


def jacobian_product(problem: Problem, theta: Theta) -> Rows:
    """v -> H v, as F(v) - F(0)."""
    F_0 = problem.F(origin(problem, theta), theta)
    return lambda v: problem.F(v, theta) - F_0


def factorised(matrix: Float[Tensor, "n n"], problem: Problem) -> Rows:
    """r -> matrix^{-1} r from one factorisation: Cholesky's for a minimisation, LU otherwise; n^3/3 or 2n^3/3.

    Raises torch.linalg.LinAlgError where the matrix is not positive definite, or singular; of one that is not finite,
    the inverse is NaN.
    """
    if not bool(matrix.isfinite().all()):
        return lambda r: torch.nan * r
    if Structure.MINIMISATION in problem.structure:
        lower = torch.linalg.cholesky(matrix)
        return lambda r: torch.cholesky_solve(r.T, lower).T
    LU, pivots = torch.linalg.lu_factor(matrix)
    return lambda r: torch.linalg.lu_solve(LU, pivots, r.T).T


def primal_of_dual(problem: Problem, theta: Theta) -> Rows:
    """u -> x(u), the solution of F(x) + M u = 0.

    Without a factorisation where F(x) = x - y; otherwise H^{-1} M is laid out once, n^2 k, so that a later call is
    one product and its backward pass none with n^3.
    """
    if Structure.IDENTITY_FORWARD in problem.structure:
        y = constant(problem, theta)
        return lambda u: y - problem.M(u, theta)
    b = constant(problem, theta)
    solve = factorised(jacobian(problem, theta), problem)
    basis = torch.eye(problem.u_shape[0], dtype=b.dtype, device=b.device)
    x0, columns = solve(b), solve(problem.M(basis, theta))
    return lambda u: torch.addmm(x0, u, columns, alpha=-1)


def dual_curvature(problem: Problem, theta: Theta) -> float:
    """L = ||K H^{-1} M||_2, the Lipschitz constant of u -> K x(u); 1 where K = 0, as any step will do there.

    A number, for step sizes are not differentiated.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    one = problem.subset(slice(0, 1))
    x_of = primal_of_dual(one, theta)
    u = dual_origin(one, theta)
    x0 = x_of(u)

    def curvature(u: Tensor) -> Tensor:
        return problem.K(x0 - x_of(u), theta)

    if Structure.MINIMISATION in problem.structure:
        return operator_norm(curvature, curvature, u) or 1.0
    transposed = torch.func.vjp(curvature, u)[1]
    return operator_norm(curvature, lambda w: transposed(w)[0], u) or 1.0
