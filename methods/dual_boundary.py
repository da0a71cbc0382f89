"""Translation to a single level by the boundary set of the dual: eliminate x, and differentiate what is left."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic
import torch
from torch import Tensor

from methods._cosupport import refusal_below_rounding, unit_of
from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods._implicit_gradient import implicit_gradient
from methods.contract import Prepared, Solution
from methods.solvers._affine import factorised, jacobian
from methods.solvers.contract import Point
from problems.contract import Problem, Structure, Theta


class DualBoundary(FromSolution):
    """Crockett and Fessler, "Bilevel methods for image reconstruction", (4.14) to (4.16), the second translation to a
    single level, on every family with an affine F.

    Invariant: near theta the certificate stays at its bound on B = {i: |u_i| = 1}, and is free inside. The inner
    coordinates u_0 solve linear equations, as K0 x = 0 with x = F_x^-1 (b - M u), so that with S = K0 F_x^-1 M0

        u_0 = S^+ K0 F_x^-1 (b - M_B u_B),     a = S^{+T} M0^T F_x^-T g_x,     p = F_x^-T (g_x - K0^T a),

    and the gradient is the pull-back of (p, a). With F(x) = x - y that is x* = P (y - W_B^T u_B), P the projector on
    the null space of W_0: BLORC's Theorem 3.1 and Corollary 3.3, the same matrix as `blorc` and the Schur complement of
    the saddle system of `active_set_adjoint`.

    Time: per sample one factorisation of F_x, O(n^3) unless it is the identity, and a pseudo-inverse of S, O(m^3 +
    m^2 n) for m inner coordinates; memory O(n (n + k)). S squares the condition number of K0. Where its rows are
    dependent it returns the least-norm answer, one of several one-sided ones; on kinks it fails without a word.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = False

    gamma: Annotated[float, pydantic.Field(gt=0, lt=1)] = 1e-9
    """u_i counts as at its bound where |u_i| > 1 - gamma."""

    def refusal(self, problem: Problem) -> str | None:
        return refusal_below_rounding(self.gamma, problem) or refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        return implicit_gradient(prepared.problem, theta, solution, self._adjoint)

    def _adjoint(self, problem: Problem, theta: Theta, solution: Solution, g_x: Tensor) -> Point:
        x, u = solution.x, solution.u
        assert u is not None
        inner = u[0].abs() <= 1 - self.gamma
        linear = problem.linearise(x, theta)
        K_0, M_0 = linear.K.dense()[0, inner], linear.M.dense()[0, :, inner]
        length, weight = unit_of(K_0.norm(dim=1)), unit_of(M_0.norm(dim=0))
        K_0, M_0 = K_0 / length[:, None], M_0 / weight  # so that no row is lost for being small
        if Structure.IDENTITY_FORWARD in problem.structure:
            transposed = torch.cat([g_x, K_0])
        else:
            transposed = factorised(jacobian(problem, theta).T, problem)(torch.cat([g_x, K_0]))  # rows F_x^-T r
        v, columns = transposed[0], transposed[1:].T
        a_0 = torch.linalg.pinv(M_0.T @ columns) @ (M_0.T @ v)
        a = torch.zeros_like(u)
        a[0, inner] = a_0 / length
        return Point((v - columns @ a_0)[None], a)
