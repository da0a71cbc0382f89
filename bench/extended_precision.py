"""The hypergradient of one pair in 50-digit arithmetic: a second reference, which backs the first.

It shares with `bench.reference` the sign pattern and nothing else: no differences, no double precision. The pattern is
proved here once more, with 50 digits. Differences know where there is no derivative; this says so and stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import lu_factor, lu_solve

from bench._exact_lower_level import TOUCH, saddle_weight, solve_exactly
from bench._lower_level import LowerLevel, NoReference, Unit
from problems.contract import Problem

DIGITS = 50
SOLVED = 1e-40
"""Relative residual of the linear systems; the ten digits to spare are for their condition."""
MOST_CORRECTIONS = 60

Digits = np.ndarray
"""Numbers of mpmath in a numpy array, dtype object."""


@dataclass(frozen=True)
class ExtendedGradient:
    """dL/dtheta flattened in theta's order, and the certificate of the pattern that it is taken on."""

    values: Float[np.ndarray, " P"]
    """From p, a, x*, u rounded to double precision: off by a few roundings of |u| |p| + |a| |x*|, entry by entry."""
    residual: float
    """max(||F + M u|| / |b|, ||K0 x*|| / |x|), in 50 digits and units of each row's own."""
    margin_primal: float
    """min s_i (Kx*)_i off the cosupport, each in units of its row's length, relative to the largest."""
    margin_dual: float
    """min 1 - |u_i| on the cosupport."""


def gradient_in_extended_precision(problem: Problem) -> ExtendedGradient:
    """dL/dtheta of a single pair from the saddle system and its adjoint (problems/README.md), solved to 40 digits.

        [ H  M0 ] [x ]   [b - M s]        [ H^T  K0^T ] [p]   [g_x]
        [ K0  0 ] [u0] = [   0   ],       [ M0^T  0   ] [a] = [ 0 ],     dL = g_theta - d/dtheta [<p, F + Mu> + <a, Kx>]

    Each by one LU factorisation in double precision and corrections whose residuals have 50 digits: 0.1 s at n = 64.
    Raises NoReference on a kink and where K0 is rank-deficient: there is no derivative then.
    """
    theta = {name: value.detach() for name, value in problem.theta0().items()}
    level = LowerLevel.of(problem, theta)
    base = solve_exactly(level)
    if base.rank_defect or base.touching.any():
        raise NoReference("there is no derivative here: a row of K touches both sides, or K0 is rank-deficient")
    n, rows, signs = len(base.x), np.flatnonzero(base.on), base.signs
    with mpmath.workdps(DIGITS):
        H, b, K, M, s = (_digits(array) for array in (level.H, level.b, level.K, level.M, signs))
        saddle = _Saddle.of(level, rows)
        solution = saddle.solve(np.concatenate([b - M @ s, _digits(np.zeros(len(rows)))]), transposed=False)
        x, u = solution[:n], s.copy()
        u[rows] = solution[n:]
        residual, margins = _certificate(H @ x + M @ u - b, K @ x, u, signs, level)

        g = problem.loss_gradient(_tensor(x), theta)[0][0].numpy()  # a double's worth of digits, for a x* of as many
        adjoint = saddle.solve(np.concatenate([_digits(g), _digits(np.zeros(len(rows)))]), transposed=True)
        p, a = adjoint[:n], _digits(np.zeros(len(signs)))
        a[rows] = adjoint[n:]
        pulled = problem.pullback(_tensor(p), _tensor(a), _tensor(x), _tensor(u), theta)
        g_theta = problem.loss_gradient(_tensor(x), theta)[1]
    values = torch.cat([(g_theta[name] - pulled[name]).reshape(-1) for name in theta]).numpy()
    return ExtendedGradient(values, residual, *margins)


@dataclass(frozen=True)
class _Saddle:
    """[H M0; K0 0] with 50 digits, in units of each row's own, and its LU factors.

    H and u0 are weighted so that it has the conditioning of K0.
    """

    matrix: Digits
    factors: Any
    weight: float
    unit: Unit
    rows: np.ndarray

    @classmethod
    def of(cls, level: LowerLevel, rows: np.ndarray) -> _Saddle:
        unit = level.unit
        weight = saddle_weight(unit, np.linalg.svd(unit.K[rows].astype(float), compute_uv=False).min(initial=1.0))
        nothing = np.zeros((len(rows),) * 2)
        matrix = np.block([[_digits(unit.H) * weight, _digits(unit.M[:, rows])],
                           [_digits(unit.K[rows]), _digits(nothing)]])  # fmt: skip
        return cls(matrix, lu_factor(matrix.astype(float)), weight, unit, rows)

    def solve(self, right: Digits, transposed: bool) -> Digits:
        """Raises NoReference where the corrections do not converge."""
        matrix, right, n = (self.matrix.T if transposed else self.matrix), right.copy(), len(self.unit.b)
        units, own = _digits(self.unit.units), (self.unit.lengths if transposed else self.unit.weights)[self.rows]
        right[:n] *= self.weight / units
        size = max(abs(right).max(), mpmath.mpf(1e-300))
        solution = right * 0
        for _ in range(MOST_CORRECTIONS):
            residual = right - matrix @ solution
            scale = abs(residual).max()
            if scale <= SOLVED * size:
                solution[:n] /= units
                solution[n:] /= self.weight * _digits(own)
                return solution
            solution += _digits(lu_solve(self.factors, (residual / scale).astype(float), trans=transposed)) * scale
        raise NoReference("the saddle system is too ill-conditioned for corrections from a factor in double precision")


def _certificate(
    stationarity: Digits, z: Digits, u: Digits, signs: np.ndarray, level: LowerLevel
) -> tuple[float, tuple[float, float]]:
    """(residual, margins). Raises NoReference where an inequality fails, or holds by less than TOUCH."""
    on, unit = signs == 0, level.unit
    z = z / _digits(unit.lengths)
    residual = max(
        float(abs(stationarity / _digits(unit.units)).max()) / unit.size_of_b,
        float(abs(z[on]).max(initial=0)) / unit.size_of_x,
    )
    primal, dual = (z * signs)[~on], 1 - abs(u[on])
    margins = float(primal.min() / primal.max()) if primal.size else np.inf, float(dual.min()) if dual.size else np.inf
    if not (residual <= SOLVED * 1e3 and min(margins) > TOUCH):
        raise NoReference(f"the pattern has no certificate: residual {residual:.1e}, margins {margins}")
    return residual, margins


def _digits(array: np.ndarray) -> Digits:
    return np.vectorize(mpmath.mpf, otypes=[object])(array.astype(float)) if array.size else array.astype(object)


def _tensor(vector: Digits) -> torch.Tensor:
    """One sample, rounded to double precision."""
    return torch.from_numpy(vector.astype(float))[None]
