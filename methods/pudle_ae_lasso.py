"""PUDLE's g_ae-lasso: the lasso's objective, backpropagated through decoder and encoder."""

from __future__ import annotations

from torch import Tensor

from methods._pudle import Backpropagated, refuse_other_families
from problems.contract import Problem, Theta
from problems.synthesis_lasso import SynthesisLasso


class PudleAeLasso(Backpropagated):
    """g_ae-lasso = d/dD [1/2 ||A D z_T - y||^2 + lambda ||z_T||_1] with z_T = z_T(D) (PUDLE, (8)).

    Time: T steps of ISTA and about twice that back; memory O(T) codes per sample.

    Its limit is g_hat, as is g_dec's. What g_dec leaves out, J_T^T times the gradient over z, cancels g_dec's error
    to first order: with J* = -H_SS^-1 dF/dD the rest is (J_T - J*)^T H (z_T - z*), O(T rho^(2T-1)) (Theorem 3.3), twice
    g_dec's exponent. Entries at zero contribute nothing whatever subgradient of |.| is chosen, as J_T is zero there.

    Nothing of this holds before the support has settled: with the paper's sizes and step that took 40 signals 33 to 224
    steps, and at T = 25 g_dec was the nearer to g_hat for 23 of them.
    """

    def refusal(self, problem: Problem) -> str | None:
        refusal = refuse_other_families(self, problem)
        if refusal is None and isinstance(problem, SynthesisLasso) and problem.settings.loss != "lasso":
            return f"differentiates the lasso's objective, not {problem.settings.loss}: set loss = 'lasso'"
        return refusal

    def differentiated(self, problem: SynthesisLasso, z: Tensor, theta: Theta) -> Tensor:
        return problem.loss(z, theta)
