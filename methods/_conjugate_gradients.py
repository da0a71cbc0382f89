"""Conjugate gradients (Hestenes and Stiefel 1952) for a batch: each sample has a system of its own, all go in step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Tensor], Tensor]


def conjugate_gradients(
    product: Product,
    right: Float[Tensor, "b N"],
    stop: Float[Tensor, "b 1"],
    steps: int,
    precondition: Product | None = None,
) -> tuple[Float[Tensor, "b N"], Float[Tensor, "b 1"], int]:
    """A^-1 right for a symmetric positive definite A = `product`, from zero: (solution, ||residual||, products).

    `precondition` is a fixed symmetric positive definite estimate of A^-1. A sample rests once the residual that the
    recurrence carries is at most `stop` long, or where A or the estimate shows itself indefinite.
    """
    solution, r = torch.zeros_like(right), right
    s = r if precondition is None else precondition(r)
    direction, square = s, (r * s).sum(1, keepdim=True)
    definite = square > 0
    for taken in range(steps + 1):
        residual = r.norm(dim=1, keepdim=True)
        active = definite & (residual > stop)
        if taken == steps or not bool(active.any()):
            break
        image = product(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        active = active & (curvature > 0)
        step = torch.where(active, square / curvature, 0.0)
        solution, r = solution + step * direction, r - step * image
        s = r if precondition is None else precondition(r)
        last, square = square, (r * s).sum(1, keepdim=True)
        direction = s + torch.where(active, square / last, 0.0) * direction
        definite = active & (square > 0)
    return solution, residual, taken
