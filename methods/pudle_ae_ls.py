"""PUDLE's g_ae-ls: the squared loss alone, backpropagated through decoder and encoder."""

from __future__ import annotations

from torch import Tensor

from methods._pudle import Backpropagated, refuse_other_families
from problems.contract import Problem, Theta
from problems.synthesis_lasso import SynthesisLasso


class PudleAeLs(Backpropagated):
    """g_ae-ls = d/dD of the loss without lambda ||z||_1, at z_T = z_T(D) (PUDLE, (8)).

    Time: T steps of ISTA and about twice that back; memory O(T) codes per sample.

    With the losses `least_squares` and `supervised` it is the derivative of the whole loss, that of unrolled_reverse
    with the solver ista, and tends to the exact hypergradient, O(T rho^T). With the loss `lasso` it is biased
    (Theorem 3.3): its limit is g_hat - J*^T lambda sign(z*), J* = dz*/dD. The paper gives up g_hat on purpose: g_ae-ls
    is nearer to the gradient at the true codes, as it has less of lambda's shrinkage in it.
    """

    def refusal(self, problem: Problem) -> str | None:
        return refuse_other_families(self, problem)

    def differentiated(self, problem: SynthesisLasso, z: Tensor, theta: Theta) -> Tensor:
        return problem.squared_loss(z, theta)
