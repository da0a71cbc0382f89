"""How far W can move before the sign pattern of W x*(W) changes: J section 3.2.3 (readings.md J.10, X.10, X.11)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel, NoReference, Signs, Vector
from bench.quantities.contract import Quantity
from methods.contract import Method, Prepared, Solution
from methods.solvers.active_set import ActiveSet
from problems.contract import Problem, Structure, Theta

PAPERS_ETA = 1e-8
ETAS = (PAPERS_ETA, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Sizes of an entry of the perturbation: the paper's, its threshold gamma on |W x|, 1e-3, and others."""
PERTURBATIONS = 250
"""Of W, for each of ETAS, each tried with every y of the call; the paper has thousands of trials."""
DIRECTIONS = 4
"""Along which the distance is measured, for every y."""
NEAREST, FARTHEST = 1e-6, 10.0
"""What the experiment tries first and last, in units of ||W||_F; a larger distance counts as the last."""
GROWTH = 1.1
BISECTIONS = 30
STRIDES = 16
"""The explicit path is looked at so often per doubling of t, and at its poles: see `Path.first_change`."""
SOLVED = 1e-10
"""KKT residual up to which a perturbed problem counts as solved."""


class PatternRadius(Quantity):
    """The distance t at which the sign pattern of W x*(W + t V) first changes, and how often it stays.

    V has unit Frobenius norm and, as the paper's perturbations, independent entries uniform around zero, seeded.
    Distances are relative to ||W||_F; medians and smallest are over the call's y and DIRECTIONS of them each:

        pattern_change_experiment_relative   larger and larger t, then bisection, with the active-set solver
        pattern_change_exact_relative        on the pattern x(t) and u(t) solve linear equations: the first t at which
                                             (W x)_i of the support is 0, or |u_i| of the cosupport is 1
        pattern_change_linear_relative       the same from the margins and their slopes at t = 0
        *_smallest_relative                  the smallest of each
        pattern_change_exact_deviation       largest |experiment / exact - 1|
        pattern_change_linear_deviation      median |linear / exact - 1|
        pattern_directions_count             how many there were
        papers_perturbation_relative         eta sqrt(k n / 3), the size of the paper's perturbation, at its eta = 1e-8
        pattern_kept_share_<eta>             share of perturbations with entries uniform in (-eta, eta) that keep it
        pattern_trials_count                 of each eta

    Distances are left out where W is zero, and where there is none: no pair has a pattern with a unique u and positive
    margins. Time: PERTURBATIONS solves of the batch for each eta, and some hundred of a pair per direction.
    """

    def of(
        self, problem: Problem, method: Method, prepared: Prepared, theta: Theta, solution: Solution
    ) -> dict[str, float]:
        """Raises ValueError for a family without W."""
        del method, prepared, solution
        if Structure.TRANSFORM not in problem.structure:
            raise ValueError(
                f"pattern_radius moves W, which {type(problem).__name__} has not: use the family analysis_l1"
            )
        problem, W = problem.to("cpu", torch.float64), theta["W"].detach().cpu().double()
        rng = np.random.default_rng([0, *W.shape])
        return kept_shares(problem, W, rng) | distances(problem, W, rng)


def kept_shares(problem: Problem, W: Float[torch.Tensor, "k n"], rng: np.random.Generator) -> dict[str, float]:
    """The shares of perturbations that keep the pattern, by eta. Only trials that were solved count."""
    before, _ = patterns(problem, W)
    shares, trials = {}, 0
    for eta in ETAS:
        kept = []
        for _ in range(PERTURBATIONS):
            after, solved = patterns(problem, W + torch.from_numpy(rng.uniform(-eta, eta, W.shape)))
            kept += (after == before).all(1)[solved].tolist()
        if kept:
            shares[f"pattern_kept_share_{eta:.0e}"], trials = float(np.mean(kept)), len(kept)
    return {**shares, "pattern_trials_count": float(trials)}


def distances(problem: Problem, W: Float[torch.Tensor, "k n"], rng: np.random.Generator) -> dict[str, float]:
    """The distances of all pairs and directions, relative to ||W||_F."""
    size = float(W.norm())
    if size == 0.0:
        return {}
    found: list[tuple[float, float, float]] = []
    for b in range(problem.batch):
        pair = problem.subset(slice(b, b + 1))
        level = LowerLevel.of(pair, {"W": W})
        try:
            solved = solve_exactly(level)
        except NoReference:
            continue
        if solved.rank_defect or solved.touching.any():
            continue
        for _ in range(DIRECTIONS):
            V = rng.uniform(-1.0, 1.0, W.shape)
            V /= np.linalg.norm(V)
            path = Path.of(level, solved.signs, V)
            numbers = change_by_experiment(pair, W, V), path.first_change(FARTHEST * size), path.linear_change
            found.append(tuple(min(number / size, FARTHEST) for number in numbers))  # type: ignore[arg-type]
    if not found:
        return {}
    experiment, exact, linear = np.array(found).T
    named = {"experiment": experiment, "exact": exact, "linear": linear}
    return {
        **{f"pattern_change_{name}_relative": float(np.median(values)) for name, values in named.items()},
        **{f"pattern_change_{name}_smallest_relative": float(values.min()) for name, values in named.items()},
        "pattern_change_exact_deviation": float(np.abs(experiment / exact - 1.0).max()),
        "pattern_change_linear_deviation": float(np.median(np.abs(linear / exact - 1.0))),
        "pattern_directions_count": float(len(found)),
        "papers_perturbation_relative": PAPERS_ETA * math.sqrt(W.numel() / 3.0) / size,
    }


