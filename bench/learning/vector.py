"""theta as one vector, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from methods.learners.contract import Vector
from problems.contract import Theta


@dataclass(frozen=True)
class Layout:
    """Where each of theta's names stands in the vector."""

    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, theta: Theta) -> Self:
        return cls({name: value.shape for name, value in theta.items()})

    def join(self, theta: Theta) -> Vector:
        """Raises ValueError where a name or a shape is not theta's."""
        given = {name: value.shape for name, value in theta.items()}
        if given != self.shapes:
            raise ValueError(f"a gradient with {_words(given)}, where theta has {_words(self.shapes)}")
        return torch.cat([theta[name].reshape(-1) for name in self.shapes])

    def split(self, vector: Vector) -> Theta:
        """Views of the vector."""
        parts = torch.split(vector, [shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def _words(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
