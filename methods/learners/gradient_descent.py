"""Plain gradient descent."""

from __future__ import annotations

from methods.learners.contract import Learner, Objective, Rate, State, Vector


class GradientDescent(Learner):
    """Algorithm 4.1 of "Learning sparsity-promoting regularizers using bilevel optimization", its last line:

        W <- W - alpha * gradient of the batch

    No momentum, no schedule, no stopping rule (J.7). One gradient per step, no memory. It diverges above 2 / L, L the
    largest curvature, and crosses the kinks of the loss without noticing.
    """

    rate: Rate = 1e-4

    def start(self, theta: Vector) -> State:
        del theta
        return {}

    def step(self, theta: Vector, objective: Objective, state: State, alpha: float) -> tuple[Vector, State]:
        _, g = objective(theta)
        return theta.sub(g, alpha=alpha), state