def patterns(
    problem: Problem, W: Float[torch.Tensor, "k n"]
) -> tuple[Float[np.ndarray, "b k"], Float[np.ndarray, " b"]]:
    """The sign patterns of W x*(W) that the active-set solver certifies, and for which pairs it does."""
    certificate = ActiveSet().solve(problem, {"W": W}).certificate
    assert certificate is not None
    return certificate.pattern.numpy(), certificate.residual.numpy() <= SOLVED


def change_by_experiment(pair: Problem, W: Float[torch.Tensor, "k n"], V: Float[np.ndarray, "k n"]) -> float:
    """The t at which the solver's pattern changes, to 1e-10 relative; infinite where none is found up to FARTHEST."""
    size, direction = float(W.norm()), torch.from_numpy(V)
    before, _ = patterns(pair, W)

    def changed(t: float) -> bool:
        return not np.array_equal(patterns(pair, W + t * direction)[0], before)

    near, far = 0.0, NEAREST * size
    while not changed(far):
        near, far = far, GROWTH * far
        if not near <= FARTHEST * size < math.inf:
            return math.inf
    for _ in range(BISECTIONS):
        middle = 0.5 * (near + far)
        near, far = (near, middle) if changed(middle) else (middle, far)
    return 0.5 * (near + far)


@dataclass(frozen=True)
class Path:
    """x(t) and u_0(t) of W + t V on one sign pattern, W0 and V0 the rows on its cosupport:

        [ H         (W0 + t V0)^T ] [x  ]   [ b - (W + t V)^T s ]
        [ W0 + t V0       0       ] [u_0] = [ 0                 ],    s the signs, zero on the cosupport.

    It is the solution for as long as every margin is positive: s_i ((W + t V) x)_i off the cosupport, 1 - u_i and
    1 + u_i on it.
    """

    H: Float[np.ndarray, "n n"]
    b: Vector
    W: Float[np.ndarray, "k n"]
    V: Float[np.ndarray, "k n"]
    signs: Signs

    @classmethod
    def of(cls, level: LowerLevel, signs: Signs, V: Float[np.ndarray, "k n"]) -> Path:
        return cls(level.H.astype(float), level.b.astype(float), level.K.astype(float), V, signs)

    def at(self, t: float) -> tuple[Float[np.ndarray, " margins"], Float[np.ndarray, " margins"]]:
        """The margins and their derivatives over t."""
        on, s, n = self.signs == 0, self.signs, len(self.b)
        W, V, zero = self.W + t * self.V, self.V, np.zeros(int((self.signs == 0).sum()))
        system = np.block([[self.H, W[on].T], [W[on], np.zeros((len(zero), len(zero)))]])
        v = np.linalg.solve(system, np.concatenate([self.b - W.T @ s, zero]))
        x, u = v[:n], v[n:]
        slope = np.linalg.solve(system, np.concatenate([-V.T @ s - V[on].T @ u, -V[on] @ x]))
        x_slope, u_slope = slope[:n], slope[n:]
        support = s[~on] * (W[~on] @ x), s[~on] * (V[~on] @ x + W[~on] @ x_slope)
        return np.concatenate([support[0], 1.0 - u, 1.0 + u]), np.concatenate([support[1], -u_slope, u_slope])

    @cached_property
    def linear_change(self) -> float:
        """The first t at which a margin vanishes if all keep the slope that they have at t = 0."""
        margins, slopes = self.at(0.0)
        falling = slopes < 0
        return float((margins[falling] / -slopes[falling]).min(initial=math.inf))

    def first_change(self, farthest: float) -> float:
        """The first t at which a margin vanishes; infinite where none does up to `farthest`.

        x(t) and u(t) are rational, smooth on the scale of t itself but near their poles, where the system is singular:
        there a margin can vanish and return within any small interval. Both are looked at, for a change of sign.
        """
        first, poles = min(self.linear_change, farthest), iter(self._near_poles())
        t, pole = 0.0, next(poles, math.inf)
        while t < farthest:
            there = min(t + max(first, t) / STRIDES, pole)
            while pole <= there:
                pole = next(poles, math.inf)
            crossed = np.flatnonzero(self.at(there)[0] <= 0.0)
            if crossed.size:
                return min(self._zero(int(row), t, there) for row in crossed)
            t = there
        return math.inf

    def _near_poles(self) -> list[float]:
        """Ascending t > 0 at and beside the poles: real part, and that plus and minus the imaginary part; or, for a
        real pole, just before and after it.

        S0 + t S1 is singular where 1 / t is an eigenvalue of -S0^-1 S1.
        """
        on, n = self.signs == 0, len(self.b)
        corner = np.zeros((int(on.sum()),) * 2)
        S0 = np.block([[self.H, self.W[on].T], [self.W[on], corner]])
        S1 = np.block([[np.zeros((n, n)), self.V[on].T], [self.V[on], corner]])
        inverse = np.linalg.eigvals(-np.linalg.solve(S0, S1))
        poles = 1.0 / inverse[np.abs(inverse) > 1e-12 * np.abs(inverse).max(initial=0.0)]
        width = np.maximum(np.abs(poles.imag), 1e-9 * np.abs(poles.real))
        looks = np.concatenate([poles.real - width, poles.real[poles.imag != 0], poles.real + width])
        return sorted(looks[looks > 0].tolist())

    def _zero(self, margin: int, near: float, far: float) -> float:
        return float(brentq(lambda t: self.at(t)[0][margin], near, far, xtol=1e-15 * far, rtol=1e-14))
