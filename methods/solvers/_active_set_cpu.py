"""Compiled kernels of the exact solver: one sample at a time, the batch shared out over threads.

Everything is about the dual box problem min_u 1/2 ||y - W^T u||^2, |u_i| <= 1, with x = y - W^T u and z = W x.
A triangular factor is stored column by column: `A[j, i]`, i >= j, is entry (i, j) of the lower Cholesky factor of
W0 W0^T, its diagonal entries inverted, and `R[j, i]`, i <= j, is entry (i, j) of the upper factor in W0^T = Q R (the
rows of `Q` are orthonormal).

All kernels stand in this one file because numba's cache looks at the file of the outermost kernel alone.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-overload, misc"
# numba infers the types of what it compiles.

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit, prange

# Sums may be reordered and fused; NaN and infinity keep their meaning, which the certificate relies on.
_ARITHMETIC = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
# Called from kernels alone: without what calls from Python need, and a far smaller cache.
_OPTIONS = {**_ARITHMETIC, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_ENTRY = {**_ARITHMETIC, "nogil": True, "cache": True}

_EPS = 2.220446049250313e-16
_SUSPICIOUS = 1e-10
"""A squared pivot below this part of its diagonal entry: cond(W0) is at least 1e5, and orthogonalisation takes over."""
_DEPENDENT = 1e-12
"""A row whose part outside the span of the others is smaller than this part of it depends on them."""
_VANISHING = 1e-12
"""A relative margin below this is none."""
_ATTEMPTS = 3
"""Of first-order steps followed by Newton steps; then pivoting."""
_UNCHANGED, _STILL = 3, 0.01
"""First-order steps end when so many in a row moved no u by more than this, and none to or from a bound."""
_NEWTON_STEPS = 15
_PANEL = 64
"""Columns of a factor that stay in the second-level cache while later ones are updated."""

Shared = namedtuple("Shared", "W Wt G G_single length norm")
"""What all samples share: W, its transpose laid out, W W^T, the same over an estimate of its largest eigenvalue in
single precision, that eigenvalue, and ||W||_F."""

Workspace = namedtuple("Workspace", "A L Q singles c z u v w t d diagonal rows order inside excluded")
"""One thread's arrays; L is A, row after row in one."""


@njit(**_OPTIONS)
def workspace(k, n):
    size = max(k, n)
    A = np.empty((size, size))
    return Workspace(
        A,
        A.reshape(size * size),
        np.empty((min(k, n), n)),
        np.empty((4, k), np.float32),
        np.empty(k),
        np.empty(k),
        np.empty(k),
        np.empty(k),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(k),
        np.empty(k, np.uint32),
        np.empty(k, np.uint32),
        np.empty(k, np.int8),
        np.empty(k, np.bool_),
    )


# --- products ---------------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def fill(out, value):
    for i in range(len(out)):
        out[i] = value


@njit(**_OPTIONS)
def copy(v, out):
    for i in range(len(out)):
        out[i] = v[i]


@njit(**_OPTIONS)
def product(M, v, out):
    """out = M v.

    Eight rows at a time: their sums stay in registers, where sums of rows would go through memory, and what the loop
    reads can be no alias of what it writes. That is twice as fast for 64 rows.
    """
    zero = M.dtype.type(0)
    i = 0
    while i + 8 <= len(out):
        m0, m1, m2, m3, m4, m5, m6, m7 = M[i], M[i + 1], M[i + 2], M[i + 3], M[i + 4], M[i + 5], M[i + 6], M[i + 7]
        s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(len(v)):
            s0 += m0[j] * v[j]
            s1 += m1[j] * v[j]
            s2 += m2[j] * v[j]
            s3 += m3[j] * v[j]
            s4 += m4[j] * v[j]
            s5 += m5[j] * v[j]
            s6 += m6[j] * v[j]
            s7 += m7[j] * v[j]
        out[i], out[i + 1], out[i + 2], out[i + 3] = s0, s1, s2, s3
        out[i + 4], out[i + 5], out[i + 6], out[i + 7] = s4, s5, s6, s7
        i += 8
    while i < len(out):
        out[i] = dot(M[i], v)
        i += 1


