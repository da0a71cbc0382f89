"""Limited-memory BFGS on batches."""

from __future__ import annotations

from typing import Annotated

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from methods.learners.contract import Learner, Objective, Rate, State, Vector

DECREASE = 1e-4
"""Armijo's constant: the part of the decrease that the slope promises which a step must keep."""
CURVED = 1e-8
"""s^T y / y^T y below which a pair is left out: the loss is not convex along the step, or rounding is all there is."""


class Lbfgs(Learner):
    """Algorithm 7.4 (two-loop recursion) of Nocedal and Wright, "Numerical optimization" (2006), with halved steps.

    Both ends of a step are evaluated on the same batch, as in Schraudolph, Yu and Guenter, "A stochastic quasi-Newton
    method for online convex optimization" (2007), so that y = g(theta + s) - g(theta) knows of no change of batch; with
    batch = pairs it is the deterministic method. The first direction is -g / ||g||, hence of length alpha.

    Two or more gradients per step, 2 `pairs` more vectors, O(pairs size). The loss is smooth between kinks only: where
    `halvings` halvings find no decrease, theta stays, the pairs are forgotten, and the next step starts anew.
    """

    rate: Rate = 1.0
    pairs: Annotated[int, pydantic.Field(ge=1)] = 10
    halvings: Annotated[int, pydantic.Field(ge=1)] = 20

    def start(self, theta: Vector) -> State:
        none = theta.new_zeros((0, len(theta)))
        return {"s": none, "y": none}

    def step(self, theta: Vector, objective: Objective, state: State, alpha: float) -> tuple[Vector, State]:
        loss, g = objective(theta)
        d = _direction(g, state["s"], state["y"])
        slope = float(g @ d)
        if not slope < 0:  # at a stationary point
            return theta, state
        for _ in range(self.halvings):
            s = alpha * d
            new_loss, new_g = objective(theta + s)
            if float(new_loss) <= float(loss) + DECREASE * alpha * slope:
                return theta + s, self._with_pair(state, s, new_g - g)
            alpha /= 2
        return theta, self.start(theta)

    def _with_pair(self, state: State, s: Vector, y: Vector) -> State:
        if not float(s @ y) > CURVED * float(y @ y):
            return state
        return {name: torch.cat([state[name], new[None]])[-self.pairs :] for name, new in (("s", s), ("y", y))}


def _direction(g: Vector, S: Float[Tensor, "kept size"], Y: Float[Tensor, "kept size"]) -> Vector:
    """-H g, H the inverse Hessian as the pairs (oldest first) tell it."""
    if len(S) == 0:
        return -g / g.norm().clamp(min=torch.finfo(g.dtype).tiny)
    q, weights = g.clone(), []
    for s, y in zip(S.flip(0), Y.flip(0), strict=True):
        weight = (s @ q) / (s @ y)
        q -= weight * y
        weights.append(weight)
    q *= (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1])
    for s, y, weight in zip(S, Y, reversed(weights), strict=True):
        q += (weight - (y @ q) / (s @ y)) * s
    return -q
