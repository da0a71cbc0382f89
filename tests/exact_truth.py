"""Small l1 lower levels in 450 digits: x*, its sign pattern, and what the loss's slopes are, also where there are two.

Nothing here is shared with the suite but the numbers that state an instance. The lower level is a linear
complementarity problem, which Lemke's pivoting solves in finitely many steps wherever it starts from; every answer is
checked against the inclusion. A slope is the change of L over a step of 1e-120, on whatever pattern holds at its end:
no case of a kink, of dependent rows or of a row that is zero needs a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from problems.analysis_l1 import AnalysisL1
from problems.contract import Problem
from problems.patch_game import PatchGame
from problems.synthesis_lasso import SynthesisLasso
from problems.tv_game import TvGame

DIGITS = 450
ZERO = mpf(10) ** -200
"""Below this, relative to the terms that cancel, a number of the instance itself is zero: its inputs are doubles."""
STEP = mpf(10) ** -120
ZERO_ON_A_STEP = mpf(10) ** -330

Digits = np.ndarray
"""mpf numbers in a numpy array, dtype object."""


class NotKnown(Exception):
    """This oracle has no truth for the instance: several x*, or one that it cannot prove to be the only one."""


@dataclass(frozen=True)
class Level:
    """0 in H x - b + M dg(K x)."""

    H: Digits
    b: Digits
    K: Digits
    M: Digits


@dataclass(frozen=True)
class Family:
    """An instance as functions of theta, flattened in the order of `theta0`."""

    theta: Digits
    level: Callable[[Digits], Level]
    loss: Callable[[Digits, Digits], Any]
    """(x, theta) -> L."""


@dataclass(frozen=True)
class Point:
    """A solution; u is one of many certificates where `defect` is not zero."""

    x: Digits
    u: Digits
    z: Digits
    on: np.ndarray
    """Where z is zero."""
    defect: int
    """Rows of K, or columns of M, on the cosupport that others span."""
    touching: np.ndarray
    """Where z_i = 0 and |u_i| = 1; meaningless where there is a defect."""

    @property
    def smooth(self) -> bool:
        """The pattern holds all around theta, whatever changes."""
        return not (self.defect or self.touching.any())


@dataclass(frozen=True)
class Truth:
    """Entry by entry: d/dt L(theta + t e_j) as t falls to 0, and as it rises to 0."""

    point: Point
    ahead: Digits
    behind: Digits
    kink: np.ndarray


def truth(problem: Problem, entries: np.ndarray | None = None) -> Truth:
    """Of a single pair, in the given entries of theta. Raises NotKnown."""
    with mpmath.workdps(DIGITS):
        family = of(problem)
        base = solve(family.level(family.theta))
        entries = np.arange(len(family.theta)) if entries is None else entries
        slopes = smooth_slopes if base.smooth else one_sided_slopes
        ahead, behind = slopes(family, base, entries)
        # What is left of 450 digits once they are divided by the step is far below the second term.
        noise = mpf(10) ** -40 * (abs(ahead) + abs(behind)) + ZERO
        kink = np.asarray(abs(ahead - behind) > noise, bool)
        return Truth(base, ahead, behind, kink)


def smooth_slopes(family: Family, base: Point, entries: np.ndarray) -> tuple[Digits, Digits]:
    """By the saddle system's transpose and its pull-back; the latter by differences of 1e-120."""
    level, on, n = family.level(family.theta), base.on, len(base.x)
    g_x = np.array([_slope(lambda x: family.loss(x, family.theta), base.x, j) for j in range(n)])
    saddle = np.block([[level.H.T, level.K[on].T], [level.M[:, on].T, zeros(on.sum(), on.sum())]])
    found = linear(saddle, np.concatenate([g_x, zeros(on.sum())]))
    p, a = found[:n], zeros(len(on))
    a[on] = found[n:]

    def lagrangian(theta: Digits) -> Any:
        level = family.level(theta)
        pulled = p @ (level.H @ base.x - level.b + level.M @ base.u) + a @ (level.K @ base.x)
        return family.loss(base.x, theta) - pulled

    slopes = np.array([_slope(lagrangian, family.theta, j) for j in entries])
    return slopes, slopes


def _slope(f: Callable[[Digits], Any], at: Digits, j: int) -> Any:
    ahead = at.copy()
    ahead[j] += STEP
    return (f(ahead) - f(at)) / STEP


