"""Limited-memory BFGS for a smooth penalty, which keeps its estimate of the inverse Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers._affine import origin
from methods.solvers._pseudo_gradient import smooth
from methods.solvers._smooth import data_size
from methods.solvers.contract import Factor, Point, Solved, Solver, refuse_unless_met
from problems.contract import Problem, Structure, Theta

LINE_STEPS = 20
"""Trial steps along one direction; one is the rule."""
FLATTER = 0.9
"""Part of the first slope along a direction that may be left at its end."""
CURVED = 1e-10
"""cos of the angle between a step and the change of the gradient, below which the pair says nothing but rounding."""
STALLED = 200
"""Steps without a smaller residual after which rounding is all that is left."""


class Lbfgs(Solver):
    """Limited-memory BFGS (Liu and Nocedal 1989) in its compact form (Byrd, Nocedal and Schnabel 1994, theorem 2.2),
    each sample with an estimate of its own, which `minimizer` shares.

    Invariant of the limit: r(x) = F(x) + M phi'(Kx) = 0, r the gradient of the lower level's cost.

    The line search looks at the slopes <r(x + t d), d> alone, which grow with t where the cost is convex: unlike the
    cost itself they are known to full precision near the solution. Along a line Kx is z + t Kd, so that another trial
    costs F and phi' and no product with K or M.

    Time: per step and sample one product with each of K and M, one F, and 12 m n for m kept pairs. Memory: per sample
    2 m n + O(n + k). Where phi is not convex it ends at a stationary point. Slow for an ill-conditioned Hessian; where
    rounding of Kx, magnified by phi'', keeps the residual above the tolerance, `converged` is False.
    """

    requires: ClassVar[Structure] = Structure.MINIMISATION | Structure.SMOOTH

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Largest |F(x) + M u| / |F(0)|, no less than 100 epsilons of the float type."""
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 10_000
    pairs: Annotated[int, pydantic.Field(ge=1)] = 20
    """m."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        with torch.no_grad():
            theta = {name: value.detach() for name, value in theta.items()}
            size = data_size(problem, theta)
            tolerance = max(self.tolerance, 100 * torch.finfo(size.dtype).eps)
            x = origin(problem, theta) if warm is None else warm.x
            place = _Place.at(problem, theta, x)
            estimate, exact = InverseEstimate(x, self.pairs), True
            best, since = torch.inf, 0
            for steps in range(self.max_steps + 1):
                residual = place.r.abs().amax(1, keepdim=True) / size
                largest = float(residual.max())
                best, since = (largest, 0) if largest < best else (best, since + 1)
                if largest <= tolerance and not exact:  # z is a sum by now: believe it only when computed anew
                    place, exact = _Place.at(problem, theta, place.x), True
                    continue
                if not largest > tolerance or since > STALLED or steps == self.max_steps:
                    break
                d = torch.where(residual > tolerance, -estimate.product(place.r), 0.0)
                moved, t = _along(problem, theta, place, d)
                estimate.add(t * d, moved.r - place.r)
                place, exact = moved, False
            curvature = smooth(problem).second_derivative(place.z)
            factor = SharedInverse(problem, theta, curvature, estimate)
        return Solved(place.x, place.u, steps, largest, largest <= tolerance, factor)


@dataclass(frozen=True)
class _Place:
    """x with z = K x, u = phi'(z) and r = F(x) + M u."""

    x: Float[Tensor, "b n"]
    z: Float[Tensor, "b k"]
    u: Float[Tensor, "b k"]
    r: Float[Tensor, "b n"]

    @classmethod
    def at(cls, problem: Problem, theta: Theta, x: Tensor) -> _Place:
        z = problem.K(x, theta)
        u = smooth(problem).derivative(z)
        return cls(x, z, u, problem.F(x, theta) + problem.M(u, theta))


