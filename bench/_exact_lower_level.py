"""The lower level solved exactly, for the reference alone: nothing here is shared with the methods.

`_patterns` finds the sign pattern. On the pattern the solution is linear equations, whose solution is refined with
residuals in extended precision, and then proved by the KKT conditions: the lower level being convex, or monotone, the
certificate holds wherever the pattern came from. Where it fails, rows on the wrong side are moved.

Every condition is judged in the row's own unit and by what its own two sides are known to: u_i of a row that hardly
matters may be known to no digit, where its neighbours' are known to nineteen. What cannot be told is not certified.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import qr
from scipy.optimize import linprog, lsq_linear

from bench._lower_level import CERTIFICATE, LowerLevel, Matrix, NoReference, Signs, Unit, Vector
from bench._patterns import pattern_of

TOUCH = 1e-13
"""Margin down to which a row touches its other side. A certified (x, u) is exact to 1e-15, save for conditioning."""
DEPENDENT = 1e-11
"""A row of K0 of unit length that others span but for this share says nothing of its own about x."""
ROUNDED = 1e-14
"""And one that is left with more than this is not spanned either: nobody knows which of the two."""
REFINEMENTS = 5
SAFETY = 8.0
"""Times the bound on an error that a number must be away from a threshold to be on one side of it."""
RESOLVED = 1e-12
"""A u_i that is known to less than this is not called 1, nor less than 1, within its error of it."""
SINGULAR = 1e14
"""Condition of the saddle matrix, in units of its own, from which double precision says nothing."""
EXTENDED = float(np.finfo(np.longdouble).eps)


@dataclass(frozen=True)
class Solved:
    """A certified solution. `signs` is u off the cosupport and 0 on it."""

    signs: Signs
    x: Vector
    u: Signs
    error_x: Vector
    """What each entry of x may be off by, for H and b as they are."""
    error_u: Signs
    z: Signs
    """K x, in units of each row's own length."""
    known_z: Signs
    """What z_i may be off by, H and b being rounded themselves."""
    known_u: Signs
    near_z: Signs
    """What is no more of z_i than this is near zero."""
    rank_defect: int
    inner: bool
    """Whether some certificate has |u_i| < 1 on all of the cosupport: this one, if so."""

    @property
    def slack_z(self) -> Signs:
        """Size up to which z_i counts as zero."""
        return self.near_z + self.known_z

    @property
    def slack_u(self) -> Signs:
        """Distance of |u_i| from 1 up to which it counts as one."""
        return TOUCH + self.known_u

    @property
    def on(self) -> Bool[np.ndarray, " k"]:
        """The cosupport."""
        return self.signs == 0

    @property
    def margin_primal(self) -> float:
        """min |z_i| off the cosupport, in units of each row's length, relative to the largest; infinite where there is
        none."""
        size = np.abs(self.z[~self.on])
        return float(size.min() / max(size.max(), np.longdouble(1e-300))) if size.size else float("inf")

    @property
    def margin_dual(self) -> float | None:
        """min 1 - |u_i| on the cosupport; None where u is not unique."""
        if self.rank_defect:
            return None
        return float((1.0 - np.abs(self.u[self.on])).min(initial=np.inf))

    @property
    def inside(self) -> Bool[np.ndarray, " k"]:
        """The rows of the cosupport whose u_i is less than 1 in size."""
        return self.on & (1.0 - np.abs(self.u) > self.slack_u)

    @property
    def touching(self) -> Bool[np.ndarray, " k"]:
        """The rows that belong to both sides, z_i = 0 and |u_i| = 1; where u is not unique, in every certificate."""
        if self.rank_defect and self.inner:
            return np.zeros(len(self.u), bool)
        return np.where(self.on, ~self.inside, np.abs(self.z) <= self.slack_z)


def solve_exactly(level: LowerLevel) -> Solved:
    """From nothing. Raises NoReference.

    Where the cosupport is dependent, some of its rows may have been settled as off it, with z_i = 0 and |u_i| = 1 in
    one of many certificates: they are put back.
    """
    if not level.H.any():
        raise NoReference("F_x is zero: the data say nothing of x")
    solved = settle(level, pattern_of(level))
    if not solved.rank_defect:
        return _told(solved, level.unit)
    vanishing = np.abs(solved.z) <= solved.slack_z
    return settle(level, np.where(vanishing, 0.0, solved.signs), may_move=False, innermost=True)


def why_not_unique(level: LowerLevel, base: Solved) -> str | None:
    """None where no other x solves a convex lower level.

    Every solution has the same H x, and (K x)_i = 0 wherever the one certificate u has |u_i| < 1: there is one solution
    where H has no null vector among those with K x = 0 on these rows. O(n^3).
    """
    unit = level.unit
    inside = unit.K[base.inside].astype(float)
    H, free = unit.H.astype(float), np.eye(len(base.x))
    if inside.any():
        _, sizes, directions = np.linalg.svd(inside)
        free = directions[int((sizes > DEPENDENT * sizes[0]).sum()) :].T
    if not free.size or np.linalg.norm(H @ free, -2) > DEPENDENT * np.linalg.norm(H, 2):
        return None
    return "x* is not unique: F_x vanishes along a direction that the cosupport leaves free"


