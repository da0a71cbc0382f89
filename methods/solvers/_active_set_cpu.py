"""Compiled kernels of the exact solver: one sample at a time, the batch shared out over threads by the caller.

Everything is about the dual box problem of one sample, scaled by powers of two, which round nothing: each row of W is
divided by its scale s_i, so that its norm is in [1/2, 1), and y by its scale t, so that its largest entry is. With
w_i = W_i / s_i the problem reads

    min_v 1/2 ||y - w^T v||^2, |v_i| <= bound_i = s_i / t,        x = y - w^T v, z = w x, u_i = v_i / bound_i,

in which rows of very different size are alike: a small one has a small box, a large one a large one, and every
threshold below is relative to its own row.

A triangular factor is stored column by column: `A[j, i]`, i >= j, is entry (i, j) of the lower Cholesky factor of
w0 w0^T, its diagonal entries inverted, and `R[j, i]`, i <= j, is entry (i, j) of the upper factor in w0^T = Q R (the
rows of `Q` are orthonormal).

Memory comes from the caller and no kernel allocates any, which leaves numba's reference counts out and so halves the
time that compiling takes. Nothing is checked here: `_active_set_compiled` checks shapes and types, once per call.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-overload, misc, assignment"
# numba infers the types of what it compiles.

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import boolean, float32, float64, int8, int64, njit, uint32

# Where a count starts as `int64(0)`, numba would else compile what it is passed to once for the literal 0, too.
# Sums may be reordered and fused; NaN and infinity keep their meaning, which the certificate relies on.
_ARITHMETIC = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}, "nogil": True, "_nrt": False}
# Called from kernels alone: without what calls from Python need, and far smaller.
_OPTIONS = {**_ARITHMETIC, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_ENTRY = {**_ARITHMETIC, "no_cfunc_wrapper": True}

_LARGEST, _SMALLEST = 1.7976931348623157e308, 5e-324
_EPS = 2.220446049250313e-16
_SUSPICIOUS = 1e-10
"""A squared pivot below this part of its diagonal entry: cond(w0) is at least 1e5, and orthogonalisation takes over."""
_DEPENDENT = 1e-12
"""A row whose part outside the span of the others is smaller than this part of it depends on them."""
_VANISHING = 1e-12
"""A relative margin below this is none."""
_FAR = 1e6
"""No start has a |v| above this: next to it y, of size one, would be lost."""
_ATTEMPTS = 3
"""Of first-order steps followed by Newton steps; then pivoting."""
_UNCHANGED, _STILL = 3, 0.01
"""First-order steps end when so many in a row moved no v by more than this, and none to or from a bound."""
_NEWTON_STEPS = 15
_PANEL = 64
"""Columns of a factor that stay in the second-level cache while later ones are updated."""

SCALE, GRAM, SPECTRUM = 1, 2, 4
"""Stages of `prepare`."""

Shared = namedtuple("Shared", "W Wt G G_single inverse_norms length norm")
"""What all samples share: w, its transpose laid out, w w^T, the same over an estimate of its largest eigenvalue in
single precision, one over the norms of w's rows, that eigenvalue, and ||w||_F. Within kernels `W` is w."""

Workspace = namedtuple("Workspace", "A L Q singles c z u v w t d y bound diagonal rows order inside excluded")
"""One thread's arrays; L is A, row after row in one."""


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


# --- scales -----------------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def size_of(v):
    """The largest |v_i|; NaN where one is not finite."""
    size = 0.0
    for i in range(len(v)):
        if not abs(v[i]) <= _LARGEST:
            return np.nan
        size = max(size, abs(v[i]))
    return size


@njit(**_OPTIONS)
def scaled(v, size, out):
    """out = v / 2^e, exactly, and 2^e, which `size` is at most and more than half of; both 1 for a size of zero.

    In two loops, as 2^-e is infinite where v is denormal, and one loop might multiply its factors first.
    """
    exponent = min(math.frexp(size)[1], 1023)
    most = max(exponent, -1000)
    factor = math.ldexp(1.0, -most)
    for i in range(len(out)):
        out[i] = v[i] * factor
    if most > exponent:
        factor = math.ldexp(1.0, most - exponent)
        for i in range(len(out)):
            out[i] *= factor
    return math.ldexp(1.0, exponent)


