"""Arithmetic that rounds alike on every machine: what every number of an instance, and every choice, is made with.

IEEE 754 fixes +, -, *, / and the root of two doubles to the last bit. It fixes no sum of many terms, whose order and
fused products a library chooses by the processor's registers (BLAS, LAPACK, FFTs, numpy's and torch's sums), nor a
cosine or an exponential, which every mathematics library rounds in its own way. So a sum is taken here term by term,
first to last, over arrays of whatever else there is, and the other functions are made of those five operations, or
of `mpmath`, which computes in integers. A row of a batch, too, is then what it would be alone.

What differs on a machine after all: a normal number whose acceptance was decided by the last bit of an exponential of
the C library, once in 1e18 draws.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
from jaxtyping import Float
from numpy.random import Generator

PRECISE = mpmath.MPContext()
PRECISE.prec = 120
"""Bits of what is rounded to a double once, at the end."""
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
"""The logarithm of 2; the first has 33 bits, so that its products with integers below 2^20 are exact."""
ZIGGURAT_END, ZIGGURAT_END_INVERSE = 3.654152885361008796, 0.27366123732975827203
"""Where numpy's normal numbers become a tail, and one over that."""


def total(terms: Float[np.ndarray, ...], axis: int = -1) -> Float[np.ndarray, ...]:
    """The sum along an axis."""
    along = np.moveaxis(terms, axis, 0)
    sum_ = np.zeros(along.shape[1:])
    for term in along:
        sum_ += term
    return sum_


def product(a: Float[np.ndarray, "... r j"], b: Float[np.ndarray, "... j c"]) -> Float[np.ndarray, "... r c"]:
    """The matrix product a @ b, of stacks of matrices, too: j steps of r c multiplications each."""
    a = np.ascontiguousarray(np.moveaxis(a, -1, 0))[..., None]
    b = np.ascontiguousarray(np.moveaxis(b, -2, 0))[..., None, :]
    sum_ = np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:]))
    for column, row in zip(a, b, strict=True):
        sum_ += column * row
    return sum_


def times(a: Float[np.ndarray, "r j"], x: Float[np.ndarray, "*batch j"]) -> Float[np.ndarray, "*batch r"]:
    """a x, for one x or for a row of them."""
    return product(x.reshape(-1, x.shape[-1]), a.T).reshape(*x.shape[:-1], len(a))


def length(x: Float[np.ndarray, ...], axis: int = -1) -> Float[np.ndarray, ...]:
    """Euclidean, along an axis."""
    return np.asarray(np.sqrt(total(x * x, axis)))