def settle(level: LowerLevel, signs: Signs, may_move: bool = True, innermost: bool = False) -> Solved:
    """Solve on the pattern; move the row that is worst on the wrong side; until the certificate. Raises NoReference,
    without `may_move` wherever the certificate fails on the pattern given.

    Once a pattern comes back, the first row on the wrong side is moved instead of the worst: where K0 H^-1 M0 is a
    P-matrix on every pattern, as for independent rows of a minimisation, that ends at the solution (Murty 1974).
    """
    unit, signs, seen = level.unit, signs.copy(), set[bytes]()
    in_order = False
    for _ in range(50 + 10 * len(signs)):
        if signs.tobytes() in seen:
            if in_order:
                break
            in_order = True
            seen.clear()
        seen.add(signs.tobytes())
        solved, residual = _solve_on_pattern(unit, signs, innermost)
        on, z, u = solved.on, solved.z, solved.u
        # A row is on the wrong side by what |u| is above 1, or by what z points against its sign.
        excess = np.where(on, np.abs(u) - 1.0, -signs * z)
        wrong = excess > np.where(on, solved.slack_u, solved.slack_z)
        if (np.abs(z) > np.maximum(CERTIFICATE * unit.size_of_x, solved.slack_z))[on].any():
            raise NoReference(f"rows of K0 are dependent to {DEPENDENT:g} only: their K x* does not vanish")
        stuck = np.abs(residual).max(initial=0.0) > CERTIFICATE * unit.size_of_b
        if not stuck and not wrong.any():
            return _resolved(solved)
        if not may_move:
            break
        # Forces are relative to b, and z to what it is made of.
        excess = np.where(on, excess * unit.weights / unit.size_of_b, excess / max(np.abs(z).max(), 1e-300))
        if stuck:  # a rank-deficient cosupport for which no u in the box will do: release what pushes at its bound
            excess = np.where(on & (np.abs(u) >= 1.0), u * (unit.M.T @ residual), 0.0)
            wrong = excess > 0.0
            if not wrong.any():
                break
        worst = int(wrong.argmax()) if in_order else int(np.where(wrong, excess, -np.inf).argmax())
        signs[worst] = float(np.sign(u[worst])) if on[worst] else 0.0
    raise NoReference(f"no sign pattern near the one given has a certificate of {CERTIFICATE:g}")


def _resolved(solved: Solved) -> Solved:
    """The same. Raises NoReference where a row's u_i is known too little to say on which side of 1 it is."""
    lost = solved.on & ~solved.inside & (solved.slack_u > RESOLVED)
    if lost.any():
        row = int(lost.argmax())
        raise NoReference(
            f"row {row + 1} of K weighs too little, or K0 is too ill-conditioned: |u_i| = 1 is known to "
            f"{float(solved.slack_u[row]):.0e} only"
        )
    return solved


def _told(solved: Solved, unit: Unit) -> Solved:
    """The same. Raises NoReference where a row is so near its other side that nobody knows whether it touches it.

    A tie is one only if it holds to the bound on the error, and if that is below every row's force: one that is lost in
    rounding may move x* off the tie, or onto it.
    """
    apart = np.abs(np.where(solved.on, 1.0 - np.abs(solved.u), solved.z))
    known = np.where(solved.on, solved.known_u, solved.known_z)
    force = np.where(solved.on, solved.known_u * unit.weights, solved.known_z)  # H's diagonal is one
    near = solved.touching & ((apart > known) | (force > unit.weights[unit.M.any(axis=0)].min(initial=np.inf)))
    if near.any():
        row = int(near.argmax())
        raise NoReference(
            f"row {row + 1} of K is {float(apart[row]):.0e} from its other side, known to {float(known[row]):.0e}: "
            "nobody knows whether there is a kink"
        )
    return solved


