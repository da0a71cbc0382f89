"""What PUDLE says of an encoder at one dictionary: its rate rho, its step, and whether the support settled."""

from __future__ import annotations

import numpy as np
import torch

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel, NoReference
from bench.quantities.contract import Quantity
from methods._pudle import PudleGradient
from methods.contract import Method, Prepared, Solution
from methods.solvers._proximal import step_size
from problems.contract import Problem, Structure, Theta

REQUIRES = Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1


class EncoderRate(Quantity):
    """Of the soft-thresholded encoder with a constant threshold; over the call's pairs the largest of each.

        rate_bound                rho = max |1 - alpha mu| over the eigenvalues mu of F_x on the support of z*: the
                                  factor of an ISTA step once the support has settled (Theorem 3.1, Lemma A.2)
        step_times_lipschitz      alpha sigma_max(A D)^2, which the theory assumes to be below 1 (readings.md P.2);
                                  ISTA converges below 2
        support_difference_count  entries that are on the support of one of z_T and z* and not of the other: 0 once
                                  the support has settled (Proposition 3.1)
        support_count             entries on the support of z*

    z* is the references' own. Left out for every other method and variant, and where z* is not certified.
    """

    def of(
        self, problem: Problem, method: Method, prepared: Prepared, theta: Theta, solution: Solution
    ) -> dict[str, float]:
        """Raises ValueError for a lower level without codes."""
        del prepared
        if REQUIRES not in problem.structure:
            raise ValueError(
                f"encoder_rate is of a lasso's codes, not of {type(problem).__name__}: use the family synthesis_lasso"
            )
        if not isinstance(method, PudleGradient) or method.decay != 1.0 or method.hard_threshold is not None:
            return {}
        alpha = method.alpha or step_size(problem, theta)
        double = {name: value.detach().cpu().double() for name, value in theta.items()}
        original, reached = problem.to("cpu", torch.float64), solution.x.detach().cpu().numpy() != 0
        found = []
        for b in range(problem.batch):
            level = LowerLevel.of(original.subset(slice(b, b + 1)), double)
            try:
                on = ~solve_exactly(level).on
            except NoReference:
                return {}
            H = level.H.astype(float)
            mu = np.linalg.eigvalsh(H[np.ix_(on, on)])
            rho = np.abs(1.0 - alpha * mu).max(initial=0.0)
            found.append([rho, alpha * np.linalg.eigvalsh(H)[-1], (on != reached[b]).sum(), on.sum()])
        names = ("rate_bound", "step_times_lipschitz", "support_difference_count", "support_count")
        return dict(zip(names, np.max(found, 0).tolist(), strict=True))
