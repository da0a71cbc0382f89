"""The exact hypergradient in its rank-two form, on every l1 family."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from methods._cosupport import cosupport, size_of_rows, unit_of
from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods._implicit_gradient import implicit_gradient
from methods.contract import Prepared, Solution
from methods.solvers._active_set_compiled import factor_of
from methods.solvers.contract import Factor, Point
from problems.contract import Problem, Structure, Theta


class ActiveSetAdjoint(FromSolution):
    """One saddle system and one pull-back (problems/README.md; it equals J 3.4 and 3.5, with fewer numbers).

    Invariant: near theta the rows K0 on the cosupport stay at zero and the signs of the others stay, so x* solves
    linear equations, and their adjoint is

        [ F_x^T  K0^T ] [p]   [g_x]
        [ M0^T    0   ] [a] = [ 0 ],     grad L = g_theta - d/dtheta [<p, F + M u> + <a, K x*>].

    For BLORC's problem (identity forward, theta = W) that is p = g - W0^T a with (W0 W0^T) a = W0 g, and
    grad_W = -(u p^T + a x*^T): O(n + k) numbers per sample, and the batch's gradient as two matrix products. The
    solver's last factor is used again where it left one: O(k n + m^2) per sample for m rows on the cosupport, and an
    orthogonalisation, O(m^2 n), for samples too ill-conditioned for W0 W0^T. After another solver, and where M is not
    K^T, one dense system of n + k unknowns per sample.

    Fails where no derivative exists: on a kink, and, for a general change of theta, where K0 or M0 is rank-deficient.
    There it returns the least-norm solution; the record's margins and rank defect say so.
    """

    requires: ClassVar[Structure] = Structure.L1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        problem, x, u = prepared.problem, solution.x, solution.u
        if Structure.TRANSFORM not in problem.structure:
            return implicit_gradient(problem, theta, solution, _adjoint)
        assert u is not None
        theta = {name: value.detach() for name, value in theta.items()}
        p, a = _adjoint(problem, theta, solution, problem.loss_gradient(x, theta)[0])
        return {"W": torch.mm(a.mT, x).addmm_(u.mT, p, beta=-1, alpha=-1)}


def _adjoint(problem: Problem, theta: Theta, solution: Solution, g_x: Tensor) -> Point:
    factor = solution.memory if isinstance(solution.memory, Factor) else _factor(problem, theta, solution)
    return factor.adjoint(g_x)


def _factor(problem: Problem, theta: Theta, solution: Solution) -> Factor:
    """After a solver that left none."""
    x, u = solution.x, solution.u
    assert u is not None
    on = cosupport(problem.K(x, theta), u, size_of_rows(problem, theta))
    if x.device.type == "cpu" and Structure.TRANSFORM | Structure.IDENTITY_FORWARD in problem.structure:
        return factor_of(theta["W"], on.numpy())
    return _Saddle(problem, theta, x, on)


class _Saddle(Factor):
    """The saddle system itself, all samples at once; rows off the cosupport read a_i = 0.

    Rows of K and columns of M have unit length in it, so that none counts as dependent for being small.
    """

    def __init__(self, problem: Problem, theta: Theta, x: Tensor, on: Bool[Tensor, "b k"]) -> None:
        self._linear, self._on = problem.linearise(x, theta), on

    def adjoint(self, g: Tensor) -> Point:
        on, n = self._on.to(g.dtype), g.shape[1]
        F_x, K, M = self._linear.F_x.dense(), self._linear.K.dense(), self._linear.M.dense()
        length, weight = unit_of(K.norm(dim=2, keepdim=True)), unit_of(M.norm(dim=1, keepdim=True))
        K, M = K / length, M / weight
        upper = torch.cat([F_x.mT, K.mT * on[:, None, :]], 2)
        lower = torch.cat([M.mT * on[:, :, None], torch.diag_embed(1.0 - on)], 2)
        solved = _solve_rank_revealing(torch.cat([upper, lower], 1), torch.cat([g, torch.zeros_like(on)], 1))
        return Point(solved[:, :n], solved[:, n:] * on / length[:, :, 0])


def _solve_rank_revealing(matrix: Float[Tensor, "b s s"], right: Float[Tensor, "b s"]) -> Tensor:
    """LU where it leaves a small residual; the least-norm solution for the samples whose matrix is singular."""
    factors, pivots, info = torch.linalg.lu_factor_ex(matrix)
    diagonal = factors.diagonal(dim1=1, dim2=2).abs()
    eps = torch.finfo(matrix.dtype).eps * matrix.shape[1]
    singular = (info != 0) | (diagonal.amin(1) <= eps * diagonal.amax(1))
    solved = torch.linalg.lu_solve(factors, pivots, right[..., None])[..., 0]
    if singular.any():
        inverse = torch.linalg.pinv(matrix[singular], rtol=eps)
        solved[singular] = (inverse @ right[singular][..., None])[..., 0]
    return solved