def change_between(level: LowerLevel, base: Solved, there: LowerLevel, solved: Solved) -> tuple[Vector, Vector]:
    """x* there less x* of the base, and a bound on the error of each entry.

    From the equations that the change itself solves, with d for what is different there, so that it is known to its
    own digits however small it is:

        H dx + M0 du0 = db - dH x - dM u - M du,     K0 dx = -dK0 x - K0 x,

    where K0 x is zero for rows that are on the cosupport at the base, or touch it, and du for rows that leave it to the
    side that they touch: `_told` has made sure of these. Where u is one of many there is no du: then the two x* are
    subtracted.
    """
    if base.rank_defect or solved.rank_defect:
        return solved.x - base.x, solved.error_x + base.error_x
    unit, rows, n = there.unit, np.flatnonzero(solved.on), len(base.x)
    same = solved.signs == np.where(base.touching, np.sign(base.u), base.signs)
    du = np.where(solved.on | same, 0.0, solved.signs - base.u)
    z = np.where(base.on | base.touching, 0.0, level.K @ base.x)[rows]
    # Of numbers that are close the difference is exact.
    dH, db, dK, dM = there.H - level.H, there.b - level.b, (there.K - level.K)[rows], there.M - level.M
    force = (db - dH @ base.x - dM @ base.u - there.M @ du) / unit.units
    terms = np.abs(db) + np.abs(dH) @ np.abs(base.x) + np.abs(dM) @ np.abs(base.u) + np.abs(there.M) @ np.abs(du)
    off_by = EXTENDED * terms + np.abs(dH) @ base.error_x + np.abs(dM) @ base.error_u
    held = -(dK @ base.x + z) / unit.lengths[rows]
    held_off_by = np.abs(dK) @ (EXTENDED * np.abs(base.x) + base.error_x) / unit.lengths[rows]
    smallest = independent_rows(unit.K[rows].astype(float), unit.weights[rows])[1]
    change, error, _ = _refined(
        unit, rows, np.concatenate([force, held]), np.concatenate([off_by / unit.units, held_off_by]), smallest
    )
    return change[:n] / unit.units, SAFETY * error[:n] / unit.units


def _solve_on_pattern(unit: Unit, signs: Signs, innermost: bool) -> tuple[Solved, Vector]:
    """H x + M u = b, K0 x = 0, u = signs off the cosupport; with the residual of the first.

    Rows of K0 that others span are left out; then u is not unique, and one in the box is taken.
    """
    rows, n = np.flatnonzero(signs == 0), len(unit.b)
    K0 = unit.K[rows].astype(float)
    own, smallest = independent_rows(K0, unit.weights[rows])
    own = rows[own]
    x, force, error, data = _saddle(unit, own, signs, smallest)
    u = signs.astype(np.longdouble)
    u[own] = force / unit.weights[own]
    error_x, error_u, known_u = SAFETY * error[:n], np.zeros(len(signs)), np.zeros(len(signs))
    error_u[own] = SAFETY * error[n:] / unit.weights[own]
    known_u[own] = error_u[own] + (SAFETY * data[n:] / unit.weights[own]).astype(float)
    defect, inner = len(rows) - len(own), True
    if defect:
        u[rows] = _in_the_box(unit, rows, innermost, unit.b - unit.M @ (unit.weights * signs) - unit.H @ x)
    z = unit.K @ x
    size_of_z = np.abs(unit.K) @ np.abs(x)
    known_z = EXTENDED * size_of_z + np.abs(unit.K) @ (error_x + SAFETY * data[:n])
    residual = unit.b - unit.H @ x - unit.M @ (unit.weights * u)
    if defect:
        known_u[rows] = (np.abs(residual).max(initial=0.0) / unit.weights[rows]).astype(float)
        inner = bool((1.0 - np.abs(u[rows]) > TOUCH + known_u[rows]).all())
    units = unit.units
    solved = Solved(
        signs.copy(), x / units, u, error_x / units, error_u, z, known_z, known_u, TOUCH * size_of_z, defect, inner
    )
    return solved, residual


def _in_the_box(unit: Unit, rows: Int[np.ndarray, " m"], innermost: bool, right: Vector) -> Signs:
    """u on dependent rows with M0 u = right: the least-squares one in the box.

    `innermost` moves it inside along what M0 does not see, which tells whether all |u_i| < 1 is possible.

    That is a linear program, max t with |u_i| <= 1 - t, in the coefficients of M0's null vectors.
    """
    weights, size = unit.weights[rows].astype(float), max(float(np.abs(right).max(initial=0.0)), 1e-300)
    M0 = unit.M[:, rows].astype(float)
    bounds = weights / size
    force = lsq_linear(M0, (right / size).astype(float), bounds=(-bounds, bounds), method="bvls", tol=1e-15).x
    u = force / bounds
    if not innermost or np.abs(u).max() < 0.5:
        return u
    _, sizes, vectors = np.linalg.svd(M0)
    null = vectors[int((sizes > DEPENDENT * sizes.max(initial=0.0)).sum()) :].T / bounds[:, None]
    if not null.size:
        return u
    null /= np.abs(null).max(axis=0)
    moves = (np.abs(null) > 1e-9).any(axis=1)
    sides = np.block([[null[moves], np.ones((moves.sum(), 1))], [-null[moves], np.ones((moves.sum(), 1))]])
    room = np.concatenate([1.0 - u[moves], 1.0 + u[moves]])
    free = [(None, None)] * null.shape[1]
    found = linprog(np.append(np.zeros(null.shape[1]), -1.0), sides, room, bounds=[*free, (0.0, 1.0)], method="highs")
    return u if found.x is None else np.clip(u + null @ found.x[:-1], -1.0, 1.0)


