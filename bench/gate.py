"""The gate: what became worse than a baseline, in accuracy, in memory, in time.

Accuracy is hard: a cell fails whose status got worse, or whose error grew beyond `factor` times the baseline's, the
wider of the two bars and rounding. Memory is hard, with a tolerance: beyond `memory_factor` times the baseline's and
`memory_slack_bytes`, as one peak differs from the next (`Tolerances` says how much). On a cell for which the baseline
holds no memory, or no time, there is no such verdict.

A cell of another input than the baseline's (`input_sha256`) is not comparable: that fails, and nothing else of it is
judged. Its instance has to be as it was, or the baseline to be written again.

Time is soft: a cell that is too slow is told, and fails only where the caller asks for it. Seconds of two machines say
nothing about each other, and those of one drift with its clock and its neighbours, alike for all cells. So times are
judged only on the machine model that the baseline is from, and relative to the drift of the whole run: the median over
its timed cells of seconds now / seconds in the baseline, solve and gradient apart. A cell is too slow whose own ratio
is beyond `time_factor` times this median. What slows most cells alike is therefore not seen here: `compare`, on two
runs of one machine, sees it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from bench.baseline import MEBIBYTE, SAMPLED, Baseline, BaselineCell, Machine, Tolerances
from bench.record import TIMING_FLAGS, Record, Status
from bench.verdicts import Kind, Outcome, Verdict, markdown, markdown_table, not_comparable, unjudged_lines, where

ROUNDING = 1e-13
"""What another machine's order of summation may do to an exact method, whose error and whose bar are 1e-15."""
FEWEST_TIMED = 5
"""Cells; the median drift of fewer would follow the cell that it is to judge."""

RANK = {Status.OK: 0, Status.KINK: 1, Status.INACCURATE_SOLVER: 1, Status.UNSUPPORTED: 2}
"""A higher one is worse; the statuses that are not here are failures, all of rank 3."""
PHASES = ("solve", "gradient")
MEMORIES = {"host_peak_bytes": "memory", "device_peak_bytes": "device memory"}


def judge(
    records: Mapping[str, Record], baseline: Baseline, machine: Machine, time_is_hard: bool = False
) -> list[Verdict]:
    """On every cell of the baseline and of the run: accuracy first, then inputs, memory and time."""
    others = {
        cell_id: why for cell_id, cell in baseline.cells.items() if (why := _other_input(cell, records.get(cell_id)))
    }
    inputs = [Verdict(Kind.INPUT, at, where(records[at]), Outcome.FAILED, why) for at, why in others.items()]
    cells = {cell_id: cell for cell_id, cell in baseline.cells.items() if cell_id not in others}
    accuracy = [_accuracy_of(cell_id, records.get(cell_id), cell, baseline) for cell_id, cell in cells.items()]
    new = [record for cell_id, record in records.items() if cell_id not in baseline.cells]
    accuracy += [
        Verdict(Kind.ACCURACY, record.cell_id, where(record), Outcome.UNJUDGED, "new, not in the baseline")
        for record in new
    ]
    paired = [(records[cell_id], cell) for cell_id, cell in cells.items() if cell_id in records]
    memory = [verdict for record, cell in paired for verdict in _memory_of(record, cell, baseline.tolerances)]
    return [*accuracy, *inputs, *memory, *_times(paired, baseline, machine, time_is_hard)]


def _other_input(expected: BaselineCell, record: Record | None) -> str:
    if record is None or None in (expected.input_sha256, record.input_sha256):
        return ""
    before, now = str(expected.input_sha256), str(record.input_sha256)
    return "" if before == now else not_comparable(before, now)


def of_unknown_input(baseline: Baseline, records: Mapping[str, Record]) -> list[str]:
    """One line where of some cells only one side, the baseline or the run, says of which input it is."""
    both = [(cell, records[cell_id]) for cell_id, cell in baseline.cells.items() if cell_id in records]
    unknown = sum((cell.input_sha256 is None) != (record.input_sha256 is None) for cell, record in both)
    words = "held against a baseline without knowing whether the input is the same: --update writes it"
    return [f"{unknown} cell{'s' * (unknown != 1)} {words}"] if unknown else []