@njit(**_OPTIONS)
def scale_extreme(row, out, scale):
    """A row whose squares may overflow or vanish, which is zero, or which has NaN or infinity: by its largest entry
    first."""
    size, scale[0] = size_of(row), 1.0
    if size != size:
        fill(out, np.nan)
    elif size == 0.0:
        fill(out, 0.0)
    else:
        first = scaled(row, size, out)
        scale[0] = first * scaled(out, min(np.sqrt(dot(out, out)), _LARGEST / first), out)


@njit(**_OPTIONS)
def scale_rows(W, w, wt, row_scales):
    """w, its transpose laid out, and the scales: rows of norm in [1/2, 1), zero or NaN."""
    for i in range(len(W)):
        square = dot(W[i], W[i])
        if 1e-200 < square < 1e200:
            row_scales[i] = scaled(W[i], np.sqrt(square), w[i])
        else:
            scale_extreme(W[i], w[i], row_scales[i : i + 1])
        for j in range(len(wt)):
            wt[j, i] = w[i, j]


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
        s0, s1 = column_start(j, m, stride), column_start(j + 1, m, stride)
        s2, s3 = column_start(j + 2, m, stride), column_start(j + 3, m, stride)
        l0, l1, l2, l3 = (
            factor[s0 : s0 + m - j],
            factor[s1 : s1 + m - j],
            factor[s2 : s2 + m - j],
            factor[s3 : s3 + m - j],
        )
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
        s0, s1 = column_start(j, m, stride), column_start(j + 1, m, stride)
        s2, s3 = column_start(j + 2, m, stride), column_start(j + 3, m, stride)
        l0, l1, l2, l3 = (
            factor[s0 : s0 + m - j],
            factor[s1 : s1 + m - j],
            factor[s2 : s2 + m - j],
            factor[s3 : s3 + m - j],
        )
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


# --- first-order steps ------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def largest_eigenvalue(G, v, w):
    """Of a positive semidefinite matrix by eight power steps, and a tenth more; v and w are scratch."""
    k = len(G)
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
    u, v, z, c, box = space.singles[0], space.singles[1], space.singles[2], space.singles[3], space.singles[4]
    one, zero, still = np.float32(1.0), np.float32(0.0), np.float32(_STILL)
    k, t, unchanged = len(u), 1.0, 0
    for i in range(k):
        u[i], v[i], c[i], box[i] = space.u[i], space.u[i], space.c[i] / shared.length, space.bound[i]
    for _ in range(steps):
        product(shared.G_single, v, z)
        uphill, changes = zero, zero
        for i in range(k):
            ahead = min(max(v[i] + (c[i] - z[i]), -box[i]), box[i])
            change = abs(ahead - u[i])
            uphill += (v[i] - ahead) * (ahead - u[i])
            moved = change >= still * min(box[i], one)
            bounded = change > zero and (abs(ahead) == box[i] or abs(u[i]) == box[i])
            changes += one if moved or bounded else zero
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
    """space.inside: 0 where v + z / ||G|| is in its box, else its side."""
    u, z, c, bound, inside = space.u, space.z, space.c, space.bound, space.inside
    product(shared.G, u, z)
    for i in range(len(u)):
        ahead = u[i] + (c[i] - z[i]) / shared.length
        inside[i] = (ahead > bound[i]) - (ahead < -bound[i])


