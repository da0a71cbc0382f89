"""What changed in one cell from run A to run B: its time, its accuracy, its memory."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.baseline import MEBIBYTE, SAMPLED, Tolerances
from bench.gate import MEMORIES, allowed_bytes, allowed_error, rank
from bench.ratio import FEWEST_PROCESSES, adjusted, ratios
from bench.record import TIMING_FLAGS, Record

SIGNIFICANCE = 0.05


class Change(enum.StrEnum):
    """From A to B."""

    SLOWER = "slower"
    FASTER = "faster"
    UNRESOLVED = "unresolved"
    WORSE = "worse"
    BETTER = "better"
    LARGER = "larger"
    SMALLER = "smaller"
    NO_CHANGE = "no change"
    UNJUDGED = "not judged"


FOR_THE_WORSE = frozenset({Change.SLOWER, Change.WORSE, Change.LARGER})
FOR_THE_BETTER = frozenset({Change.FASTER, Change.BETTER, Change.SMALLER})


@dataclass(frozen=True)
class Finding:
    """A change, and the numbers behind it in words; none where a run has no such number."""

    change: Change
    words: str = ""

    @property
    def line(self) -> str:
        """Both."""
        return f"{self.change}: {self.words}" if self.words else str(self.change)


@dataclass(frozen=True)
class Timing:
    """Of one phase. Seconds are geometric means over processes of medians over values; the interval is of the ratio.

    The interval is None with fewer than two processes in a run, the adjusted p-value None where nothing is judged, for
    the reason that `note` gives.
    """

    change: Change
    a_seconds: float
    b_seconds: float
    low: float | None
    high: float | None
    p_adjusted: float | None
    note: str

    @property
    def ratio(self) -> float:
        """B over A."""
        return self.b_seconds / self.a_seconds


def timings(
    pairs: Sequence[tuple[Record, Record]], seconds: Sequence[tuple[list[float], list[float]]], margin: float
) -> list[Timing | None]:
    """One per pair of records and of their process medians, None where a run has none.

    The p-values are adjusted over the pairs that are judged: those of unflagged times and enough processes.
    """
    notes = [_why_unjudged(pair, medians) for pair, medians in zip(pairs, seconds, strict=True)]
    found = [ratios(np.array(a), np.array(b)) if _enough(a, b) else None for a, b in seconds]
    p_values = {
        index: float(ratio.p_value) for index, ratio in enumerate(found) if ratio is not None and not notes[index]
    }
    p_adjusted = dict(zip(p_values, adjusted(np.array([*p_values.values()])).tolist(), strict=True))
    timed: list[Timing | None] = []
    for index, ((a, b), ratio) in enumerate(zip(seconds, found, strict=True)):
        if not (a and b):
            timed.append(None)
            continue
        low, high = (float(ratio.low), float(ratio.high)) if ratio is not None else (None, None)
        mean_a, mean_b, p = statistics.geometric_mean(a), statistics.geometric_mean(b), p_adjusted.get(index)
        change = _change(mean_b / mean_a, low, high, p, margin)
        timed.append(Timing(change, mean_a, mean_b, low, high, p, notes[index]))
    return timed


def _enough(a: list[float], b: list[float]) -> bool:
    return min(len(a), len(b)) >= FEWEST_PROCESSES


def _why_unjudged(pair: tuple[Record, Record], seconds: tuple[list[float], list[float]]) -> str:
    if not _enough(*seconds):
        return f"fewer than {FEWEST_PROCESSES} processes in a run ([measure] processes)"
    flagged = [sorted(TIMING_FLAGS & set(record.flags)) for record in pair]
    return "; ".join(f"{run} is {', '.join(flags)}" for run, flags in zip("AB", flagged, strict=True) if flags)


def _change(ratio: float, low: float | None, high: float | None, p: float | None, margin: float) -> Change:
    if p is None or low is None or high is None:
        return Change.UNJUDGED
    if p < SIGNIFICANCE and ratio > 1 + margin:
        return Change.SLOWER
    if p < SIGNIFICANCE and ratio < 1 / (1 + margin):
        return Change.FASTER
    return Change.NO_CHANGE if 1 / (1 + margin) <= low and high <= 1 + margin else Change.UNRESOLVED


def accuracy(a: Record, b: Record) -> Finding:
    """By status, and among equals by the error, with the gate's allowance."""
    if a.status != b.status:
        words = f"status {a.status} -> {b.status}" + (f": {b.message}" if b.message else "")
        worse, better = rank(b.status) > rank(a.status), rank(b.status) < rank(a.status)
        return Finding(Change.WORSE if worse else Change.BETTER if better else Change.UNJUDGED, words)
    if a.error_relative is None or b.error_relative is None:
        return Finding(Change.UNJUDGED)
    bar = max(a.reference_error_relative or 0.0, b.reference_error_relative or 0.0)
    words, factor = f"error {a.error_relative:.1e} -> {b.error_relative:.1e}", Tolerances().factor
    if b.error_relative > allowed_error(a.error_relative, bar, factor):
        return Finding(Change.WORSE, words)
    if a.error_relative > allowed_error(b.error_relative, bar, factor):
        return Finding(Change.BETTER, words)
    return Finding(Change.NO_CHANGE, words)


def memory(a: Record, b: Record) -> Finding:
    """On the host and on the device, with the gate's allowance; what became larger goes before what became smaller."""
    if SAMPLED in {*a.flags, *b.flags}:
        return Finding(Change.UNJUDGED, "memory was sampled, and may have peaked unseen")
    found = []
    for name, called in MEMORIES.items():
        before, after = getattr(a, name), getattr(b, name)
        if before is not None and after is not None:
            words = f"{called} {before / MEBIBYTE:.2f} -> {after / MEBIBYTE:.2f} MiB"
            larger = after > allowed_bytes(before, Tolerances())
            smaller = before > allowed_bytes(after, Tolerances())
            change = Change.LARGER if larger else Change.SMALLER if smaller else Change.NO_CHANGE
            found.append(Finding(change, words))
    order = [Change.LARGER, Change.SMALLER, Change.NO_CHANGE]
    return min(found, key=lambda each: order.index(each.change), default=Finding(Change.UNJUDGED))