@njit(**_OPTIONS)
def some_products(M, rows, v, out):
    """out = M[rows] v; `product` written out again, as an inner function of both makes the solver an eighth slower."""
    i = 0
    while i + 8 <= len(rows):
        m0, m1, m2, m3 = M[rows[i]], M[rows[i + 1]], M[rows[i + 2]], M[rows[i + 3]]
        m4, m5, m6, m7 = M[rows[i + 4]], M[rows[i + 5]], M[rows[i + 6]], M[rows[i + 7]]
        s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(len(v)):
            s0 += m0[j] * v[j]
            s1 += m1[j] * v[j]
            s2 += m2[j] * v[j]
            s3 += m3[j] * v[j]
            s4 += m4[j] * v[j]
            s5 += m5[j] * v[j]
            s6 += m6[j] * v[j]
            s7 += m7[j] * v[j]
        out[i], out[i + 1], out[i + 2], out[i + 3] = s0, s1, s2, s3
        out[i + 4], out[i + 5], out[i + 6], out[i + 7] = s4, s5, s6, s7
        i += 8
    while i < len(rows):
        out[i] = dot(M[rows[i]], v)
        i += 1


@njit(**_OPTIONS)
def add_rows(M, weights, out):
    """out += M^T weights."""
    for j in range(len(weights)):
        row, weight = M[j], weights[j]
        for i in range(len(out)):
            out[i] += weight * row[i]


@njit(**_OPTIONS)
def add_some_rows(M, rows, weights, sign, out):
    """out += sign * M[rows]^T weights."""
    j, size = 0, len(out)
    while j + 4 <= len(rows):
        m0, m1, m2, m3 = M[rows[j]], M[rows[j + 1]], M[rows[j + 2]], M[rows[j + 3]]
        w0, w1, w2, w3 = sign * weights[j], sign * weights[j + 1], sign * weights[j + 2], sign * weights[j + 3]
        for i in range(size):
            out[i] += w0 * m0[i] + w1 * m1[i] + w2 * m2[i] + w3 * m3[i]
        j += 4
    while j < len(rows):
        m0, w0 = M[rows[j]], sign * weights[j]
        for i in range(size):
            out[i] += w0 * m0[i]
        j += 1


@njit(**_OPTIONS)
def dot(v, w):
    total = v.dtype.type(0)
    for i in range(len(v)):
        total += v[i] * w[i]
    return total


@njit(**_OPTIONS)
def root_of_trace(G):
    total = 0.0
    for i in range(len(G)):
        total += G[i, i]
    return np.sqrt(total)


@njit(**_OPTIONS)
def largest(v):
    size = 0.0
    for i in range(len(v)):
        size = max(size, abs(v[i]))
    return size


# --- Cholesky ---------------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def _update_four(A, j, m, start, stop):
    """Columns j to j+3 less what columns start to stop contribute; both counts are multiples of four."""
    a0, a1, a2, a3 = A[j, j:m], A[j + 1, j:m], A[j + 2, j:m], A[j + 3, j:m]
    size = m - j
    for c in range(start, stop, 4):
        l0, l1, l2, l3 = A[c, j:m], A[c + 1, j:m], A[c + 2, j:m], A[c + 3, j:m]
        p00, p01, p02, p03 = l0[0], l1[0], l2[0], l3[0]
        p10, p11, p12, p13 = l0[1], l1[1], l2[1], l3[1]
        p20, p21, p22, p23 = l0[2], l1[2], l2[2], l3[2]
        p30, p31, p32, p33 = l0[3], l1[3], l2[3], l3[3]
        for i in range(size):
            v0, v1, v2, v3 = l0[i], l1[i], l2[i], l3[i]
            a0[i] -= p00 * v0 + p01 * v1 + p02 * v2 + p03 * v3
            a1[i] -= p10 * v0 + p11 * v1 + p12 * v2 + p13 * v3
            a2[i] -= p20 * v0 + p21 * v1 + p22 * v2 + p23 * v3
            a3[i] -= p30 * v0 + p31 * v1 + p32 * v2 + p33 * v3


@njit(**_OPTIONS)
def gather(G, rows, A, diagonal):
    """The lower triangle of G[rows, rows], column by column, and its diagonal."""
    m = len(rows)
    for j in range(m):
        column, below, a = G[rows[j]], rows[j:], A[j, j:m]
        for i in range(m - j):
            a[i] = column[below[i]]
        diagonal[j] = a[0]


@njit(**_OPTIONS)
def cholesky(A, m, diagonal):
    """In place; False where a pivot says that the conditioning is too much for a Gram matrix."""
    whole = m - m % 4
    for panel in range(0, m, _PANEL):
        end = min(panel + _PANEL, m)
        for earlier in range(0, panel, _PANEL):
            for j in range(panel, min(end, whole), 4):
                _update_four(A, j, m, earlier, earlier + _PANEL)
        for j in range(panel, min(end, whole), 4):
            _update_four(A, j, m, panel, j)
            if not _finish_four(A, j, m, diagonal):
                return False
    for i in range(whole, m):  # noqa: SIM110  numba compiles the loop, not a generator
        if not _finish_one(A, i, m, diagonal[i]):
            return False
    return True


