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

from bench.record import OVERFLOW
from bench.reference import Reference
from bench.scaled import Flat, Number, Scaled


@dataclass(frozen=True)
class Accuracy:
    """What the record says about a cell's error; numbers are None where there is nothing to compare."""

    error_relative: float | None
    error_max_abs: float | None
    error_angle_degrees: float | None
    best_scalar: float | None
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


@dataclass(frozen=True, eq=False)
class _Compared:
    """One call: its gradient's values G where the reference has R and bars, along coordinates or directions.

    `at_kinks` are its values where L has two slopes, one in each row of `slopes`.
    """

    G: Scaled
    R: Scaled
    bars: Scaled
    at_kinks: Scaled
    slopes: Float[np.ndarray, "2 kinks"]
    coordinates: bool

    def product(self, a: Scaled, b: Scaled) -> Number:
        """The Frobenius product of what a and b are the values of, or its estimate by directions."""
        product = a.dot(b)
        return Number(product.mantissa / (1 if self.coordinates else max(len(a.values), 1)), product.exponent)

    @property
    def error(self) -> Scaled:
        return self.G.minus(self.R)

    @property
    def outside(self) -> Number:
        """The farthest that a value at a kink is outside the interval between the slopes."""
        slopes = Scaled.of(self.slopes)
        exponent = max(self.at_kinks.exponent, slopes.exponent)
        values, ends = self.at_kinks.at(exponent), slopes.at(exponent)
        return Number(
            float(np.maximum(ends.min(axis=0) - values, values - ends.max(axis=0)).max(initial=0.0)), exponent
        )


def compare(gradients: Float[np.ndarray, "calls size"], batch: int, references: Sequence[Reference]) -> Accuracy:
    """Gradients of the calls, all finite, in order, with `batch` pairs each; one reference per pair."""
    calls = list(_compared(gradients, batch, references))
    kinks = sum(reference.verdict == "kink" for reference in references)
    failures = [reference.message for reference in references if reference.verdict == "failed"]
    flags = [f"kinks={kinks}"] * (kinks > 0) + [f"references_failed={len(failures)}"] * bool(failures)
    kinds = Counter(reference.kind for reference in references if reference.usable.any())

    smooth = [call for call in calls if call.G.values.size]
    norm = Number.total(call.product(call.R, call.R) for call in smooth).root()
    error = Number.total(call.product(call.error, call.error) for call in smooth).root()
    bar = Number.total(call.product(call.bars, call.bars) for call in smooth).root()
    along = Number.total(call.product(call.G, call.R) for call in smooth)
    squared = Number.total(call.product(call.G, call.G) for call in smooth)
    size = norm.value() if smooth else None
    if size is not None and size <= (bar.value() or 0.0):
        flags.append("zero_gradient")
    relative = error.over(norm)
    whole = [call for call in smooth if call.coordinates]
    G, R, bars = (Scaled.joined(getattr(call, of) for call in whole) for of in ("G", "R", "bars"))
    outside = Number.greatest(call.outside for call in calls)
    steepest = Number.greatest(Scaled.of(call.slopes).largest() for call in calls)
    beside_slopes, max_abs = outside.over(steepest), G.minus(R).largest().value()
    if max_abs is None or (relative is None and norm.mantissa) or (beside_slopes is None and steepest.mantissa):
        flags.append(OVERFLOW)
    return Accuracy(
        error_relative=relative,
        error_max_abs=max_abs if whole else None,
        error_angle_degrees=angle_degrees(G.values, R.values),
        best_scalar=along.over(squared),
        reference_error_relative=bar.over(norm),
        reference_error_max_abs=bars.largest().value() if whole else None,
        reference_kind=", ".join(f"{kind} x {count}" for kind, count in sorted(kinds.items())) or None,
        reference_norm=size,
        margin_primal=_smallest(reference.margin_primal for reference in references),
        margin_dual=_smallest(reference.margin_dual for reference in references),
        cosupport_rank_defect=max(reference.cosupport_rank_defect for reference in references),
        flags=tuple(flags),
        kink_count=sum(call.at_kinks.values.size for call in calls),
        error_outside_interval=beside_slopes,
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
        directions, scaled = pairs[0].directions, Scaled.of(gradient)
        G = scaled.values if directions is None else directions @ scaled.values
        R, bars, ahead, behind = (
            np.sum([getattr(pair, name) for pair in pairs], axis=0) for name in ("values", "bars", "ahead", "behind")
        )
        yield _Compared(
            Scaled.of(G[usable], scaled.exponent),
            Scaled.of(R[usable]),
            Scaled.of(bars[usable]),
            Scaled.of(G[kink], scaled.exponent),
            np.stack([ahead[kink], behind[kink]]),
            coordinates=directions is None,
        )


def _smallest(margins: Iterable[float | None]) -> float | None:
    """None where no pair has a finite one: an empty support has no margin, and neither has an unsolved pair."""
    return min((margin for margin in margins if margin is not None and math.isfinite(margin)), default=None)


def angle_degrees(G: Flat, R: Flat) -> float | None:
    """The angle between two vectors, accurate near zero, where an arc cosine loses half of the digits."""
    G, R = Scaled.of(G).values, Scaled.of(R).values
    lengths = [float(np.linalg.norm(vector)) for vector in (G, R)]
    if 0.0 in lengths:
        return None
    g, r = G / lengths[0], R / lengths[1]
    return math.degrees(2 * math.atan2(float(np.linalg.norm(g - r)), float(np.linalg.norm(g + r))))
