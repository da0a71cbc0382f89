"""Patch games from their definition, one patch at a time: numpy loops, no index tables, no automatic differentiation.

Shares nothing with problems/patch_game.py but the names of its settings and of theta.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from problems.patch_game import Settings


class Game:
    """One pair y at one theta (arrays); codes Z are (J, p)."""

    def __init__(self, settings: Settings, y: np.ndarray, guide: np.ndarray, theta: dict[str, np.ndarray]) -> None:
        self.settings, self.y, self.guide, self.theta = settings, y, guide, theta
        last = settings.side - settings.patch + 1
        self.corners = [(row, column) for row in range(last) for column in range(last)]
        always = settings.normalise == "always"
        self.D = theta["D"] / np.linalg.norm(theta["D"], 2) if always else theta["D"]
        C = theta.get("C", theta["D"])
        self.C = C / np.linalg.norm(C, 2) if always else C
        self.alpha = theta["alpha"][-1] if "alpha" in theta else settings.alpha

    def cut(self, picture: np.ndarray, j: int) -> np.ndarray:
        """P_j."""
        (row, column), side = self.corners[j], self.settings.patch
        square = picture.reshape(self.settings.side, self.settings.side)
        return square[row : row + side, column : column + side].ravel()

    def picture(self, Z: np.ndarray) -> np.ndarray:
        """yhat, pixel by pixel the mean of what the patches over it say."""
        side, patch = self.settings.side, self.settings.patch
        total, count = np.zeros((side, side)), np.zeros((side, side))
        for (row, column), z in zip(self.corners, Z, strict=True):
            total[row : row + patch, column : column + patch] += (self.theta["W"] @ z).reshape(patch, patch)
            count[row : row + patch, column : column + patch] += 1
        return (total / count).ravel()

    @cached_property
    def similarity(self) -> np.ndarray:
        """a, from distances of the guide's patches."""
        J = len(self.corners)
        a = np.zeros((J, J))
        for j in range(J):
            for k in range(J):
                if np.hypot(*np.subtract(self.corners[j], self.corners[k])) <= self.settings.reach:
                    apart = self.theta["kappa"] * (self.cut(self.guide, j) - self.cut(self.guide, k))
                    a[j, k] = np.exp(-np.sum(apart**2))
        return a / a.sum(1, keepdims=True)

    def envelope(self, length: float) -> float:
        """min_v |v| + alpha/2 (length - v)^2."""
        return self.alpha * length**2 / 2 if length <= 1 / self.alpha else length - 1 / (2 * self.alpha)

    def of_data(self, Z: np.ndarray, j: int) -> float:
        """1/2 ||D z_j - P_j y||^2."""
        return 0.5 * float(np.sum((self.D @ Z[j] - self.cut(self.y, j)) ** 2))

    def of_variance(self, Z: np.ndarray, j: int) -> float:
        """gamma/2 ||W z_j - P_j yhat||^2."""
        gamma = np.exp(self.theta["log_variance"][0])
        return 0.5 * gamma * float(np.sum((self.theta["W"] @ Z[j] - self.cut(self.picture(Z), j)) ** 2))

    def of_group(self, Z: np.ndarray, j: int) -> float:
        """sum_l mu_l envelope(sqrt(sum_k a_jk z_k[l]^2))."""
        mu, a = np.exp(self.theta["log_group"]), self.similarity[j]
        lengths = np.sqrt(a @ Z**2)
        return sum(weight * self.envelope(float(length)) for weight, length in zip(mu, lengths, strict=True))

    def of_sparsity(self, Z: np.ndarray, j: int) -> float:
        """sum_l phi(lambda_l z_j[l]), the envelope's alpha counted at lambda = weight."""
        weights, tight = np.exp(self.theta["log_lambda"]), self.alpha / self.settings.weight
        z = np.abs(weights * Z[j])
        return float(np.where(z <= 1 / tight, tight * z**2 / 2, z - 1 / (2 * tight)).sum())

    def cost(self, Z: np.ndarray, j: int) -> float:
        """Player j's, but for an untied C."""
        variance = self.of_variance(Z, j) if "log_variance" in self.theta else 0.0
        group = self.of_group(Z, j) if "log_group" in self.theta else 0.0
        return self.of_data(Z, j) + self.of_sparsity(Z, j) + variance + group


def own_derivatives(cost: Callable[[np.ndarray, int], float], Z: np.ndarray, step: float) -> np.ndarray:
    """d cost_j / d z_j for every j, by central differences."""
    slopes = np.zeros_like(Z)
    for j, atom in np.ndindex(*Z.shape):
        ahead, behind = Z.copy(), Z.copy()
        ahead[j, atom] += step
        behind[j, atom] -= step
        slopes[j, atom] = (cost(ahead, j) - cost(behind, j)) / (2 * step)
    return slopes


def gradient(value: Callable[[np.ndarray], float], Z: np.ndarray, step: float) -> np.ndarray:
    """d value / d Z."""
    return own_derivatives(lambda Z, j: value(Z), Z, step)
