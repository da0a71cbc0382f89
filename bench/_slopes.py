"""The slopes of L along given directions, by differences that rounding does not spoil.

Two routes. Where the sign pattern is the same on both sides of theta, one inverse at theta serves every direction and
step (`two_sided`). On a kink, or where K0 is rank-deficient, every step finds its own pattern (`one_sided`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from bench._exact_lower_level import Solved, change_between, saddle_weight, settle
from bench._lower_level import CERTIFICATE, EPS, LowerLevel, NoReference
from bench._patterns import pattern_of
from bench._sweep import Sweep
from problems.contract import Problem, Structure, Theta

PLATEAU = 4
"""Extrapolated values in a row that must agree; two understated the error by a factor of 260 in a trial."""
STEPS = 6
"""Steps of `two_sided`, each a quarter of the one before."""
FIRST = 1e-3
"""Its first step, relative to the distance to the nearest singular matrix: what the extrapolation leaves is 1e-12."""
ONE_SIDED_STEPS = 12
CORRECTIONS = 12
GAUSS_PLACES, GAUSS_WEIGHTS = 0.5 + np.polynomial.legendre.leggauss(2)[0] / 2.0, np.array([0.5, 0.5])

Entries = Float[np.ndarray, " r"]
Directions = Float[np.ndarray, "r P"]


@dataclass(frozen=True)
class Slopes:
    """Per direction: the slopes from either side and their error bar; both 0 where nothing was found."""

    ahead: Entries
    behind: Entries
    bars: Entries
    usable: Bool[np.ndarray, " r"]
    """There is a derivative: the two slopes agree."""
    kink: Bool[np.ndarray, " r"]
    """There are two slopes, and they differ."""


@dataclass(frozen=True)
class _Differences:
    """Central differences along each direction, a column for each step, NaN where a step was not certified."""

    steps: Float[np.ndarray, "r s"]
    quotients: Float[np.ndarray, "r s"]
    rounding: Float[np.ndarray, "r s"]

    @property
    def extrapolated(self) -> Float[np.ndarray, "r s-1"]:
        """Without the h^2 term, each from two steps."""
        return (16.0 * self.quotients[:, 1:] - self.quotients[:, :-1]) / 15.0


def two_sided(problem: Problem, theta: Theta, level: LowerLevel, base: Solved, directions: Directions) -> Slopes:
    """Extrapolated central differences along each direction D of W, on the base's sign pattern."""
    del theta
    found = _central_differences(problem, level, base, directions)
    values, bars, _ = plateau(found.extrapolated, found.rounding)
    usable = np.isfinite(bars)
    values, bars = np.where(usable, values, 0.0), np.where(usable, bars, 0.0)
    return Slopes(values, values, bars, usable, np.zeros_like(usable))


def two_sided_sweep(problem: Problem, level: LowerLevel, base: Solved, direction: Entries) -> Sweep:
    """The steps of `two_sided` along one direction."""
    found = _central_differences(problem, level, base, direction[None])
    (value,), (bar,), (start,) = plateau(found.extrapolated, found.rounding)
    extrapolated = np.concatenate([[np.nan], found.extrapolated[0]])
    window = slice(start + 1, start + 1 + PLATEAU)
    steps, quotients, rounding = found.steps[0], found.quotients[0], found.rounding[0]
    return Sweep.of(steps, quotients, extrapolated, rounding, window, float(value), float(bar))


