"""A small lower level with a smooth penalty, minimisation or game, and its loss by another make of solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pydantic
import torch
from first_order_truth import Evaluate
from torch import Tensor
from toy_family import ToyFamily

from problems.contract import Structure, Theta
from problems.penalties import CornerRoundedL1, SmoothPenalty

ROUNDED = CornerRoundedL1(0.1)


@dataclass(frozen=True)
class SmoothGame(ToyFamily):
    """F(x) = (H + diag(c)) x - y, K = W, M = (W + N)^T, loss = 1/2 ||x - x_true||^2 + 1/2 ||c||^2 per pair, and
    theta = {"W": (k, n), "c": (n,)}; a minimisation where H is symmetric and N = 0."""

    H: Tensor
    W: Tensor
    N: Tensor
    structure: Structure
    penalty: SmoothPenalty = ROUNDED

    @classmethod
    def build(cls, settings: pydantic.BaseModel) -> SmoothGame:
        raise NotImplementedError

    @classmethod
    def sample(
        cls, n: int = 12, k: int = 18, pairs: int = 3, game: bool = False, penalty: SmoothPenalty = ROUNDED
    ) -> SmoothGame:
        generator = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        A, skew, W, N = normal(2 * n, n) / (2 * n) ** 0.5, normal(n, n), 0.3 * normal(k, n), 0.05 * normal(k, n)
        H = A.mT @ A + 0.1 * torch.eye(n, dtype=torch.float64)
        structure = Structure.AFFINE_F | Structure.UNIQUE | Structure.SMOOTH
        if not game:
            return cls(normal(pairs, n), normal(pairs, n), H, W, 0 * N, structure | Structure.MINIMISATION, penalty)
        return cls(normal(pairs, n), normal(pairs, n), H + 0.1 * (skew - skew.mT), W, N, structure, penalty)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.W.shape[1],)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (self.W.shape[0],)

    def tensors(self) -> dict[str, Tensor]:
        return {"y": self.y, "x_true": self.x_true, "H": self.H, "N": self.N}

    def theta0(self) -> Theta:
        return {"W": self.W, "c": 0.1 + 0 * self.H[0]}

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        return x @ self.H.T + theta["c"] * x - self.y

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        return x @ theta["W"].T

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        return u @ (theta["W"] + self.N)

    def loss(self, x: Tensor, theta: Theta) -> Tensor:
        return 0.5 * ((x - self.x_true) ** 2).sum() + 0.5 * len(x) * (theta["c"] ** 2).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        return x - self.x_true, {"W": torch.zeros_like(theta["W"]), "c": len(x) * theta["c"]}


def smooth_loss(problem: SmoothGame) -> Evaluate:
    """L by a dense Newton's method in numpy, pair by pair, to |r| <= 1e-13 |y|; the pattern is where phi'' > 0."""
    H, N, penalty = problem.H.numpy(), problem.N.numpy(), problem.penalty

    def evaluate(theta: Theta) -> tuple[float, Tensor]:
        W, c = (theta[name].numpy() for name in ("W", "c"))
        loss, curved = 0.0, []
        for y, x_true in zip(problem.y.numpy(), problem.x_true.numpy(), strict=True):

            def r(x: np.ndarray, y: np.ndarray = y) -> np.ndarray:
                return (H + np.diag(c)) @ x - y + (W + N).T @ penalty.derivative(torch.from_numpy(W @ x)).numpy()

            x = np.zeros_like(y)
            for _ in range(200):
                D = penalty.second_derivative(torch.from_numpy(W @ x)).numpy()
                d = np.linalg.solve(H + np.diag(c) + (W + N).T @ (D[:, None] * W), -r(x))
                t = 1.0
                while np.linalg.norm(r(x + t * d)) > np.linalg.norm(r(x)) and t > 1e-12:
                    t /= 2
                x = x + t * d
                if np.abs(r(x)).max() <= 1e-14 * np.abs(y).max():
                    break
            assert np.abs(r(x)).max() <= 1e-13 * np.abs(y).max()
            loss += 0.5 * float(((x - x_true) ** 2).sum()) + 0.5 * float((c**2).sum())
            curved.append(penalty.second_derivative(torch.from_numpy(W @ x)) > 0)
        return loss, torch.stack(curved)

    return evaluate
