"""What the methods share that start a solver: which one, where it starts, and who refuses."""

from __future__ import annotations

from typing import Any

import torch

from methods.contract import Method, Solution, refuse_unless_met
from methods.solvers.accelerated_gradient import AcceleratedGradient
from methods.solvers.admm import Admm
from methods.solvers.contract import FirstOrder, Iteration, Point, Solver
from methods.solvers.dual_fista import DualFista
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.extragradient import Extragradient
from methods.solvers.fista import Fista
from methods.solvers.gradient_descent import GradientDescent
from methods.solvers.ista import Ista
from problems.contract import Problem, Theta, kkt_residual, scales

TO_UNROLL = (DualFista(), Fista(), DualPgd(), AcceleratedGradient(), Extragradient())
"""Which solver is unrolled where none is named: the first that fits. On 21 l1 instances of n = 64 dual_fista reached
1e-8 in 500 steps on 18, ADMM on 13, dual_pgd on 6."""
SETTLED = 1e-12
"""Relative KKT residual of a point that is differentiated, where nothing else is said."""
TO_SETTLE = (
    Admm(tolerance=SETTLED),
    Ista(tolerance=SETTLED),
    DualPgd(tolerance=SETTLED),
    GradientDescent(tolerance=SETTLED),
    Extragradient(tolerance=SETTLED),
)
"""Whose fixed point is differentiated where none is named: likewise."""


def fitting(solver: FirstOrder | None, candidates: tuple[FirstOrder, ...], problem: Problem) -> FirstOrder:
    """The solver itself, or the first candidate that runs on the problem; where none does, the first, which refuses."""
    if solver is not None:
        return solver
    return next((each for each in candidates if each.refusal(problem) is None), candidates[0])


def starting_point(warm: Solution | None) -> Point | None:
    """Where the solver starts; a solution without a certificate is no starting point."""
    return None if warm is None or warm.u is None else Point(warm.x, warm.u)


def steps_were_enough(steps_were_given: bool, problem: Problem, theta: Theta, point: Point) -> bool | None:
    """`Solution.converged` after a fixed number of steps: None where the caller chose it, who gets what was asked for.

    Where it was left out, the solution was asked for: whether its KKT residual is down to where a solver stops whose
    fixed point is differentiated, which costs some 100 products.
    """
    if steps_were_given:
        return None
    with torch.no_grad():
        theta = {name: value.detach() for name, value in theta.items()}
        tolerance = max(SETTLED, 100 * torch.finfo(point.x.dtype).eps)
        residual = kkt_residual(problem, point.x.detach(), point.u.detach(), theta, scales(problem, theta))
        return bool((residual <= tolerance).all())


def constant_state(iteration: Iteration[Any], start: Point | None) -> Any:
    """The first state, cut off from theta, on which a warm one may depend (ADMM's holds K x)."""
    state = iteration.start(start)
    return type(state)(*(part.detach() for part in state))


def refusal_of(method: Method, solver: Solver, problem: Problem) -> str | None:
    """The method's requirements, then the solver's."""
    return refuse_unless_met(method, problem) or solver.refusal(problem)