@njit(**_OPTIONS)
def newton(shared, space, max_steps, slack):
    """(rows on the cosupport, steps): from the pattern in space.inside to v; -1 rows where it breaks down or cycles."""
    u, z, t, bound, side, rows = space.u, space.z, space.t, space.bound, space.inside, space.rows
    n, k = shared.W.shape[1], len(u)
    fewest, patience = k + 1, 4
    for step in range(1, max_steps + 1):
        m = int64(0)
        for i in range(k):
            u[i] = side[i] * bound[i]
            if side[i] == 0:
                u[i] = 0.0  # infinity is a bound, too
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
            if abs(t[i]) > bound[row] * (1.0 + 1e-14):
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
def refine(shared, space, m, x):
    """x = y - w^T v and z = w x; then v on the cosupport, x and z are corrected until z vanishes there to rounding."""
    y, u, z, t, bound, rows = space.y, space.u, space.z, space.t, space.bound, space.rows[:m]
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
        add_some_rows(shared.W, rows, t, -1.0, x)
    for i in range(len(u)):
        u[i] = min(max(u[i], -bound[i]), bound[i])


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
def bounded_least_squares(shared, space, x, slack, max_steps):
    """The dual by pivoting, from any v in the box: (independent rows, all rows on the cosupport, steps).

    Rows are basic (independent, in space.rows) or keep their v, at a bound or between. The basic ones minimise; one
    that meets a bound stops there and leaves. At the minimum z vanishes on the basic rows, hence on all that depend on
    them: a row whose v may still improve is independent, and enters. The objective falls from one minimum to the next,
    so it is finite (Stark and Parker 1995, with rows that need not start at a bound).
    """
    W, y, u, z, t, d, rows = shared.W, space.y, space.u, space.z, space.t, space.d, space.rows
    Q, R, bound, excluded = space.Q, space.A, space.bound, space.excluded
    k, r = len(u), int64(0)
    for i in range(k):
        excluded[i] = 0
        u[i] = min(max(u[i], -bound[i]), bound[i])
        if abs(u[i]) < bound[i] and append(W[i], Q, R, r, _DEPENDENT):
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
        length, blocking = 1.0, int64(-1)
        for j in range(r):
            ahead, most = u[rows[j]] + d[j], bound[rows[j]]
            if abs(ahead) > most:
                room = max((most - np.sign(ahead) * u[rows[j]]) / abs(d[j]), 0.0)
                if room < length:
                    length, blocking = room, j
        for j in range(r):
            u[rows[j]] += length * d[j]
        if blocking >= 0:
            row = rows[blocking]
            u[row] = np.sign(d[blocking]) * bound[row]
            # It came in and goes out without a step: what seemed an improvement was rounding.
            if row == entered and length == 0.0:
                excluded[row] = 1
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
            excluded[rows[j]] = 1
        worst, entering = slack, int64(-1)
        for i in range(k):
            if excluded[i] == 0 and abs(z[i]) > worst and u[i] * np.sign(z[i]) < bound[i]:
                worst, entering = abs(z[i]), i
        for j in range(r):
            excluded[rows[j]] = 0
        if entering < 0 and settled:
            break
        settled = entering < 0  # once more, to correct v for rounding
        if settled:
            continue
        if append(W[entering], Q, R, r, _DEPENDENT):
            rows[r] = entering
            entered = entering
            r += 1
        else:
            excluded[entering] = 1
    r, m = complete(shared, space, 100.0 * slack)
    return r, m, steps


@njit(**_OPTIONS)
def complete(shared, space, zero):
    """(independent rows, all rows) of the cosupport, listed in that order: those strictly inside the box, and those at
    a bound that vanish because they depend on the former. Others that vanish at a bound are kinks, and not listed."""
    W, u, z, bound, rows = shared.W, space.u, space.z, space.bound, space.rows
    m = int64(0)
    for i in range(len(u)):
        if abs(u[i]) < bound[i] and abs(z[i]) <= zero:
            rows[m] = i
            m += 1
    r = rank_revealing(W, rows, m, space.v, space.Q, space.A)
    for i in range(len(u)):
        at_bound = abs(u[i]) == bound[i] and abs(z[i]) <= zero
        if at_bound and not append(W[i], space.Q, space.A, r, _DEPENDENT):
            rows[m] = i
            m += 1
    return r, m


