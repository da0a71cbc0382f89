"""The sizes at which one method's time passes another's.

A crossover is measured: of two methods on the same instances the one is clearly faster at n1 and the other clearly
faster at a larger n2, clearly meaning by more than both medians' absolute deviations together. It lies between the two
sizes, whatever happens between them. Where the time ratio is a power of n, the fit of that power over all sizes that
both were measured at gives the size itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from scipy import stats

from bench.aligned import Column, Table
from bench.record import Record
from reports.cells import FLAGGED, has_flagged_times
from reports.rounding import ABSENT
from reports.scaling import FEWEST_SIZES, Series


@dataclass(frozen=True)
class Crossover:
    """`first` is faster up to n = `after`, `then` is faster from n = `before` on."""

    first: Series
    then: Series
    after: int
    before: int
    fitted: float | None
    """The size at which the fitted times are equal; None where that is not between the two."""
    size: float
    """Where straight lines through neighbouring sizes cross on logarithmic axes: a figure's mark."""
    seconds: float
    """The time there."""
    is_flagged: bool


def crossovers(series: Sequence[Series]) -> list[Crossover]:
    """Between different methods of the same panel, in the series' order, smaller sizes first."""
    panels: dict[str, list[Series]] = {}
    for one in series:
        panels.setdefault(one.heading, []).append(one)
    return [
        found
        for panel in panels.values()
        for one, other in combinations(panel, 2)
        if one.method != other.method
        for found in _between(one, other)
    ]


def crossover_table(found: Sequence[Crossover]) -> Table:
    """A row each; with several instances, which one."""
    several = len({one.first.instance for one in found}) > 1
    cells: list[tuple[Column, Callable[[Crossover], str]]] = [
        (Column("faster below", numeric=False), lambda one: one.first.label),
        (Column("faster above", numeric=False), lambda one: one.then.label),
        (Column("k/n"), lambda one: f"{one.first.k_per_n:g}"),
        (Column("batch"), lambda one: str(one.first.batch)),
        (Column("between n"), lambda one: str(one.after)),
        (Column("and n"), lambda one: f"{one.before}{FLAGGED * one.is_flagged}"),
        (Column("by straight lines, n"), lambda one: f"{one.size:.0f}"),
        (Column("by the fit, n"), lambda one: f"{one.fitted:.0f}" if one.fitted else ABSENT),
    ]
    if several:
        cells.append((Column("instance", numeric=False), lambda one: one.first.instance))
    notes = [
        "Time of solve + gradient. At the smaller size the first method is faster, at the larger the second, each time "
        "by more than both median absolute deviations. Straight lines: through the measured sizes, on logarithmic "
        "axes, where the figure has its mark. Fit: where least squares on the logarithms of the ratio, over all common "
        "sizes, makes it 1; left out where that is not between the two sizes.",
    ]
    if any(one.is_flagged for one in found):
        notes.append(f"{FLAGGED} at one of the two sizes a timing is flagged.")
    columns = tuple(column for column, _ in cells)
    rows = tuple(tuple(cell(one) for _, cell in cells) for one in found)
    return Table("Crossover sizes", columns, rows, tuple(notes))


def _between(one: Series, other: Series) -> Iterator[Crossover]:
    theirs = {record.n: record for record in other.finished if record.total_seconds}
    common = [(record, theirs[record.n]) for record in one.finished if record.total_seconds and record.n in theirs]
    if len(common) < FEWEST_SIZES:
        return
    clear = [(own, its, sign) for own, its in common if (sign := _faster(own, its))]
    for (own, its, before), (own_next, its_next, after) in pairwise(clear):
        if before != after:
            first, then = (one, other) if before < 0 else (other, one)
            fitted = _fitted_size(common)
            inside = fitted if fitted and own.n <= fitted <= own_next.n else None
            flagged = any(map(has_flagged_times, (own, its, own_next, its_next)))
            mark = _crossing([pair for pair in common if own.n <= pair[0].n <= own_next.n])
            yield Crossover(first, then, own.n, own_next.n, inside, *mark, flagged)


def _faster(own: Record, its: Record) -> int:
    """-1 where the first is clearly faster, 1 where the second is, 0 where neither."""
    difference = (own.total_seconds or 0.0) - (its.total_seconds or 0.0)
    spread = (own.total_mad_seconds or 0.0) + (its.total_mad_seconds or 0.0)
    return 0 if abs(difference) <= spread else (1 if difference > 0 else -1)


def _crossing(common: Sequence[tuple[Record, Record]]) -> tuple[float, float]:
    """Size and time where the first changes from the faster to the slower one, or back."""
    ratios = [_log_ratio(*pair) for pair in common]
    index = next(index for index, ratio in enumerate(ratios[1:]) if ratio * ratios[0] <= 0)
    (left, _), (right, _) = common[index], common[index + 1]
    share = ratios[index] / (ratios[index] - ratios[index + 1])
    start, end = left.total_seconds or math.nan, right.total_seconds or math.nan
    return left.n * (right.n / left.n) ** share, start * (end / start) ** share


def _log_ratio(own: Record, its: Record) -> float:
    return math.log((own.total_seconds or math.nan) / (its.total_seconds or math.nan))


def _fitted_size(common: Sequence[tuple[Record, Record]]) -> float | None:
    sizes = [math.log(own.n) for own, _ in common]
    fit = stats.linregress(sizes, [_log_ratio(*pair) for pair in common])
    if not fit.slope:
        return None
    exponent = -fit.intercept / fit.slope
    return math.exp(exponent) if abs(exponent) < 50 else None
