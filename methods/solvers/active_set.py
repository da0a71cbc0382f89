"""The primal-dual active set method: the lower level to rounding in a few Newton steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers import _active_set_compiled, _active_set_masked
from methods.solvers.contract import Factor, Point, Solved, Solver, refuse_unless_met
from problems.contract import Problem, Structure, Theta


class ActiveSet(Solver):
    """Semismooth Newton on the dual, min_u 1/2 ||W^T u - y||^2, |u_i| <= 1 (Hintermueller, Ito and Kunisch 2002).

    Invariant: x = y - W^T u, and with z = W x either u_i = sign(z_i) or z_i = 0. A few accelerated projected gradient
    steps, or a warm start, guess which rows are on the cosupport; a Newton step solves for their u by a Cholesky
    factorisation of W0 W0^T and guesses again; it ends when the guess repeats itself. A quadratic data term with
    Hessian H = R^T R is whitened first, once for the batch: W becomes W R^-1, y becomes R^-T b.

    Where W0 W0^T is nearly singular (cond(W0) above 1e5), or the guesses cycle (tall W, duplicated rows, pictures'
    total variation), the dual is solved by pivoting on an orthogonal basis of W0's rows instead: one row at a time,
    finite, and without squaring the condition number.

    W W^T costs k^2 n once for the batch; then per sample O(k^2) for a first-order step and O(m^3) for a Newton step
    with m rows on the cosupport, one to eight of them; pivoting costs O(m n + k n) each, tens to hundreds of them.
    On the CPU compiled, a sample at a time, memory k^2 per thread beside the factors; elsewhere all samples at once.

    On the CPU rows of W and samples y of any size are alike: both are divided by powers of two, and every threshold and
    residual is relative to its own row and sample (_active_set_cpu.py). A u strictly inside the box is then known to
    the residual times ||y|| / ||W_i||. Elsewhere one size, ||W||, stands for all rows.

    Per sample the certificate says what was reached; `converged` is false where a KKT residual exceeds the tolerance,
    and where W or y has NaN or infinity, or u underflows. The first solve on a machine compiles (_machine_code.py).
    Always solved in double precision on the CPU; in theta's own elsewhere, with no less than 100 epsilons.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Relative KKT residual that counts as converged."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        like = next(iter(theta.values()))
        engine = _active_set_compiled if like.device.type == "cpu" else _active_set_masked
        W, b, R = least_squares_form(problem, theta, engine.dtype_for(like.dtype))
        if R is not None:
            b = torch.linalg.solve_triangular(R, b, upper=True, left=False)
        solved = engine.solve(W, b, None if warm is None else warm.u.detach().to(W.dtype), self.tolerance)
        if R is not None and solved.factor is not None:
            x = torch.linalg.solve_triangular(R.mT, solved.x, upper=False, left=False)
            solved = replace(solved, x=x, factor=Whitened(R, solved.factor))
        if solved.x.dtype == like.dtype:
            return solved
        return replace(solved, x=solved.x.to(like.dtype), u=solved.u.to(like.dtype))


def least_squares_form(
    problem: Problem, theta: Theta, dtype: torch.dtype
) -> tuple[Float[Tensor, "k n"], Float[Tensor, "b n"], Float[Tensor, "n n"] | None]:
    """(K R^-1, b, R) with F(x) = H x - b and H = R^T R; R is None for the identity."""
    theta = {name: value.detach() for name, value in theta.items()}
    like = next(iter(theta.values()))
    if like.dtype != dtype:
        problem, theta = problem.to(like.device, dtype), {name: value.to(dtype) for name, value in theta.items()}
        like = like.to(dtype)
    origin = like.new_zeros((problem.batch, *problem.x_shape))
    b = -problem.F(origin, theta)
    K = theta["W"] if Structure.TRANSFORM in problem.structure else problem.linearise(origin, theta).K.dense()[0]
    if Structure.IDENTITY_FORWARD in problem.structure:
        return K, b, None
    R = torch.linalg.cholesky(problem.linearise(origin, theta).F_x.dense()[0], upper=True)
    return torch.linalg.solve_triangular(R, K, upper=True, left=False), b, R


class Whitened(Factor):
    """The factor of a problem in R x, for the problem in x: H p + K^T a = g is R p + (K R^-1)^T a = R^-T g."""

    def __init__(self, R: Float[Tensor, "n n"], inner: Factor) -> None:
        self._R, self._inner = R, inner

    def adjoint(self, g: Tensor) -> Point:
        whitened = torch.linalg.solve_triangular(self._R, g.to(self._R.dtype), upper=True, left=False)
        p, a = self._inner.adjoint(whitened)
        p = torch.linalg.solve_triangular(self._R.mT, p, upper=False, left=False)
        return Point(p.to(g.dtype), a.to(g.dtype))