@njit(**_OPTIONS)
def rank_revealing(W, rows, m, left, Q, R):
    """The rank of W[rows[:m]], which is reordered: at each step the row with the largest part outside the others' span,
    and those that have none last."""
    r, end = int64(0), m
    for j in range(m):
        left[j] = dot(W[rows[j]], W[rows[j]])
    while r < end:
        chosen = r
        for j in range(r + 1, end):
            if left[j] > left[chosen]:
                chosen = j
        rows[r], rows[chosen] = rows[chosen], rows[r]
        left[chosen] = left[r]
        if append(W[rows[r]], Q, R, r, _DEPENDENT):
            for j in range(r + 1, end):
                left[j] -= dot(Q[r], W[rows[j]]) ** 2
            r += 1
        else:
            end -= 1
            rows[r], rows[end] = rows[end], rows[r]
            left[r] = left[end]
    return r


# --- one sample, and a share of the batch -----------------------------------------------------------------------------


@njit(**_OPTIONS)
def certify(shared, space, x, u, r, m, zero, pattern, numbers):
    """u, and of (x, u) as returned: the pattern and (KKT residual, relative duality gap, primal margin, dual margin).

    The residual of row i is min(h_i, room_i), h_i = |z_i| / (||w_i|| ||y||) and room_i = 1 - sign(z_i) u_i, times
    bound_i / ||y|| where that is more than one, because x moves so much with u_i.
    """
    y, v, z, c, bound, w = space.y, space.u, space.z, space.c, space.bound, space.w[: len(x)]
    for i in range(len(u)):
        # A v at its bound is there exactly; what a u between is too coarse for, v shows again.
        u[i] = np.sign(v[i]) if abs(v[i]) == bound[i] else v[i] / bound[i]
        v[i] = u[i] * bound[i]
    size, length = largest(y), np.sqrt(dot(y, y))
    if size == 0.0:
        size, length = 1.0, 1.0
    product(shared.Wt, v, w)
    for i in range(len(x)):
        w[i] += x[i] - y[i]
    residual, gap = largest(w) / size, 0.5 * dot(w, w)
    for i in range(len(u)):
        pattern[i] = (u[i] > 0.0) - (u[i] < 0.0)
    for j in range(m):
        pattern[space.rows[j]] = 0
    top, primal, dual, objective, every = 0.0, np.inf, np.inf, 0.5 * dot(y, y), dot(w, w)
    for i in range(len(u)):
        height, room = abs(z[i]) * shared.inverse_norms[i], 1.0 - np.sign(z[i]) * u[i]
        residual = max(residual, min(height / length, room * max(1.0, bound[i] / length)))
        every += height + v[i]
        gap += bound[i] * (abs(z[i]) - u[i] * z[i])
        objective += bound[i] * abs(c[i])
        top = max(top, height)
        if pattern[i] == 0:
            dual = min(dual, 1.0 - abs(u[i]))
        else:
            primal = min(primal, height)
    numbers[0] = residual if np.isfinite(every) else np.nan  # max() forgets NaN on its left
    numbers[1] = gap / max(objective, 1e-300)
    numbers[2] = primal / top if primal > zero and top > 0.0 else (primal if primal == np.inf else 0.0)
    numbers[3] = dual if r == m else np.nan


@njit(**_OPTIONS)
def begin(shared, space, y, row_scales, warm, u):
    """The sample's scale, and y, bound, c and the start in its scale; NaN where W or y is not finite."""
    scale = size_of(y)
    if not shared.norm <= _LARGEST or scale != scale:
        return np.nan
    scale = scaled(y, scale, space.y)
    product(shared.W, space.y, space.c)
    for i in range(len(u)):
        bound = max(row_scales[i] / scale, _SMALLEST)
        start = u[i] * bound if warm else 0.0
        most = min(bound, _FAR)
        space.bound[i] = bound
        space.u[i] = min(max(start, -most), most) if start == start else 0.0
    return scale


