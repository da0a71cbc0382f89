"""Unrolling in reverse mode: the derivative of the K-th iterate, propagated backwards."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NamedTuple

import pydantic
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from methods._first_order import (
    TO_UNROLL,
    constant_state,
    fitting,
    refusal_of,
    starting_point,
    steps_were_enough,
)
from methods.contract import Method, Prepared, Solution
from methods.solvers.contract import AnyFirstOrderOrNone, Iteration, Point
from problems.contract import Problem, Structure, Theta


class Recorded(NamedTuple):
    """x_K with the graph that leads from theta to it."""

    x: Tensor
    theta: Theta


class UnrolledReverse(Method):
    """d/dtheta loss(x_K(theta), theta), x_K the K-th iterate of a first-order solver, by backpropagation.

    Invariant: the number returned is the exact gradient of the K-step problem; it is that of the bilevel problem only
    as far as x_K and its derivative have converged. (Crockett and Fessler, "Bilevel methods for image reconstruction",
    (4.17), (4.18) and (B.2), Table 4.1.)

    Time: K steps of the solver to solve, about twice that for a gradient. Memory: O(K) states, from the solve on. The
    first state is a constant that is not differentiated, also where it comes from a warm start.

    `checkpoint_every = c` keeps each c-th state and takes the c steps after it again on the way back (the review's
    section 4.4): the same number, K more steps per gradient, memory O(K/c + c), least at c = sqrt(K). `last_steps = R`
    records the last R steps alone (its section 4.5; Shaban et al. 2019): memory O(R), and a gradient whose error falls
    with R at the solver's linear rate, whatever K is.

    The derivative converges only once the sign pattern of K x has, and then at the solver's linear rate: tens of
    thousands of steps near a small margin. It does not notice a kink.
    """

    requires: ClassVar[Structure] = Structure(0)
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    solver: AnyFirstOrderOrNone = None
    """Left out: dual_fista for l1 minimisations, fista for a dictionary's, dual_pgd for l1 games, accelerated_gradient
    for smooth minimisations, extragradient for smooth games."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 500
    """K. Left out, `converged` says whether they were enough."""
    checkpoint_every: Annotated[int, pydantic.Field(ge=1)] | None = None
    """c; left out, every step is recorded."""
    last_steps: Annotated[int, pydantic.Field(ge=1)] | None = None
    """R; left out, or more than K, every step is differentiated."""

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, fitting(self.solver, TO_UNROLL, problem), problem)

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
        with torch.enable_grad():
            iteration = fitting(self.solver, TO_UNROLL, prepared.problem).bind(prepared.problem, leaves)
            state = constant_state(iteration, starting_point(warm))
            recorded = min(self.last_steps or self.steps, self.steps)
            with torch.no_grad():
                state = _advance(iteration, state, self.steps - recorded)
            every = self.checkpoint_every or recorded
            for first in range(0, recorded, every):
                count = min(every, recorded - first)
                if self.checkpoint_every is None:
                    state = _advance(iteration, state, count)
                else:
                    state = checkpoint(_advance, iteration, state, count, use_reentrant=False, preserve_rng_state=False)
            x = iteration.primal(state)
        point = Point(x.detach(), iteration.dual(state).detach())
        enough = steps_were_enough("steps" in self.model_fields_set, prepared.problem, theta, point)
        return Solution(*point, self.steps, enough, Recorded(x, leaves))

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        del theta  # the recorded one is the same
        x, leaves = solution.memory
        with torch.enable_grad():
            loss = prepared.problem.loss(x, leaves)
        gradients = torch.autograd.grad(loss, tuple(leaves.values()), retain_graph=True, materialize_grads=True)
        return dict(zip(leaves, gradients, strict=True))


def _advance(iteration: Iteration[Any], state: Any, steps: int) -> Any:
    for _ in range(steps):
        state = iteration.step(state)
    return state
