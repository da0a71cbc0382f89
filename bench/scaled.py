"""Norms, products and quotients of vectors of any size: nothing overflows, or vanishes, before the answer itself does.

Invariant: a vector is held as values * 2**exponent with the largest of |values| in [1/2, 1), a number likewise. Scaling
by a power of two is exact, so that for vectors of ordinary size every result is the plain formula's to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

Flat = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Number:
    """mantissa * 2**exponent, which need not lie within a double's range."""

    mantissa: float
    exponent: int

    def value(self) -> float | None:
        """As a double; None beyond the largest."""
        try:
            return math.ldexp(self.mantissa, self.exponent)
        except OverflowError:
            return None

    def over(self, other: Number) -> float | None:
        """The quotient as a double; None for a division by zero and beyond the largest double."""
        if not other.mantissa:
            return None
        (a, shift_a), (b, shift_b) = math.frexp(self.mantissa), math.frexp(other.mantissa)
        return Number(a / b, self.exponent + shift_a - other.exponent - shift_b).value()

    def root(self) -> Number:
        """The square root of a number that is not negative."""
        odd = self.exponent % 2
        return Number(math.sqrt(math.ldexp(self.mantissa, odd)), (self.exponent - odd) // 2)

    @classmethod
    def total(cls, numbers: Iterable[Number]) -> Number:
        """Their sum."""
        aligned, exponent = _aligned(numbers)
        return cls(sum(aligned), exponent)

    @classmethod
    def greatest(cls, numbers: Iterable[Number]) -> Number:
        """The greatest of them; zero where there is none."""
        aligned, exponent = _aligned(numbers)
        return cls(max(aligned, default=0.0), exponent)


@dataclass(frozen=True, eq=False)
class Scaled:
    """A vector of finite numbers."""

    values: Flat
    exponent: int

    @classmethod
    def of(cls, values: Flat, exponent: int = 0) -> Self:
        """values * 2**exponent."""
        own = math.frexp(float(np.abs(values).max(initial=0.0)))[1]
        return cls(np.ldexp(values, -own), own + exponent)

    def at(self, exponent: int) -> Flat:
        """Its values in the unit 2**exponent."""
        return np.ldexp(self.values, self.exponent - exponent)

    def minus(self, other: Scaled) -> Scaled:
        """The difference, entry by entry."""
        exponent = max(self.exponent, other.exponent)
        return Scaled.of(self.at(exponent) - other.at(exponent), exponent)

    def dot(self, other: Scaled) -> Number:
        """The inner product."""
        return Number(float(self.values @ other.values), self.exponent + other.exponent)

    def norm(self) -> Number:
        """The Euclidean norm."""
        return self.dot(self).root()

    def largest(self) -> Number:
        """The largest absolute value; zero for no entries."""
        return Number(float(np.abs(self.values).max(initial=0.0)), self.exponent)

    @classmethod
    def joined(cls, parts: Iterable[Scaled]) -> Self:
        """One vector after the other."""
        listed = list(parts)
        exponent = max((part.exponent for part in listed), default=0)
        return cls.of(np.concatenate([np.empty(0), *(part.at(exponent) for part in listed)]), exponent)


def relative_distance(a: Flat, b: Flat) -> float | None:
    """||a - b|| / ||b||; None where b is zero, and where the quotient is beyond the largest double."""
    b_scaled = Scaled.of(b)
    return Scaled.of(a).minus(b_scaled).norm().over(b_scaled.norm())


def _aligned(numbers: Iterable[Number]) -> tuple[list[float], int]:
    """Their mantissas in one unit, 2**exponent, in which none overflows."""
    parts = [(*math.frexp(number.mantissa), number.exponent) for number in numbers if number.mantissa]
    exponent = max((shift + own for _, shift, own in parts), default=0)
    return [math.ldexp(mantissa, shift + own - exponent) for mantissa, shift, own in parts], exponent