@njit(**_OPTIONS)
def _finish_four(A, j, m, diagonal):
    """Columns j to j+3, which lack only what they contribute to one another."""
    a0, a1, a2, a3 = A[j, j:m], A[j + 1, j:m], A[j + 2, j:m], A[j + 3, j:m]
    pivot = a0[0]
    safe = pivot > _SUSPICIOUS * diagonal[j]
    s0 = 1.0 / np.sqrt(pivot)
    p10, p20, p30 = s0 * a0[1], s0 * a0[2], s0 * a0[3]
    pivot = a1[1] - p10 * p10
    safe = safe and pivot > _SUSPICIOUS * diagonal[j + 1]
    s1 = 1.0 / np.sqrt(pivot)
    p21, p31 = s1 * (a1[2] - p10 * p20), s1 * (a1[3] - p10 * p30)
    pivot = a2[2] - p20 * p20 - p21 * p21
    safe = safe and pivot > _SUSPICIOUS * diagonal[j + 2]
    s2 = 1.0 / np.sqrt(pivot)
    p32 = s2 * (a2[3] - p20 * p30 - p21 * p31)
    pivot = a3[3] - p30 * p30 - p31 * p31 - p32 * p32
    safe = safe and pivot > _SUSPICIOUS * diagonal[j + 3]
    s3 = 1.0 / np.sqrt(pivot)
    for i in range(m - j):
        v0 = s0 * a0[i]
        v1 = s1 * (a1[i] - p10 * v0)
        v2 = s2 * (a2[i] - p20 * v0 - p21 * v1)
        a3[i] = s3 * (a3[i] - p30 * v0 - p31 * v1 - p32 * v2)
        a0[i], a1[i], a2[i] = v0, v1, v2
    a0[0], a1[1], a2[2], a3[3] = s0, s1, s2, s3
    return safe


@njit(**_OPTIONS)
def _finish_one(A, j, m, diagonal):
    a = A[j, j:m]
    for c in range(j):
        column = A[c, j:m]
        p = column[0]
        for i in range(m - j):
            a[i] -= p * column[i]
    if not a[0] > _SUSPICIOUS * diagonal:
        return False
    scale = 1.0 / np.sqrt(a[0])
    for i in range(1, m - j):
        a[i] *= scale
    a[0] = scale
    return True


@njit(**_OPTIONS)
def column_start(j, m, stride):
    """Where column j of the factor begins, at its diagonal entry: in rows of `stride`, or packed where that is 0."""
    return j * (stride + 1) if stride > 0 else j * m - j * (j - 1) // 2


@njit(**_OPTIONS)
def solve_cholesky(factor, m, stride, b):
    """b <- (L L^T)^-1 b, four columns at a time; the diagonal of L is stored inverted."""
    whole = m - m % 4
    for j in range(0, whole, 4):
        l0, l1, l2, l3 = four_columns(factor, j, m, stride)
        v0 = b[j] * l0[0]
        v1 = (b[j + 1] - l0[1] * v0) * l1[0]
        v2 = (b[j + 2] - l0[2] * v0 - l1[1] * v1) * l2[0]
        v3 = (b[j + 3] - l0[3] * v0 - l1[2] * v1 - l2[1] * v2) * l3[0]
        b[j], b[j + 1], b[j + 2], b[j + 3] = v0, v1, v2, v3
        l0, l1, l2, l3, tail = l0[4:], l1[3:], l2[2:], l3[1:], b[j + 4 : m]
        for i in range(m - j - 4):
            tail[i] -= v0 * l0[i] + v1 * l1[i] + v2 * l2[i] + v3 * l3[i]
    for j in range(whole, m):
        start = column_start(j, m, stride)
        b[j] *= factor[start]
        for i in range(1, m - j):
            b[j + i] -= b[j] * factor[start + i]
    for j in range(m - 1, whole - 1, -1):
        start = column_start(j, m, stride)
        for i in range(1, m - j):
            b[j] -= b[j + i] * factor[start + i]
        b[j] *= factor[start]
    for j in range(whole - 4, -1, -4):
        l0, l1, l2, l3 = four_columns(factor, j, m, stride)
        t0, t1, t2, t3, tail = l0[4:], l1[3:], l2[2:], l3[1:], b[j + 4 : m]
        v0, v1, v2, v3 = 0.0, 0.0, 0.0, 0.0
        for i in range(m - j - 4):
            v0 += tail[i] * t0[i]
            v1 += tail[i] * t1[i]
            v2 += tail[i] * t2[i]
            v3 += tail[i] * t3[i]
        v3 = (b[j + 3] - v3) * l3[0]
        v2 = (b[j + 2] - v2 - l2[1] * v3) * l2[0]
        v1 = (b[j + 1] - v1 - l1[1] * v2 - l1[2] * v3) * l1[0]
        v0 = (b[j] - v0 - l0[1] * v1 - l0[2] * v2 - l0[3] * v3) * l0[0]
        b[j], b[j + 1], b[j + 2], b[j + 3] = v0, v1, v2, v3


