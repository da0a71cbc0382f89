"""How far x is from x*, on whose convergence that of every gradient rests."""

from __future__ import annotations

import numpy as np

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel, NoReference
from bench._smooth_lower_level import SmoothLevel, solve_smoothly
from bench.quantities.contract import Quantity
from methods.contract import Method, Prepared, Solution
from problems.contract import Problem, Theta
from problems.penalties import L1, SmoothPenalty


class SolutionError(Quantity):
    """`solution_error_relative` = ||x - x*||_2 / ||x*||_2, all pairs of the call stacked.

    x* is the references' own, from their extended-precision solver. Left out where it is zero or is not certified.
    """

    def of(
        self, problem: Problem, method: Method, prepared: Prepared, theta: Theta, solution: Solution
    ) -> dict[str, float]:
        """Raises ValueError for a penalty that is neither l1 nor smooth."""
        del method, prepared
        double = {name: value.detach().cpu().double() for name, value in theta.items()}
        original = problem.to("cpu", next(iter(double.values())).dtype)
        try:
            exact = np.stack([exact_solution(original.subset(slice(b, b + 1)), double) for b in range(problem.batch)])
        except NoReference:
            return {}
        size = np.linalg.norm(exact)
        x = solution.x.detach().cpu().double().numpy()
        return {"solution_error_relative": float(np.linalg.norm(x - exact) / size)} if size else {}


def exact_solution(pair: Problem, theta: Theta) -> np.ndarray:
    """x* of one pair (batch 1, CPU, double precision), shape (n,). Raises NoReference, and ValueError."""
    if isinstance(pair.penalty, L1):
        return solve_exactly(LowerLevel.of(pair, theta)).x.astype(float)
    if isinstance(pair.penalty, SmoothPenalty):
        return solve_smoothly(SmoothLevel.of(pair, theta))
    raise ValueError(f"there is no exact solution for the penalty {type(pair.penalty).__name__}: l1 or a smooth one")