def _central_differences(problem: Problem, level: LowerLevel, base: Solved, directions: Directions) -> _Differences:
    """L(W + h D) - L(W - h D) over 2 h, without subtracting the two.

    With (x, u) the solution at W, the changes (dx, du) at W + h D solve, exactly and for every h,

        H dx + M0 du = -h D^T (u + du),    K0 dx = -h D0 (x + dx),

    whose right side shrinks with h and so does its rounding. The inverse of the left side at W, applied again and again
    to what is left, converges by the factor FIRST or less; its last correction is the rounding that remains. Pattern
    and equations are checked at W + h D and W - h D; a step where they fail is not used. Rows of K are in units of
    their lengths, and u in those of M's columns.
    """
    unit, n, on, off = level.unit, len(base.x), base.on, ~base.on
    H, K, M0 = unit.H.astype(float), unit.K.astype(float), unit.M[:, on].astype(float)
    units, lengths, weights = (part.astype(float) for part in (unit.units, unit.lengths, unit.weights))
    K0 = K[on]
    x, u, z, signs = (base.x * unit.units).astype(float), base.u.astype(float), base.z.astype(float), base.signs
    inverse, nearness = _saddle_inverse(level, on)
    D = directions.reshape(len(directions), *K.shape) / units
    D_T, D = D.transpose(0, 2, 1), D / lengths[:, None]
    D0, D_off = D[:, on], D[:, off]

    first = -np.concatenate([D_T @ u, D0 @ x], axis=1) @ inverse.T
    length = np.maximum(np.sqrt((D**2).sum((1, 2))), 1e-300)
    reach = _reach(base, first[:, n:] / weights[on], first[:, :n] @ K[off].T + D_off @ x)
    h = np.minimum(FIRST / (nearness * length), reach / 4.0)
    steps = h[:, None] * 4.0 ** -np.arange(STEPS)
    signed = np.concatenate([steps, -steps], axis=1)[:, None, :]

    change = np.zeros((len(D), n + len(K0), 2 * STEPS))
    X = np.repeat(np.repeat(x[None, :, None], len(D), 0), 2 * STEPS, 2)
    U = np.repeat(np.repeat(u[None, :, None], len(D), 0), 2 * STEPS, 2)
    for _ in range(CORRECTIONS):
        residual = _residual(H, K0, M0, D_T, D0, signed, change, X, U)
        correction = inverse @ residual
        change += correction
        du = change[:, n:] / weights[on, None]
        X, U[:, on] = x[:, None] + change[:, :n], u[on, None] + du
        last, rounded = np.linalg.norm(correction[:, :n], axis=1), 2.0 * EPS * np.linalg.norm(change[:, :n], axis=1)
        last_u = np.abs(correction[:, n:]) / weights[on, None]
        if (last <= rounded).all() and (last_u <= 2.0 * EPS * np.abs(U[:, on])).all():
            break

    residual = np.abs(_residual(H, K0, M0, D_T, D0, signed, change, X, U))
    z_off = z[off, None] + K[off] @ change[:, :n] + signed * (D_off @ X)
    certified = (
        (residual[:, :n].max(axis=1, initial=0.0) <= CERTIFICATE * unit.size_of_b)
        & (residual[:, n:].max(axis=1, initial=0.0) <= CERTIFICATE * unit.size_of_x)
        & (np.abs(U[:, on]).max(axis=1, initial=0.0) <= 1.0)
        & ((z_off * signs[off, None]).min(axis=1, initial=np.inf) > 0.0)
    )
    dx = change[:, :n].transpose(0, 2, 1) / units
    gained = np.where(certified, _gains(problem, x / units, dx), np.nan)
    central = (gained[:, :STEPS] - gained[:, STEPS:]) / (2.0 * steps)
    g = _loss_gradients(problem, (x / units)[None])[0] / units
    off_by = np.maximum(last, rounded)
    rounding = np.linalg.norm(g) * np.maximum(off_by[:, :STEPS], off_by[:, STEPS:]) / steps
    return _Differences(steps, central, np.maximum(rounding, _alike(level, base, inverse, g, D_T, D0)[:, None]))


def _alike(
    level: LowerLevel, base: Solved, inverse: Float[np.ndarray, "s s"], g: np.ndarray, D_T: np.ndarray, D0: np.ndarray
) -> Entries:
    """What rounding changes the slope p^T D^T u + a^T D x by at every step alike.

    (x, u) and the products with them are rounded, and what the entries of H and b may be off by changes (x, u), and
    with the loss's gradient (p, a), by so much times the inverse.
    """
    unit, on, n = level.unit, base.on, len(g)
    units, weights = unit.units.astype(float), unit.weights.astype(float)[on]
    x, u = np.abs(base.x * unit.units).astype(float), np.abs(base.u).astype(float)
    p_and_a = inverse.T @ np.concatenate([g, np.zeros(len(inverse) - n)])
    p, a = np.abs(p_and_a[:n]), np.abs(p_and_a[n:])
    # Independent errors, of which squares add; the products' own are bounded term by term.
    # An entry of H is a sum of terms of the size of its diagonal, one, and rounded more than once.
    size2, rounding2 = inverse**2, (2.0 * unit.rounding) ** 2
    moved = np.sqrt(size2[:, :n] @ (rounding2 * (x @ x + unit.b.astype(float) ** 2)))
    moved_x = moved[:n] + 4.0 * EPS * x + (base.error_x * unit.units).astype(float)
    moved_u = 4.0 * EPS * u + base.error_u
    moved_u[on] += moved[n:] / weights
    of_g = (moved_x / units**2) ** 2 + (EPS * g) ** 2
    adjoint = np.sqrt(size2[:n].T @ (of_g + rounding2 * (p @ p)))
    D_T, D0 = np.abs(D_T), np.abs(D0)
    return D_T @ moved_u @ p + D0 @ moved_x @ a + D_T @ u @ adjoint[:n] + D0 @ x @ adjoint[n:]


