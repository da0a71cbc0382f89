"""Truths that the tests of first-order solvers, and of the gradients through them, are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic
import torch
from torch import Tensor
from toy_family import ToyFamily

from methods.solvers.active_set import ActiveSet
from methods.solvers.dual_pgd import DualPgd
from problems.analysis_l1 import AnalysisL1
from problems.contract import Problem, Structure, Theta
from problems.penalties import L1

Evaluate = Callable[[Theta], tuple[float, Tensor]]
"""theta -> (L, cosupport)."""


def build(**settings: Any) -> AnalysisL1:
    return AnalysisL1.build(AnalysisL1.settings_type(**settings))


def clarabel(problem: Problem) -> Tensor:
    """x* of each pair by an interior-point method of another make, all its tolerances at 1e-12."""
    cone, parameters, variables = problem.conic()
    parameters["W"].value = problem.theta0()["W"].numpy()
    found = []
    for y in problem.conic_data()["y"]:
        parameters["y"].value = y.numpy()
        cone.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        found.append(torch.from_numpy(variables["x"].value))
    return torch.stack(found)


def game_loss(problem: Problem) -> Evaluate:
    """L of a game, the lower level iterated to a KKT residual of 1e-14."""

    def evaluate(theta: Theta) -> tuple[float, Tensor]:
        solved = DualPgd(tolerance=1e-14).solve(problem, theta)
        assert solved.converged
        return float(problem.loss(solved.x, theta)), solved.u.abs() < 1

    return evaluate


def upper_loss(problem: Problem) -> Evaluate:
    """theta -> (L, cosupport), the lower level solved by active sets to a KKT residual of 1e-12."""

    def evaluate(theta: Theta) -> tuple[float, Tensor]:
        solved = ActiveSet().solve(problem, theta)
        assert solved.converged
        return float(problem.loss(solved.x, theta)), solved.u.abs() < 1

    return evaluate


def slope(evaluate: Evaluate, theta: Theta, direction: Theta, h: float) -> float:
    """dL along the direction: central differences, Richardson-extrapolated (error h^4), on one sign pattern."""

    def at(t: float) -> tuple[float, Tensor]:
        return evaluate({name: value + t * direction[name] for name, value in theta.items()})

    (far, a), (near, b), (near_, c), (far_, d) = at(h), at(h / 2), at(-h / 2), at(-h)
    assert all(torch.equal(a, other) for other in (b, c, d)), "a kink lies within h"
    return (4 * (near - near_) / h - (far - far_) / (2 * h)) / 3


def directions(theta: Theta, count: int) -> list[Theta]:
    """Random ones, of length 1 in every variable."""
    generator = torch.Generator().manual_seed(0)

    def unit(like: Tensor) -> Tensor:
        direction = torch.randn(like.shape, generator=generator, dtype=like.dtype)
        return direction / direction.norm()

    return [{name: unit(value) for name, value in theta.items()} for _ in range(count)]


def slopes(evaluate: Evaluate, theta: Theta, h: float, count: int = 6) -> Tensor:
    """dL along `count` random directions."""
    return torch.tensor([slope(evaluate, theta, each, h) for each in directions(theta, count)], dtype=torch.float64)


def pairings(gradient: Theta, count: int = 6) -> Tensor:
    """<gradient, direction> along the same directions."""
    along = directions(gradient, count)
    return torch.stack([sum((gradient[name] * each[name]).sum() for name in gradient) for each in along])


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


PENALTY = L1()


@dataclass(frozen=True)
class AffineGame(ToyFamily):
    """No minimisation: F_x is not symmetric and depends on theta, M is not K^T, and the loss has its own theta part.

    F(x) = (H + diag(d)) x - y,   K = diag(c) D,   M = D_r^T diag(c),
    loss = 1/2 ||x - x_true||^2 + 1/2 ||c||^2 + sum(d),

    H not symmetric, D the differences along a chain, D_r the same with the right end weighted by 0.8;
    theta = {"c": (k,), "d": (n,)}.
    """

    structure: Structure = Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE
    penalty: L1 = PENALTY

    @classmethod
    def build(cls, settings: pydantic.BaseModel) -> AffineGame:
        raise NotImplementedError

    @classmethod
    def sample(cls, n: int, pairs: int) -> AffineGame:
        generator = torch.Generator().manual_seed(1)
        y, x_true = torch.randn((2, pairs, n), generator=generator, dtype=torch.float64)
        return cls(y, x_true)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.y.shape[1],)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (self.y.shape[1] - 1,)

    def tensors(self) -> dict[str, Tensor]:
        return {"y": self.y, "x_true": self.x_true}

    def theta0(self) -> Theta:
        n = self.y.shape[1]
        steps = torch.arange(n, dtype=self.y.dtype)
        return {"c": 0.3 + 0.05 * torch.cos(steps[1:]), "d": 1.0 + 0.2 * torch.sin(steps)}

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        turned = 0.3 * (x.roll(1, 1) - x.roll(-1, 1))  # skew-symmetric
        return x + turned + theta["d"] * x - self.y

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        return theta["c"] * (x[:, 1:] - x[:, :-1])

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        v = theta["c"] * u
        return torch.nn.functional.pad(0.8 * v, (1, 0)) - torch.nn.functional.pad(v, (0, 1))

    def loss(self, x: Tensor, theta: Theta) -> Tensor:
        own = 0.5 * (theta["c"] ** 2).sum() + theta["d"].sum()
        return 0.5 * ((x - self.x_true) ** 2).sum() + self.batch * own

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        return x - self.x_true, {"c": self.batch * theta["c"], "d": self.batch * torch.ones_like(theta["d"])}
