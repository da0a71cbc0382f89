"""PUDLE's g_dec: the derivative over the dictionary with the code held fixed."""

from __future__ import annotations

import torch

from methods._pudle import PudleGradient, refuse_other_families
from methods.contract import Prepared, Solution
from problems.contract import Problem, Theta


class PudleDec(PudleGradient):
    """g_dec = d/dD loss(z_T, D) at fixed z_T, for the lasso (D z_T - y) z_T^T (PUDLE, (8)).

    Time: T steps of ISTA, and one product more; memory: two codes per sample. Nothing is recorded.

    With the loss of the lasso its limit is the analytic gradient g_hat, as J* has nothing to add where the lower level
    is stationary, and it gets there as the code does: an error of O(rho^T) (Theorem 3.3), rho = max |1 - alpha mu| over
    the eigenvalues mu of F_x on the support, once that has settled. With any other loss it leaves out a part that does
    not vanish, and is biased: by construction with `supervised`, where Table 1 nevertheless trains with it.
    """

    def refusal(self, problem: Problem) -> str | None:
        return refuse_other_families(self, problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        with torch.no_grad():
            z, u = self.codes(prepared.problem, theta, warm)
        return Solution(z, u, self.steps, converged=None)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        return prepared.problem.loss_gradient(solution.x, theta)[1]