@njit(**_OPTIONS)
def solve_sample(shared, space, y, row_scales, warm, tolerance, x, u, pattern, numbers, counts, factor):
    """counts: rows on the cosupport, independent ones, steps, and whether `factor` holds their Cholesky factor."""
    k = len(u)
    scale = begin(shared, space, y, row_scales, warm, u)
    if scale != scale:
        fill(x, np.nan)
        fill(u, np.nan)
        fill(numbers, np.nan)
        for i in range(k):
            pattern[i] = 0
        for i in range(len(counts)):
            counts[i] = 0
        return 0
    slack = 1e-14 * shared.norm * np.sqrt(dot(space.y, space.y))
    steps, m = int64(0), int64(-1)
    # The larger the problem the more first-order steps, k^2, are worth a Newton step, m^3.
    burst = min(16 + k, 200)
    for _ in range(_ATTEMPTS):
        if not shared.length > 0.0:
            break
        if not warm:
            first_order(shared, space, burst)
            burst *= 4
        warm = False
        copy(space.u, space.v)
        guess(shared, space)
        m, taken = newton(shared, space, _NEWTON_STEPS, slack)
        steps += taken
        if m >= 0:
            refine(shared, space, m, x)
            certify(shared, space, x, u, m, m, 100.0 * slack, pattern, numbers)
            if numbers[0] <= tolerance:
                if numbers[2] < _VANISHING:
                    m = -1  # a kink, or a row that depends on the cosupport: for the rank-revealing route to say
                break
            m = -1
        copy(space.v, space.u)
    counts[3] = m >= 0
    if m >= 0:
        position = 0
        for j in range(m):
            copy(space.A[j, j:m], factor[position : position + m - j])
            position += m - j
        r = m
    else:
        r, m, taken = bounded_least_squares(shared, space, x, slack, 20 * (k + len(x)) + 100)
        steps += taken
        certify(shared, space, x, u, r, m, 100.0 * slack, pattern, numbers)
    for i in range(len(x)):
        x[i] *= scale
    counts[0], counts[1], counts[2] = m, r, steps
    return m


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


@njit(**_ENTRY)
def prepare(stages, piece, pieces, W, w, wt, row_scales, inverse_norms, G, G_single, totals, scratch):
    """What all samples share, in three stages, of which GRAM may be done in pieces; totals are the estimate
    of w w^T's largest eigenvalue and ||w||_F."""
    k = len(W)
    if stages & SCALE:
        scale_rows(W, w, wt, row_scales)
    if stages & GRAM:
        for i in range(4 * piece, k, 4 * pieces):
            gram_rows(w, wt, G, i)
    if stages & SPECTRUM:
        totals[0], totals[1] = largest_eigenvalue(G, scratch[0], scratch[1]), root_of_trace(G)
        for i in range(k):
            inverse_norms[i] = 1.0 / np.sqrt(G[i, i]) if G[i, i] > 0.0 else 0.0
            for j in range(k):
                G_single[i, j] = G[i, j] / totals[0] if totals[0] > 0.0 else 0.0