@njit(**_OPTIONS)
def four_columns(factor, j, m, stride):
    """Columns j to j+3, each from its diagonal entry on."""
    s0, s1 = column_start(j, m, stride), column_start(j + 1, m, stride)
    s2, s3 = column_start(j + 2, m, stride), column_start(j + 3, m, stride)
    size = m - j
    return factor[s0 : s0 + size], factor[s1 : s1 + size - 1], factor[s2 : s2 + size - 2], factor[s3 : s3 + size - 3]


# --- first-order steps ------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def largest_eigenvalue(G):
    """Of a positive semidefinite matrix by eight power steps, and a tenth more."""
    k = len(G)
    v, w = np.empty(k), np.empty(k)
    for i in range(k):
        v[i] = np.cos(float(i * i))
    length = 0.0
    for _ in range(8):
        product(G, v, w)
        length = np.sqrt(dot(w, w) / max(dot(v, v), 1e-300))
        if not length > 0.0:
            return 0.0
        size = np.sqrt(dot(w, w))
        for i in range(k):
            v[i] = w[i] / size
    return 1.1 * length


@njit(**_OPTIONS)
def first_order(shared, space, steps):
    """Accelerated projected gradient on the dual, restarted (methods/solvers/dual_fista.py), from and to space.u.

    In single precision, as Newton needs no more than the pattern that it guesses; the dual is divided by `length`.
    """
    # One by one: numba does not vectorise the loops over rows that it unpacked.
    u, v, z, c = space.singles[0], space.singles[1], space.singles[2], space.singles[3]
    one, zero, still = np.float32(1.0), np.float32(0.0), np.float32(_STILL)
    k, t, unchanged = len(u), 1.0, 0
    for i in range(k):
        u[i], v[i], c[i] = space.u[i], space.u[i], space.c[i] / shared.length
    for _ in range(steps):
        product(shared.G_single, v, z)
        uphill, changes = zero, zero
        for i in range(k):
            ahead = min(max(v[i] + (c[i] - z[i]), -one), one)
            change = abs(ahead - u[i])
            uphill += (v[i] - ahead) * (ahead - u[i])
            changes += one if change >= still or (change > zero and (abs(ahead) == one or abs(u[i]) == one)) else zero
            z[i] = ahead
        following = 0.5 + np.sqrt(0.25 + t * t)
        momentum = np.float32((t - 1.0) / following)
        t = following
        if uphill > zero:
            momentum, t = zero, 1.0
        for i in range(k):
            v[i] = z[i] + momentum * (z[i] - u[i])
            u[i] = z[i]
        unchanged = unchanged + 1 if changes == zero else 0
        if unchanged == _UNCHANGED:
            break
    copy(u, space.u)


# --- Newton -----------------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def guess(shared, space):
    """space.inside: 0 where u + z / ||G|| is in the box, else its side."""
    u, z, c, inside = space.u, space.z, space.c, space.inside
    product(shared.G, u, z)
    for i in range(len(u)):
        ahead = u[i] + (c[i] - z[i]) / shared.length
        inside[i] = (ahead > 1.0) - (ahead < -1.0)


@njit(**_OPTIONS)
def newton(shared, space, max_steps, slack):
    """(rows on the cosupport, steps): from the pattern in space.inside to u; -1 rows where it breaks down or cycles."""
    u, z, t, side, rows = space.u, space.z, space.t, space.inside, space.rows
    n, k = shared.W.shape[1], len(u)
    fewest, patience = k + 1, 4
    for step in range(1, max_steps + 1):
        m = 0
        for i in range(k):
            u[i] = side[i]
            if side[i] == 0:
                rows[m] = i
                m += 1
        if m > n:
            return -1, step
        inner = rows[:m]
        gather(shared.G, inner, space.A, space.diagonal)
        if not cholesky(space.A, m, space.diagonal):
            return -1, step
        outer = space.order[: k - m]
        f = 0
        for i in range(k):
            if side[i] != 0:
                outer[f] = i
                f += 1
        some_products(shared.G, inner, u, t)
        for i in range(m):
            t[i] = space.c[inner[i]] - t[i]
        solve_cholesky(space.L, m, space.A.shape[1], t)
        for i in range(m):
            u[inner[i]] = t[i]
        some_products(shared.G, outer, u, z)
        changes = 0
        for i in range(m):
            row = inner[i]
            if abs(t[i]) > 1.0 + 1e-14:
                side[row] = 1 if t[i] > 0.0 else -1
                changes += 1
        for i in range(f):
            row = outer[i]
            # A row leaves its set only by more than rounding: on a kink, where it belongs to both, it never settles.
            if side[row] * (space.c[row] - z[i]) < -slack:
                side[row] = 0
                changes += 1
        if changes == 0:
            return m, step
        if changes < fewest:
            fewest, patience = changes, 4
        else:
            patience -= 1
            if patience == 0:
                return -1, step
    return -1, max_steps


