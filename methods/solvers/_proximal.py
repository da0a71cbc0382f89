"""What the proximal gradient methods share: the step, and the proximal map of g(K x) where K = lambda I.

Invariant: with v = x - alpha F(x) and t = alpha lambda, x+ = v - clip(v, -t, t) is the soft-thresholded v, and
u = clip(v, -t, t) / t lies in the subdifferential of |.| at x+ (Moreau's decomposition).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers._affine import jacobian_product, origin
from problems.contract import Problem, Theta, operator_norm


def weight(problem: Problem, theta: Theta) -> Float[Tensor, "1 n"]:
    """lambda, once per unknown, differentiable in theta."""
    like = next(iter(theta.values()))
    return problem.K(like.new_ones((1, *problem.x_shape)), theta)


def step_size(problem: Problem, theta: Theta) -> float:
    """1/L, L the largest eigenvalue of F_x, rounded up; 1 where F_x = 0, as any step will do there."""
    theta = {name: value.detach() for name, value in theta.items()}
    one = problem.subset(slice(0, 1))
    product = jacobian_product(one, theta)
    return 1.0 / (operator_norm(product, product, origin(one, theta)) or 1.0)


def soft_threshold(v: Tensor, t: Tensor) -> Tensor:
    """Zero exactly where |v| <= t."""
    return v - torch.clamp(v, -t, t)


def certificate(v: Tensor, t: Tensor) -> Tensor:
    """u in the subdifferential of |.| at the soft-thresholded v."""
    return torch.clamp(v / t, -1.0, 1.0)
