"""What the game iterations share: every player's own gradient, and the step that its Lipschitz constant allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from methods.solvers._affine import dual_origin, jacobian_product, origin
from methods.solvers.contract import Iteration, Point
from problems.contract import Problem, Structure, Theta, operator_norm
from problems.penalties import SmoothPenalty


def smooth(problem: Problem) -> SmoothPenalty:
    """The penalty. Raises TypeError where it has no derivative."""
    if not isinstance(problem.penalty, SmoothPenalty):
        raise TypeError(f"a pseudo-gradient needs a smooth penalty, not {type(problem.penalty).__name__}")
    return problem.penalty


def pseudo_gradient(problem: Problem, theta: Theta) -> Callable[[Tensor], Tensor]:
    """x -> H(x) = F(x) + M phi'(K x), which is zero at the equilibria and there alone."""
    derivative = smooth(problem).derivative
    return lambda x: problem.F(x, theta) + problem.M(derivative(problem.K(x, theta)), theta)


class State(NamedTuple):
    """x (b, n)."""

    x: Tensor


class PseudoGradientIteration(Iteration[State]):
    """Invariant of the limit: H(x) = 0, u = phi'(K x). A subclass writes the step."""

    def __init__(self, problem: Problem, theta: Theta, step_size: float) -> None:
        self._problem, self._theta, self._step_size = problem, theta, step_size
        self._H = pseudo_gradient(problem, theta)

    def start(self, warm: Point | None = None) -> State:
        return State(origin(self._problem, self._theta) if warm is None else warm.x)

    def primal(self, state: State) -> Tensor:
        return state.x

    def dual(self, state: State) -> Tensor:
        return smooth(self._problem).derivative(self._problem.K(state.x, self._theta))


def lipschitz_constant(problem: Problem, theta: Theta) -> float:
    """||F_x|| + max phi'' ||M|| ||K||, an upper bound; a number, for step sizes are not differentiated.

    Where F is not affine ||F_x|| is the largest of the samples' at x = 0, which bounds the rest only as far as F bends
    most there: the envelopes of patch_game do, but for the off-diagonal part of an asymmetric group's Jacobian.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    one = problem.subset(slice(0, 1))
    x, u = origin(one, theta), dual_origin(one, theta)
    K, M = _norm(lambda v: one.K(v, theta), x), _norm(lambda w: one.M(w, theta), u)
    return _norm_of_F_x(problem, theta) + smooth(problem).curvature * K * M


def _norm_of_F_x(problem: Problem, theta: Theta) -> float:
    if Structure.IDENTITY_FORWARD in problem.structure:
        return 1.0
    if Structure.AFFINE_F in problem.structure:
        one = problem.subset(slice(0, 1))
        return _norm(jacobian_product(one, theta), origin(one, theta))

    def F(x: Tensor) -> Tensor:
        return problem.F(x, theta)

    x = origin(problem, theta)
    transposed = torch.func.vjp(F, x)[1]
    return operator_norm(lambda v: torch.func.jvp(F, (x,), (v,))[1], lambda w: transposed(w)[0], x)


def _norm(linear: Callable[[Tensor], Tensor], like: Tensor) -> float:
    transposed = torch.func.vjp(linear, like)[1]
    return operator_norm(linear, lambda w: transposed(w)[0], like)
