"""Adam."""

from __future__ import annotations

from typing import Annotated

import pydantic
import torch

from methods.learners.contract import Learner, Objective, Rate, State, Vector

Decay = Annotated[float, pydantic.Field(ge=0, lt=1)]


class Adam(Learner):
    """Algorithm 1 of Kingma and Ba, "Adam: a method for stochastic optimization" (2015):

        m <- beta1 m + (1 - beta1) g,     v <- beta2 v + (1 - beta2) g^2
        theta <- theta - alpha m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)

    One gradient per step, two more vectors. A factor on the loss changes nothing but epsilon's weight, so that the
    readings of X.2 and X.3 lead to one and the same theta. It need not converge at a constant rate: give it a schedule.
    """

    rate: Rate = 5e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Annotated[float, pydantic.Field(gt=0)] = 1e-8

    def start(self, theta: Vector) -> State:
        zero = theta.new_zeros(theta.shape)
        return {"m": zero, "v": zero, "t": torch.zeros((), dtype=torch.int64)}

    def step(self, theta: Vector, objective: Objective, state: State, alpha: float) -> tuple[Vector, State]:
        _, g = objective(theta)
        t = state["t"] + 1
        count = int(t)
        m = torch.lerp(state["m"], g, 1 - self.beta1)
        v = (self.beta2 * state["v"]).addcmul_(g, g, value=1 - self.beta2)
        scale = v.div(1 - self.beta2**count).sqrt_().add_(self.epsilon)
        return theta.addcdiv(m, scale, value=-alpha / (1 - self.beta1**count)), {"m": m, "v": v, "t": t}
