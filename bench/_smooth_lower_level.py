"""The lower level with a smooth penalty, solved by Newton's method, for the reference alone.

Nothing here is shared with the methods: the matrices are read off column by column, the linear systems are dense.
Invariant: R(x) = F(x) + M phi'(K x) vanishes at x*, whether or not M is K^T and F a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from bench._lower_level import CERTIFICATE, F_and_jacobian, LowerLevel, Matrix, NoReference, Vector
from problems.contract import Problem, Structure, Theta
from problems.penalties import SmoothPenalty

MOST_STEPS = 100
SHORTEST = 1e-8
"""The line search gives up below this share of a Newton step."""
MOST_STAGES = 60
"""Of the continuation in the penalty's weight."""

Map = Callable[[Vector], np.ndarray]


@dataclass(frozen=True)
class SmoothLevel:
    """One pair at one theta: R(x) = F(x) + weight M phi'(K x), in double precision; n up to a few hundred."""

    F: Map
    F_x: Map
    K: Float[np.ndarray, "k n"]
    M: Float[np.ndarray, "n k"]
    penalty: SmoothPenalty
    size: float
    """What residuals are relative to: max |F(0)|."""
    weight: float = 1.0

    @classmethod
    def of(cls, problem: Problem, theta: Theta) -> SmoothLevel:
        """The matrices and maps, read off from the problem's own F, K and M."""
        assert isinstance(problem.penalty, SmoothPenalty)
        if Structure.AFFINE_F in problem.structure:
            return cls.affine(LowerLevel.of(problem, theta), problem.penalty)
        n, k = problem.x_shape[0], problem.u_shape[0]
        dtype = next(iter(theta.values())).dtype

        def F(x: Vector) -> np.ndarray:
            return problem.F(torch.from_numpy(x)[None], theta)[0].numpy()

        def F_x(x: Vector) -> np.ndarray:
            return F_and_jacobian(problem, theta, x)[1].numpy()

        K, M = problem.K(torch.eye(n, dtype=dtype), theta).T, problem.M(torch.eye(k, dtype=dtype), theta).T
        return cls(F, F_x, K.numpy(), M.numpy(), problem.penalty, max(float(np.abs(F(np.zeros(n))).max()), 1e-300))

    @classmethod
    def affine(cls, level: LowerLevel, penalty: SmoothPenalty) -> SmoothLevel:
        """F(x) = H x - b."""
        H, b, K, M = (part.astype(float) for part in (level.H, level.b, level.K, level.M))
        return cls(lambda x: H @ x - b, lambda x: H, K, M, penalty, level.size_of_b)

    def residual(self, x: Vector) -> Vector:
        """R(x)."""
        return self.F(x) + self.weight * (self.M @ self.derivative(self.K @ x))

    def jacobian(self, x: Vector) -> Matrix:
        """F_x + M diag(phi'') K."""
        return self.F_x(x) + self.weight * (self.M * self.second_derivative(self.K @ x)) @ self.K

    def derivative(self, z: Vector) -> Vector:
        """phi'(z)."""
        return self.penalty.derivative(torch.from_numpy(z)).numpy()

    def second_derivative(self, z: Vector) -> Vector:
        """phi''(z)."""
        return self.penalty.second_derivative(torch.from_numpy(z)).numpy()

    def pieces(self, x: Vector) -> Bool[np.ndarray, " k"]:
        """Where phi'' vanishes: the pattern of a penalty made of pieces, such as the Moreau envelope's; else nothing.

        Two points of one piece have a smooth path between them, up to the sign of z where phi is straight.
        """
        return self.second_derivative(self.K @ x) == 0.0

    def certified(self, x: Vector) -> bool:
        """Whether R vanishes to the certificate."""
        return bool(np.abs(self.residual(x)).max(initial=0.0) <= CERTIFICATE * self.size)


def solve_smoothly(level: SmoothLevel, start: Vector | None = None) -> Vector:
    """x* to rounding: Newton from `start` (default 0); failing that, along weights of the penalty that rise to 1.

    O(n^3 + k n^2) per step, a dozen steps. Raises NoReference where neither arrives.
    """
    origin = np.zeros(level.K.shape[1])
    x = newton(level, origin if start is None else start)
    if level.certified(x):
        return x
    x, weight, stride = newton(replace(level, weight=0.0), origin), 0.0, 1.0 / 16.0
    for _ in range(MOST_STAGES):
        stage = replace(level, weight=min(weight + stride, 1.0))
        there = newton(stage, x)
        if stage.certified(there):
            x, weight, stride = there, stage.weight, 2.0 * stride
        else:
            stride /= 4.0
        if weight == 1.0:
            return x
    raise NoReference(f"Newton's method does not reach a residual of {CERTIFICATE:g} on the smooth lower level")


def newton(level: SmoothLevel, x: Vector) -> Vector:
    """Newton's method with a line search on |R|, until no step makes it smaller: rounding, or a dead end."""
    residual = level.residual(x)
    for _ in range(MOST_STEPS):
        try:
            step = np.linalg.solve(level.jacobian(x), -residual)
        except np.linalg.LinAlgError:
            return x
        size, share = float(np.linalg.norm(residual)), 1.0
        while True:
            there = x + share * step
            residual_there = level.residual(there)
            if np.linalg.norm(residual_there) <= (1.0 - 1e-4 * share) * size:
                break
            share /= 2.0
            if size == 0.0 or share < SHORTEST or (share < 1e-2 and level.certified(x)):
                return x
        x, residual = there, residual_there
    return x
