"""What the solvers for smooth penalties share."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._pseudo_gradient import smooth
from problems.contract import LinearMap, Problem, Structure, Theta, operator_norm


def data_size(problem: Problem, theta: Theta) -> Float[Tensor, "b 1"]:
    """max |F(0)| of each sample, what residuals are relative to; 1 where it is zero."""
    size = problem.F(origin(problem, theta), theta).abs().amax(1, keepdim=True)
    return torch.where(size > 0, size, 1.0)


def hessian(problem: Problem, theta: Theta, x: Float[Tensor, "b n"], curvature: Float[Tensor, "b k"]) -> LinearMap:
    """H = F_x + M diag(curvature) K at x. A minimisation's is symmetric: no product transposes K or M."""
    linear = problem.linearise(x, theta)
    F_x, K, M = linear.F_x, linear.K, linear.M

    def matvec(v: Tensor) -> Tensor:
        return F_x.matvec(v) + M.matvec(curvature * K.matvec(v))

    def rmatvec(w: Tensor) -> Tensor:
        return F_x.rmatvec(w) + K.rmatvec(curvature * M.rmatvec(w))

    def dense() -> Tensor:
        return F_x.dense() + (M.dense() * curvature[:, None, :]) @ K.dense()

    return LinearMap(matvec, matvec if Structure.MINIMISATION in problem.structure else rmatvec, dense)


def curvature_bound(problem: Problem, theta: Theta) -> float:
    """L = ||F_x + max phi'' M K||_2 at x = 0; 1 where it is zero, as any step will do there.

    Of the first sample where F is affine, of the steepest otherwise. A number, for step sizes are not differentiated.
    Costs 100 products with that matrix.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    view = problem.subset(slice(0, 1)) if Structure.AFFINE_F in problem.structure else problem
    x = origin(view, theta)
    most = x.new_full((view.batch, *view.u_shape), smooth(problem).curvature)
    H = hessian(view, theta, x, most)
    return operator_norm(H.matvec, H.rmatvec, x) or 1.0
