"""The ending of every implicit method: one pull-back of its adjoint variables (problems/README.md)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from methods.contract import Solution
from problems.contract import Problem, Theta

Adjoint = Callable[[Problem, Theta, Solution, Tensor], tuple[Tensor, Tensor]]
"""(problem, theta, solution, g_x) -> (p, a), shaped as x and u; called without recording a graph, theta detached."""


def implicit_gradient(problem: Problem, theta: Theta, solution: Solution, adjoint: Adjoint) -> Theta:
    """g_theta - d/dtheta [<p, F(x*) + M u> + <a, K x*>] with the p and a that `adjoint` finds for g_x."""
    x, u = solution.x, solution.u
    assert u is not None
    theta = {name: value.detach() for name, value in theta.items()}
    g_x, g_theta = problem.loss_gradient(x, theta)
    with torch.no_grad():
        p, a = adjoint(problem, theta, solution, g_x)
    pulled = problem.pullback(p, a, x, u, theta)
    return {name: g_theta[name] - pulled[name] for name in pulled}