def _residual(
    H: np.ndarray, K0: np.ndarray, M0: np.ndarray, D_T: np.ndarray, D0: np.ndarray, h: np.ndarray,
    change: np.ndarray, X: np.ndarray, U: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Of the two equations, one under the other."""
    dx, du = change[:, : len(H)], change[:, len(H) :]
    return -np.concatenate([H @ dx + M0 @ du + h * (D_T @ U), K0 @ dx + h * (D0 @ X)], axis=1)


def _saddle_inverse(level: LowerLevel, on: Bool[np.ndarray, " k"]) -> tuple[Float[np.ndarray, "s s"], float]:
    """The inverse of [H M0; K0 0], and 1 / the distance to a singular matrix when H is weighted as K0 deserves; all in
    units of each row's own."""
    unit, n = level.unit, len(level.b)
    K0, M0 = unit.K[on].astype(float), unit.M[:, on].astype(float)
    weight = saddle_weight(unit, float(np.linalg.svd(K0, compute_uv=False).min(initial=1.0)))
    saddle = np.block([[weight * unit.H.astype(float), M0], [K0, np.zeros((len(K0),) * 2)]])
    inverse = np.linalg.inv(saddle)
    nearness = float(np.linalg.norm(inverse, 2))
    inverse[:, :n] *= weight
    inverse[n:] /= weight
    return inverse, nearness


def _reach(base: Solved, du: Float[np.ndarray, "r m"], dz: Float[np.ndarray, "r l"]) -> Entries:
    """The step at which, to first order, some row of K changes sides."""
    room = np.concatenate([1.0 - np.abs(base.u[base.on]), np.abs(base.z[~base.on])]).astype(float)
    with np.errstate(divide="ignore"):
        return (room / np.abs(np.concatenate([du, dz], axis=1))).min(axis=1, initial=np.inf)


def one_sided(problem: Problem, theta: Theta, level: LowerLevel, base: Solved, directions: Directions) -> Slopes:
    """Extrapolated forward differences from either side, each step on a pattern found and certified where it is."""
    sides = [[one_sided_sweep(problem, theta, level, base, side * row) for row in directions] for side in (1.0, -1.0)]
    (ahead, bars_ahead), (behind, bars_behind) = (
        np.array([(sweep.value, sweep.bar) for sweep in side]).reshape(-1, 2).T for side in sides
    )
    behind = -behind
    # Twice the plateau's spread: what is left of the h^3 term has one sign at all steps.
    bars, found = 2.0 * np.maximum(bars_ahead, bars_behind), np.isfinite(bars_ahead + bars_behind)
    gap = np.abs(ahead - behind)
    # Ten bars, since a bar is an estimate; what is below that widens the bar instead: either slope may be a bar from
    # what was found, and that is half a gap from the middle.
    kink = found & (gap > 10.0 * bars + 1e-9 * np.maximum(np.abs(ahead), np.abs(behind)))
    bars = np.where(kink, bars, bars + gap / 2.0)
    middle = np.where(kink, 0.0, (ahead + behind) / 2.0)
    ahead, behind = np.where(kink, ahead, middle), np.where(kink, behind, middle)
    ahead, behind, bars = (np.where(found, part, 0.0) for part in (ahead, behind, bars))
    return Slopes(ahead, behind, bars, found & ~kink, kink)


def one_sided_sweep(problem: Problem, theta: Theta, level: LowerLevel, base: Solved, direction: Entries) -> Sweep:
    """The slope of L(theta + h d) as h falls to 0, and what it was read off."""
    length = float(np.linalg.norm(direction))
    size_of_theta = sum(float(value.square().sum()) for value in theta.values()) ** 0.5
    first = (
        (size_of_theta or level.size_of_b) / min(max(value.shape) for value in theta.values()) ** 0.5 / 16.0 / length
    )
    first *= share_of(level, _moved(problem, theta, level, first * direction))
    if not 0.0 < first < np.inf:
        raise NoReference("a row of K, a column of M or theta is too small for a step")
    first = 2.0 ** np.floor(np.log2(first))  # few digits, so that theta + h d needs few
    x = base.x.astype(float)
    terms = loss_terms(problem, theta, x)
    last, patterns, found = None, [b""] * ONE_SIDED_STEPS, list[Solved]()
    quotients, rounding = np.full((2, ONE_SIDED_STEPS), np.nan)
    for step in range(ONE_SIDED_STEPS):
        h = first * 4.0**-step
        there = _moved(problem, theta, level, h * direction)
        try:
            solved = settle(there, pattern_of(there) if last is None else last.signs)
        except NoReference:
            last = None
            continue
        last, patterns[step] = solved, solved.signs.tobytes()
        found.append(solved)
        dx, off_by = (part.astype(float) for part in change_between(level, base, there, solved))
        quotients[step] = loss_change(problem, theta, h * direction, x, dx) / h
        # `_moved` rounds theta + h d where it has to, which turns the direction by so much.
        if Structure.TRANSFORM in problem.structure:
            turned = float(np.linalg.norm((there.K - level.K).ravel() - h * direction)) / (EPS * h * length)
        else:
            turned = size_of_theta / (h * length)
        rounded = 4.0 * EPS * (1.0 + turned) * terms.of(dx, h * direction)
        rounding[step] = (rounded + float(terms.x @ off_by)) / h
    # Only the pattern that holds down to the smallest step is that of the limit, if it can be one at theta itself.
    limit = next((pattern for pattern in reversed(patterns) if pattern), b"")
    changes = [step for step, pattern in enumerate(patterns) if pattern not in (limit, b"")]
    quotients[: changes[-1] + 1 if changes else 0] = np.nan
    if not _tends_to(level, base, found[-3:]):
        quotients[:] = np.nan
    once = (4.0 * quotients[1:] - quotients[:-1]) / 3.0  # no h term
    twice = (16.0 * once[1:] - once[:-1]) / 15.0  # no h^2 term
    (value,), (bar,), (start,) = plateau(twice[None], rounding[None])
    extrapolated, window = np.concatenate([[np.nan, np.nan], twice]), slice(start + 2, start + 2 + PLATEAU)
    steps = first * 4.0 ** -np.arange(ONE_SIDED_STEPS)
    return Sweep.of(steps, quotients, extrapolated, rounding, window, float(value), float(bar))


def share_of(level: LowerLevel, moved: LowerLevel) -> float:
    """Of a change of theta: how much of it changes no row of K, no column of M and no row of H by more than a sixteenth
    of its own size; a column that is zero, of the size of b."""
    share = 1.0
    for before, after, axis in ((level.K, moved.K, 1), (level.M, moved.M, 0), (level.H, moved.H, 1)):
        size, change = (np.sqrt((part * part).sum(axis)) for part in (before, after - before))
        zero = np.inf if before is level.K else level.size_of_b
        most = float((change / np.where(size > 0, size, zero)).max(initial=0.0))
        share = min(share, 1.0 / (16.0 * most)) if most > 0 else share
    return share


def _tends_to(level: LowerLevel, base: Solved, last: list[Solved]) -> bool:
    """Whether the solutions at the last three steps, each a quarter of the one before, tend to the base's.

    Only rows that belong to both sides at the base may be on another. x* tends to the base's x*, and where u is the
    only one on its pattern the forces M u tend to something, within what they are bound by at the base. Steps that
    are all too long show a pattern that holds for none of the shorter ones.
    """
    free = base.on if base.rank_defect else base.touching
    if len(last) < 3 or not (last[-1].signs == base.signs)[~free].all():
        return False
    dx = [np.abs(solved.x - base.x) for solved in last]
    rounding = EPS * level.unit.size_of_x / level.unit.units
    if (dx[2] > dx[0] / 4.0 + base.error_x + last[2].error_x + rounding).any():
        return False
    if any(solved.rank_defect for solved in last):
        return True
    first, second = last[1].u - last[0].u, last[2].u - last[1].u
    slack = 4.0 * (last[0].slack_u + last[1].slack_u + last[2].slack_u)
    limit = np.abs(last[2].u + second / 3.0)
    return bool((np.abs(second) <= np.abs(first) / 2.0 + slack).all() and (limit <= 1.0 + slack).all())


def _moved(problem: Problem, theta: Theta, level: LowerLevel, change: Entries) -> LowerLevel:
    """The lower level at theta + change; where theta is K itself, without rounding the sum to double precision."""
    if Structure.TRANSFORM in problem.structure:
        K = level.K + change.reshape(level.K.shape)
        return replace(level, K=K, M=K.T)
    return LowerLevel.of(problem, moved(theta, change))


def moved(theta: Theta, change: Entries) -> Theta:
    """theta + change, rounded to double precision."""
    pieces = torch.split(torch.from_numpy(change), [value.numel() for value in theta.values()])
    return {
        name: value + piece.reshape(value.shape) for (name, value), piece in zip(theta.items(), pieces, strict=True)
    }


def loss_change(
    problem: Problem, theta: Theta, change: Entries, x: Float[np.ndarray, " n"], dx: Float[np.ndarray, " n"]
) -> float:
    """loss(x + dx, theta + change) - loss(x, theta), integrated along the straight line between the two.

    By Gauss's rule with two points: exact for a loss that is quadratic in x and in theta, else to the fifth order.
    """
    total = 0.0
    for place, weight in zip(GAUSS_PLACES, GAUSS_WEIGHTS, strict=True):
        g_x, g_theta = _loss_slopes(problem, moved(theta, place * change), x + place * dx)
        total += weight * float(g_x @ dx + g_theta @ change)
    return total


@dataclass(frozen=True)
class LossTerms:
    """Sizes of what cancels in the loss's partial gradients: what they are without x, and its odd and even powers."""

    x: Float[np.ndarray, " n"]
    theta: Float[np.ndarray, " P"]

    def of(self, dx: Float[np.ndarray, " n"], change: Entries) -> float:
        """Of the loss's change over (dx, change), which is known to a few roundings of this."""
        return float(self.x @ np.abs(dx) + self.theta @ np.abs(change))


def loss_terms(problem: Problem, theta: Theta, x: Float[np.ndarray, " n"]) -> LossTerms:
    """At x."""
    parts = zip(*(_loss_slopes(problem, theta, side * x) for side in (0.0, 1.0, -1.0)), strict=True)
    return LossTerms(*(
        np.abs(zero) + np.abs(ahead - behind) / 2.0 + np.abs((ahead + behind) / 2.0 - zero)
        for zero, ahead, behind in parts
    ))  # fmt: skip


def loss_slope(problem: Problem, theta: Theta, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The loss's partial gradient at x."""
    return _loss_slopes(problem, theta, x)[0]


def _loss_slopes(
    problem: Problem, theta: Theta, x: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " P"]]:
    """Both partial gradients, by automatic differentiation of the loss and not by the family's `loss_gradient`."""
    point = torch.from_numpy(x)[None].requires_grad_()
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    with torch.enable_grad():
        loss = problem.loss(point, leaves)
    g_x, *g_theta = torch.autograd.grad(loss, (point, *leaves.values()), materialize_grads=True)
    return g_x[0].numpy(), torch.cat([part.reshape(-1) for part in g_theta]).numpy()


def _gains(problem: Problem, x: Float[np.ndarray, " n"], dx: Float[np.ndarray, "r s n"]) -> Float[np.ndarray, "r s"]:
    """L(x + dx) - L(x): the loss's gradient half-way times dx, exact for a quadratic loss, else to the third order."""
    flat = dx.reshape(-1, dx.shape[2])
    return (_loss_gradients(problem, x + flat / 2.0) * flat).sum(axis=1).reshape(dx.shape[:2])


def _loss_gradients(problem: Problem, points: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
    """g_x at several points of the one pair."""
    theta = {name: value.detach() for name, value in problem.theta0().items()}
    return torch.func.vmap(lambda x: problem.loss_gradient(x[None], theta)[0][0])(torch.from_numpy(points)).numpy()


def plateau(
    extrapolated: Float[np.ndarray, "r s"], rounding: Float[np.ndarray, "r t"]
) -> tuple[Entries, Entries, Int[np.ndarray, " r"]]:
    """(value, bar, start) of the window of PLATEAU extrapolated values that agree best; infinite bar where none is."""
    values, bars = np.zeros(len(extrapolated)), np.full(len(extrapolated), np.inf)
    starts = np.zeros(len(extrapolated), int)
    for start in range(extrapolated.shape[1] - PLATEAU + 1):
        window = extrapolated[:, start : start + PLATEAU]
        bar = np.maximum(np.ptp(window, axis=1), rounding[:, start : start + PLATEAU + 1].max(axis=1))
        better = bar < bars  # False for NaN: a step that was not certified
        values[better], bars[better], starts[better] = np.median(window, axis=1)[better], bar[better], start
    return values, bars, starts
