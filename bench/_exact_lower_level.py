"""The lower level solved exactly, for the reference alone: nothing here is shared with the methods.

`_patterns` finds the sign pattern. On the pattern the solution is linear equations, whose solution is refined with
residuals in extended precision, and then proved by the KKT conditions: the lower level being convex, or monotone, the
certificate holds wherever the pattern came from. Where it fails, rows on the wrong side are moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.linalg import lu_factor, lu_solve, qr
from scipy.optimize import lsq_linear

from bench._lower_level import CERTIFICATE, LowerLevel, Matrix, NoReference, Signs, Vector
from bench._patterns import pattern_of

TOUCH = 1e-13
"""Margin down to which a row touches its other side. A certified (x, u) is exact to 1e-15, save for conditioning."""
DEPENDENT = 1e-11
"""A row of K0 that others span up to this share of the largest pivot says nothing of its own about x."""
REFINEMENTS = 5


@dataclass(frozen=True)
class Solved:
    """A certified solution. `signs` is u off the cosupport and 0 on it."""

    signs: Signs
    x: Vector
    u: Signs
    z: Signs
    """K x."""
    rank_defect: int

    @property
    def on(self) -> Bool[np.ndarray, " k"]:
        """The cosupport."""
        return self.signs == 0

    @property
    def margin_primal(self) -> float:
        """min |z_i| off the cosupport, relative to the largest; infinite where there is none."""
        size = np.abs(self.z[~self.on])
        return float(size.min() / max(size.max(), np.longdouble(1e-300))) if size.size else float("inf")

    @property
    def margin_dual(self) -> float | None:
        """min 1 - |u_i| on the cosupport; None where u is not unique."""
        if self.rank_defect:
            return None
        return float((1.0 - np.abs(self.u[self.on])).min(initial=np.inf))

    @property
    def touching(self) -> Bool[np.ndarray, " k"]:
        """The rows that belong to both sides: z_i = 0 and |u_i| = 1."""
        close_to_zero = np.abs(self.z) <= TOUCH * np.abs(self.z).max(initial=0.0)
        return np.where(self.on, (1.0 - np.abs(self.u)) <= TOUCH, close_to_zero) & (self.rank_defect == 0)


def solve_exactly(level: LowerLevel) -> Solved:
    """From nothing. Raises NoReference.

    Where the cosupport is dependent, some of its rows may have been settled as off it, with z_i = 0 and |u_i| = 1 in
    one of many certificates: they are put back.
    """
    solved = settle(level, pattern_of(level))
    if not solved.rank_defect:
        return solved
    vanishing = np.abs(solved.z) <= TOUCH * level.size_of_Kx
    return settle(level, np.where(vanishing, 0.0, solved.signs), may_move=False)


def why_not_unique(level: LowerLevel, base: Solved) -> str | None:
    """None where no other x solves a convex lower level.

    Every solution has the same H x, and (K x)_i = 0 wherever the one certificate u has |u_i| < 1: there is one solution
    where H has no null vector among those with K x = 0 on these rows. O(n^3).
    """
    inside = level.K[base.on & (np.abs(base.u) < 1.0 - TOUCH)].astype(float)
    H, free = level.H.astype(float), np.eye(len(base.x))
    if inside.any():
        _, sizes, directions = np.linalg.svd(inside)
        free = directions[int((sizes > DEPENDENT * sizes[0]).sum()) :].T
    if not free.size or np.linalg.norm(H @ free, -2) > DEPENDENT * np.linalg.norm(H, 2):
        return None
    return "x* is not unique: F_x vanishes along a direction that the cosupport leaves free"


def settle(level: LowerLevel, signs: Signs, may_move: bool = True) -> Solved:
    """Solve on the pattern; move the row that is worst on the wrong side; until the certificate. Raises NoReference,
    without `may_move` wherever the certificate fails on the pattern given."""
    signs, seen = signs.copy(), set[bytes]()
    while signs.tobytes() not in seen:
        seen.add(signs.tobytes())
        solved, residual = _solve_on_pattern(level, signs)
        on, z, u = solved.on, solved.z / level.size_of_Kx, solved.u
        # A row is on the wrong side by what |u| is above 1, or by what z points against its sign.
        excess = np.where(on, np.abs(u) - 1.0, -signs * z)
        if np.abs(z[on]).max(initial=0.0) > CERTIFICATE:
            raise NoReference(f"rows of K0 are dependent to {DEPENDENT:g} only: their K x* does not vanish")
        stuck = np.abs(residual).max(initial=0.0) > CERTIFICATE * level.size_of_b
        if not stuck and excess.max(initial=0.0) <= TOUCH:
            return solved
        if not may_move:
            break
        if stuck:  # a rank-deficient cosupport for which no u in the box will do: release what pushes at its bound
            push = np.where(on & (np.abs(u) >= 1.0), u * (level.M.T @ residual), 0.0)
            if push.max(initial=0.0) <= 0.0:
                break
            excess = push
        worst = int(excess.argmax())
        signs[worst] = float(np.sign(u[worst])) if on[worst] else 0.0
    raise NoReference(f"no sign pattern near the one given has a certificate of {CERTIFICATE:g}")


def _solve_on_pattern(level: LowerLevel, signs: Signs) -> tuple[Solved, Vector]:
    """H x + M u = b, K0 x = 0, u = signs off the cosupport; with the residual of the first.

    Rows of K0 that others span are left out; then u is not unique, and the least-squares one in the box is taken.
    """
    rows = np.flatnonzero(signs == 0)
    own = rows[independent_rows(level.K[rows].astype(float))]
    x, u_own = _saddle(level, own, level.b - level.M @ signs)
    u = signs.astype(np.longdouble)
    u[own] = u_own
    defect = len(rows) - len(own)
    if defect:
        M0, right = level.M[:, rows], level.b - level.M @ signs - level.H @ x
        size = max(float(np.abs(M0).max()), 1e-300)
        scaled = (M0 / size).astype(float), (right / size).astype(float)
        u[rows] = lsq_linear(*scaled, bounds=(-1.0, 1.0), method="bvls", tol=1e-15).x
    residual = level.b - level.H @ x - level.M @ u
    return Solved(signs.copy(), x, u, level.K @ x, defect), residual


def independent_rows(K0: Matrix) -> np.ndarray:
    """The numbers of rows that span all of them, by QR with pivoting."""
    if not K0.any():
        return np.empty(0, int)
    R, order = qr(K0.T, mode="r", pivoting=True)
    pivots = np.abs(R.diagonal())
    return np.sort(order[: int((pivots > DEPENDENT * pivots[0]).sum())])


def _saddle(level: LowerLevel, rows: np.ndarray, right: Vector) -> tuple[Vector, Vector]:
    """[H M0; K0 0] (x, u0) = (right, 0), by LU in double and refinement in extended precision. Raises NoReference."""
    n = len(right)
    weight = saddle_weight(level, rows)
    system = np.zeros((n + len(rows),) * 2, np.longdouble)
    system[:n, :n], system[:n, n:], system[n:, :n] = weight * level.H, level.M[:, rows], level.K[rows]
    full = np.concatenate([weight * right, np.zeros(len(rows), np.longdouble)])
    factors = lu_factor(system.astype(float), check_finite=False)
    solution = np.zeros_like(full)
    for _ in range(REFINEMENTS):
        solution += lu_solve(factors, (full - system @ solution).astype(float), check_finite=False)
    if not np.isfinite(solution).all():
        raise NoReference("x* is not unique, or to no digit: the saddle matrix is singular in double precision")
    return solution[:n], solution[n:] / weight


def saddle_weight(level: LowerLevel, rows: np.ndarray) -> float:
    """What to multiply H and u by (Bjorck): the saddle matrix then has the conditioning of K0, not its square."""
    if not len(rows):
        return 1.0
    return float(np.linalg.svd(level.K[rows].astype(float), compute_uv=False).min() / np.abs(level.H).max())