@njit(**_OPTIONS)
def refine(shared, space, y, m, x):
    """x = y - W^T u and z = W x; then u on the cosupport, x and z are corrected until z vanishes there to rounding."""
    u, z, t, rows = space.u, space.z, space.t, space.rows[:m]
    tiny = 4.0 * _EPS * shared.norm
    product(shared.Wt, u, x)
    for i in range(len(x)):
        x[i] = y[i] - x[i]
    for correction in range(3):
        product(shared.W, x, z)
        worst = 0.0
        for i in range(m):
            t[i] = z[rows[i]]
            worst = max(worst, abs(t[i]))
        if correction == 2 or not worst > tiny * largest(x):
            break
        solve_cholesky(space.L, m, space.A.shape[1], t)
        for i in range(m):
            u[rows[i]] += t[i]
        add_some_rows(shared.W, rows, t[:m], -1.0, x)
    for i in range(len(u)):
        u[i] = min(max(u[i], -1.0), 1.0)


# --- bounded least squares by orthogonalisation -----------------------------------------------------------------------


@njit(**_OPTIONS)
def append(row, Q, R, r, least):
    """Orthogonalise `row` against Q's first r rows, twice; False where no more than that part of it is left."""
    if r >= len(Q):
        return False
    q, column = Q[r], R[r]
    copy(row, q)
    fill(column[: r + 1], 0.0)
    length = np.sqrt(dot(row, row))
    for _ in range(2):
        for i in range(r):
            part = dot(Q[i], q)
            column[i] += part
            for j in range(len(q)):
                q[j] -= part * Q[i, j]
    left = np.sqrt(dot(q, q))
    if not left > least * length:
        return False
    column[r] = left
    for j in range(len(q)):
        q[j] /= left
    return True


@njit(**_OPTIONS)
def drop(p, Q, R, r):
    """Remove the p-th of r rows: shift the columns of R, and rotate it back to triangular form."""
    for j in range(p, r - 1):
        copy(R[j + 1], R[j, : j + 2])
    for i in range(p, r - 1):
        a, b = R[i, i], R[i, i + 1]
        h = np.hypot(a, b)
        cosine, sine = a / h, b / h
        for j in range(i, r - 1):
            upper, lower = R[j, i], R[j, i + 1]
            R[j, i], R[j, i + 1] = cosine * upper + sine * lower, cosine * lower - sine * upper
        for j in range(Q.shape[1]):
            upper, lower = Q[i, j], Q[i + 1, j]
            Q[i, j], Q[i + 1, j] = cosine * upper + sine * lower, cosine * lower - sine * upper


@njit(**_OPTIONS)
def solve_upper(R, r, b):
    """b <- R^-1 b."""
    for j in range(r - 1, -1, -1):
        b[j] /= R[j, j]
        for i in range(j):
            b[i] -= b[j] * R[j, i]