def one_sided_slopes(family: Family, base: Point, entries: np.ndarray) -> tuple[Digits, Digits]:
    """By solving anew. Rows with z_i != 0 keep their sign on so small a step, and so does an inner u_i that is the
    only one; the others find theirs."""
    at_base = family.loss(base.x, family.theta)
    free = base.on if base.defect else base.touching
    found = []
    for side in (1, -1):
        for j in entries:
            theta = family.theta.copy()
            theta[j] += side * STEP
            x = solve_near(family.level(theta), base, free)
            found.append((family.loss(x, theta) - at_base) / (side * STEP))
    ahead, behind = np.array(found, object).reshape(2, -1)
    return ahead, behind


def solve(level: Level) -> Point:
    """Raises NotKnown where x* may not be the only one."""
    n = len(level.b)
    size = max(abs(level.H).max(), mpf(1e-300))
    # A data term that is flat somewhere is made strictly convex by so little that the pattern is one of its own.
    lifted = level.H if _rank(level.H) == n else level.H + np.diag([size * mpf(10) ** -160] * n)
    solved = linear(lifted, np.column_stack([-level.M, level.b]))
    G_and_c = level.K @ solved
    u = box_lcp(-G_and_c[:, :-1], G_and_c[:, -1], ZERO)
    x, terms = _combined(solved, u)
    on = np.asarray(abs(level.K @ x) <= ZERO * (abs(level.K) @ terms), bool)
    if lifted is not level.H:
        x, u = _on_pattern(level, np.where(on, mpf(0), u))
        terms = abs(x) + 1  # those of the lifted data term are of the size of what it was lifted by
        inner = on & np.array([abs(entry) < 1 - ZERO for entry in u], bool)
        if _rank(np.vstack([level.H, level.K[inner]])) < n:
            raise NotKnown
    z = level.K @ x
    z[on] = mpf(0)
    defect = int(on.sum()) - min(_rank(level.K[on]), _rank(level.M[:, on]))
    touching = np.array([bool(there) and abs(entry) >= 1 - ZERO for there, entry in zip(on, u, strict=True)], bool)
    _check(level, x, terms, u, mpf(10) ** -150)
    return Point(x, u, z, on, defect, touching)


def _combined(solved: Digits, u: Digits) -> tuple[Digits, Digits]:
    """(solved (u, 1), the terms that cancel in it)."""
    return solved[:, :-1] @ u + solved[:, -1], abs(solved[:, :-1]) @ abs(u) + abs(solved[:, -1])


def _on_pattern(level: Level, signs: Digits) -> tuple[Digits, Digits]:
    on, n = signs == 0, len(level.b)
    saddle = np.block([[level.H, level.M[:, on]], [level.K[on], zeros(on.sum(), on.sum())]])
    if _rank(saddle) < len(saddle):
        raise NotKnown
    solution = linear(saddle, np.concatenate([level.b - level.M @ signs, zeros(on.sum())]))
    u = signs.copy()
    u[on] = solution[n:]
    return solution[:n], u


def solve_near(level: Level, base: Point, free: np.ndarray) -> Digits:
    """x* of a level that differs from the base's by the step; only the `free` rows may change sides."""
    n, held = len(base.x), base.on & ~free
    s = np.where(base.on, mpf(0), np.array([mpmath.sign(z) for z in base.z]))
    saddle = np.block([[level.H, level.M[:, held]], [level.K[held], zeros(held.sum(), held.sum())]])
    right = np.column_stack([-level.M[:, free], level.b - level.M @ s])
    if _rank(saddle) < len(saddle):
        raise NotKnown
    solved = linear(saddle, np.vstack([right, zeros(held.sum(), right.shape[1])]))
    G_and_c = level.K[free] @ solved[:n]
    v = box_lcp(-G_and_c[:, :-1], G_and_c[:, -1], ZERO_ON_A_STEP)
    solution, terms = _combined(solved, v)
    u = s.copy()
    u[free], u[held] = v, solution[n:]
    _check(level, solution[:n], terms[:n], u, mpf(10) ** -150)
    return solution[:n]


def _check(level: Level, x: Digits, size_of_x: Digits, u: Digits, tolerance: Any) -> None:
    """The inclusion itself, row by row relative to what cancels there. Raises NotKnown where it fails: 450 digits were
    not enough for rows this dependent."""
    left = level.H @ x - level.b + level.M @ u
    terms = abs(level.H) @ size_of_x + abs(level.b) + abs(level.M) @ abs(u)
    good = bool((abs(left) <= tolerance * max(terms.max(), mpf(1e-300))).all())
    z, size = level.K @ x, abs(level.K) @ size_of_x
    for z_i, u_i, size_i in zip(z, u, size, strict=True):
        vanishes = abs(z_i) <= tolerance * (size_i + ZERO)
        good &= abs(u_i) <= 1 + tolerance and (vanishes or abs(u_i - mpmath.sign(z_i)) <= tolerance)
    if not good:
        raise NotKnown


