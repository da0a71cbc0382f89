"""Along which changes of theta L has a derivative although the rows of K or M on the cosupport are dependent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import null_space
from torch import Tensor

from bench._central_differences import adjoint
from bench._exact_lower_level import DEPENDENT, SAFETY, Solved
from bench._lower_level import EPS, LowerLevel, Vector
from bench._slopes import Directions, loss_slope
from problems.contract import Problem, Theta

ROUNDING = 1e-12
"""Share of its terms up to which a sum counts as zero: roundings, times the condition of the null space."""


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
    on, unit = np.flatnonzero(base.on), level.unit
    x = base.x.astype(float)
    # Null vectors of unit rows and columns, and the sensitivities in the same units.
    per_row, per_column = 1.0 / unit.lengths[on].astype(float), 1.0 / unit.weights[on].astype(float)
    p, _ = adjoint(level, base, loss_slope(problem, theta, x))
    exists = np.ones(len(directions), bool)
    # What is left of sums that vanish, from what x and p are off by, in no relation to the rows of K or M.
    rng = np.random.default_rng(0)
    noise = SAFETY * rng.choice([-1.0, 1.0], len(x)) * rng.uniform(1.0, 2.0, len(x))
    x_noise, p_noise = noise * (base.error_x.astype(float) + EPS * np.abs(x)), noise * ROUNDING * np.linalg.norm(p)
    for matrix, per_unit, sensitivities, rest in (
        (unit.K[on].T, per_row, _of_K(problem, theta, x, on), _of_K(problem, theta, x_noise, on)),
        (unit.M[:, on], per_column, _of_M(problem, theta, p, on), _of_M(problem, theta, p_noise, on)),
    ):
        null = null_space(matrix.astype(float), rcond=DEPENDENT).T
        null = np.where(np.abs(null) > ROUNDING, null, 0.0) * per_unit
        sums = np.abs(null @ sensitivities @ directions.T)
        zero = np.abs(null) @ (np.abs(rest) + ROUNDING * np.abs(sensitivities)) @ np.abs(directions).T
        exists &= (sums <= zero).all(axis=0)
    return exists


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
