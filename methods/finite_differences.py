"""The numerical gradient of the BLORC papers, as a backend."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic
import torch

from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods.contract import Prepared, Solution
from methods.solvers.contract import Point
from problems.contract import Problem, Structure, Theta


class FiniteDifferences(FromSolution):
    """Central differences of L, theta changed entry by entry (BLORC, journal, section 5.3).

    Two warm-started solves per coordinate of theta: 2 k n solves for W. The error is truncation, O(step^2) while no
    sign changes within the step and O(1) beyond, plus the solver's error divided by the step. It is not the suite's
    reference, which sweeps the step, demands one sign pattern, and knows its own error (bench/reference.py).
    """

    requires: ClassVar[Structure] = Structure.UNIQUE
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0)] = 1e-6
    """Change of one coordinate of theta, absolute."""

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        assert solution.u is not None
        problem, near = prepared.problem, Point(solution.x, solution.u)

        def loss_at(name: str, flat: torch.Tensor) -> float:
            changed = {**theta, name: flat.reshape(theta[name].shape)}
            return float(problem.loss(self.solver.solve(problem, changed, near).x, changed))

        gradient: Theta = {}
        for name, value in theta.items():
            flat = value.detach().reshape(-1)
            slopes = torch.empty_like(flat)
            for i in range(len(flat)):
                ahead, behind = flat.clone(), flat.clone()
                ahead[i] += self.step
                behind[i] -= self.step
                slopes[i] = (loss_at(name, ahead) - loss_at(name, behind)) / (ahead[i] - behind[i])
            gradient[name] = slopes.reshape(value.shape)
        return gradient