@njit(**_OPTIONS)
def bounded_least_squares(shared, space, y, x, slack, max_steps):
    """The dual by pivoting, from any u in the box: (independent rows, all rows on the cosupport, steps).

    Rows are basic (independent, in space.rows) or keep their u, at a bound or between. The basic ones minimise; one
    that meets a bound stops there and leaves. At the minimum z vanishes on the basic rows, hence on all that depend on
    them: a row whose u may still improve is independent, and enters. The objective falls from one minimum to the next,
    so it is finite (Stark and Parker 1995, with rows that need not start at a bound).
    """
    W, u, z, t, d, rows, excluded = shared.W, space.u, space.z, space.t, space.d, space.rows, space.excluded
    Q, R = space.Q, space.A
    k, r = len(u), 0
    for i in range(k):
        excluded[i] = False
        u[i] = min(max(u[i], -1.0), 1.0)
        if abs(u[i]) < 1.0 and append(W[i], Q, R, r, _DEPENDENT):
            rows[r] = i
            r += 1
    entered, steps, settled = k, 0, False
    while steps < max_steps:
        steps += 1
        product(shared.Wt, u, x)
        for i in range(len(x)):
            x[i] = y[i] - x[i]
        for j in range(r):
            t[j] = dot(Q[j], x)
            d[j] = t[j]
        solve_upper(R, r, d)
        length, blocking = 1.0, -1
        for j in range(r):
            ahead = u[rows[j]] + d[j]
            if abs(ahead) > 1.0:
                room = max((1.0 - np.sign(ahead) * u[rows[j]]) / abs(d[j]), 0.0)
                if room < length:
                    length, blocking = room, j
        for j in range(r):
            u[rows[j]] += length * d[j]
        if blocking >= 0:
            row = rows[blocking]
            u[row] = np.sign(d[blocking])
            # It came in and goes out without a step: what seemed an improvement was rounding.
            if row == entered and length == 0.0:
                excluded[row] = True
            drop(blocking, Q, R, r)
            r -= 1
            for j in range(blocking, r):
                rows[j] = rows[j + 1]
            continue
        for j in range(r):
            for i in range(len(x)):
                x[i] -= t[j] * Q[j, i]
        product(W, x, z)
        for j in range(r):
            excluded[rows[j]] = True
        worst, entering = slack, -1
        for i in range(k):
            if not excluded[i] and abs(z[i]) > worst and u[i] * np.sign(z[i]) < 1.0:
                worst, entering = abs(z[i]), i
        for j in range(r):
            excluded[rows[j]] = False
        if entering < 0 and settled:
            break
        settled = entering < 0  # once more, to correct u for rounding
        if settled:
            continue
        if append(W[entering], Q, R, r, _DEPENDENT):
            rows[r] = entering
            entered = entering
            r += 1
        else:
            excluded[entering] = True
    r, m = complete(shared, space, 100.0 * slack)
    return r, m, steps


@njit(**_OPTIONS)
def complete(shared, space, zero):
    """(independent rows, all rows) of the cosupport, listed in that order: those strictly inside the box, and those at
    a bound that vanish because they depend on the former. Others that vanish at a bound are kinks, and not listed."""
    W, u, z, rows = shared.W, space.u, space.z, space.rows
    m = 0
    for i in range(len(u)):
        if abs(u[i]) < 1.0 and abs(z[i]) <= zero:
            rows[m] = i
            m += 1
    r = rank_revealing(W, rows, m, space)
    for i in range(len(u)):
        if abs(u[i]) == 1.0 and abs(z[i]) <= zero and not append(W[i], space.Q, space.A, r, _DEPENDENT):
            rows[m] = i
            m += 1
    return r, m


@njit(**_OPTIONS)
def rank_revealing(W, rows, m, space):
    """The rank of W[rows[:m]], which is reordered: at each step the row with the largest part outside the others' span,
    and those that have none last."""
    left, r, end = space.v, 0, m
    for j in range(m):
        left[j] = dot(W[rows[j]], W[rows[j]])
    while r < end:
        chosen = r
        for j in range(r + 1, end):
            if left[j] > left[chosen]:
                chosen = j
        rows[r], rows[chosen] = rows[chosen], rows[r]
        left[chosen] = left[r]
        if append(W[rows[r]], space.Q, space.A, r, _DEPENDENT):
            for j in range(r + 1, end):
                left[j] -= dot(space.Q[r], W[rows[j]]) ** 2
            r += 1
        else:
            end -= 1
            rows[r], rows[end] = rows[end], rows[r]
            left[r] = left[end]
    return r


# --- one sample, and the batch ----------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def certify(shared, space, y, x, r, m, pattern, numbers):
    """Pattern and (KKT residual, relative duality gap, primal margin, dual margin) of (x, u) as returned."""
    u, z, w = space.u, space.z, space.w[: len(x)]
    size = max(largest(y), 1e-300)
    product(shared.Wt, u, w)
    for i in range(len(x)):
        w[i] += x[i] - y[i]
    residual = largest(w) / size
    reach = size * max(shared.norm, 1e-300)
    gap = 0.5 * dot(w, w)
    for i in range(len(u)):
        pattern[i] = (u[i] > 0.0) - (u[i] < 0.0)
    for j in range(m):
        pattern[space.rows[j]] = 0
    top, primal, dual, objective = largest(z), np.inf, np.inf, 0.0
    for i in range(len(u)):
        ahead = min(max(u[i] + z[i] / reach, -1.0), 1.0)
        residual = max(residual, abs(u[i] - ahead))
        gap += abs(z[i]) - u[i] * z[i]
        objective += abs(space.c[i])
        if pattern[i] == 0:
            dual = min(dual, 1.0 - abs(u[i]))
        else:
            primal = min(primal, abs(z[i]))
    # max() forgets NaN on its left
    numbers[0] = residual if np.isfinite(gap) else np.nan
    numbers[1] = gap / max(0.5 * dot(y, y) + objective, 1e-300)
    numbers[2] = primal / top if top > 0.0 else (primal if primal == np.inf else 0.0)
    numbers[3] = dual if r == m else np.nan


