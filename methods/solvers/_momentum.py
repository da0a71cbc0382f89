"""Nesterov's momentum with the gradient restart of O'Donoghue and Candes (2015), sample by sample."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def extrapolated(
    x: Float[Tensor, "b N"], before: Float[Tensor, "b N"], against: Float[Tensor, "b N"], t: Float[Tensor, "b 1"]
) -> tuple[Float[Tensor, "b N"], Float[Tensor, "b 1"]]:
    """v+ = x + (t - 1)/t+ (x - before) and t+ = 1/2 + sqrt(1/4 + t^2).

    v+ = x and t+ = 1 for each sample that steps uphill, <against, x - before> > 0 with a multiple of the gradient.
    """
    moved = x - before
    uphill = (against * moved).sum(1, keepdim=True) > 0
    longer = 0.5 + torch.sqrt(0.25 + t * t)
    momentum = torch.where(uphill, 0.0, (t - 1) / longer)
    return torch.addcmul(x, momentum, moved), torch.where(uphill, 1.0, longer)
