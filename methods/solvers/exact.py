"""The exact solver that fits the lower level."""

from __future__ import annotations

from functools import cache
from typing import Annotated, ClassVar

import pydantic

from methods.solvers.active_set import ActiveSet
from methods.solvers.contract import Point, Solved, Solver
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.support_polish import SupportPolish
from methods.solvers.taut_string import TautString, is_differences
from problems.contract import Problem, Structure, Theta


class Exact(Solver):
    """The taut string where W is one weight times the first differences, the polished support where a dictionary's
    lasso has more atoms than samples, dual projected steps for a game, the active set everywhere else.

    Time, memory and failures are those of the one that it is; to see which costs one look at W, O(k n).
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.L1

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Relative KKT residual that counts as converged."""

    def refusal(self, problem: Problem) -> str | None:
        return _fitting(problem.structure, self.tolerance).refusal(problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        if TautString.requires in problem.structure and theta["W"].device.type == "cpu" and is_differences(theta["W"]):
            return _string(self.tolerance).solve(problem, theta)
        return _fitting(problem.structure, self.tolerance).solve(problem, theta, warm)


# Validated once, not in every call, of which a small one takes 50 microseconds.


@cache
def _string(tolerance: float) -> TautString:
    return TautString(tolerance=tolerance)


@cache
def _fitting(structure: Structure, tolerance: float) -> Solver:
    if Structure.MINIMISATION not in structure:
        return DualPgd(tolerance=tolerance)
    overcomplete = Structure.IDENTITY_K in structure and Structure.UNIQUE not in structure
    return SupportPolish(tolerance=tolerance) if overcomplete else ActiveSet(tolerance=tolerance)