def box_lcp(G: Digits, c: Digits, zero: Any) -> Digits:
    """u in [-1, 1] with z = c - G u, z_i >= 0 where u_i = 1, z_i <= 0 where u_i = -1, z_i = 0 between.

    With v = (u + 1) / 2: v >= 0 is complementary to the negative part of z, and 1 - v >= 0 to its positive part y,

        z^- = -(c + G 1) + 2 G v + y,     1 - v = 1 - v.
    """
    k = len(c)
    if not k:
        return c
    eye, rows = _eye(k), np.array([max(entry, mpf(1e-300)) for entry in abs(G).sum(1) + abs(c)])
    N = np.block([[2 * G / rows[:, None], eye], [-eye, zeros(k, k)]])
    q = np.concatenate([-(c + G.sum(1)) / rows, np.array([mpf(1)] * k)])
    return 2 * lemke(N, q, zero)[:k] - 1


def lemke(N: Digits, q: Digits, zero: Any) -> Digits:
    """v >= 0 with w = q + N v >= 0 and v^T w = 0, by Lemke's complementary pivoting.

    Ties are broken by a second right side of random numbers, as if it were added, times an infinitesimal one. Raises
    NotKnown on a ray.
    """
    m = len(q)
    second = np.array([mpf(entry) for entry in np.random.default_rng(0).uniform(1, 2, m)])
    # Columns: w, v, the artificial variable, the two right sides.
    T = np.column_stack([_eye(m), -N, np.array([mpf(-1)] * m), q, second])
    basis, artificial = list(range(m)), 2 * m

    def smaller(rows: list[int], column: Digits) -> int:
        def ratio(i: int) -> Any:
            return T[i, -2] / column[i]

        least = min(ratio(i) for i in rows)
        tied = [i for i in rows if ratio(i) - least <= zero]
        if any(basis[i] == artificial for i in tied):
            return next(i for i in tied if basis[i] == artificial)
        return min(tied, key=lambda i: T[i, -1] / column[i])

    if (q >= 0).all():
        return zeros(m)
    entering, leaving = artificial, smaller(list(range(m)), np.array([mpf(1)] * m))
    for _ in range(2000):
        T[leaving] = T[leaving] / T[leaving, entering]
        for i in range(m):
            if i != leaving and T[i, entering] != 0:
                T[i] = T[i] - T[i, entering] * T[leaving]
        gone, basis[leaving] = basis[leaving], entering
        if gone == artificial:
            v = zeros(2 * m)
            v[basis] = T[:, -2]
            return v[m:]
        entering = gone + m if gone < m else gone - m
        column = T[:, entering]
        rows = [i for i in range(m) if column[i] > zero]
        if not rows:
            raise NotKnown
        leaving = smaller(rows, column)
    raise NotKnown


# --- linear algebra ---------------------------------------------------------------------------------------------------


def linear(matrix: Digits, right: Digits) -> Digits:
    """matrix^-1 right, by elimination with row scaling and pivoting."""
    n = len(matrix)
    T = np.column_stack([matrix, right]).astype(object)
    for j in range(n):
        size = [max(abs(T[i, j:n]).max(), mpf(1e-300)) for i in range(j, n)]
        pivot = j + max(range(n - j), key=lambda i: abs(T[j + i, j]) / size[i])
        T[[j, pivot]] = T[[pivot, j]]
        T[j, j:] = T[j, j:] / T[j, j]
        for i in range(n):
            if i != j and T[i, j] != 0:
                T[i, j:] = T[i, j:] - T[i, j] * T[j, j:]
    return T[:, n:].reshape(n, *right.shape[1:])


def _rank(matrix: Digits) -> int:
    """Of rows whose entries are exact."""
    T, rank = matrix.copy(), 0
    size = abs(T).max(axis=1, initial=mpf(0)) if T.size else np.empty(0)
    T = T[size > 0] / size[size > 0][:, None] if T.size else T
    while T.size:
        i, j = np.unravel_index(int(np.argmax(abs(T))), T.shape)
        if abs(T[i, j]) <= ZERO:
            break
        rank += 1
        row = T[i] / T[i, j]
        T = np.delete(T - np.outer(T[:, j], row), i, axis=0)
    return rank


def zeros(*shape: int) -> Digits:
    return np.full(tuple(map(int, shape)), mpf(0), object)


def _eye(k: int) -> Digits:
    return np.where(np.eye(k, dtype=bool), mpf(1), mpf(0))


def digits(array: Any) -> Digits:
    """Every double as it is."""
    array = np.asarray(array, float)
    return np.vectorize(mpf, otypes=[object])(array) if array.size else array.astype(object)


# --- the families -----------------------------------------------------------------------------------------------------


