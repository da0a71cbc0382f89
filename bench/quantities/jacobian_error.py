"""How far the derivative of the unfolded code is from that of the exact one: PUDLE's Theorem 3.2."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel, NoReference
from bench.quantities.contract import Quantity
from methods._pudle import PudleGradient
from methods.contract import Method, Prepared, Solution
from problems.contract import Problem, Structure, Theta

REQUIRES = Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1

ROWS = 64
"""Of J_T that are propagated together: so many numbers per entry of the dictionary."""


class JacobianError(Quantity):
    """`jacobian_error_relative` = ||J_T - J*||_F / ||J*||_F over all entries of dz/dtheta, the call's pairs stacked.

    J_T is the derivative of the encoder's z_T, by automatic differentiation in reverse mode through its T steps, one
    pass per nonzero entry of the code; J* follows from the references' own exact code. Left out for a method that
    unfolds nothing, where z* is on a kink or not certified, and where J* is zero.

    Time: as many passes back through T steps as z_T has nonzeros, 4 m p T each, per pair; memory: ROWS numbers per
    entry of theta, and T codes.
    """

    def of(
        self, problem: Problem, method: Method, prepared: Prepared, theta: Theta, solution: Solution
    ) -> dict[str, float]:
        """Raises ValueError for a lower level without codes."""
        del prepared, solution
        if REQUIRES not in problem.structure:
            raise ValueError(
                f"jacobian_error is of a lasso's codes, not of {type(problem).__name__}: use the family synthesis_lasso"
            )
        if not isinstance(method, PudleGradient):
            return {}
        squared_error = squared_size = 0.0
        for b in range(problem.batch):
            pair = problem.subset(slice(b, b + 1))
            try:
                J = exact_jacobian(pair, theta)
            except NoReference:
                return {}
            squared_error += float(((unfolded_jacobian(method, pair, theta) - J) ** 2).sum())
            squared_size += float((J**2).sum())
        return {"jacobian_error_relative": (squared_error / squared_size) ** 0.5} if squared_size else {}


def unfolded_jacobian(method: PudleGradient, pair: Problem, theta: Theta) -> Float[np.ndarray, "p size"]:
    """J_T = dz_T/dtheta of one pair (batch 1), theta's tensors flattened and joined.

    Rows of zeros of z_T are zero, without a pass back: inside its threshold the last step is constant.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    with torch.enable_grad():
        z, _ = method.codes(pair, leaves, None)
    on = z.detach()[0] != 0
    rows = torch.eye(len(on), dtype=z.dtype, device=z.device)[on][:, None]
    J = np.zeros((len(on), sum(value.numel() for value in leaves.values())))
    if len(rows):
        J[on.cpu().numpy()] = np.concatenate([_derivatives(z, leaves, chunk) for chunk in torch.split(rows, ROWS)])
    return J


def exact_jacobian(pair: Problem, theta: Theta) -> Float[np.ndarray, "p size"]:
    """J* = dz*/dtheta of one pair (batch 1). Raises NoReference, also on a kink, where there is no derivative.

    On the support S the code solves F(z; theta)_S + lambda sign(z*)_S = 0 and is zero elsewhere, and stays so near
    theta: F_x,SS dz_S = -(dF/dtheta)_S at the code held fixed. The sign pattern and z* are the references' own.
    """
    double = {name: value.detach().cpu().double() for name, value in theta.items()}
    pair = pair.to("cpu", torch.float64)
    level = LowerLevel.of(pair, double)
    solved = solve_exactly(level)
    if solved.touching.any():
        raise NoReference("the code is on a kink: an entry of it is zero, and its u is one in magnitude")
    on = np.flatnonzero(~solved.on)
    leaves = {name: value.requires_grad_() for name, value in double.items()}
    with torch.enable_grad():
        F = pair.F(torch.from_numpy(solved.x.astype(float))[None], leaves)
    dF = _derivatives(F, leaves, torch.eye(F.shape[1], dtype=F.dtype)[on][:, None])
    J = np.zeros((F.shape[1], dF.shape[1]))
    J[on] = np.linalg.solve(level.H[np.ix_(on, on)].astype(float), -dF)
    return J


def _derivatives(z: torch.Tensor, leaves: Theta, rows: torch.Tensor) -> Float[np.ndarray, "rows size"]:
    """Each row's product with dz/dtheta; rows are (rows, 1, p)."""
    parts = torch.autograd.grad(z, tuple(leaves.values()), rows, retain_graph=True, is_grads_batched=True)
    return torch.cat([part.flatten(1) for part in parts], 1).cpu().double().numpy()
