"""Instances of analysis_l1 on which solvers and gradients go wrong, each with its stated truth.

All have A = I and fidelity half. Most are planted: x* and u are chosen first, and y = x* + W^T u makes them the
solution. A new instance is one function of `Asked` here; `instance = "its_name"` in a configuration finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.random import Generator

from problems._portable import normal, orthogonal, power, product, times, total, uniform


@dataclass(frozen=True)
class Asked:
    """What an instance may depend on."""

    n: int
    margin: float
    rng: Generator


class Hard(NamedTuple):
    """One pair, and its solution x*."""

    W: Float[np.ndarray, "k n"]
    y: Float[np.ndarray, " n"]
    x_true: Float[np.ndarray, " n"]
    x_star: Float[np.ndarray, " n"]


INSTANCES: dict[str, Callable[[Asked], Hard]] = {}


def _instance(make: Callable[[Asked], Hard]) -> Callable[[Asked], Hard]:
    INSTANCES[make.__name__] = make
    return make


@_instance
def kink(asked: Asked) -> Hard:
    """W = I/2 and y_0 = 1/2 (PEERS.md): x* = soft(y, 1/2), with x*_0 = 0 and u_0 = 1 at once.

    With g = x* - x_true, x_true_0 = -1 and along a change D of W, the slope ahead is (and behind, minus that along -D)

        g_0 (max(0, s - r_0) - s) - sum over the support of g_j r_j - sum over the cosupport but 0 of 2 g_j (D x*)_j,

    s = 2 (D x*)_0 and r = D^T u. In W_00 it is 0 ahead, where x_0 stays 0, and -1 behind, where x_0 = 1/2 - W_00.
    There are two slopes in W_00, in the W_0j with x*_j != 0 and in the W_i0 with u_i != 0, a derivative in the others.
    """
    return _shrunk(asked, first=0.5)


@_instance
def near_kink(asked: Asked) -> Hard:
    """The same with u_0 = 1 - margin: there is a derivative, -(u p^T + a x*^T), however small the margin.

    p = g on the support and 0 elsewhere, a = 2 g on the cosupport and 0 elsewhere; dL/dW_00 = 0.
    """
    return _shrunk(asked, first=0.5 * (1.0 - asked.margin))


@_instance
def picture_tv(asked: Asked) -> Hard:
    """Anisotropic total variation of a square picture that is 1 on its left half and 0 on its right; |u| <= 0.7.

    The cosupport has more rows than rank, so u is not unique, and for a general change of W the slopes differ.
    """
    side = math.isqrt(asked.n)
    if side**2 != asked.n or side < 2:
        raise ValueError(f"picture_tv needs a square n such as 16, not {asked.n}")
    step, line = np.eye(side), 0.2 * np.diff(np.eye(side), axis=0)
    W = np.concatenate([np.kron(step, line), np.kron(line, step)])
    x_star = np.tile(np.where(np.arange(side) < side // 2, 1.0, 0.0), side)
    return _planted(asked, W, np.abs(times(W, x_star)) == 0.0, x_star)


@_instance
def duplicated_rows(asked: Asked) -> Hard:
    """W = 0.4 I with its first row repeated, y_0 = 0.2: x*_0 = 0 under a weight of 0.8, any u_0 + u_n = 1/2 will do.

    In W_00 there is a derivative, 0. In W_01 the slopes are -g_1 sign(x*_1) ahead and
    -g_0 x*_1 / 0.4 + g_1 (0.4 - y_0) / 0.4 behind for x*_1 > 0, g = x* - x_true: row 0 leaves the origin, row n holds.
    """
    if asked.n < 2:
        raise ValueError("duplicated_rows needs n >= 2")
    W = 0.4 * np.eye(asked.n + 1, asked.n)
    W[asked.n, 0] = 0.4
    y = np.resize([0.2, 1.0, -0.1, 0.9], asked.n)
    x_star = np.sign(y) * np.maximum(np.abs(y) - 0.4, 0.0)
    return Hard(W, y, np.full(asked.n, 0.5), x_star)


@_instance
def tall_2n(asked: Asked) -> Hard:
    """A gaussian W of 2n rows, about a third of n of them on the cosupport: x* != 0 is planted, a derivative exists."""
    return _planted(asked, *_gaussian_with_cosupport(asked, rows=2 * asked.n))


@_instance
def tall_3n(asked: Asked) -> Hard:
    """The same with 3n rows."""
    return _planted(asked, *_gaussian_with_cosupport(asked, rows=3 * asked.n))


@_instance
def all_zero(asked: Asked) -> Hard:
    """A gaussian W of 3n rows, all on the cosupport: x* = 0, and 0 nearby. The gradient is 0; u is not unique."""
    W = normal(asked.rng, (3 * asked.n, asked.n)) / math.sqrt(asked.n)
    return _planted(asked, W, np.ones(len(W), bool), np.zeros(asked.n))


@_instance
def ill_conditioned(asked: Asked) -> Hard:
    """The rows on the cosupport have the condition number 1e8, and its square as soon as W0 W0^T is formed.

    They are a matrix times the first half of the identity, so that x* is exactly 0 there. A derivative exists; it is
    of the size of a = W0^{+T} g, 1e8.
    """
    if asked.n < 4:
        raise ValueError("ill_conditioned needs n >= 4")
    m, n = asked.n // 2, asked.n
    left, right = (orthogonal(normal(asked.rng, (m, m))) for _ in range(2))
    W0 = np.zeros((m, n))
    W0[:, :m] = product(left * power(10.0, np.linspace(0, -8, m)), right)
    W = np.concatenate([W0, normal(asked.rng, (n - m, n)) / math.sqrt(n)])
    x_star = np.concatenate([np.zeros(m), normal(asked.rng, n - m)])
    return _planted(asked, W, np.arange(n) < m, x_star)


@_instance
def zero_transform(asked: Asked) -> Hard:
    """W = 0: x* = y. In W_ij the slopes are -g_j sign(y_j) ahead and its negative behind, g = y - x_true."""
    y, x_true = normal(asked.rng, (2, asked.n))
    return Hard(np.zeros((asked.n, asked.n)), y, x_true, y)


@_instance
def zero_data(asked: Asked) -> Hard:
    """y = 0 with a square gaussian W: x* = 0 and u = 0, here and nearby. The gradient is 0."""
    W = normal(asked.rng, (asked.n, asked.n)) / math.sqrt(asked.n)
    return Hard(W, np.zeros(asked.n), normal(asked.rng, asked.n), np.zeros(asked.n))


@_instance
def huge(asked: Asked) -> Hard:
    """`generic` with W, y and x_true times 1e8: x* and the gradient are 1e8 times those, L 1e16 times."""
    return Hard(*(1e8 * part for part in generic(asked)))


@_instance
def tiny(asked: Asked) -> Hard:
    """`generic` with W, y and x_true times 1e-8: x* and the gradient are 1e-8 times those, L 1e-16 times."""
    return Hard(*(1e-8 * part for part in generic(asked)))


@_instance
def generic(asked: Asked) -> Hard:
    """A square gaussian W, a third of its rows on the cosupport: nothing hard, for `huge` and `tiny` to scale."""
    return _planted(asked, *_gaussian_with_cosupport(asked, rows=asked.n))


@_instance
def one_sample(asked: Asked) -> Hard:
    """n = 1 (readings.md J.25): w = 0.3, y = 1, x_true = 1/4. x* = y - w, and dL/dw = -(y - w - x_true) = -0.45."""
    if asked.n != 1:
        raise ValueError(f"one_sample has n = 1, not {asked.n}")
    return Hard(np.array([[0.3]]), np.array([1.0]), np.array([0.25]), np.array([0.7]))


def _shrunk(asked: Asked, first: float) -> Hard:
    """W = I/2: soft-thresholding at 1/2. y_0 = `first`, x_true_0 = -1; the others in turn above, inside and below."""
    y = np.concatenate([[first], np.resize([2.0, -1.0, 0.2], asked.n - 1)])
    x_true = np.concatenate([[-1.0], normal(asked.rng, asked.n - 1)])
    return Hard(np.eye(asked.n) / 2, y, x_true, np.sign(y) * np.maximum(np.abs(y) - 0.5, 0.0))


def _gaussian_with_cosupport(
    asked: Asked, rows: int
) -> tuple[Float[np.ndarray, "k n"], Bool[np.ndarray, " k"], Float[np.ndarray, " n"]]:
    """(W, cosupport, x*): W gaussian, a third of n rows made orthogonal to a random x*."""
    if asked.n < 2:
        raise ValueError("a gaussian hard instance needs n >= 2")
    W = normal(asked.rng, (rows, asked.n)) / math.sqrt(asked.n)
    x_star = normal(asked.rng, asked.n)
    on = np.arange(rows) < max(1, asked.n // 3)
    W[on] -= np.outer(times(W[on], x_star), x_star) / total(x_star * x_star)
    return W, on, x_star


def _planted(
    asked: Asked, W: Float[np.ndarray, "k n"], on: Bool[np.ndarray, " k"], x_star: Float[np.ndarray, " n"]
) -> Hard:
    """y = x* + W^T u with u = sign(W x*) off the cosupport and |u| <= 0.7 on it; an x_true that x* is far from."""
    u = np.where(on, uniform(asked.rng, -0.7, 0.7, len(W)), np.sign(times(W, x_star)))
    return Hard(W, x_star + times(W.T, u), normal(asked.rng, asked.n), x_star)
