"""Automatic differentiation of BLORC's closed form."""

from __future__ import annotations

from typing import ClassVar

import torch

from methods._cosupport import cosupport, unit_of
from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods.contract import Prepared, Solution
from problems.contract import Problem, Structure, Theta


class TorchClosedForm(FromSolution):
    """Reverse mode through x*(W) = P (y - W_pm^T s), P = I - W_0^+ W_0, at fixed signs (J 3.2 and section 5.3).

    Section 5.3 of the journal calls the differentiated equation (3.1); the closed form is (3.2) (readings.md X.22).
    Cost per sample: a differentiated pseudo-inverse, O(n m^2) for m rows in W_0, and O(n^2) numbers in the graph.
    Fails where W_0 is rank-deficient (the derivative of pinv assumes a constant rank) and on kinks.
    """

    requires: ClassVar[Structure] = Structure.TRANSFORM | Structure.IDENTITY_FORWARD | Structure.L1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = False

    def refusal(self, problem: Problem) -> str | None:
        return refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        assert solution.u is not None
        problem, u = prepared.problem, solution.u[0]
        y = (solution.x - problem.F(solution.x, theta))[0]
        W = theta["W"].detach().requires_grad_()
        with torch.enable_grad():
            length = unit_of(W.detach().norm(dim=1))
            zero = cosupport(W @ solution.x[0], u, length * y.abs().max())
            W_0, W_pm, s = W[zero], W[~zero], u[~zero].sign()
            q = y - W_pm.T @ s
            unit = W_0 / length[zero, None]  # the same projector, and no row is lost for being small
            x = q - torch.linalg.pinv(unit) @ (unit @ q)
            loss = problem.loss(x[None], {"W": W})
        return dict(zip(["W"], torch.autograd.grad(loss, [W]), strict=True))
