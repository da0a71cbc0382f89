"""Translation to a single level by the signs of K x*: differentiate the linear equations that hold for these signs."""

from __future__ import annotations

from typing import ClassVar

import torch

from methods._cosupport import cosupport, size_of_rows
from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods.contract import Prepared, Solution
from methods.solvers._affine import constant, jacobian
from problems.contract import Problem, Structure, Theta


class SignSplitting(FromSolution):
    """McCann and Ravishankar, "Supervised learning of sparsity-promoting regularizers for denoising", 2020; Crockett
    and Fessler, "Bilevel methods for image reconstruction", (4.12) and (4.13).

    Invariant: near theta the signs s of K x* stay. Where they are zero, K0 x = 0 is a constraint, elsewhere the penalty
    is linear, and what is left is a quadratic program with equalities, whose optimality conditions are

        [ F_x  M0 ] [x ]   [ b - M_pm s ]
        [ K0   0  ] [u0] = [     0      ],       F(x) = F_x x - b.

    The loss at the x of this system is differentiated by reverse mode, on every family with an affine F. For BLORC's
    problem x is the closed form that `torch_closed_form` differentiates, and the gradient the one of `blorc`; the
    transposed matrix is that of `active_set_adjoint`'s saddle system.

    Time: per sample one factorisation of n + m unknowns for m rows in K0, O((n + m)^3), and K, M and F_x laid out; in
    memory O(n (n + k)), with the graph. Needs independent rows in K0: it raises RuntimeError where the system has lost
    x*; what is not finite it hands on as it is. Fails on kinks without a word.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = False

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        """Raises RuntimeError where rows of K0 depend on each other."""
        problem, x, u = prepared.problem, solution.x, solution.u
        assert u is not None
        leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
        with torch.no_grad():
            zero = cosupport(problem.K(x, theta), u, size_of_rows(problem, theta))[0]
        n, m = x.shape[1], int(zero.sum())
        eyes = [torch.eye(size, dtype=x.dtype, device=x.device) for size in (n, u.shape[1])]
        with torch.enable_grad():
            K_0 = problem.K(eyes[0], leaves).T[zero]
            M_0 = problem.M(eyes[1][zero], leaves).T
            F_x = jacobian(problem, leaves)
            linear = problem.M(torch.where(zero, 0.0, u.sign()), leaves)
            right = (constant(problem, leaves) - linear)[0]
            corner = torch.cat([K_0, x.new_zeros((m, m))], 1)
            solved = torch.linalg.solve_ex(
                torch.cat([torch.cat([F_x, M_0], 1), corner]), torch.cat([right, x.new_zeros(m)])
            ).result
            x_of_theta = solved[None, :n]
            loss = problem.loss(x_of_theta, leaves)
        lost = float((x_of_theta - x).detach().abs().max())
        given = all(bool(each.isfinite().all()) for each in (x, K_0, M_0, F_x, right))  # else there is nothing to blame
        if given and not lost <= torch.finfo(x.dtype).eps ** 0.5 * (1 + float(x.abs().max())):
            raise RuntimeError(
                f"sign_splitting: its {m} equations K0 x = 0 miss x* by {lost:.1e}: rows of K0 depend on each other, "
                "use dual_boundary or active_set_adjoint"
            )
        gradients = torch.autograd.grad(loss, tuple(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, gradients, strict=True))
