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

STEPS = {torch.float64: 1e-6, torch.float32: 1e-3}
"""A fifth or sixth of the cube root of machine epsilon, at which rounding and truncation are alike where L and theta
are of size 1. The shorter step changes fewer signs of Kx, for which rounding may count six times as much."""


class FiniteDifferences(FromSolution):
    """Central differences of L, theta changed entry by entry (BLORC, journal, section 5.3).

    Two warm-started solves per coordinate of theta: 2 k n solves for W. The error is truncation, O(step^2) while no
    sign changes within the step and O(1) beyond, plus the error of the loss, from the solver and from rounding, divided
    by the step. It is not the suite's reference, which sweeps the step, demands one sign pattern, and knows its own
    error (bench/reference.py).
    """

    requires: ClassVar[Structure] = Structure.UNIQUE
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    step: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | None = None
    """Change of one coordinate of theta, absolute; left out, STEPS has it."""

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        assert solution.u is not None
        problem, near = prepared.problem, Point(solution.x, solution.u)
        step = self.step or STEPS[solution.x.dtype]

        def loss_at(name: str, flat: torch.Tensor) -> float:
            changed = {**theta, name: flat.reshape(theta[name].shape)}
            return float(problem.loss(self.solver.solve(problem, changed, near).x, changed))

        gradient: Theta = {}
        for name, value in theta.items():
            flat = value.detach().reshape(-1)
            slopes = torch.empty_like(flat)
            for i in range(len(flat)):
                ahead, behind = flat.clone(), flat.clone()
                ahead[i] += step
                behind[i] -= step
                slopes[i] = (loss_at(name, ahead) - loss_at(name, behind)) / (ahead[i] - behind[i])
            gradient[name] = slopes.reshape(value.shape)
        return gradient
