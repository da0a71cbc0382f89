"""The error of a cell's gradients against the reference, and the reference's own error beside it.

A pair with all coordinates contributes its squared Frobenius norm; one with random directions d of unit variance the
mean of <d, G>^2 over them, whose expectation is that norm. A call on several pairs is held against the sum of their
references, which share their directions; their error bars add.

Where L has only two one-sided slopes along an entry, no number is right: such an entry is left out of the error, and
its value is held against the interval between the two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bench.reference import Reference

Flat = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Accuracy:
    """What the record says about a cell's error; numbers are None where there is nothing to compare."""

    error_relative: float | None
    error_max_abs: float | None
    error_angle_degrees: float | None
    reference_error_relative: float | None
    reference_error_max_abs: float | None
    reference_kind: str | None
    reference_norm: float | None
    margin_primal: float | None
    margin_dual: float | None
    cosupport_rank_defect: int
    flags: tuple[str, ...]
    kink_count: int
    error_outside_interval: float | None
    all_kinks: bool
    note: str
    """Why the first reference that failed did so; empty where none did."""


@dataclass(frozen=True)
class _Compared:
    """One call: its gradient's values G where the reference has R and bars, along coordinates or directions.

    `at_kinks` are its values where L has two slopes, one in each row of `slopes`.
    """

    G: Flat
    R: Flat
    bars: Flat
    at_kinks: Flat
    slopes: Float[np.ndarray, "2 kinks"]
    coordinates: bool

    def squared(self, values: Flat) -> float:
        return float(values @ values) if self.coordinates else float(values @ values) / max(len(values), 1)

    @property
    def outside(self) -> Flat:
        """How far each value at a kink is outside the interval between the slopes."""
        lower, upper = self.slopes.min(axis=0), self.slopes.max(axis=0)
        return np.maximum(np.maximum(lower - self.at_kinks, self.at_kinks - upper), 0.0)


def compare(gradients: Float[np.ndarray, "calls size"], batch: int, references: Sequence[Reference]) -> Accuracy:
    """Gradients of the calls, in order, with `batch` pairs each; one reference per pair."""
    calls = list(_compared(gradients, batch, references))
    kinks = sum(reference.verdict == "kink" for reference in references)
    failures = [reference.message for reference in references if reference.verdict == "failed"]
    flags = [f"kinks={kinks}"] * (kinks > 0) + [f"references_failed={len(failures)}"] * bool(failures)
    kinds = Counter(reference.kind for reference in references if reference.usable.any())

    smooth = [call for call in calls if call.G.size]
    norm = math.sqrt(sum(call.squared(call.R) for call in smooth)) if smooth else None
    error = math.sqrt(sum(call.squared(call.G - call.R) for call in smooth))
    bar = math.sqrt(sum(call.squared(call.bars) for call in smooth))
    if norm is not None and norm <= bar:
        flags.append("zero_gradient")
    whole = [call for call in smooth if call.coordinates]
    G, R, bars = (np.concatenate([getattr(call, of) for call in whole] or [np.empty(0)]) for of in ("G", "R", "bars"))
    outside = max((float(call.outside.max(initial=0.0)) for call in calls), default=0.0)
    steepest = max((float(np.abs(call.slopes).max(initial=0.0)) for call in calls), default=0.0)
    return Accuracy(
        error_relative=error / norm if norm else None,
        error_max_abs=float(np.abs(G - R).max()) if G.size else None,
        error_angle_degrees=angle_degrees(G, R),
        reference_error_relative=bar / norm if norm else None,
        reference_error_max_abs=float(bars.max()) if bars.size else None,
        reference_kind=", ".join(f"{kind} x {count}" for kind, count in sorted(kinds.items())) or None,
        reference_norm=norm,
        margin_primal=_smallest(reference.margin_primal for reference in references),
        margin_dual=_smallest(reference.margin_dual for reference in references),
        cosupport_rank_defect=max(reference.cosupport_rank_defect for reference in references),
        flags=tuple(flags),
        kink_count=sum(call.at_kinks.size for call in calls),
        error_outside_interval=outside / steepest if steepest else None,
        all_kinks=kinks == len(references),
        note=failures[0] if failures else "",
    )


def _compared(gradients: Flat, batch: int, references: Sequence[Reference]) -> Iterator[_Compared]:
    """The calls for all of whose pairs there is a reference. Slopes from the same side add, as derivatives do."""
    for index, gradient in enumerate(gradients):
        pairs = references[index * batch : (index + 1) * batch]
        if any(pair.verdict == "failed" for pair in pairs):
            continue
        usable = np.logical_and.reduce([pair.usable for pair in pairs])
        kink = np.logical_and.reduce([pair.usable | pair.kink for pair in pairs]) & ~usable
        directions = pairs[0].directions
        G = gradient if directions is None else directions @ gradient
        R, bars, ahead, behind = (
            np.sum([getattr(pair, name) for pair in pairs], axis=0) for name in ("values", "bars", "ahead", "behind")
        )
        slopes = np.stack([ahead[kink], behind[kink]])
        yield _Compared(G[usable], R[usable], bars[usable], G[kink], slopes, coordinates=directions is None)


def _smallest(margins: Iterable[float | None]) -> float | None:
    """None where no pair has a finite one: an empty support has no margin, and neither has an unsolved pair."""
    return min((margin for margin in margins if margin is not None and math.isfinite(margin)), default=None)


def angle_degrees(G: Flat, R: Flat) -> float | None:
    """The angle between two vectors, accurate near zero, where an arc cosine loses half of the digits."""
    lengths = [float(np.linalg.norm(vector)) for vector in (G, R)]
    if 0.0 in lengths:
        return None
    g, r = G / lengths[0], R / lengths[1]
    return math.degrees(2 * math.atan2(float(np.linalg.norm(g - r)), float(np.linalg.norm(g + r))))