def of(problem: Problem) -> Family:
    """A single pair. Each family's formulas once more, as its module's docstring states them."""
    makers: dict[type, Callable[[Any], Family]] = {
        AnalysisL1: _analysis, SynthesisLasso: _synthesis, TvGame: _tv_game, PatchGame: _patch_game,
    }  # fmt: skip
    return makers[type(problem)](problem)


def _flat(problem: Problem) -> Digits:
    return digits(np.concatenate([value.numpy().ravel() for value in problem.theta0().values()]))


def _half_square(v: Digits) -> Any:
    return (v @ v) / 2


def _analysis(problem: AnalysisL1) -> Family:
    k, n = problem.W.shape
    A = _eye(n) if problem.A is None else digits(problem.A)
    c = 1 if problem.settings.fidelity == "half" else 2
    H, b, x_true = c * (A.T @ A), c * (A.T @ digits(problem.y[0])), digits(problem.x_true[0])
    return Family(
        _flat(problem),
        lambda theta: Level(H, b, theta.reshape(k, n), theta.reshape(k, n).T),
        lambda x, theta: _half_square(x - x_true),
    )


def _synthesis(problem: SynthesisLasso) -> Family:
    m, p = problem.D.shape
    A = _eye(m) if problem.A is None else digits(problem.A)
    y, x_true, weight = digits(problem.y[0]), digits(problem.x_true[0]), mpf(problem.settings.weight)

    def level(theta: Digits) -> Level:
        AD = A @ theta.reshape(m, p)
        return Level(AD.T @ AD, AD.T @ y, weight * _eye(p), weight * _eye(p))

    def loss(x: Digits, theta: Digits) -> Any:
        return _half_square(theta.reshape(m, p) @ x - x_true)

    assert problem.settings.loss == "supervised"
    return Family(_flat(problem), level, loss)


def _tv_game(problem: TvGame) -> Family:
    starts, ends, n = problem.graph.starts.numpy(), problem.graph.ends.numpy(), problem.graph.n
    ahead, back = (problem.weights.tensors()[name].numpy() for name in ("ahead", "back"))
    rows, k = np.arange(len(starts)), len(starts)
    y, x_true = digits(problem.y[0]), digits(problem.x_true[0])

    def level(theta: Digits) -> Level:
        K, M = zeros(k, n), zeros(n, k)
        K[rows, starts], K[rows, ends] = mpf(1), mpf(-1)
        M[starts, rows], M[ends, rows] = theta[ahead], -theta[back]
        return Level(_eye(n), y, M.T if problem.settings.symmetric else K, M)

    return Family(_flat(problem), level, lambda x, theta: _half_square(x - x_true))


def _patch_game(problem: PatchGame) -> Family:
    of, places = problem.settings, problem.places.numpy()
    (J, m), p, N = places.shape, of.atoms, of.side**2
    sizes = {name: value.numel() for name, value in problem.start.items()}
    stops = dict(zip(sizes, np.cumsum(list(sizes.values())), strict=True))
    y, x_true = digits(problem.y[0]), digits(problem.x_true[0])
    covered = digits(np.bincount(places.ravel(), minlength=N))
    assert (of.normalise, of.group, of.penalty) == ("never", 0.0, "l1")

    def part(theta: Digits, name: str) -> Digits:
        return theta[stops[name] - sizes[name] : stops[name]]

    def picture(x: Digits, theta: Digits) -> Digits:
        decoded, total = x.reshape(J, p) @ part(theta, "W").reshape(m, p).T, zeros(N)
        for j in range(J):
            total[places[j]] += decoded[j]
        return total / covered

    def F(x: Digits, theta: Digits) -> Digits:
        D, W = part(theta, "D").reshape(m, p), part(theta, "W").reshape(m, p)
        C = part(theta, "C").reshape(m, p) if of.untied else D
        z = x.reshape(J, p)
        own = (z @ D.T - y[places]) @ C
        if of.variance > 0:
            share = 1 - 1 / covered[places]
            own = own + mpmath.exp(part(theta, "log_variance")[0]) * (share * (z @ W.T - picture(x, theta)[places]) @ W)
        return own.ravel()

    def level(theta: Digits) -> Level:
        F_0 = F(zeros(J * p), theta)
        H = np.column_stack([F(unit, theta) - F_0 for unit in _eye(J * p)])
        weights = np.diag(np.tile([mpmath.exp(entry) for entry in part(theta, "log_lambda")], J))
        return Level(H, -F_0, weights + zeros(J * p, J * p), weights + zeros(J * p, J * p))

    return Family(_flat(problem), level, lambda x, theta: _half_square(picture(x, theta) - x_true))
