"""Seconds and bytes in words that a person reads at a glance."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3.5 min`, `25 min`, `2.3 h`: two digits, and the unit that suits them."""
    for length, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds)} s"


def time_left(seconds: float | None) -> str:
    """`about 3.5 min left`; None where nothing tells."""
    return "time left not known yet" if seconds is None else f"about {duration(seconds)} left"


def memory(count: float) -> str:
    """`0.1 MiB`, which is also said of less, `250 MiB`, `1.2 GiB`."""
    mebibytes = max(0.1, count / 2**20)
    return f"{_two_digits(mebibytes)} MiB" if mebibytes < 1000 else f"{_two_digits(mebibytes / 1024)} GiB"


def interval(low: str, value: str, high: str) -> str:
    """`12 min (8 to 20)`, `106 s (27 s to 6.0 min)`, or the value alone where all three read the same."""
    if low == value == high:
        return value
    unit = value.partition(" ")[2]
    if all(text.partition(" ")[2] == unit for text in (low, high)):
        low, high = (text.partition(" ")[0] for text in (low, high))
    return f"{value} ({low} to {high})"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