def _along(problem: Problem, theta: Theta, place: _Place, d: Tensor) -> tuple[_Place, Float[Tensor, "b 1"]]:
    """Where the slope along d has fallen to a part of the first one, and the t that leads there."""
    penalty, w = smooth(problem), problem.K(d, theta)
    first = _dot(place.r, d)
    t, low, high = torch.ones_like(first), torch.zeros_like(first), torch.full_like(first, torch.inf)
    low_slope, high_slope = first, torch.zeros_like(first)
    for trial in range(LINE_STEPS):
        x, z = torch.addcmul(place.x, t, d), torch.addcmul(place.z, t, w)
        F, u = problem.F(x, theta), penalty.derivative(z)
        slope = _dot(F, d) + _dot(u, w)
        flat = slope.abs() <= FLATTER * first.abs()
        if trial == LINE_STEPS - 1 or bool(flat.all()):
            break
        before = slope < 0
        low, low_slope = torch.where(before, t, low), torch.where(before, slope, low_slope)
        high, high_slope = torch.where(before, high, t), torch.where(before, high_slope, slope)
        secant = low + (high - low) * low_slope / (low_slope - high_slope)
        inside = torch.minimum(torch.maximum(secant, 0.9 * low + 0.1 * high), 0.1 * low + 0.9 * high)
        t = torch.where(flat, t, torch.where(torch.isinf(high), 4 * low, inside))
    return _Place(x, z, u, F + problem.M(u, theta)), t


def _dot(v: Tensor, w: Tensor) -> Float[Tensor, "b 1"]:
    return torch.linalg.vecdot(v, w)[:, None]


class InverseEstimate:
    """B = H^-1 as the last m pairs (s, y = H s) of each sample have it, per sample in a ring of its own, so that a
    sample that rests keeps its estimate. With the pairs scaled to <s, y> = 1, R_ij = <s_i, y_j> where s_i is no younger
    than y_j and 0 elsewhere, and gamma = 1 / <y, y> of the youngest,

        B = gamma I + S R^-T (I + gamma Y^T Y) R^-1 S^T - gamma (S R^-T Y^T + Y R^-1 S^T),  symmetric positive definite.

    R is triangular in the order of age: R^-1 loses its oldest row and column, and gains the youngest, as they stand.
    """

    def __init__(self, x: Float[Tensor, "b n"], pairs: int) -> None:
        b, n = x.shape
        self._S, self._Y = x.new_zeros((2, b, pairs, n))
        self._YY, self._inverse = x.new_zeros((2, b, pairs, pairs))
        self._kept = torch.zeros(b, dtype=torch.long, device=x.device)
        self._gamma = x.new_ones((b, 1, 1))

    def add(self, s: Float[Tensor, "b n"], y: Float[Tensor, "b n"]) -> None:
        """The pair takes the place of the oldest, in the samples where <s, y> is positive beyond rounding."""
        sy = (s * y).sum(1)
        (rows,) = torch.nonzero(sy > CURVED * s.norm(dim=1) * y.norm(dim=1), as_tuple=True)
        if len(rows) == 0:
            return
        length = torch.sqrt(sy[rows])[:, None]
        s, y = s[rows] / length, y[rows] / length
        slot = self._kept[rows] % self._S.shape[1]
        self._kept[rows] += 1
        self._S[rows, slot], self._Y[rows, slot] = s, y
        self._gamma[rows] = 1 / (y * y).sum(1)[:, None, None]
        everything = len(rows) == len(self._S)
        S, Y = (self._S, self._Y) if everything else (self._S[rows], self._Y[rows])
        self._YY[rows, :, slot] = self._YY[rows, slot] = (Y @ y[..., None])[..., 0]
        self._inverse[rows, slot] = 0.0
        self._inverse[rows, :, slot] = -(self._inverse[rows] @ (S @ y[..., None]))[..., 0]
        self._inverse[rows, slot, slot] = 1.0

    def product(self, r: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """B r."""
        right = r[..., None]
        v = self._inverse @ (self._S @ right)
        inner = v + self._gamma * (self._YY @ v - self._Y @ right)
        combined = self._gamma * (right - self._Y.mT @ v) + self._S.mT @ (self._inverse.mT @ inner)
        return combined[..., 0]


@dataclass(frozen=True)
class SharedInverse(Factor):
    """The solver's last estimate of the inverse, at its solution."""

    problem: Problem
    theta: Theta
    curvature: Float[Tensor, "b k"]
    """phi''(K x)."""
    estimate: InverseEstimate

    def adjoint(self, g: Tensor) -> Point:
        """p = B g instead of H^-1 g, and a = phi'' * K p: an approximation, unlike the factors of other solvers."""
        p = self.estimate.product(g)
        return Point(p, self.curvature * self.problem.K(p, self.theta))
