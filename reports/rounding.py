"""Numbers as text, with as many digits as they carry.

Invariants: a rounded number is within half a unit of its last digit; a bound is never printed below its value.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

ABSENT = "-"
MOST_DIGITS = 5


def scientific(value: float | None, digits: int = 2) -> str:
    """`1.6e-3`, `13`: significant digits, no padding in the exponent; `-` for None, `0` for zero."""
    if value is None:
        return ABSENT
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    if 1 <= abs(value) < 1000:
        return plain(value, digits)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def as_printed(value: float) -> str:
    """`3.2e-9`: all digits that the number was written with, and no more."""
    digits = Decimal(repr(value)).normalize()
    exponent = digits.adjusted()
    return f"{digits.scaleb(-exponent):f}e{exponent}"


def upper_bound(value: float) -> str:
    """`3e-12` for 2.1e-12: one significant digit, rounded up, as befits an error bar. `value` is not negative."""
    if value == 0:
        return "0"
    exact = Decimal(repr(value))
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted()), rounding=ROUND_CEILING)
    return f"{rounded.scaleb(-rounded.adjusted()):.0f}e{rounded.adjusted()}"


def error(value: float | None, bar: float | None) -> str:
    """The error, or `<= bar` where the reference cannot tell it from zero; both in the same unit."""
    if value is None or bar is None or value > bar:
        return scientific(value)
    return f"<= {upper_bound(bar)}"


def with_spread(value: float | None, spread: float | None, unit: float = 1.0) -> str:
    """`12.34 ± 0.05`: both divided by `unit`, rounded where the spread has its first digit (its second, if that is 1).

    Five significant digits at most, a smaller spread rounded up to the last of them: a few values can agree by chance.
    Without a spread, or with one of zero, three.
    """
    if value is None:
        return ABSENT
    exact = Decimal(value) / Decimal(unit)
    if not spread:
        return plain(float(exact))
    uncertainty = Decimal(spread) / Decimal(unit)
    step = Decimal(1).scaleb(max(_leading_place(uncertainty), exact.adjusted() - MOST_DIGITS + 1))
    median = exact.quantize(step, rounding=ROUND_HALF_EVEN)
    deviation = uncertainty.quantize(step, rounding=ROUND_CEILING if uncertainty < step else ROUND_HALF_EVEN)
    return f"{median:f} ± {deviation:f}"


def plain(value: float | None, digits: int = 3) -> str:
    """`0.0124`, `7.54`, `12300`: significant digits without an exponent."""
    if value is None:
        return ABSENT
    exact = Decimal(value)
    if not exact or not math.isfinite(value):
        return f"{value:.0f}"
    place = exact.adjusted() - digits + 1
    rounded = exact.quantize(Decimal(1).scaleb(place), rounding=ROUND_HALF_EVEN)
    return f"{rounded:f}"


def ratio(value: float | None, unit: float | None) -> str:
    """`value / unit` to two significant digits; `-` where one of them is missing or `unit` is zero."""
    if value is None or not unit:
        return ABSENT
    return plain(value / unit, digits=2)


def _leading_place(uncertainty: Decimal) -> int:
    place = uncertainty.adjusted()
    return place - 1 if uncertainty.scaleb(-place) < 2 else place


def angle_bar(relative: float | None) -> float | None:
    """The angle in degrees that a relative error of the reference can feign; none at or above 1."""
    return None if relative is None or relative >= 1 else math.degrees(math.asin(relative))