def rank(status: Status) -> int:
    """How bad: a higher one is worse."""
    return RANK.get(status, 3)


def allowed_error(expected: float, bar: float, factor: float) -> float:
    """Up to where an error is as good as the expected one, `bar` being the wider of the two references' bars."""
    return factor * expected + bar + ROUNDING


def allowed_bytes(expected: float, tolerances: Tolerances) -> float:
    """Up to where a peak of memory is as good as the expected one."""
    return tolerances.memory_factor * expected + tolerances.memory_slack_bytes


def _accuracy_of(cell_id: str, record: Record | None, expected: BaselineCell, baseline: Baseline) -> Verdict:
    if record is None:
        named = f"{expected.variant} on {expected.problem} n={expected.n} ({cell_id})"
        return Verdict(Kind.ACCURACY, cell_id, named, Outcome.FAILED, "missing from the run")
    reason = _loss_of_accuracy(record, expected, baseline.tolerances.factor)
    return Verdict(Kind.ACCURACY, cell_id, where(record), Outcome.FAILED if reason else Outcome.PASSED, reason)


def _loss_of_accuracy(record: Record, expected: BaselineCell, factor: float) -> str:
    if rank(record.status) > rank(expected.status):
        return f"status {record.status}, baseline {expected.status}" + (f": {record.message}" if record.message else "")
    if expected.error_relative is None:
        return ""
    if record.error_relative is None:
        return f"no error was measured, baseline {expected.error_relative:.1e}"
    bar = max(record.reference_error_relative or 0.0, expected.reference_error_relative or 0.0)
    allowed = allowed_error(expected.error_relative, bar, factor)
    if record.error_relative <= allowed:
        return ""
    baseline = f"baseline {expected.error_relative:.1e}, allowed {allowed:.1e} ({factor:g} x baseline + bar + rounding)"
    return f"error {record.error_relative:.1e}, {baseline}"


def _memory_of(record: Record, expected: BaselineCell, tolerances: Tolerances) -> Iterator[Verdict]:
    """None where the baseline has none; one, of the first memory that failed, or else of the first."""
    found: list[tuple[Outcome, str]] = []
    for name, called in MEMORIES.items():
        limit, now = getattr(expected, name), getattr(record, name)
        if limit is not None:
            found.append(_memory(called, now, limit, tolerances, record, expected))
    if found:
        outcome, reason = min(found, key=lambda each: each[0] is not Outcome.FAILED)
        yield Verdict(Kind.MEMORY, record.cell_id, where(record), outcome, reason)


def _memory(
    called: str, now: int | None, before: int, tolerances: Tolerances, record: Record, expected: BaselineCell
) -> tuple[Outcome, str]:
    if rank(record.status) > rank(expected.status):
        return Outcome.UNJUDGED, "the cell's status got worse"
    if now is None:
        return Outcome.FAILED, f"no {called} was measured, baseline {before / MEBIBYTE:.2f} MiB"
    if SAMPLED in record.flags:
        return Outcome.UNJUDGED, "memory was sampled, and may have peaked unseen"
    allowed = allowed_bytes(before, tolerances)
    if now <= allowed:
        return Outcome.PASSED, ""
    rule = f"{tolerances.memory_factor:g} x baseline + {tolerances.memory_slack_bytes / MEBIBYTE:g} MiB"
    of = f"baseline {before / MEBIBYTE:.2f} MiB, allowed {allowed / MEBIBYTE:.2f} MiB ({rule})"
    return Outcome.FAILED, f"{called} {now / MEBIBYTE:.2f} MiB, {of}"


