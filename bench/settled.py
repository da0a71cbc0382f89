"""What it means that a lower level has settled, for the row of a method that does not say of itself that it has not.

The measure is the harness's relative KKT residual, the same for every method. A method that states a tolerance has
settled where it met that (`Solution.converged`); the residual then has to be far above what any of them state, as it
is after a smoothed penalty or a loose tolerance, for the row to carry the flag `unsettled`. One that was asked for a
number of steps and for nothing else states none, and is held to the tolerance of the solvers whose fixed points are
differentiated, as what is left of the iterate is magnified in its derivative.
"""

from __future__ import annotations

import torch

AFTER_A_TOLERANCE = 1e-8
AFTER_A_NUMBER_OF_STEPS = 1e-12
ROUNDINGS = 1000
"""Machine epsilons of the float type below which a residual is rounding."""


def has_settled(residual: float, stated: bool | None, dtype: str) -> bool:
    """Whether a row needs no flag; `stated` is `Solution.converged`. A residual that is no number has not."""
    most = AFTER_A_NUMBER_OF_STEPS if stated is None else AFTER_A_TOLERANCE
    return residual <= max(most, ROUNDINGS * torch.finfo(getattr(torch, dtype)).eps)
