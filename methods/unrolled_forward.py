"""Unrolling in forward mode: the derivative of the K-th iterate, propagated along with the iterates."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic
import torch
from torch import Tensor

from methods._first_order import (
    TO_UNROLL,
    constant_state,
    fitting,
    refusal_of,
    starting_point,
    steps_were_enough,
)
from methods.contract import Method, Prepared, Solution
from methods.solvers.contract import AnyFirstOrderOrNone, Point
from problems.contract import Problem, Structure, Theta, theta_size


class UnrolledForward(Method):
    """d/dtheta loss(x_K(theta), theta), x_K the K-th iterate of a first-order solver, by tangents.

    The same number as unrolled_reverse, to rounding. One tangent of the state per coordinate of theta, `chunk_size` of
    them at a time. (Crockett and Fessler, "Bilevel methods for image reconstruction", section 4.3 and Table 4.1,
    forward mode.)

    Time: K steps to solve. The gradient repeats those K steps once per chunk, with chunk_size tangents each: about
    theta_size times the cost of a step, K times, to which the repeated iterates add one part in chunk_size. Tangents
    that were propagated in `solve` would save that part and cost O(b n theta_size) of memory; here it is O(b (n + k)
    chunk_size), whatever K is. Fails as unrolled_reverse does.
    """

    requires: ClassVar[Structure] = Structure(0)
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    solver: AnyFirstOrderOrNone = None
    """Left out, that of unrolled_reverse."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 500
    """K, as in unrolled_reverse."""
    chunk_size: Annotated[int, pydantic.Field(ge=1)] = 256
    """Tangents that are propagated together."""

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, fitting(self.solver, TO_UNROLL, problem), problem)

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        start = starting_point(warm)
        with torch.no_grad():
            point = self._iterate(prepared.problem, theta, start)
        enough = steps_were_enough("steps" in self.model_fields_set, prepared.problem, theta, point)
        return Solution(*point, self.steps, enough, start)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        problem, sizes = prepared.problem, [value.numel() for value in theta.values()]

        def loss(*values: Tensor) -> Tensor:
            theta_ = dict(zip(theta, values, strict=True))
            return problem.loss(self._iterate(problem, theta_, solution.memory).x, theta_)

        def slope(direction: Tensor) -> Tensor:
            parts = torch.split_with_sizes(direction, sizes)
            tangents = tuple(part.view_as(value) for part, value in zip(parts, values, strict=True))
            return torch.func.jvp(loss, values, tangents)[1]

        values = tuple(value.detach() for value in theta.values())
        size = theta_size(problem)
        slopes = []
        for first in range(0, size, self.chunk_size):
            count = min(self.chunk_size, size - first)
            directions = values[0].new_zeros((count, size))
            directions.diagonal(first).fill_(1.0)
            slopes.append(torch.func.vmap(slope)(directions))
        # torch's forward mode promotes the tangent of a number times a 0-dimensional float32 to double.
        gradients = torch.split_with_sizes(torch.cat(slopes).to(values[0].dtype), sizes)
        return {name: part.view_as(value) for (name, value), part in zip(theta.items(), gradients, strict=True)}

    def _iterate(self, problem: Problem, theta: Theta, start: Point | None) -> Point:
        iteration = fitting(self.solver, TO_UNROLL, problem).bind(problem, theta)
        state = constant_state(iteration, start)
        for _ in range(self.steps):
            state = iteration.step(state)
        return Point(iteration.primal(state), iteration.dual(state))