@njit(**_OPTIONS)
def solve_sample(shared, space, y, warm, tolerance, x, u, pattern, numbers, counts, factor):
    """counts: rows on the cosupport, independent ones, steps, and whether `factor` holds their Cholesky factor."""
    product(shared.W, y, space.c)
    for i in range(len(u)):
        space.u[i] = min(max(u[i], -1.0), 1.0) if u[i] == u[i] else 0.0
    slack = 1e-14 * shared.norm * np.sqrt(dot(y, y))
    steps, m = 0, -1
    # The larger the problem the more first-order steps, k^2, are worth a Newton step, m^3.
    burst = min(16 + len(u), 200)
    for _ in range(_ATTEMPTS):
        if not shared.length > 0.0:
            break
        if not warm:
            first_order(shared, space, burst)
            burst *= 4
        warm = False
        copy(space.u, space.d[: len(u)])
        guess(shared, space)
        m, taken = newton(shared, space, _NEWTON_STEPS, slack)
        steps += taken
        if m >= 0:
            refine(shared, space, y, m, x)
            certify(shared, space, y, x, m, m, pattern, numbers)
            if numbers[0] <= tolerance:
                if numbers[2] < _VANISHING:
                    m = -1  # a kink, or a row that depends on the cosupport: for the rank-revealing route to say
                break
            m = -1
        copy(space.d, space.u)
    counts[3] = m >= 0
    if m >= 0:
        position = 0
        for j in range(m):
            copy(space.A[j, j:m], factor[position : position + m - j])
            position += m - j
        r = m
    else:
        r, m, taken = bounded_least_squares(shared, space, y, x, slack, 20 * (len(u) + len(x)) + 100)
        steps += taken
        certify(shared, space, y, x, r, m, pattern, numbers)
    copy(space.u, u)
    counts[0], counts[1], counts[2] = m, r, steps
    return space.rows[:m]


@njit(**_OPTIONS)
def gram_rows(W, Wt, G, i):
    """Rows i to i+3 of G = W W^T from the diagonal block on, and their mirror image."""
    k, n = W.shape
    last = min(i + 4, k)
    for row in range(i, last):
        fill(G[row, i:], 0.0)
    whole = n - n % 4 if last == i + 4 else 0
    if whole > 0:
        g0, g1, g2, g3 = G[i, i:], G[i + 1, i:], G[i + 2, i:], G[i + 3, i:]
        for j in range(0, whole, 4):
            l0, l1, l2, l3 = Wt[j, i:], Wt[j + 1, i:], Wt[j + 2, i:], Wt[j + 3, i:]
            p00, p01, p02, p03 = l0[0], l1[0], l2[0], l3[0]
            p10, p11, p12, p13 = l0[1], l1[1], l2[1], l3[1]
            p20, p21, p22, p23 = l0[2], l1[2], l2[2], l3[2]
            p30, p31, p32, p33 = l0[3], l1[3], l2[3], l3[3]
            for c in range(k - i):
                v0, v1, v2, v3 = l0[c], l1[c], l2[c], l3[c]
                g0[c] += p00 * v0 + p01 * v1 + p02 * v2 + p03 * v3
                g1[c] += p10 * v0 + p11 * v1 + p12 * v2 + p13 * v3
                g2[c] += p20 * v0 + p21 * v1 + p22 * v2 + p23 * v3
                g3[c] += p30 * v0 + p31 * v1 + p32 * v2 + p33 * v3
    for row in range(i, last):
        add_rows(Wt[whole:, i:], W[row, whole:], G[row, i:])
    for row in range(i, last):
        for c in range(last, k):
            G[c, row] = G[row, c]


