"""dL/dtheta of one pair by each method, entry by entry, and its distance from the reference (BLORC, Figure 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bench.record import Record
from bench.scaled import Scaled, relative_distance
from reports.cells import has_result
from reports.content import Content
from reports.instances import Group
from reports.log_axis import LARGEST, drawable
from reports.rounding import error, upper_bound
from reports.run_arrays import Reference, gradient_of, gradient_path, reference_of

MOST_MAPS = 14
"""Methods that are drawn: with the reference, three rows of five."""

Matrix = Float[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class Map:
    """One method's gradient of the pair; what is not finite in `distance` has no reference."""

    label: str
    record: Record
    gradient: Matrix
    distance: Matrix
    """|G - R|."""
    error_relative: float | None
    """||G - R|| / ||R|| of this pair, over the entries of all of theta that have a derivative; None where R is 0."""
    said: str
    """The error, rounded, or the bar where it is not above that."""


@dataclass(frozen=True)
class GradientMaps:
    """The maps of one instance's first pair. W stands for the largest part of theta, as a matrix."""

    heading: str
    n: int
    part: str
    reference: Matrix
    """NaN where L has no derivative."""
    bars: Matrix
    bar_relative: float | None
    maps: tuple[Map, ...]
    variants_left_out: int
    methods_left_out: int

    @property
    def largest(self) -> float:
        """The largest entry of the reference, by its absolute value: the end of the gradients' scale."""
        return float(np.nanmax(np.abs(self.reference), initial=0.0)) or 1.0

    @property
    def above_bar(self) -> Float[np.ndarray, " some"]:
        """All distances that the reference can tell from zero."""
        return np.concatenate([one.distance[one.distance > self.bars] for one in self.maps])

    @property
    def decades(self) -> tuple[int, int] | None:
        """Powers of ten around `above_bar`; None where it is empty."""
        shown = self.above_bar
        if not shown.size:
            return None
        low, high = math.floor(math.log10(drawable(shown.min()))), math.ceil(math.log10(shown.max()))
        return low, max(high, low + 1)

    @property
    def missing(self) -> int:
        """Entries of the part without a derivative."""
        return int(np.isnan(self.reference).sum())


def title(found: GradientMaps) -> str:
    """Of the figure."""
    return f"dL/d{found.part} of one pair by each method, and its distance from the reference."


def remarks(found: GradientMaps) -> str:
    """The instance, the errors of the maps, and what is left out."""
    errors = ", ".join(f"{one.label} {one.said}" for one in found.maps)
    said = [f"First pair of {found.heading}, n = {found.n}."]
    if found.bar_relative is not None:
        said.append(f"Relative error of this pair (Frobenius; bar {upper_bound(found.bar_relative)}): {errors}.")
    if found.missing:
        said.append(f"Entries without a derivative, in pink: {found.missing}.")
    if found.variants_left_out:
        said.append(f"Of each method its most accurate variant; others, not drawn: {found.variants_left_out}.")
    if found.methods_left_out:
        said.append(f"Methods that are not drawn: {found.methods_left_out}.")
    return " ".join(said)


def gradient_maps(content: Content) -> GradientMaps | None:
    """Of the instance for which most methods have a result and a file; None where none has."""
    folders = {id(record): run.folder for run in content.runs for record in run.records}
    best: tuple[Group, Path, list[Record]] | None = None
    for group in content.groups:
        folder = folders[id(group.records[0])]
        for records in _by_instance(folder, group):
            if best is None or len(_methods(records)) > len(_methods(best[2])):
                best = group, folder, records
    return None if best is None else _maps(*best)


def _by_instance(folder: Path, group: Group) -> Iterator[list[Record]]:
    drawable = [record for record in group.records if has_result(record) and gradient_path(folder, record).exists()]
    for sha256 in dict.fromkeys(record.input_sha256 for record in drawable):
        yield [record for record in drawable if record.input_sha256 == sha256]


def _methods(records: Sequence[Record]) -> dict[str, Record]:
    """The most accurate record of each method, in the records' order; the first of several that are alike."""
    found: dict[str, Record] = {}
    for record in records:
        if record.method not in found or _error(record) < _error(found[record.method]):
            found[record.method] = record
    return found


def _error(record: Record) -> float:
    return math.inf if record.error_relative is None else record.error_relative


def _maps(group: Group, folder: Path, records: list[Record]) -> GradientMaps | None:
    reference = reference_of(folder, records[0], "coordinates")
    chosen = list(_methods(records).values())
    gradients = [(record, gradient_of(folder, record)) for record in chosen]
    whole = [(record, parts) for record, parts in gradients if parts and _fits(parts, reference)]
    if reference is None or not whole:
        return None
    shown = whole[:MOST_MAPS]
    parts = shown[0][1]
    name = max(parts, key=lambda part: parts[part].size)
    R, bars = (_part(values, parts, name) for values in (reference.values, reference.bars))
    R = np.where(_part(reference.usable, parts, name), R, np.nan)
    known = reference.values[reference.usable]
    bar = Scaled.of(reference.bars[reference.usable]).norm().over(Scaled.of(known).norm())
    maps = []
    for record, own in shown:
        flat = np.concatenate([part.ravel() for part in own.values()])
        relative = relative_distance(flat[reference.usable], known)
        G = _matrix(own[name])
        maps.append(Map(group.label(record), record, G, _distance(G, R), relative, error(relative, bar)))
    others = len(records) - len(chosen), len(whole) - len(shown)
    return GradientMaps(group.heading, shown[0][0].n, name, R, bars, bar, tuple(maps), *others)


def _distance(G: Matrix, R: Matrix) -> Matrix:
    """|G - R| as far as a picture shows it."""
    return np.minimum(np.abs(np.clip(G, -LARGEST, LARGEST) - R), LARGEST)


def _fits(parts: dict[str, np.ndarray], reference: Reference | None) -> bool:
    return reference is not None and sum(part.size for part in parts.values()) == reference.values.size


def _part(flat: np.ndarray, parts: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One part of an array over all of theta, as a matrix."""
    start = sum(part.size for part in list(parts.values())[: list(parts).index(name)])
    return _matrix(flat[start : start + parts[name].size].reshape(parts[name].shape))


def _matrix(part: np.ndarray) -> np.ndarray:
    """The first axis against all others; a vector is a row."""
    return part.reshape(part.shape[0] if part.ndim > 1 else 1, -1)
