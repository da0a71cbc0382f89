"""Replace |.| by a smooth phi and differentiate that problem: exact for it, biased for l1."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from methods._conjugate_gradients import conjugate_gradients
from methods._implicit_gradient import implicit_gradient
from methods.contract import Method, Prepared, Solution, refuse_unless_met
from methods.solvers._affine import origin
from problems.contract import Linearised, LinearMap, Problem, Structure, Theta, operator_norm
from problems.penalties import CornerRoundedL1, MoreauL1, SmoothPenalty

CG_STEPS_PER_UNKNOWN = 10
"""In exact arithmetic one suffices; rounding delays it where H is ill-conditioned."""
SHARPEN = 0.1
"""What delta is multiplied by along the path: any in [0.001, 0.1] was as fast, and none failed at 0.1."""
STAGE_STEPS = 20
"""Newton steps after which a stage is left as it is."""
NEAR = 1e-3
"""delta / epsilon at which the Moreau envelope's own relation is first tried."""
ROUNDING = 10
"""Machine epsilons of |K| |y| to which Kx is known."""
SHARPEST = 1e-16
"""delta / |Ky| at which the path ends: rounding hides what comes after."""


class SmoothedImplicit(Method):
    """The gradient of the problem whose |z| is rounded off over the length epsilon.

    Invariant: F(x*) + M phi'(Kx*) = 0 for every theta. Differentiating it,

        H^T p = g_x with H = F_x + M diag(phi'') K,   a = phi'' * (M^T p),   grad = g_theta - pullback(p, a, x*, u)

    with u = phi'(Kx*). BLORC, journal, sections 2.1 and 2.2; Crockett and Fessler, "Bilevel methods for image
    reconstruction", (CR1N), (Ex), (4.8); Lecouat, Ponce and Mairal, section 3.3, for the Moreau envelope.

    Time: newton takes 10 to 30 steps; a step, and the gradient, is per sample one factorisation O(n^3) and one product
    O(n^2 k) where dense, and up to min(10 n, |K| / sqrt(epsilon)) products where cg. accelerated_gradient takes some
    |K| / sqrt(epsilon) log(1/tolerance) steps. Memory: O(b n^2) dense, O(b (n + k)) with cg.

    Against the l1 gradient it has a bias of epsilon over the margins of x* and u (the smaller one with moreau): it
    fails where epsilon is not small beside them, and so near every kink. Rounding keeps the residual of
    accelerated_gradient above |K|^2 / epsilon times machine precision; newton's it does not touch.
    """

    requires: ClassVar[Structure] = Structure.AFFINE_F | Structure.UNIQUE | Structure.L1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    batched: ClassVar[bool] = True

    smoothing: Literal["corner_rounded", "moreau"] = "moreau"
    epsilon: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1e-6
    """Length over which the corner is rounded, in the unit of Kx; the Moreau envelope's alpha is 1/epsilon."""
    solve_by: Literal["newton", "accelerated_gradient"] = "newton"
    hessian: Literal["dense", "cg"] = "dense"
    """How systems in H are solved, in Newton's steps and in the gradient."""
    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-10
    """Largest |F(x) + M u| / |y| of a converged solution; newton has Kx to this fraction of epsilon, or to rounding."""
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 100_000
    """Newton steps, all stages together, or gradient steps."""

    def refusal(self, problem: Problem) -> str | None:
        if Structure.MINIMISATION not in problem.structure:
            if self.hessian == "cg":
                return "cg needs a symmetric Hessian, which only a minimisation has: set hessian = 'dense'"
            if self.solve_by == "accelerated_gradient":
                return "accelerated_gradient needs a minimisation: set solve_by = 'newton'"
        return refuse_unless_met(self, problem)

    def prepare(self, problem: Problem) -> Prepared:
        return Prepared(problem)

    def solve(self, prepared: Prepared, theta: Theta, warm: Solution | None = None) -> Solution:
        with torch.no_grad():
            system = self._system(prepared.problem, theta)
            if not bool(system.F_0.isfinite().all() and system.Ky.isfinite().all()):
                nowhere = torch.full_like(system.F_0, torch.nan)  # no path leads anywhere
                return Solution(nowhere, system.maps.K.matvec(nowhere), 0, False, system)
            start = None if warm is None or warm.u is None else _Found(warm.x, warm.u, 0, False)
            search = self._newton if self.solve_by == "newton" else self._accelerated_gradient
            found = search(system, start)
            return Solution(found.x, found.u, found.steps, found.converged, system)

    def hypergradient(self, prepared: Prepared, theta: Theta, solution: Solution) -> Theta:
        return implicit_gradient(prepared.problem, theta, solution, self._adjoint)

    def _adjoint(
        self, problem: Problem, theta: Theta, solution: Solution, g_x: Float[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b k"]]:
        del problem, theta  # the system has them
        system, u = solution.memory, solution.u
        assert u is not None
        F_x, K, M = system.maps.F_x, system.maps.K, system.maps.M
        curvature = self._penalty().second_derivative(self._argument(K.matvec(solution.x), u))
        hessian = system.hessian(curvature)
        stop = 0.1 * self.tolerance * g_x.norm(dim=1, keepdim=True)
        p = hessian.solve_adjoint(g_x, stop)
        a = curvature * M.rmatvec(p)
        # M^T p is a difference of nearly equal numbers, magnified by 1/epsilon in a. One refinement that corrects a
        # instead of computing it anew makes F_x^T p + K^T a = g_x exact again.
        correction = hessian.solve_adjoint(g_x - F_x.rmatvec(p) - K.rmatvec(a), stop)
        return p + correction, a + curvature * M.rmatvec(correction)

    def _penalty(self) -> SmoothPenalty:
        return CornerRoundedL1(self.epsilon) if self.smoothing == "corner_rounded" else MoreauL1(1 / self.epsilon)

    def _argument(self, z: Tensor, u: Tensor) -> Tensor:
        """z = Kx without the rounding of x, which phi'' would magnify by 1/epsilon: read from u where u tells it."""
        inner = u.clamp(-0.9, 0.9)
        scaled = inner / torch.sqrt(1 - inner * inner) if self.smoothing == "corner_rounded" else inner
        return torch.where(u.abs() < 0.9, self.epsilon * scaled, z)

    def _system(self, problem: Problem, theta: Theta) -> _System:
        zero = origin(problem, theta)
        F_0 = problem.F(zero, theta)
        y = F_0.abs().amax(1, keepdim=True)
        y = torch.where(y > 0, y, 1.0)
        maps = problem.linearise(zero, theta)
        if self.hessian == "cg":
            one = problem.subset(slice(0, 1)).linearise(zero[:1], theta)
            Ky = y * (_norm(one.K, F_0) or 1.0)
            return _System(maps, one, F_0, y, Ky, lambda D: _MatrixFree(maps, D))
        F_x, K, M = (each.dense()[0] for each in (maps.F_x, maps.K, maps.M))
        symmetric = Structure.MINIMISATION in problem.structure
        Ky = y * (float(torch.linalg.matrix_norm(K)) or 1.0)
        products = Linearised(_products(F_x), _products(K), _products(M))
        return _System(products, products, F_0, y, Ky, lambda D: _dense(F_x + (M * D[:, None, :]) @ K, symmetric))

    def _newton(self, system: _System, warm: _Found | None) -> _Found:
        """From a nearby solution at once; from afar along rounded corners that grow ever sharper.

        The rounded corner is the end of its own path. The Moreau envelope's relation is piecewise linear, on which
        Newton's method is finite near the solution and may cycle elsewhere: its path rounds the two corners of u(z).
        """
        goal: _Relate
        if self.smoothing == "corner_rounded":
            flat, near = 0.0, self.epsilon
            goal = partial(_rounded, delta=self.epsilon, flat=flat)
        else:
            flat, near = self.epsilon, NEAR * self.epsilon
            goal = partial(_moreau, epsilon=flat, length=system.Ky)
        scale = float(system.Ky.amax())
        sharp = max(self.tolerance * self.epsilon, ROUNDING * torch.finfo(system.Ky.dtype).eps * scale)
        steps = 0
        if warm is not None:
            found = self._steps(system, goal, warm, self.tolerance, sharp, self.max_steps)
            steps = found.steps
            if found.converged:
                return found
        origin = torch.zeros_like(system.F_0)
        path = _Found(origin, system.maps.K.matvec(origin), 0, False)
        delta = scale
        while True:
            if delta <= near or steps >= self.max_steps:
                found = self._steps(system, goal, path, self.tolerance, sharp, self.max_steps - steps)
                steps += found.steps
                if found.converged or steps >= self.max_steps or delta < SHARPEST * scale:
                    return found._replace(steps=steps)
            delta = SHARPEN * delta
            corner = partial(_rounded, delta=delta, flat=flat)
            rough = max(delta / scale, self.tolerance)
            path = self._steps(system, corner, path, rough, max(delta, sharp), self.max_steps - steps)
            steps += path.steps

    def _steps(
        self, system: _System, relation: _Relate, start: _Found, tolerance: float, length: float, most: int
    ) -> _Found:
        """Newton's method on F(x) + M u = 0, u = phi'(Kx), until they hold to `tolerance` y and to a `length` in Kx.

        u is an unknown of its own because, read from x, it would carry the rounding of x over epsilon.
        """
        x, u = start.x, start.u
        K, M = system.maps.K, system.maps.M
        most = min(most, STAGE_STEPS)
        for steps in range(most + 1):
            held, slope, gap = relation(K.matvec(x), u)
            converged = system.residual(x, u) <= tolerance and float(gap.abs().amax()) <= length
            if converged or steps == most:
                break
            r = system.F(x) + M.matvec(held)
            dx = system.hessian(slope).solve(-r, 0.1 * tolerance * system.y)
            x, u = x + dx, (held + slope * K.matvec(dx)).clamp(-1.0, 1.0)
        return _Found(x, u, steps, converged)

    def _accelerated_gradient(self, system: _System, warm: _Found | None) -> _Found:
        """Nesterov's method on the smoothed cost, its momentum restarted, sample by sample, where it points uphill."""
        penalty = self._penalty()
        K = system.maps.K
        L = _norm(system.one.F_x, system.F_0) + penalty.curvature * _norm(system.one.K, system.F_0) ** 2
        x = w = torch.zeros_like(system.F_0) if warm is None else warm.x
        t = torch.ones_like(system.y)
        for steps in range(self.max_steps + 1):
            u = penalty.derivative(K.matvec(w))
            r = system.F(w) + system.maps.M.matvec(u)
            # Asked rarely: on a GPU the question waits for the device.
            if steps % 10 == 0 or steps == self.max_steps:
                residual = system.residual(w, u)
                if residual <= self.tolerance or steps == self.max_steps:
                    break
            x_next = w - r / L
            uphill = (r * (x_next - x)).sum(1, keepdim=True) > 0
            t = torch.where(uphill, 1.0, t)
            t_next = 0.5 * (1 + torch.sqrt(1 + 4 * t * t))
            w = x_next + torch.where(uphill, 0.0, (t - 1) / t_next) * (x_next - x)
            x, t = x_next, t_next
        return _Found(w, u, steps, residual <= self.tolerance)


class _Found(NamedTuple):
    x: Tensor
    u: Tensor
    steps: int
    converged: bool


class _Relation(NamedTuple):
    """u = phi'(z) at a pair (z, u): Newton's u at dz is held + slope dz; gap is how far z is from where u has it."""

    held: Tensor
    slope: Tensor
    gap: Tensor


_Relate = Callable[[Tensor, Tensor], _Relation]


def _rounded(z: Tensor, u: Tensor, delta: float, flat: float) -> _Relation:
    """z' = delta u / sqrt(1 - u^2), z' = z - flat u, linearised as sqrt(z'^2 + delta^2) u = z'.

    In that form its Newton steps do not fail far away (Chan, Golub and Mulet 1999, for total variation).
    """
    corner = CornerRoundedL1(delta)
    inner = z - flat * u
    s, v = corner.value(inner), corner.derivative(inner)
    rise = 1 - u * v
    return _Relation(u + s / (s + flat * rise) * (v - u), rise / (s + flat * rise), s * (u - v))


def _moreau(z: Tensor, u: Tensor, epsilon: float, length: Tensor) -> _Relation:
    """u = clip(z / epsilon), as u = clip(u + (z - epsilon u) / length), which finds the bounds that hold from u too."""
    v = u + (z - epsilon * u) / length
    clipped = v.clamp(-1.0, 1.0)
    inside = clipped == v
    return _Relation(torch.where(inside, z / epsilon, clipped), inside.to(z.dtype) / epsilon, length * (u - clipped))


class _Hessian(abc.ABC):
    """H = F_x + M diag(D) K, one per sample. `stop` is the residual that an iterative solve may leave."""

    @abc.abstractmethod
    def solve(self, r: Float[Tensor, "b n"], stop: Float[Tensor, "b 1"]) -> Float[Tensor, "b n"]:
        """H^-1 r."""

    @abc.abstractmethod
    def solve_adjoint(self, r: Float[Tensor, "b n"], stop: Float[Tensor, "b 1"]) -> Float[Tensor, "b n"]:
        """H^-T r."""


@dataclass(frozen=True)
class _System:
    """The lower level at one theta: its maps, on the batch and on one sample, F(0), and the scales of residuals."""

    maps: Linearised
    one: Linearised
    F_0: Float[Tensor, "b n"]
    y: Float[Tensor, "b 1"]
    Ky: Float[Tensor, "b 1"]
    hessian: Callable[[Tensor], _Hessian]

    def F(self, x: Tensor) -> Tensor:
        return self.F_0 + self.maps.F_x.matvec(x)

    def residual(self, x: Tensor, u: Tensor) -> float:
        """The largest entry of F(x) + M u, relative to y."""
        return float(((self.F(x) + self.maps.M.matvec(u)).abs() / self.y).amax())


@dataclass(frozen=True)
class _Cholesky(_Hessian):
    """Symmetric positive definite: a minimisation's."""

    factor: Float[Tensor, "b n n"]

    def solve(self, r: Tensor, stop: Tensor) -> Tensor:
        del stop
        return torch.cholesky_solve(r[..., None], self.factor)[..., 0]

    def solve_adjoint(self, r: Tensor, stop: Tensor) -> Tensor:
        return self.solve(r, stop)


@dataclass(frozen=True)
class _LU(_Hessian):
    """Not symmetric: a game's."""

    factor: Float[Tensor, "b n n"]
    pivots: Tensor

    def solve(self, r: Tensor, stop: Tensor) -> Tensor:
        del stop
        return torch.linalg.lu_solve(self.factor, self.pivots, r[..., None])[..., 0]

    def solve_adjoint(self, r: Tensor, stop: Tensor) -> Tensor:
        del stop
        return torch.linalg.lu_solve(self.factor, self.pivots, r[..., None], adjoint=True)[..., 0]


@dataclass(frozen=True)
class _MatrixFree(_Hessian):
    """A minimisation's, by products only; systems by conjugate gradients, all samples in step."""

    maps: Linearised
    D: Float[Tensor, "b k"]

    def solve(self, r: Tensor, stop: Tensor) -> Tensor:
        def product(v: Tensor) -> Tensor:
            return self.maps.F_x.matvec(v) + self.maps.M.matvec(self.D * self.maps.K.matvec(v))

        return conjugate_gradients(product, r, stop, CG_STEPS_PER_UNKNOWN * r.shape[1])[0]

    def solve_adjoint(self, r: Tensor, stop: Tensor) -> Tensor:
        return self.solve(r, stop)


def _dense(H: Float[Tensor, "b n n"], symmetric: bool) -> _Hessian:
    if symmetric:
        return _Cholesky(torch.linalg.cholesky_ex(H).L)
    return _LU(*torch.linalg.lu_factor(H))


def _norm(map_: LinearMap, like: Tensor) -> float:
    return operator_norm(map_.matvec, map_.rmatvec, like[:1])


def _products(matrix: Float[Tensor, "rows columns"]) -> LinearMap:
    return LinearMap(lambda v: v @ matrix.T, lambda w: w @ matrix, lambda: matrix[None])
