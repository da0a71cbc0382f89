"""Norms and quotients of vectors of any size, against exact rational arithmetic."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaled import Number, Scaled, relative_distance

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VECTORS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[st.lists(FINITE, min_size=n, max_size=n).map(np.array) for _ in range(2)])
)
LARGEST = Fraction(sys.float_info.max)


def squared(vector: list[Fraction]) -> Fraction:
    return sum((entry * entry for entry in vector), Fraction(0))


@given(VECTORS)
def test_a_relative_distance_is_the_exact_one(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    """In units of rounding; compared by squares, which are rational."""
    a, b = ([Fraction(float(entry)) for entry in vector] for vector in vectors)
    distance, size = squared([p - q for p, q in zip(a, b, strict=True)]), squared(b)
    found = relative_distance(*vectors)
    if size == 0 or distance / size > (LARGEST * (1 + Fraction(2) ** -40)) ** 2:
        assert found is None
    elif found is not None:
        # Differences of nearly equal entries are exact; a subnormal answer has only its last bit.
        assert (
            abs(Fraction(found) ** 2 - distance / size) <= Fraction(2) ** -44 * distance / size + Fraction(2) ** -2090
        )
    else:
        assert distance / size > (LARGEST * (1 - Fraction(2) ** -40)) ** 2


@given(st.lists(FINITE, min_size=1, max_size=6).map(np.array))
def test_ordinary_norms_are_numpy_s_to_the_bit(vector: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        plain = float(vector @ vector)
    if 1e-250 < plain < 1e300:
        assert Scaled.of(vector).norm().value() == pytest.approx(math.sqrt(plain), rel=1e-15)


@pytest.mark.parametrize("size", [1e308, 1e200, 1.0, 1e-200, 1e-320])
def test_a_norm_of_sixty_four_equal_entries(size: float) -> None:
    norm = Scaled.of(np.full(64, size)).norm()
    assert norm.over(Number(size, 0)) == pytest.approx(8.0, rel=1e-15)
    assert norm.value() == (pytest.approx(8 * size, rel=1e-15) if size < 1e308 else None)


def test_sums_and_the_greatest_of_numbers_far_apart() -> None:
    far = [Number(0.5, 3000), Number(0.5, -3000), Number(0.0, 9000)]
    assert Number.total(far).over(Number(1.0, 2990)) == 512.0
    assert Number.greatest(far).over(Number(1.0, 2990)) == 512.0
    assert (Number.total([]).value(), Number.greatest([]).value()) == (0.0, 0.0)
