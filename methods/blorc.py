"""BLORC's closed-form gradient, as its paper prints it."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pydantic
import torch

from methods._cosupport import refusal_below_rounding
from methods._first_order import refusal_of
from methods._from_solution import FromSolution
from methods.contract import Prepared, Solution
from problems.contract import Problem, Structure, Theta


class Blorc(FromSolution):
    """Corollary 3.3, (3.4) and (3.5), of "Learning sparsity-promoting regularizers using bilevel optimization".

    With s the signs of W x*, W_0 the rows where they vanish, W_pm the others, P the projector onto the null space of
    W_0, g = x* - x_t and q = y - W_pm^T s:

        grad over W_pm = -s g^T P                                  (3.4)
        grad over W_0  = -(P (q g^T + g q^T) W_0^+)^T              (3.5)

    Cost per sample: a pseudo-inverse (an SVD, O(n m^2) for m rows in W_0) and products of n x n matrices, O(n^2)
    numbers. The paper's own threshold in training is gamma = 1e-3 (J 5.1); the default here is far lower, because an
    entry of W x* between the two is put on the wrong side and its row of the gradient is then wrong. Fails where W_0
    is rank-deficient and on kinks.
    """

    requires: ClassVar[Structure] = Structure.TRANSFORM | Structure.IDENTITY_FORWARD | Structure.L1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu"})
    batched: ClassVar[bool] = False

    gamma: Annotated[float, pydantic.Field(gt=0)] = 1e-9
    """(W x*)_i counts as zero below this magnitude (Algorithm 4.1, step 2), in units of the length of its row of W."""

    def refusal(self, problem: Problem) -> str | None:
        return refusal_below_rounding(self.gamma, problem) or refusal_of(self, self.solver, problem)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        problem = prepared.problem
        W, x = theta["W"].detach().numpy(), solution.x[0].numpy()
        y = (solution.x - problem.F(solution.x, theta))[0].numpy()
        g = problem.loss_gradient(solution.x, theta)[0][0].numpy()

        Wx = W @ x
        length = np.linalg.norm(W, axis=1)
        zero = np.abs(Wx) <= self.gamma * length
        s = np.sign(Wx[~zero])
        W_0, W_pm = W[zero], W[~zero]
        unit = np.where(length > 0, length, 1)[zero]
        W_0_pinv = np.linalg.pinv(W_0 / unit[:, None]) / unit  # of unit rows, so that none is lost for being small
        P = np.eye(len(x), dtype=W.dtype) - W_0_pinv @ W_0
        q = y - W_pm.T @ s

        gradient = np.empty_like(W)
        gradient[~zero] = -np.outer(s, g @ P)
        gradient[zero] = -(P @ (np.outer(q, g) + np.outer(g, q)) @ W_0_pinv).T
        return {"W": torch.from_numpy(gradient)}
