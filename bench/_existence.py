"""Along which changes of theta L has a derivative although the rows of K or M on the cosupport are dependent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import null_space
from torch import Tensor

from bench._central_differences import adjoint
from bench._exact_lower_level import DEPENDENT, Solved
from bench._lower_level import LowerLevel, Vector
from bench._slopes import Directions, loss_slope
from problems.contract import Problem, Theta

ROUNDING = 1e-10
"""Share of its usual size up to which a sum counts as zero: roundings, times the condition of the null space."""


def derivative_exists(
    problem: Problem, theta: Theta, level: LowerLevel, base: Solved, directions: Directions
) -> Bool[np.ndarray, " r"]:
    """Where the pattern's equations stay solvable to first order as theta moves along each direction.

    A general change of theta makes dependent rows independent, and then x* leaves the pattern. It does not along d if

        <a, dK x*> = 0 for all a in ker K0^T,    <p, dM u> = 0 for all u in ker M0,    dK = DK[d], dM = DM[d],

    with p of the saddle system at any of its solutions (problems/README.md: pullback(0, a) and the part of
    pullback(p, 0) that is linear in u). Sufficient where the certificates with |u| < 1 on the cosupport are not empty;
    everywhere true where there is no defect. Costs four pull-backs per row of the cosupport.
    """
    if not base.rank_defect:
        return np.ones(len(directions), bool)
    on = np.flatnonzero(base.on)
    x = base.x.astype(float)
    p, _ = adjoint(level, base, loss_slope(problem, theta, x))
    exists = np.ones(len(directions), bool)
    for matrix, sensitivities, typical in (
        (level.K[on].T, _of_K(problem, theta, x, on), _of_K(problem, theta, _any_like(x), on)),
        (level.M[:, on], _of_M(problem, theta, p, on), _of_M(problem, theta, _any_like(p), on)),
    ):
        null = null_space(matrix.astype(float), rcond=DEPENDENT).T
        sums = np.abs(null @ sensitivities @ directions.T)
        exists &= (sums <= ROUNDING * (np.abs(null) @ np.abs(typical) @ np.abs(directions).T)).all(axis=0)
    return exists


def _any_like(vector: Vector) -> Vector:
    """Of the same size and in no relation to the rows of K or M: what a sum that vanishes is relative to."""
    return float(np.linalg.norm(vector)) * np.random.default_rng(0).standard_normal(len(vector))


def _of_K(problem: Problem, theta: Theta, x: Vector, on: np.ndarray) -> Float[np.ndarray, "m P"]:
    """Row i: the gradient in theta of (K x)_i, for the rows i of the cosupport."""
    return _jacobian(lambda leaves: problem.K(torch.from_numpy(x)[None], leaves)[0][on], theta)


def _of_M(problem: Problem, theta: Theta, p: Vector, on: np.ndarray) -> Float[np.ndarray, "m P"]:
    """Row i: the gradient in theta of <p, M e_i>."""
    units = torch.eye(problem.u_shape[0], dtype=torch.float64)[on]
    return _jacobian(lambda leaves: problem.M(units, leaves) @ torch.from_numpy(p), theta)


def _jacobian(of: Callable[[Theta], Tensor], theta: Theta) -> Float[np.ndarray, "m P"]:
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    with torch.enable_grad():
        output = of(leaves)
    rows = torch.eye(len(output), dtype=output.dtype)
    if not output.requires_grad:
        return np.zeros((len(output), sum(leaf.numel() for leaf in leaves.values())))
    found = torch.autograd.grad(output, tuple(leaves.values()), rows, materialize_grads=True, is_grads_batched=True)
    return torch.cat([part.reshape(len(output), -1) for part in found], dim=1).numpy()