def _times(
    paired: Sequence[tuple[Record, BaselineCell]], baseline: Baseline, machine: Machine, hard: bool
) -> Iterator[Verdict]:
    held = [(record, cell) for record, cell in paired if cell.solve_seconds is not None]
    ratios = {record.cell_id: _slowdowns(record, cell) for record, cell in held}
    timed = [ratio for ratio in ratios.values() if ratio]
    drift = {phase: statistics.median(ratio[phase] for ratio in timed) for phase in PHASES} if timed else {}
    for record, cell in held:
        ratio = ratios[record.cell_id]
        if machine != baseline.machine or machine.cpu is None:
            outcome, reason = Outcome.UNJUDGED, f"another machine: {machine}; the baseline's: {baseline.machine}"
        elif rank(record.status) > rank(cell.status):
            outcome, reason = Outcome.UNJUDGED, "the cell's status got worse"
        elif record.solve_seconds is None:
            outcome, reason = Outcome.WARNED, "no time was measured, the baseline has one"
        elif not ratio:
            outcome, reason = Outcome.UNJUDGED, "the times are flagged"
        elif len(timed) < FEWEST_TIMED:
            outcome, reason = Outcome.UNJUDGED, f"fewer than {FEWEST_TIMED} cells to take the run's drift from"
        else:
            outcome, reason = _time(ratio, drift, baseline.tolerances.time_factor)
        if outcome is Outcome.WARNED and hard:
            outcome = Outcome.FAILED
        yield Verdict(Kind.TIME, record.cell_id, where(record), outcome, reason)


def _slowdowns(record: Record, expected: BaselineCell) -> dict[str, float]:
    """Seconds now / seconds in the baseline, of each phase; empty where one is missing or not to be trusted."""
    now = [getattr(record, f"{phase}_seconds") for phase in PHASES]
    before = [getattr(expected, f"{phase}_seconds") for phase in PHASES]
    if None in now or None in before or not TIMING_FLAGS.isdisjoint(record.flags):
        return {}
    return {phase: mine / held for phase, mine, held in zip(PHASES, now, before, strict=True)}


def _time(ratio: Mapping[str, float], drift: Mapping[str, float], factor: float) -> tuple[Outcome, str]:
    """Of the phase that slowed down most, against the run's drift."""
    phase = max(PHASES, key=lambda name: ratio[name] / drift[name])
    if ratio[phase] <= factor * drift[phase]:
        return Outcome.PASSED, ""
    against = f"the run's median {drift[phase]:.2f} x, allowed {factor * drift[phase]:.2f} x ({factor:g} x the median)"
    return Outcome.WARNED, f"{phase} {ratio[phase]:.2f} x the baseline's seconds, {against}"


def headline(verdicts: Sequence[Verdict]) -> str:
    """`accuracy: 166 of 167 passed; memory: 24 of 24 passed`, with warnings where there are any."""
    parts = []
    for kind in Kind:
        counts = Counter(verdict.outcome for verdict in verdicts if verdict.kind is kind)
        judged = counts.total() - counts[Outcome.UNJUDGED]
        if kind is Kind.INPUT and counts:
            parts.append(f"input: {counts[Outcome.FAILED]} not comparable")
        elif counts:
            warned = f" ({counts[Outcome.WARNED]} warned)" if counts[Outcome.WARNED] else ""
            parts.append(f"{kind}: {counts[Outcome.PASSED] + counts[Outcome.WARNED]} of {judged} passed{warned}")
    return "; ".join(parts)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Markdown for a pull request: failures and warnings by name, the rest by number."""
    told = [verdict for verdict in verdicts if verdict.outcome in (Outcome.FAILED, Outcome.WARNED)]
    told.sort(key=lambda verdict: verdict.outcome is Outcome.WARNED)
    rows = [(str(verdict.outcome), str(verdict.kind), verdict.where, verdict.reason) for verdict in told]
    failed = any(verdict.outcome is Outcome.FAILED for verdict in verdicts)
    title = f"## Gate: {'**failed**' if failed else 'passed'}"
    table = markdown_table(("", "what", "cell", "what is wrong"), rows)
    notes = [f"- {markdown(line)}" for line in unjudged_lines(verdicts)]
    return "\n".join([title, "", f"{headline(verdicts)}.", *table, *([""] if notes else []), *notes]) + "\n\n"