@njit(**_OPTIONS)
def solve_share(thread, threads, shared, Y, warm, tolerance, X, U, patterns, numbers, counts, rows, factors, starts):
    """A run of neighbouring samples, as what two threads write must not share cache lines; their factors one after
    another, as small as they are.
    """
    space = workspace(*shared.W.shape)
    share = -(-len(Y) // threads)
    largest_factor = rows.shape[1] * (rows.shape[1] + 1) // 2
    start = thread * share * largest_factor
    for b in range(thread * share, min(len(Y), (thread + 1) * share)):
        starts[b] = start
        factor = factors[start : start + largest_factor]
        on = solve_sample(shared, space, Y[b], warm, tolerance, X[b], U[b], patterns[b], numbers[b], counts[b], factor)
        copy(on, rows[b, : len(on)])
        start += counts[b, 3] * (len(on) * (len(on) + 1) // 2)


@njit(parallel=True, **_ENTRY)
def solve_batch(
    threads, gram_threads, W, Wt, Y, warm, tolerance, X, U, patterns, numbers, counts, rows, factors, starts
):
    """All samples on so many threads; U holds the start and then the result. The largest residual, the most steps."""
    k = len(W)
    G = np.empty((k, k))
    for thread in prange(gram_threads):
        for i in range(4 * thread, k, 4 * gram_threads):
            gram_rows(W, Wt, G, i)
    length = largest_eigenvalue(G)
    shared = Shared(W, Wt, G, (G / length).astype(np.float32), length, root_of_trace(G))
    for thread in prange(threads):
        solve_share(thread, threads, shared, Y, warm, tolerance, X, U, patterns, numbers, counts, rows, factors, starts)
    residual, steps = 0.0, 0
    for b in range(len(Y)):
        if residual == residual and not numbers[b, 0] <= residual:  # NaN is the largest
            residual = numbers[b, 0]
        steps = max(steps, counts[b, 2])
    return residual, steps


# --- the adjoint ------------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def adjoint_sample(W, Wt, rows, independent, factor, factored, space, g, p, a):
    """p = g - W0^T a, the projection of g on the null space of W0, and a = W0^{+T} g."""
    m = len(rows)
    fill(a, 0.0)
    copy(g, p)
    if m == 0:
        return
    A, Q, z, t = space.A, space.Q, space.z, space.t
    if factored:
        first = 0.0
        for _ in range(3):
            product(W, p, z)
            worst = 0.0
            for i in range(m):
                t[i] = z[rows[i]]
                worst = max(worst, abs(t[i]))
            if worst <= 1e-14 * first:  # W0 p vanishes to rounding; where W0 W0^T is ill-conditioned that takes two
                break
            first = max(first, worst)
            solve_cholesky(factor, m, 0, t)
            for i in range(m):
                a[rows[i]] += t[i]
            add_some_rows(W, rows, t[:m], -1.0, p)
        return
    r = 0
    for i in range(independent):
        r += append(W[rows[i]], Q, A, r, 0.0)
    for i in range(r):
        t[i] = dot(Q[i], g)
        for j in range(len(g)):
            p[j] -= t[i] * Q[i, j]
    if r == m:
        solve_upper(A, r, t)
        for i in range(r):
            a[rows[i]] = t[i]
        return
    # W0^T = Q^T B with more columns than rows: the least-norm a with B a = Q g, from B^T = V^T S.
    V, S = np.empty((r, m)), np.empty((r, r))
    B_row = np.empty(m)
    for i in range(r):
        for j in range(m):
            B_row[j] = dot(Q[i], W[rows[j]])
        append(B_row, V, S, i, 0.0)
        value = t[i]
        for j in range(i):
            value -= S[i, j] * t[j]
        t[i] = value / S[i, i]
    for i in range(r):
        for j in range(m):
            a[rows[j]] += t[i] * V[i, j]


@njit(**_OPTIONS)
def adjoint_share(thread, threads, W, Wt, counts, rows, factors, starts, G, P, A):
    space = workspace(*W.shape)
    share = -(-len(G) // threads)
    for b in range(thread * share, min(len(G), (thread + 1) * share)):
        m, independent, _, factored = counts[b]
        adjoint_sample(W, Wt, rows[b, :m], independent, factors[starts[b] :], factored == 1, space, G[b], P[b], A[b])


@njit(parallel=True, **_ENTRY)
def adjoint_batch(threads, W, Wt, counts, rows, factors, starts, G, P, A):
    """P and A, sample by sample, for the loss's gradients G."""
    for thread in prange(threads):
        adjoint_share(thread, threads, W, Wt, counts, rows, factors, starts, G, P, A)


@njit(**_ENTRY)
def order_batch(W, counts, rows):
    """Each sample's rows with the independent ones first, and how many those are."""
    space = workspace(*W.shape)
    for b in range(len(rows)):
        counts[b, 1] = rank_revealing(W, rows[b], counts[b, 0], space)
