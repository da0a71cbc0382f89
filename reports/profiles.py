"""Performance profiles after Dolan & More (Math. Program. 91, 2002, section 2), and a data profile for accuracy.

With t[p, s] what method s costs on instance p, infinite where it did not solve it,

    r[p, s] = t[p, s] / min over s of t[p, s],    rho_s(tau) = share of the instances p with r[p, s] <= tau,

so rho_s(1) is how often s was the best, and the end of its curve how often it solved the instance at all. The data
profile has the relative error instead of the ratio: the share of the instances on which the error is at most e.

Invariant: every method of a profile was run on every instance of it. A method that the matrix left out of an instance
did not fail there, and a share of other instances than its rivals' could not be compared; so instances are put together
by who was run on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.record import Record
from reports.cells import RESOLUTION_BYTES, has_flagged_times, has_result
from reports.error_axis import has_error
from reports.instances import Group
from reports.scaling import peak_bytes

Quantity = Literal["time", "memory", "error"]

TITLES: dict[Quantity, str] = {
    "time": "Performance profile of the time of solve and gradient",
    "memory": "Performance profile of the peak memory",
    "error": "Data profile: who reaches which accuracy",
}
AXES: dict[Quantity, str] = {
    "time": "tau: solve + gradient, times the best",
    "memory": "tau: peak memory, times the best",
    "error": "e: relative error (Frobenius)",
}

ACCURATE = 1e-2
"""A gradient whose relative error is larger does not count as computed, however fast it came."""
FEWEST_INSTANCES = 3
Cost = tuple[float, float]
"""A median and the spread beside it, in seconds or bytes."""


@dataclass(frozen=True)
class Roster:
    """Variants, and the instances on which all of them were run: a full matrix."""

    variants: tuple[str, ...]
    instances: tuple[tuple[Record, ...], ...]
    """A record per variant, in the order of `variants`."""


@dataclass(frozen=True)
class Curve:
    """One variant's values over the instances, in their order: ratios to the best, or errors; infinite where unsolved.

    `low` and `high` are the ratios if its own cost and all others' were off by their spread, for and against it.
    """

    variant: str
    method: str
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    flagged: int
    """So many of its costs have a timing that is not to be trusted."""

    @property
    def solved(self) -> int:
        return sum(math.isfinite(value) for value in self.values)


@dataclass(frozen=True)
class Profile:
    """The curves of one roster for one quantity."""

    quantity: Quantity
    instances: int
    left_out: int
    """Instances of the roster on which the quantity is known of nobody."""
    curves: tuple[Curve, ...]
    accurate: float

    @property
    def largest(self) -> float:
        """Of all finite values; the axis ends beyond it."""
        return max(value for curve in self.curves for value in curve.values if math.isfinite(value))

    @property
    def smallest(self) -> float:
        """Of all values above zero."""
        return min((value for curve in self.curves for value in curve.values if value > 0), default=1.0)

    @property
    def unsolved(self) -> int:
        """Instances that nobody solved."""
        columns = zip(*(curve.values for curve in self.curves), strict=True)
        return sum(all(math.isinf(value) for value in column) for column in columns)

    @property
    def title(self) -> str:
        """`6 instances, 7 methods`; variants where a method has several."""
        methods, variants = {curve.method for curve in self.curves}, len(self.curves)
        named = f"{variants} variants of {len(methods)} methods" if len(methods) < variants else f"{variants} methods"
        return f"{self.instances} instances, {named}"


def rosters(groups: Sequence[Group]) -> list[Roster]:
    """One per set of two variants or more that some instance was run with, over all instances that have them all.

    An instance is a problem with its input, size, batch, seed, device, precision, threads and run. The largest matrix
    comes first; those of fewer than three instances are left out.
    """
    found: dict[str, dict[str, Record]] = {}
    for group in groups:
        for record in group.records:
            place = [group.run, group.problem, group.parameters, group.pairs, group.batch, group.seed]
            machine = [record.input_sha256, record.n, record.k, record.device, record.dtype, record.threads]
            found.setdefault(json.dumps(place + machine, sort_keys=True), {})[record.variant] = record
    distinct = {frozenset(own): tuple(own) for own in found.values() if len(own) > 1}
    made = [
        Roster(names, tuple(tuple(own[name] for name in names) for own in found.values() if together <= own.keys()))
        for together, names in distinct.items()
    ]
    enough = [roster for roster in made if len(roster.instances) >= FEWEST_INSTANCES]
    return sorted(enough, key=lambda roster: -len(roster.variants) * len(roster.instances))


def profile(roster: Roster, quantity: Quantity, accurate: float = ACCURATE) -> Profile | None:
    """None where the quantity is known of nobody, or nobody solved anything.

    For time and memory an instance is solved by a cell that finished with a relative error of at most `accurate`, or of
    at most the reference's bar, or without an error to hold against it. For the error a cell counts with its error,
    whatever its status, and with the bar where the reference cannot tell it from zero.
    """
    cost: Callable[[Record], Cost] = {
        "time": lambda record: _if_solved(record, _time(record), accurate),
        "memory": lambda record: _if_solved(record, _memory(record), accurate),
        "error": _error,
    }[quantity]
    known = [own for own in roster.instances if any(_is_known(record, quantity) for record in own)]
    matrix = [[cost(record) for record in own] for own in known]
    if not any(math.isfinite(median) for own in matrix for median, _ in own):
        return None
    if quantity == "error":
        rows = [[(median, median, median) for median, _ in own] for own in matrix]
    else:
        rows = [_ratios(own) for own in matrix]
    curves = []
    for index, variant in enumerate(roster.variants):
        own = [instance[index] for instance in known]
        values, low, high = zip(*(row[index] for row in rows), strict=True)
        flagged = sum(has_flagged_times(record) for record in own) if quantity == "time" else 0
        curves.append(Curve(variant, own[0].method, values, low, high, flagged))
    return Profile(quantity, len(known), len(roster.instances) - len(known), tuple(curves), accurate)


def share(values: Sequence[float], at: float) -> float:
    """Of the values, those of at most `at`: rho_s of its ratios."""
    return sum(value <= at for value in values) / len(values)


def steps(values: Sequence[float], left: float, right: float) -> tuple[list[float], list[float]]:
    """The corners, from `left` to `right`, of the share of the values up to a place, as a step function of it."""
    inside = sorted({value for value in values if left < value <= right})
    places = [left, *inside, right]
    return places, [share(values, place) for place in places]


def leading(shown: Profile) -> list[Curve]:
    """Of each method the variant that solved most, of those the one nearest to the best: what a small figure has."""
    best: dict[str, Curve] = {}
    for curve in shown.curves:
        if curve.method not in best or _rank(curve) > _rank(best[curve.method]):
            best[curve.method] = curve
    return list(best.values())


def _rank(curve: Curve) -> tuple[int, float]:
    return curve.solved, -sum(math.log(value) for value in curve.values if 0 < value < math.inf)


def remarks(profiles: Sequence[Profile], *, named: bool = False) -> str:
    """How to read them: what is counted, and what is left out. `named`: figures' names say how accurate is enough."""
    one = profiles[0]
    sizes = "; ".join(dict.fromkeys(own.title for own in profiles))
    counted = f"Only instances on which all of a panel's methods were run are counted: {sizes}."
    if one.quantity == "error":
        said = [
            "The share of the instances on which the relative error is at most e; an error below the reference's bar "
            "counts at the bar, a failure as infinite.",
            counted,
        ]
    else:
        enough = "what is asked for" if named else f"{one.accurate:g}"
        limit = f"a relative error above {enough} counts as infinite, as a failure does"
        said = [
            "Dolan and Moré's profile: the share of the instances on which a method costs at most tau times the best "
            f"there; {limit}.",
            counted,
        ]
    if any(curve.flagged for own in profiles for curve in own.curves):
        listed = sum(curve.flagged for own in profiles for curve in own.curves)
        rows = sum(len(curve.values) for own in profiles for curve in own.curves)
        said.append(f"* {listed} of {rows} times are flagged and counted as they stand: do not rank by these curves.")
    if one.quantity == "time":
        said.append("Bands: all medians off by their median absolute deviation, for and against the method.")
    if one.quantity == "memory":
        said.append(f"Less than {RESOLUTION_BYTES / 1000:g} kB counts as that: the measurement's resolution.")
    if not named and (unsolved := sum(own.unsolved for own in profiles)):
        said.append(f"Instances that nobody solved, counted against all: {unsolved}.")
    if left_out := sum(own.left_out for own in profiles):
        what = "relative error" if one.quantity == "error" else one.quantity
        said.append(f"Instances without any {what}, left out: {left_out}.")
    return " ".join(said)


