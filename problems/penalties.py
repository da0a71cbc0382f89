"""Separable penalties g(z) = sum_i phi(z_i): what the lower level adds to its data term.

An l1 penalty is described by its dual ball, |u| <= 1; a smooth one by its first and second derivative.
All maps act entry by entry on tensors of any shape.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


class Penalty(abc.ABC):
    """phi, and what a solver or an adjoint needs of it."""

    convex: ClassVar[bool]
    """Where it is not, the lower level may have several minimisers and stationary points that are none."""

    @abc.abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """phi(z), entry by entry."""


class SmoothPenalty(Penalty):
    """A penalty with two derivatives (the second may jump, as that of the Moreau envelope does)."""

    @abc.abstractmethod
    def derivative(self, z: Tensor) -> Tensor:
        """phi'(z), which is the certificate u."""

    @abc.abstractmethod
    def second_derivative(self, z: Tensor) -> Tensor:
        """phi''(z), nowhere negative where phi is convex."""

    @property
    @abc.abstractmethod
    def curvature(self) -> float:
        """max |phi''|: the Lipschitz constant of the derivative."""


@dataclass(frozen=True)
class L1(Penalty):
    """phi(z) = |z|. Its conjugate is the indicator of |u| <= 1."""

    convex: ClassVar[bool] = True

    def value(self, z: Tensor) -> Tensor:
        return z.abs()

    def prox(self, z: Tensor, step: float) -> Tensor:
        """argmin_v step * |v| + 1/2 (v - z)^2."""
        return z - z.clamp(-step, step)

    def project_dual(self, u: Tensor) -> Tensor:
        """The nearest point with |u| <= 1."""
        return u.clamp(-1.0, 1.0)


@dataclass(frozen=True)
class CornerRoundedL1(SmoothPenalty):
    """phi(z) = sqrt(z^2 + epsilon^2) (Crockett and Fessler, equation CR1N)."""

    convex: ClassVar[bool] = True

    epsilon: float

    def value(self, z: Tensor) -> Tensor:
        return torch.sqrt(z * z + self.epsilon**2)

    def derivative(self, z: Tensor) -> Tensor:
        return z / self.value(z)

    def second_derivative(self, z: Tensor) -> Tensor:
        return self.epsilon**2 / self.value(z) ** 3

    @property
    def curvature(self) -> float:
        return 1.0 / self.epsilon


@dataclass(frozen=True)
class MoreauL1(SmoothPenalty):
    """The Moreau envelope of |z|: min_v |v| + alpha/2 (z - v)^2 (Lecouat, Ponce and Mairal, section 3.3).

    It approaches |z| as alpha grows; it is Huber's function with its corner at 1/alpha.
    """

    convex: ClassVar[bool] = True

    alpha: float

    def value(self, z: Tensor) -> Tensor:
        u = self.derivative(z)
        return u * z - 0.5 * u * u / self.alpha

    def derivative(self, z: Tensor) -> Tensor:
        return (self.alpha * z).clamp(-1.0, 1.0)

    def second_derivative(self, z: Tensor) -> Tensor:
        return self.alpha * (z.abs() < 1.0 / self.alpha).to(z.dtype)

    @property
    def curvature(self) -> float:
        return self.alpha


@dataclass(frozen=True)
class Quadratic(SmoothPenalty):
    """phi(z) = z^2 (Crockett and Fessler, sections 2.3 and 5.1): x* solves a linear system."""

    convex: ClassVar[bool] = True

    def value(self, z: Tensor) -> Tensor:
        return z * z

    def derivative(self, z: Tensor) -> Tensor:
        return 2.0 * z

    def second_derivative(self, z: Tensor) -> Tensor:
        return torch.full_like(z, 2.0)

    @property
    def curvature(self) -> float:
        return 2.0


@dataclass(frozen=True)
class LogSum(SmoothPenalty):
    """phi(z) = log(1 + (z / epsilon)^2) (Crockett and Fessler, section 6.1, with epsilon = 1).

    Not convex: phi'' is negative beyond epsilon, down to -1/8 of its peak.
    """

    convex: ClassVar[bool] = False

    epsilon: float

    def value(self, z: Tensor) -> Tensor:
        return torch.log1p((z / self.epsilon) ** 2)

    def derivative(self, z: Tensor) -> Tensor:
        return 2.0 * z / (z * z + self.epsilon**2)

    def second_derivative(self, z: Tensor) -> Tensor:
        square = (z / self.epsilon) ** 2
        return 2.0 / self.epsilon**2 * (1.0 - square) / (1.0 + square) ** 2

    @property
    def curvature(self) -> float:
        return 2.0 / self.epsilon**2


@dataclass(frozen=True)
class StudentT(SmoothPenalty):
    """phi(z) = log(10 epsilon + sqrt(z^2 + epsilon^2)), which Crockett and Fessler, section 6.1, call the Student-t
    function (readings.md X.60: the density's own logarithm is `LogSum` with epsilon = sqrt(2)).

    Not convex: phi'' is negative beyond 2.25 epsilon.
    """

    convex: ClassVar[bool] = False

    epsilon: float

    def value(self, z: Tensor) -> Tensor:
        return torch.log(10.0 * self.epsilon + torch.sqrt(z * z + self.epsilon**2))

    def derivative(self, z: Tensor) -> Tensor:
        rounded = torch.sqrt(z * z + self.epsilon**2)
        return z / (rounded * (10.0 * self.epsilon + rounded))

    def second_derivative(self, z: Tensor) -> Tensor:
        rounded = torch.sqrt(z * z + self.epsilon**2)
        shifted = 10.0 * self.epsilon + rounded
        return (self.epsilon**2 / rounded - z * z / shifted) / (rounded * rounded * shifted)

    @property
    def curvature(self) -> float:
        return 1.0 / (11.0 * self.epsilon**2)
