"""What PUDLE's three gradients share: the unfolded encoder, its variants, and the graph that it leaves."""

from __future__ import annotations

import abc
from typing import Annotated, ClassVar, NamedTuple

import pydantic
import torch
from torch import Tensor

from methods._first_order import starting_point
from methods.contract import Method, Prepared, Solution, refuse_unless_met
from methods.solvers._affine import origin
from methods.solvers._proximal import certificate, soft_threshold, step_size, weight
from problems.contract import Problem, Structure, Theta
from problems.synthesis_lasso import SynthesisLasso


class PudleGradient(Method):
    """The encoder of PUDLE's Algorithm 2: z_T after T steps of ISTA, z_{t+1} = soft(z_t - alpha F(z_t), alpha
    lambda_t), from z_0 = 0 or a warm start, which is a constant.

    lambda_t = lambda beta^t where `decay` is beta, and a hard threshold stands in for the soft one where it is given
    (section 4; P.4). Then z_T tends to something else than the lasso's code, by intent: both are to
    bring the gradient nearer to that of the true dictionary, and further from that of the problem stated here.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    steps: Annotated[int, pydantic.Field(ge=1)] = 200
    """T (readings.md P.6). None of them states a tolerance: what T leaves is what PUDLE is about."""
    alpha: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Step of the encoder, a constant that is not differentiated. Left out, 1/L, L the largest eigenvalue of F_x. The
    paper's 0.2 (P.6) is above the 1/L of its dictionaries (0.17), which its theory assumes it to be below, and below
    2/L, where the iteration still converges."""
    decay: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """beta; the first step has lambda itself."""
    hard_threshold: Annotated[float, pydantic.Field(gt=0)] | None = None
    """b: entries of z_t - alpha F(z_t) below b in magnitude become zero, the others stay as they are."""

    @pydantic.model_validator(mode="after")
    def _one_variant(self) -> PudleGradient:
        if self.hard_threshold is not None and self.decay != 1.0:
            raise ValueError("decay is of the soft threshold, and hard_threshold replaces that: leave one of them out")
        return self

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def codes(self, problem: Problem, theta: Theta, warm: Solution | None) -> tuple[Tensor, Tensor]:
        """z_T, differentiable in theta, and the certificate of an ISTA step from it, which is detached."""
        start = starting_point(warm)
        z = origin(problem, theta) if start is None else start.x.detach()
        alpha = self.alpha or step_size(problem, theta)
        threshold = alpha * weight(problem, theta)
        for step in range(self.steps):
            v = z - alpha * problem.F(z, theta)
            if self.hard_threshold is None:
                z = soft_threshold(v, threshold * self.decay**step)
            else:
                z = torch.where(v.abs() >= self.hard_threshold, v, 0.0)
        with torch.no_grad():
            return z, certificate(z - alpha * problem.F(z, theta), threshold)


class Recorded(NamedTuple):
    """z_T with the graph that leads from theta to it."""

    z: Tensor
    theta: Theta


class Backpropagated(PudleGradient):
    """A gradient that goes back through the encoder: O(T) codes of memory, from the solve on, and twice its time."""

    @abc.abstractmethod
    def differentiated(self, problem: SynthesisLasso, z: Tensor, theta: Theta) -> Tensor:
        """The loss at z = z_T(theta) whose derivative over theta, J_T included, is returned."""

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
        with torch.enable_grad():
            z, u = self.codes(prepared.problem, leaves, warm)
        return Solution(z.detach(), u, self.steps, converged=None, memory=Recorded(z, leaves))

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        del theta  # the recorded one is the same
        z, leaves = solution.memory
        assert isinstance(prepared.problem, SynthesisLasso)
        with torch.enable_grad():
            loss = self.differentiated(prepared.problem, z, leaves)
        gradients = torch.autograd.grad(loss, tuple(leaves.values()), retain_graph=True)
        return dict(zip(leaves, gradients, strict=True))


def refuse_other_families(method: PudleGradient, problem: Problem) -> str | None:
    """The requirements, then the family itself: which part of a loss is squared, only that one says."""
    refusal = refuse_unless_met(method, problem)
    if refusal is None and not isinstance(problem, SynthesisLasso):
        return f"is defined for dictionaries, not for {type(problem).__name__}: use the family synthesis_lasso"
    return refusal
