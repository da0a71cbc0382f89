"""Extrapolated central differences of L for any family: the lower level is read off anew at each step.

Where theta is W itself, `_slopes.two_sided` does the same for all directions at once, and without rounding theta + h d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bench._exact_lower_level import Solved, change_between, settle
from bench._lower_level import EPS, LowerLevel, Matrix, NoReference, Vector
from bench._slopes import (
    PLATEAU,
    Directions,
    Entries,
    Slopes,
    loss_change,
    loss_slope,
    loss_terms,
    moved,
    plateau,
    share_of,
)
from bench._smooth_lower_level import SmoothLevel, newton, solve_smoothly
from bench._sweep import Sweep
from problems.contract import Problem, Theta

FIRST = 1.0 / 8.0
"""The first step: this share of the size of theta's entries."""
SMALLEST = 2.0**-44
"""The last step that is tried, relative to the first."""
SHRINK = 8.0
"""What a step is divided by where the solution at its end is on another pattern."""


@dataclass(frozen=True)
class Path:
    """x*(theta) near a base point, as far as it is on the base's sign pattern."""

    x: Vector
    follow: Callable[[Theta], tuple[Vector, Vector] | None]
    """x*(theta) - x and, for numbers of F, K and M as they are, a bound on its error; None where
    the pattern does not hold there, or the equations are not solved to the certificate."""
    share: Callable[[Theta], float]
    """How much of a change of theta changes no row of K, and no column of M, by more than a sixteenth of its size."""
    rounding: float
    """What rounding the numbers of F, K and M changes L by, to first order: eps times the root of the sum of squares
    of the terms of p^T (F + M u) and a^T K x, with (p, a) the loss's sensitivity to the two equations."""
    computed: float
    """The same without the numbers that are entries of theta themselves, which no formula has rounded."""


def path_on_pattern(problem: Problem, theta: Theta, level: LowerLevel, base: Solved) -> Path:
    """Of an l1 lower level: the linear equations of the pattern, in extended precision, and the certificate."""

    def follow(theta: Theta) -> tuple[Vector, Vector] | None:
        there = LowerLevel.of(problem, theta)
        try:
            change, error = change_between(level, base, there, settle(there, base.signs, may_move=False))
        except NoReference:
            return None
        return change.astype(float), error.astype(float)

    x, u = base.x.astype(float), base.u.astype(float)
    p, a = adjoint(level, base, loss_slope(problem, theta, x))
    H, b, K, M = (part.astype(float) for part in (level.H, level.b, level.K, level.M))

    def share(theta: Theta) -> float:
        return share_of(level, LowerLevel.of(problem, theta))

    # The numbers of F are exact where theta does not enter them and the data term is that of denoising.
    elsewhere = LowerLevel.of(problem, {name: value + 0.5 for name, value in theta.items()})
    same = np.array_equal(elsewhere.H, level.H) and np.array_equal(elsewhere.b, level.b)
    of_F = 0.0 if same and not level.unit.rounding else 1.0
    computed = _rounding(p, a, x, u, of_F * H, of_F * b, *(_without_copies(part, theta) for part in (K, M)))
    return Path(x, follow, share, _rounding(p, a, x, u, H, b, K, M), computed)


def _without_copies(matrix: Matrix, theta: Theta) -> Matrix:
    """Zero where the entry is one, or one of theta's, but for the sign."""
    return np.where(np.isin(np.abs(matrix), [1.0, *np.abs(_flat(theta))]), 0.0, matrix)


def _rounding(p: Vector, a: Vector, x: Vector, u: Vector, H: Matrix, b: Vector, K: Matrix, M: Matrix) -> float:
    of_F = p**2 @ (H**2 @ x**2 + b**2)
    return EPS * float(np.sqrt(of_F + p**2 @ M**2 @ u**2 + a**2 @ K**2 @ x**2))


def adjoint(level: LowerLevel, base: Solved, g: Vector) -> tuple[Vector, Float[np.ndarray, " k"]]:
    """(p, a) of the transposed saddle system (problems/README.md); the shortest where the cosupport is dependent.

    In units of each row's own, so that the cut-off does not depend on any."""
    unit, n, on = level.unit, len(base.x), base.on
    H, K0, M0 = (part.astype(float) for part in (unit.H, unit.K[on], unit.M[:, on]))
    h = np.abs(H).max()
    system = np.block([[H.T / h, K0.T], [M0.T, np.zeros((len(K0), len(K0)))]])
    right = np.concatenate([g / unit.units.astype(float), np.zeros(len(K0))])
    found = np.linalg.lstsq(system, right, rcond=1e-12)[0]
    a = np.zeros(len(on))
    a[on] = found[n:] / unit.lengths[on].astype(float)
    return found[:n] / h / unit.units.astype(float), a


