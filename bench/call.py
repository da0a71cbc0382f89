"""One call of a method on some of the pairs: what is timed, and what is judged for its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float

from methods.contract import Method, Prepared, Solution
from problems.contract import Problem, Theta


class BadGradientError(TypeError):
    """A gradient whose keys, shapes or dtype are not those of theta."""


@dataclass(frozen=True)
class Call:
    """A method prepared on a chunk of pairs; looped over single pairs, and summed, where it takes no batch."""

    method: Method
    prepared: tuple[Prepared, ...]

    @classmethod
    def prepare(cls, method: Method, chunk: Problem) -> Self:
        """The method's own `prepare`, once per part."""
        whole = method.batched or chunk.batch == 1
        parts = [chunk] if whole else [chunk.subset(slice(pair, pair + 1)) for pair in range(chunk.batch)]
        return cls(method, tuple(method.prepare(part) for part in parts))

    def solve(self, theta: Theta, starts: list[Solution] | None = None) -> list[Solution]:
        """One solution per part, each from scratch or from its start."""
        if starts is None:
            return [self.method.solve(prepared, theta) for prepared in self.prepared]
        pairs = zip(self.prepared, starts, strict=True)
        return [self.method.solve(prepared, theta, start) for prepared, start in pairs]

    def gradient(self, theta: Theta, solutions: list[Solution]) -> Theta:
        """dL/dtheta, summed over the chunk."""
        pairs = zip(self.prepared, solutions, strict=True)
        parts = [self.method.hypergradient(prepared, theta, solution) for prepared, solution in pairs]
        if len(parts) == 1:
            return parts[0]
        return {name: sum((part[name] for part in parts[1:]), parts[0][name]) for name in parts[0]}


def flat_gradient(gradient: Theta, theta: Theta) -> Float[np.ndarray, " size"]:
    """Its coordinates in theta's order, in double precision. Raises BadGradientError."""
    if not isinstance(gradient, dict) or gradient.keys() != theta.keys():
        given = sorted(gradient) if isinstance(gradient, dict) else type(gradient).__name__
        raise BadGradientError(f"the gradient must be a dict with theta's keys {sorted(theta)}, it has {given}")
    for name, value in theta.items():
        part = gradient[name]
        if not isinstance(part, torch.Tensor):
            raise BadGradientError(f"the gradient of {name} must be a tensor, it is {type(part).__name__}")
        if part.shape != value.shape:
            raise BadGradientError(
                f"the gradient of {name} must have shape {tuple(value.shape)}, it has {tuple(part.shape)}"
            )
        if part.dtype != value.dtype:
            raise BadGradientError(f"the gradient of {name} must be of {value.dtype}, it is of {part.dtype}")
    parts = [gradient[name].detach().cpu().double().reshape(-1) for name in theta]
    return torch.cat(parts).numpy()
