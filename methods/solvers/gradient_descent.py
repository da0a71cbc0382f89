"""Gradient descent on a smooth penalty."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic

from methods.solvers._smooth import curvature_bound
from methods.solvers.contract import FirstOrder
from methods.solvers.game_gradient import GameGradientIteration
from problems.contract import Problem, Structure, Theta


class GradientDescent(FirstOrder):
    """x <- x - s (F(x) + M phi'(Kx)), the map that the review unrolls (Crockett and Fessler, "Bilevel methods for image
    reconstruction", (4.17), (4.19)).

    With L = ||F_x + max phi'' K^T K|| it converges for s < 2/L, linearly, with 1 - s mu for mu the smallest eigenvalue
    of F_x + K^T diag(phi'') K. That L is at most the one of `game_gradient`, whose step is the same otherwise; for an F
    that is not affine F_x at x = 0 stands in for its largest. Where phi is not convex the limit is a stationary point.
    A step costs F, K and M once; binding, 100 products with each for L.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.SMOOTH
    stationary: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.9
    """s as a fraction of 2/L."""

    def bind(self, problem: Problem, theta: Theta) -> GameGradientIteration:
        return GameGradientIteration(problem, theta, 2 * self.step / curvature_bound(problem, theta))
