"""Gradient descent with momentum."""

from __future__ import annotations

from typing import Annotated

import pydantic

from methods.learners.contract import Learner, Objective, Rate, State, Vector


class Momentum(Learner):
    """Polyak's heavy ball ("Some methods of speeding up the convergence of iteration methods", 1964, equation 9):

        v <- momentum v + g,     theta <- theta - alpha v

    One gradient per step, one more vector. In the long run its steps are those of gradient descent with a rate
    1 / (1 - momentum) times as large.
    """

    rate: Rate = 1e-5
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.9

    def start(self, theta: Vector) -> State:
        return {"v": theta.new_zeros(theta.shape)}

    def step(self, theta: Vector, objective: Objective, state: State, alpha: float) -> tuple[Vector, State]:
        _, g = objective(theta)
        v = g.add(state["v"], alpha=self.momentum)
        return theta.sub(v, alpha=alpha), {"v": v}
