"""What the methods share whose gradient is a function of the lower level's solution alone."""

from __future__ import annotations

from methods._first_order import starting_point
from methods.contract import Method, Prepared, Solution
from methods.solvers.contract import AnySolver
from methods.solvers.exact import Exact
from problems.contract import Problem, Theta


class FromSolution(Method):
    """A method that takes (x*, u) from any lower-level solver; a subclass writes the rest."""

    solver: AnySolver = Exact()

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        solved = self.solver.solve(prepared.problem, theta, starting_point(warm))
        return Solution(solved.x, solved.u, solved.iterations, solved.converged, solved.factor)
