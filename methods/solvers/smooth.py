"""The solver for smooth penalties that fits the problem."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic

from methods.solvers.contract import Point, Solved, Solver, refuse_unless_met
from methods.solvers.lbfgs import Lbfgs
from methods.solvers.newton_krylov import NewtonKrylov
from problems.contract import Problem, Structure, Theta


class Smooth(Solver):
    """lbfgs for a minimisation, newton_krylov for a game; time, memory and failures are theirs."""

    requires: ClassVar[Structure] = Structure.SMOOTH

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Largest |F(x) + M u| / |F(0)|, no less than 100 epsilons of the float type."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        chosen = Lbfgs if Structure.MINIMISATION in problem.structure else NewtonKrylov
        return chosen(tolerance=self.tolerance).solve(problem, theta, warm)