def cosine(turns: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """cos(2 pi turns), to 2e-16, and exact at multiples of a quarter: by Taylor, an eighth at most away from one."""
    quarters = np.rint(4.0 * turns)
    x = 2.0 * math.pi * (turns - 0.25 * quarters)
    squared = x * x
    cos, sin = np.ones_like(x), np.ones_like(x)
    for last in range(18, 0, -2):  # (pi/4)^20 / 20! = 3e-21
        cos = 1.0 - squared / (last * (last - 1)) * cos
        sin = 1.0 - squared / (last * (last + 1)) * sin
    return np.asarray(np.choose(quarters.astype(np.int64) % 4, [cos, -x * sin, -cos, x * sin]))


def sine(turns: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """sin(2 pi turns)."""
    return cosine(turns - 0.25)


def exponential(x: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """e^x to 4e-16, relative: 2^k times Taylor's polynomial of what is left, |x - k ln 2| <= ln(2) / 2."""
    x = np.clip(x, -800.0, 800.0)
    k = np.rint(x / math.log(2.0))
    rest = (x - k * LN2_HIGH) - k * LN2_LOW
    e = np.ones_like(rest)
    for last in range(16, 0, -1):  # 0.35^17 / 17! = 5e-23
        e = 1.0 + rest / last * e
    return np.asarray(np.ldexp(e, k.astype(np.int32)))


def logarithm(x: float) -> float:
    """ln x."""
    return float(PRECISE.ln(x))


def power(base: float, exponent: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """base ** exponent, for base > 0."""
    return np.array([float(PRECISE.power(base, one)) for one in exponent.tolist()])


def uniform(
    rng: Generator, low: float, high: float, size: int | tuple[int, ...] | None = None
) -> Float[np.ndarray, ...]:
    """`rng.uniform(low, high, size)`, whose product and sum a compiler may fuse."""
    return np.asarray(low + (high - low) * rng.random(size))


def normal(rng: Generator, size: int | tuple[int, ...]) -> Float[np.ndarray, ...]:
    """`rng.normal(size=size)`, whose one number in 3,800 beyond ZIGGURAT_END is a logarithm of the C library.

    These are drawn again from the same bits; the generator is left where numpy leaves it.
    """
    before = rng.bit_generator.state
    drawn = rng.standard_normal(size).ravel()
    tail = np.flatnonzero(np.abs(drawn) > ZIGGURAT_END).tolist()
    if tail:
        after, done = rng.bit_generator.state, 0
        rng.bit_generator.state = before
        for place in tail:
            rng.standard_normal(place - done)
            drawn[place] = _from_the_tail(rng)
            done = place + 1
        rng.bit_generator.state = after
    return drawn.reshape(size)


def _from_the_tail(rng: Generator) -> float:
    """The next number, known to be beyond ZIGGURAT_END: numpy's `random_standard_normal`, G. Marsaglia's tail in it."""
    while (bits := rng.bit_generator.random_raw()) & 0xFF:
        rng.random()  # another layer of the ziggurat, and beyond it: numpy drew again
    while True:
        x = ZIGGURAT_END_INVERSE * -logarithm(1.0 - rng.random())
        y = -logarithm(1.0 - rng.random())
        if y + y > x * x:
            return -(ZIGGURAT_END + x) if bits >> 17 & 1 else ZIGGURAT_END + x


def orthogonal(a: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m m"]:
    """Q of a = Q R by Householder's reflections, the signs as LAPACK has them."""
    R, Q = a.copy(), np.eye(len(a))
    for j in range(len(a) - 1):
        v = R[j:, j].copy()
        v[0] += math.copysign(float(length(v)), v[0])
        scaled = 2.0 * v / total(v * v)
        R[j:] -= np.outer(v, times(R[j:].T, scaled))
        Q[:, j:] -= np.outer(times(Q[:, j:], v), scaled)
    return Q


def solve(a: Float[np.ndarray, "n n"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """x with a x = b, by Gauss's and Jordan's elimination with row pivoting: at most n^3 multiplications.

    Raises ZeroDivisionError where a pivot is zero.
    """
    system = np.concatenate([a, b[:, None]], 1)
    for j in range(len(a)):
        pivot = j + int(np.argmax(np.abs(system[j:, j])))
        if system[pivot, j] == 0.0:
            raise ZeroDivisionError("the matrix is singular")
        system[[j, pivot]] = system[[pivot, j]]
        system[j] /= system[j, j]
        column = system[:, j].copy()
        column[j] = 0.0
        others = np.flatnonzero(column)
        system[others] -= np.outer(column[others], system[j])
    return system[:, -1]


def is_positive_definite(a: Float[np.ndarray, "n n"]) -> bool:
    """Of a symmetric matrix: whether every pivot of Gauss's elimination is positive."""
    left = a.copy()
    for j in range(len(a)):
        if not left[j, j] > 0.0:
            return False
        left[j + 1 :, j + 1 :] -= np.outer(left[j + 1 :, j] / left[j, j], left[j, j + 1 :])
    return True


def spectral_norm(a: Float[np.ndarray, "m p"]) -> float:
    """The largest singular value, from the matrix's Gram matrix squared again and again.

    G^(2^52), scaled, keeps of G's eigenvectors those whose value is the largest to 2^-52: what any of its columns is a
    sum of, and the length of a column's image is right to rounding. 52 products of min(m, p)^3 multiplications.
    """
    a = a if a.shape[0] >= a.shape[1] else a.T
    gram = product(a.T, a)
    if not gram.any():
        return 0.0
    for _ in range(52):
        gram = gram / np.abs(gram).max()
        gram = product(gram, gram)
    v = gram[:, int(np.argmax(np.diagonal(gram)))]
    return float(length(times(a, v)) / length(v))
