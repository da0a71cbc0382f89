"""A report's first three sentences, made from its numbers: the fastest exact method, the cheapest, what failed where.

Invariant: a method is ranked only against cells of the same instance, n and k, and only by timings without a flag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.record import Record, Status
from reports.cells import MILLISECOND, RESOLUTION_BYTES, has_flagged_times, has_result, memory, relative_error
from reports.error_axis import at_or_below_bar, has_error
from reports.instances import Group
from reports.rounding import plain, scientific, with_spread
from reports.scaling import peak_bytes

EXACT = 1e-8
"""Relative error at which a method counts as exact: three times what the paper prints for its exact one."""
MOST_NAMES = 4


@dataclass(frozen=True)
class Contest:
    """The cells of one instance, n and k that may be ranked."""

    n: int
    k: int
    cells: tuple[Record, ...]

    def order(self, cost: Callable[[Record], float | None]) -> list[Record]:
        """One cell per method, its cheapest, in order of cost; those without one are left out."""
        known = sorted(((value, record) for record in self.cells if (value := cost(record))), key=lambda pair: pair[0])
        first: dict[str, Record] = {}
        for _, record in known:
            first.setdefault(record.method, record)
        return list(first.values())


def is_exact(record: Record) -> bool:
    """Whether its error is at most EXACT, or the reference cannot tell it from zero."""
    if not has_result(record) or not has_error(record):
        return False
    return at_or_below_bar(record) or (record.error_relative or 0.0) <= EXACT


def contests(groups: Sequence[Group], admitted: Callable[[Record], bool]) -> list[Contest]:
    """One per instance, n and k that holds an admitted cell, in the order of the groups."""
    found: dict[tuple[int, int, int], list[Record]] = {}
    for number, group in enumerate(groups):
        for record in filter(admitted, group.records):
            found.setdefault((number, record.n, record.k), []).append(record)
    return [Contest(n, k, tuple(records)) for (_, n, k), records in found.items()]


def seconds(record: Record) -> float | None:
    """Solve and gradient, where the timing may be ranked."""
    return None if has_flagged_times(record) else record.total_seconds


def verdicts(groups: Sequence[Group]) -> tuple[str, str, str]:
    """The three sentences; where nothing is exact, all methods with a result are ranked, and the sentence says so."""
    records = [record for group in groups for record in group.records]
    exact = contests(groups, is_exact)
    ranked = exact or contests(groups, has_result)
    return _fastest(ranked, bool(exact), records), _cheapest(ranked, bool(exact)), _failures(records)


def _fastest(held: Sequence[Contest], exact: bool, records: Sequence[Record]) -> str:
    bound = f"exact (relative error at most {scientific(EXACT, 1)}, or below the reference's own)"
    caveat = "" if exact else f"{_why_none_is_exact(records)}; "
    ranked = [(contest, order) for contest in held if (order := contest.order(seconds))]
    if not ranked:
        timed = any(record.total_seconds is not None for contest in held for record in contest.cells)
        why = "every timing carries a flag" if timed else "no such cell was timed"
        which = f"method that is {bound}" if exact else "method"
        return f"{caveat}{'there' if caveat else 'There'} is no fastest {which}: {why}."
    method, wins = Counter(order[0].method for _, order in ranked).most_common(1)[0]
    contest, order = max((pair for pair in ranked if pair[1][0].method == method), key=lambda pair: pair[0].n)
    first = order[0]
    time = with_spread(first.total_seconds, first.total_mad_seconds, MILLISECOND)
    beaten = _lead(first, order[1]) if len(order) > 1 else "with no other to compare"
    return (
        f"{caveat}{method} is the fastest {f'of the methods that are {bound}' if exact else 'of all methods'} "
        f"{_share(wins, len(ranked))}: at n = {contest.n} it takes {time} ms for solve + gradient, {beaten}."
    )


def _why_none_is_exact(records: Sequence[Record]) -> str:
    known = [record for record in records if has_result(record) and has_error(record)]
    if not known:
        return "No cell has a relative error against a reference, so which are exact is not known"
    best = min(known, key=lambda record: record.error_relative or 0.0)
    return (
        f"No cell is exact (relative error at most {scientific(EXACT, 1)}): the smallest relative error is "
        f"{scientific(best.error_relative)}, of {best.variant} at n = {best.n}"
    )


def _lead(first: Record, second: Record) -> str:
    a, b = first.total_seconds or 0.0, second.total_seconds or 0.0
    if b - a <= (first.total_mad_seconds or 0.0) + (second.total_mad_seconds or 0.0):
        return f"level with {second.variant} within their spread"
    return f"{plain(b / a, 2)} times as fast as {second.variant}, the next"


def _cheapest(held: Sequence[Contest], exact: bool) -> str:
    field = "exact methods" if exact else "methods"
    ranked = [(contest, order) for contest in held if (order := contest.order(peak_bytes))]
    if not ranked:
        return f"There is no cheapest of the {field} in memory: none has its peak measured."
    level = Counter(record.method for _, order in ranked for record in order if _is_level(record, order[0]))
    most = max(level.values())
    winners = [method for method, wins in level.items() if wins == most]

    def winning(order: list[Record]) -> list[Record]:
        return [record for record in order if record.method in winners and _is_level(record, order[0])]

    contest, order = max((pair for pair in ranked if winning(pair[1])), key=lambda pair: pair[0].n)
    first, last = winning(order)[0], order[-1]
    others = f", and the most is {memory(peak_bytes(last))} MiB, of {last.variant}" if len(order) > 1 else ""
    return (
        f"In memory {_listed(winners)} {'is' if len(winners) == 1 else 'are'} the cheapest of the {field} "
        f"{_share(most, len(ranked))} (level within 0.04 MiB): at n = {contest.n} the peak of {first.variant} is "
        f"{memory(peak_bytes(first))} MiB{others}."
    )


def _is_level(record: Record, least: Record) -> bool:
    return (peak_bytes(record) or 0) <= (peak_bytes(least) or 0) + RESOLUTION_BYTES


def _share(wins: int, of: int) -> str:
    if of == 1:
        return "in the only instance and size that has one"
    return f"in all {of} instances and sizes" if wins == of else f"in {wins} of {of} instances and sizes"


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:MOST_NAMES], *([f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _failures(records: Sequence[Record]) -> str:
    failed = [record for record in records if not has_result(record)]
    kinks = sum(record.status == Status.KINK for record in records)
    at_kinks = f"; {kinks} stand{'s' * (kinks == 1)} at a kink, where only one-sided slopes exist" if kinks else ""
    if not failed:
        all_of_them = "The only cell" if len(records) == 1 else f"All {len(records)} cells"
        return f"{all_of_them} gave a gradient{at_kinks}{_least_accurate(records)}."
    kinds: dict[tuple[str, str], list[int]] = {}
    for record in failed:
        kinds.setdefault((record.method, str(record.status)), []).append(record.n)
    ordered = sorted(kinds.items(), key=lambda pair: -len(pair[1]))
    parts = [f"{method} {status} ({_where(sizes)})" for (method, status), sizes in ordered[:MOST_NAMES]]
    rest = sum(len(sizes) for _, sizes in ordered[MOST_NAMES:])
    more = f", and {rest} more of other methods or words" if rest else ""
    count = "The only cell" if len(records) == 1 else f"{len(failed)} of {len(records)} cells"
    return f"{count} gave no gradient: {', '.join(parts)}{more}{at_kinks}."


def _where(sizes: Sequence[int]) -> str:
    ends = " to ".join(map(str, dict.fromkeys([min(sizes), max(sizes)])))
    return f"n = {ends}" if len(sizes) == 1 else f"{len(sizes)} cells, n = {ends}"


def _least_accurate(records: Sequence[Record]) -> str:
    known = [record for record in records if has_error(record)]
    if not known:
        return "; none has a relative error"
    worst = max(known, key=lambda record: record.error_relative or 0.0)
    return f"; the largest relative error is {relative_error(worst)}, of {worst.variant} at n = {worst.n}"