def independent_rows(K0: Matrix, weights: Signs) -> tuple[Int[np.ndarray, " r"], float]:
    """The numbers of rows, of unit length or zero, that span all of them, the heaviest first, and the smallest pivot.

    By QR with pivoting. Raises NoReference where a row is neither spanned nor independent.
    """
    if not K0.any():
        return np.empty(0, int), 1.0
    pivots = np.abs(qr(K0.T, mode="r", pivoting=True)[0].diagonal())
    rank = int((pivots > DEPENDENT).sum())
    if (pivots[rank:] > ROUNDED).any():
        raise NoReference(f"rows of K0 are dependent to {DEPENDENT:g} only: nobody knows whether they are")
    if rank == len(K0):
        return np.arange(rank), float(pivots[rank - 1])
    # The heavy rows hold the light ones that they span, whose u_i then need not be known.
    own, Q = list[int](), np.empty((0, K0.shape[1]))
    for row in np.argsort(-weights.astype(float), kind="stable"):
        left = K0[row] - Q.T @ (Q @ K0[row])
        left -= Q.T @ (Q @ left)
        length = float(np.linalg.norm(left))
        if length > DEPENDENT:
            own.append(int(row))
            Q = np.vstack([Q, left / length])
    return np.sort(own), float(pivots[rank - 1])


def _saddle(
    unit: Unit, rows: Int[np.ndarray, " m"], signs: Signs, smallest: float
) -> tuple[Vector, Vector, Vector, Vector]:
    """x and forces with [H M0; K0 0] (x, force) = (b - M signs, 0), a bound on the error of each entry, x's first, and
    another on what the rounding of H and b themselves changed it by. Raises NoReference.

    """
    n, forces, nothing = len(unit.b), unit.weights * signs, np.zeros(len(rows), np.longdouble)
    right, terms = unit.b - unit.M @ forces, np.abs(unit.b) + np.abs(unit.M) @ np.abs(forces)
    solution, error, size = _refined(
        unit, rows, np.concatenate([right, nothing]), np.concatenate([EXTENDED * terms, nothing]), smallest
    )
    # The terms that an entry of H is a sum of are of the size of its diagonal, one.
    rounded = unit.rounding * float(np.abs(solution[:n]).sum() + np.abs(unit.b).max())
    data = rounded * size[:, :n].sum(axis=1)
    return solution[:n], solution[n:], error, data


def _refined(
    unit: Unit, rows: Int[np.ndarray, " m"], right: Vector, off_by: Vector, smallest: float
) -> tuple[Vector, Vector, Float[np.ndarray, "s s"]]:
    """(x, force) with [H M0; K0 0] (x, force) = right, a bound on the error of each entry, and the sizes of the
    inverse's entries. `off_by` is what the right side may be off by. Raises NoReference.

    By an inverse in double precision and refinement in extended precision. What is left over, and what the terms round
    to, times the inverse is the bound.
    """
    n, weight = len(unit.b), saddle_weight(unit, smallest)
    scale = np.concatenate([np.full(n, weight), np.ones(len(rows))])
    system = np.zeros((n + len(rows),) * 2, np.longdouble)
    system[:n, :n], system[:n, n:], system[n:, :n] = weight * unit.H, unit.M[:, rows], unit.K[rows]
    full = scale * right
    try:
        inverse = np.linalg.inv(system.astype(float))
    except np.linalg.LinAlgError:
        inverse = np.full(system.shape, np.inf)
    size = np.abs(inverse)
    if not size.sum(1).max(initial=0.0) * float(np.abs(system).sum(1).max(initial=0.0)) < SINGULAR:
        raise NoReference("x* is not unique, or to no digit: the saddle matrix is singular in double precision")
    solution = np.zeros_like(full)
    for _ in range(REFINEMENTS):
        left = full - system @ solution
        solution += inverse @ left.astype(float)
    left = np.abs(full - system @ solution) + EXTENDED * (np.abs(system) @ np.abs(solution))
    error = size @ (left + scale * off_by).astype(float)
    # Of the system without the weight, whose unknown is the force and not the force times the weight.
    of_force = np.concatenate([np.ones(n), np.full(len(rows), weight)])
    return solution / of_force, error / of_force, size * scale / of_force[:, None]


def saddle_weight(unit: Unit, smallest: float) -> float:
    """What to multiply H and u by (Bjorck): the saddle matrix then has the conditioning of K0, not its square.

    `smallest` stands for the smallest singular value of K0's unit rows: the last pivot, which is larger by a little.
    """
    return smallest / float(np.abs(unit.H).max())