def _ratios(costs: Sequence[Cost]) -> list[tuple[float, float, float]]:
    """Per variant: its ratio to the best, and the least and the largest that the spreads allow."""
    best = min(median for median, _ in costs)
    ratios = []
    for index, (median, spread) in enumerate(costs):
        if math.isinf(median):
            ratios.append((math.inf, math.inf, math.inf))
            continue
        others = [cost for other, cost in enumerate(costs) if other != index]
        slow = min((other + off for other, off in others), default=math.inf)
        fast = min((max(other - off, 0.0) for other, off in others), default=math.inf)
        low = max(1.0, (median - spread) / slow)
        high = max(1.0, (median + spread) / fast) if fast > 0 else math.inf
        ratios.append((median / best, low, high))
    return ratios


def _is_known(record: Record, quantity: Quantity) -> bool:
    if quantity == "error":
        return has_error(record)
    return math.isfinite((_time(record) if quantity == "time" else _memory(record))[0])


def _if_solved(record: Record, cost: Cost, accurate: float) -> Cost:
    bar = record.reference_error_relative or 0.0
    is_wrong = has_error(record) and (record.error_relative or 0.0) > max(accurate, bar)
    return cost if has_result(record) and not is_wrong else (math.inf, 0.0)


def _time(record: Record) -> Cost:
    if not record.total_seconds:
        return math.inf, 0.0
    return record.total_seconds, record.total_mad_seconds or 0.0


def _memory(record: Record) -> Cost:
    peak = peak_bytes(record)
    return (math.inf if peak is None else max(peak, RESOLUTION_BYTES)), 0.0


def _error(record: Record) -> Cost:
    if not has_error(record) or record.error_relative is None:
        return math.inf, 0.0
    return max(record.error_relative, record.reference_error_relative or 0.0), 0.0
