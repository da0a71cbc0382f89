"""A first guess at the sign pattern of an l1 lower level, for the reference alone; `settle` proves or mends it."""

from __future__ import annotations

import numpy as np

from bench._lower_level import LowerLevel, NoReference, Signs
from bench._smooth_lower_level import SmoothLevel, solve_smoothly
from problems.penalties import MoreauL1

HEAVIEST = 1e4
"""Weight of a row, in units of the data's force, from which it is a constraint in double precision."""
STAGES = 12
"""Of `moreau_pattern`, each with four times the alpha of the one before."""


def pattern_of(level: LowerLevel) -> Signs:
    """u off the cosupport and 0 on it. Raises NoReference."""
    return conic_pattern(level) if level.is_minimisation else moreau_pattern(level)


def conic_pattern(level: LowerLevel) -> Signs:
    """The signs that Clarabel's solution of min 1/2 x^T H x - b^T x + weights^T t, -t <= K x <= t shows.

    In units of each row's own, with x in units of s = |b| / |H| and the objective in units of |H| s^2, so that every
    scale is solved alike. No force exceeds |b| by much: a weight that does is as good as the largest that is kept.
    """
    import clarabel
    from scipy import sparse

    unit = level.unit
    H, b, K = (part.astype(float) for part in (unit.H, unit.b, unit.K))
    k, n = K.shape
    size = np.abs(H).max()
    s = np.abs(b).max() / size or 1.0
    weights = np.minimum((unit.weights / (s * size)).astype(float), HEAVIEST)
    P = sparse.csc_matrix(sparse.block_diag([np.triu(H) / size, sparse.csc_matrix((k, k))]))
    q = np.concatenate([-b / (s * size), weights])
    A = sparse.csc_matrix(np.block([[K, -np.eye(k)], [-K, -np.eye(k)]]))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    found = clarabel.DefaultSolver(P, q, A, np.zeros(2 * k), [clarabel.NonnegativeConeT(2 * k)], settings).solve()
    x, duals = np.array(found.x[:n]), np.array(found.z)
    if not np.isfinite(x).all():
        raise NoReference(f"Clarabel: {found.status}")
    u, z = (duals[:k] - duals[k:]) / weights, K @ x
    return np.where(np.abs(z) / max(np.abs(z).max(initial=0.0), 1e-12) < 1.0 - np.abs(u), 0.0, np.sign(u))


def moreau_pattern(level: LowerLevel) -> Signs:
    """The signs that the Moreau envelope of |.| shows as its alpha grows; for games, which no cone program states.

    The solution with u = clip(alpha K x) has |alpha z_i| < 1 exactly on the cosupport once alpha is large enough.
    Newton's method follows it from one alpha to the next.
    """
    unit = level.unit
    in_units = LowerLevel(unit.H, unit.b, unit.K, unit.M * unit.weights)
    x, signs = None, np.zeros(len(level.K))
    for stage in range(STAGES):
        envelope = SmoothLevel.affine(in_units, MoreauL1(4.0**stage / in_units.size_of_Kx))
        try:
            x = solve_smoothly(envelope, x)
        except NoReference:  # rounding grows with alpha
            break
        u = envelope.derivative(envelope.K @ x)
        signs = np.where(np.abs(u) < 1.0, 0.0, u)
    return signs