@njit(**_ENTRY)
def solve_share(
    first, stop, start, W, Wt, row_scales, inverse_norms, G, G_single, totals, Y, warm, tolerance,
    X, U, patterns, numbers, counts, rows, factors, starts, A, L, Q, doubles, singles, integers, flags,
):  # fmt: skip
    """Samples `first` to `stop`, neighbours, as what two threads write must not share cache lines; their factors one
    after another from `start`, as small as they are. U holds the start and then the result."""
    k, n = W.shape
    shared = Shared(W, Wt, G, G_single, inverse_norms, totals[0], totals[1])
    space = Workspace(
        A, L, Q, singles,
        doubles[0, :k], doubles[1, :k], doubles[2, :k], doubles[3, :k], doubles[4], doubles[5], doubles[6],
        doubles[7, :n], doubles[8, :k], doubles[9, :k],
        integers[0], integers[1], flags[0], flags[1],
    )  # fmt: skip
    largest_factor = k * (k + 1) // 2
    for b in range(first, stop):
        starts[b] = start
        factor = factors[start : start + largest_factor]
        m = solve_sample(
            shared, space, Y[b], row_scales, warm, tolerance, X[b], U[b], patterns[b], numbers[b], counts[b], factor
        )
        copy(space.rows, rows[b, :m])
        start += counts[b, 3] * (m * (m + 1) // 2)


# --- the adjoint ------------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def adjoint_sample(W, row_scales, rows, m, independent, factor, factored, R, Q, V, z, t, row, g, p, a):
    """p = g - W0^T a, the projection of g on the null space of W0, and a = W0^{+T} g; in w until the last line.

    Where rows depend on others the least-norm a is that of W, not of w.
    """
    fill(a, 0.0)
    copy(g, p)
    if m == 0:
        return
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
            solve_cholesky(factor, m, int64(0), t)
            for i in range(m):
                a[rows[i]] += t[i]
            add_some_rows(W, rows[:m], t, -1.0, p)
        for i in range(m):
            a[rows[i]] /= row_scales[rows[i]]
        return
    r = int64(0)
    for i in range(independent):
        r += append(W[rows[i]], Q, R, r, 0.0)
    for i in range(r):
        t[i] = dot(Q[i], g)
        for j in range(len(g)):
            p[j] -= t[i] * Q[i, j]
    if r == m:
        solve_upper(R, r, t)
        for i in range(r):
            a[rows[i]] = t[i] / row_scales[rows[i]]
        return
    # W0^T = Q^T B with more columns than rows: the least-norm a with B a = Q g, from B^T = V^T S. R is free again.
    fill(row, 0.0)
    for i in range(r):
        for j in range(m):
            row[j] = dot(Q[i], W[rows[j]]) * row_scales[rows[j]]
        append(row, V, R, i, 0.0)
        value = t[i]
        for j in range(i):
            value -= R[i, j] * t[j]
        t[i] = value / R[i, i]
    for i in range(r):
        for j in range(m):
            a[rows[j]] += t[i] * V[i, j]


@njit(**_ENTRY)
def adjoint_share(first, stop, W, row_scales, counts, rows, factors, starts, G, P, A, R, Q, V, doubles):
    """P and A of samples `first` to `stop`, for the loss's gradients G."""
    k = len(W)
    z, t, row = doubles[0, :k], doubles[1], doubles[2, :k]
    for b in range(first, stop):
        m, independent, _, factored = counts[b]
        factor = factors[starts[b] :]
        adjoint_sample(
            W, row_scales, rows[b], m, independent, factor, factored == 1, R, Q, V, z, t, row, G[b], P[b], A[b]
        )


@njit(**_ENTRY)
def order_batch(W, counts, rows, left, Q, R):
    """Each sample's rows with the independent ones first, and how many those are."""
    for b in range(len(rows)):
        counts[b, 1] = rank_revealing(W, rows[b], counts[b, 0], left, Q, R)


_D1, _D2, _I1, _I2, _U2, _S2, _B2 = (
    float64[::1], float64[:, ::1], int64[::1], int64[:, ::1], uint32[:, ::1], float32[:, ::1], int8[:, ::1]
)  # fmt: skip
SIGNATURES = {
    "solve_share": (
        int64, int64, int64, _D2, _D2, _D1, _D1, _D2, _S2, _D1, _D2, boolean, float64,
        _D2, _D2, _B2, _D2, _I2, _U2, _D1, _I1, _D2, _D1, _D2, _D2, _S2, _U2, _B2,
    ),
    "prepare": (int64, int64, int64, _D2, _D2, _D2, _D1, _D1, _D2, _S2, _D1, _D2),
    "adjoint_share": (int64, int64, _D2, _D1, _I2, _U2, _D1, _I1, _D2, _D2, _D2, _D2, _D2, _D2, _D2),
    "order_batch": (_D2, _I2, _U2, _D1, _D2, _D2),
}  # fmt: skip
"""Of the kernels that are called from Python: each is compiled for these types, and refuses all others."""