def path_of_smooth(problem: Problem, theta: Theta) -> Path:
    """Of a smooth penalty: Newton's method from the base, on the same pieces of the penalty. Raises NoReference."""
    level = SmoothLevel.of(problem, theta)
    x = solve_smoothly(level)
    pieces = level.pieces(x)

    def follow(theta: Theta) -> tuple[Vector, Vector] | None:
        there = SmoothLevel.of(problem, theta)
        x_there = newton(there, x)
        holds = there.certified(x_there) and np.array_equal(there.pieces(x_there), pieces)
        return (x_there - x, np.zeros_like(x)) if holds else None

    try:
        p = np.linalg.solve(level.jacobian(x).T, loss_slope(problem, theta, x))
    except np.linalg.LinAlgError as failure:
        raise NoReference("the smooth lower level has a singular Jacobian at x*") from failure
    z = level.K @ x
    u, a = level.derivative(z), level.second_derivative(z) * (level.M.T @ p)
    b = -level.F(np.zeros_like(x))
    rounding = _rounding(p, a, x, u, level.F_x(x), b, level.K, level.M)
    return Path(x, follow, lambda there: 1.0, rounding, rounding)


def central(problem: Problem, theta: Theta, path: Path, directions: Directions) -> Slopes:
    """The slope along each direction, from central differences with the h^2 and h^4 terms extrapolated away.

    Steps are halved until rounding alone exceeds the best plateau's spread: 10 to 15 steps, each with two solutions.
    Entries without a plateau are neither usable nor a kink.
    """
    sweeps = [central_sweep(problem, theta, path, direction) for direction in directions]
    found = np.array([(sweep.value, sweep.bar) for sweep in sweeps]).reshape(-1, 2)
    usable = np.isfinite(found[:, 1])
    values, bars = np.where(usable[:, None], found, 0.0).T
    return Slopes(values, values, bars, usable, np.zeros_like(usable))


def central_sweep(problem: Problem, theta: Theta, path: Path, direction: Entries) -> Sweep:
    """The slope along one direction, and the steps that it was read off."""
    entries = direction[direction != 0.0]
    first = FIRST * (_root_mean_square(_flat(theta)) or 1.0) / _root_mean_square(entries)
    first *= min(1.0, 16.0 * path.share(moved(theta, first * direction)))
    steps, quotients, extrapolated, roundings = (list[float]() for _ in range(4))
    in_a_row, window, terms = 0, slice(0, 0), loss_terms(problem, theta, path.x)
    h, value, bar = first, 0.0, np.inf
    while SMALLEST * first <= h < np.inf:
        ahead, behind = (moved(theta, side * h * direction) for side in (1.0, -1.0))
        at_ahead, at_behind = path.follow(ahead), path.follow(behind)
        if at_ahead is None or at_behind is None:
            in_a_row, h = 0, h / SHRINK
            continue
        (dx_ahead, error_ahead), (dx_behind, error_behind) = at_ahead, at_behind
        step = _flat(ahead) - _flat(behind)  # what is left of 2 h d once theta + h d and theta - h d are rounded
        length = float(step @ direction / (direction @ direction))
        dx = dx_ahead - dx_behind
        gained = loss_change(problem, behind, step, path.x + dx_behind, dx)
        # Where the step is along the direction to the last digit, copies of theta's entries are exact in it.
        of_numbers = path.computed if np.array_equal(step, length * direction) else path.rounding
        lost = 4.0 * EPS * terms.of(dx, step) + float(terms.x @ (error_ahead + error_behind))
        in_a_row += 1
        steps.append(h)
        quotients.append(gained / length)
        roundings.append((4.0 * of_numbers + lost) / length)
        extrapolated.append(_extrapolated(quotients[-3:]) if in_a_row >= 3 else np.nan)
        if in_a_row >= PLATEAU + 2:
            agreeing = np.array(extrapolated[-PLATEAU:])
            (there,), (spread,), _ = plateau(agreeing[None], np.full((1, PLATEAU + 1), roundings[-1]))
            if spread < bar:
                value, bar, window = float(there), float(spread), slice(len(steps) - PLATEAU, len(steps))
        if roundings[-1] >= bar:
            break
        h /= 2.0
    h_taken, differences, found, rounding = (np.array(part) for part in (steps, quotients, extrapolated, roundings))
    return Sweep.of(h_taken, differences, found, rounding, window, value, bar)


def _extrapolated(quotients: list[float]) -> float:
    """Of three steps, each half of the one before: without the h^2 and the h^4 term."""
    first, second = ((4.0 * quotients[i + 1] - quotients[i]) / 3.0 for i in (0, 1))
    return (16.0 * second - first) / 15.0


def _flat(theta: Theta) -> Entries:
    return np.concatenate([value.numpy().ravel() for value in theta.values()])


def _root_mean_square(entries: Entries) -> float:
    return float(np.sqrt(np.square(entries).mean()))
