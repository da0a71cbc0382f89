"""A comparison of two runs as people read it: on a terminal, and as Markdown under a pull request."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench import provenance
from bench.aligned import Column, Table, print_table
from bench.baseline import Machine
from bench.change import FOR_THE_BETTER, FOR_THE_WORSE, Change, Finding, Timing
from bench.compare import Compared, Comparison
from bench.run_folder import Run
from bench.verdicts import markdown, markdown_table

HEADINGS = ("cell", "A, ms", "B, ms", "ratio", "95 % interval", "p", "time", "accuracy", "memory")
NUMERIC = frozenset({"A, ms", "B, ms", "ratio", "95 % interval", "p"})
MOST_NAMES = 5
ABSENT = "-"


def header(comparison: Comparison) -> list[str]:
    """What the two runs are, what sets them apart, and what that does to the ratios."""
    a, b = comparison.a, comparison.b
    lines = [f"A: {_run(a)}", f"B: {_run(b)}"]
    if a.environment and b.environment:
        apart = provenance.differences(a.environment, b.environment)
        lines += [f"A to B: {'; '.join(apart)}"] * bool(apart)
    if Machine.of(a.environment) != Machine.of(b.environment) or Machine.of(a.environment) == Machine():
        lines.append("warning: the runs are not known to be of one machine: the ratios compare the machines, too")
    for name, run in (("A", a), ("B", b)):
        environments = {record.environment for record in run.records.values()}
        if len(environments) > 1:
            lines.append(f"warning: the rows of {name} are from {len(environments)} environments; the newest is shown")
    return lines


def _run(run: Run) -> str:
    machine, sha = Machine.of(run.environment), run.environment.get("git_sha")
    commit = str(sha)[:12] if sha else "unknown"
    dirty = " with changes" if run.environment.get("git_dirty") else ""
    return f"{run.folder}: {_cells(len(run.records))}; machine {machine}; commit {commit}{dirty}"


def headline(comparison: Comparison) -> str:
    """`90 cells in both; time: 2 slower, 85 no change, 3 not judged; median ratio of total 1.012`."""
    compared = comparison.compared
    timed = [each.timing for each in compared if each.timing is not None]
    changes = {
        "time": [timing.change for timing in timed],
        "accuracy": [each.accuracy.change for each in compared],
        "memory": [each.memory.change for each in compared],
    }
    parts = [f"{_cells(len(compared))} in both"]
    if comparison.other_input:
        parts.append(f"{_cells(len(comparison.other_input))} not comparable: the input changed")
    for name, found in changes.items():
        counts = Counter(found)
        if counts.keys() - {Change.UNJUDGED}:
            parts.append(f"{name}: {', '.join(f'{counts[change]} {change}' for change in Change if counts[change])}")
    if timed:
        parts.append(f"median ratio of {comparison.phase} {statistics.median(timing.ratio for timing in timed):.3f}")
    return "; ".join(parts)


def footer(comparison: Comparison) -> list[str]:
    """How it was judged, and which cells could not be paired."""
    margin = f"{100 * comparison.margin:g} %"
    notes = Counter(each.timing.note for each in comparison.compared if each.timing and each.timing.note)
    lines = [f"time not judged in {count} cells: {note}" for note, count in notes.most_common()]
    others = [verdict.where for verdict in comparison.other_input]
    lines += _named(others, "not comparable: the input changed (input_sha256)")
    if comparison.unknown_input:
        lines.append(f"{_cells(comparison.unknown_input)} compared whose input was not recorded in A or B")
    lines += _named(comparison.only_a, "only in A")
    lines += _named(comparison.only_b, "only in B")
    if any(each.timing and each.timing.p_adjusted is not None for each in comparison.compared):
        lines.append(
            f"slower, faster: p < 0.05, adjusted for all judged cells (Benjamini-Hochberg), and beyond {margin}; "
            f"no change: the interval is within {margin}; unresolved: neither, more processes would tell"
        )
    return lines


def _named(cells: Sequence[str], why: str) -> list[str]:
    if not cells:
        return []
    more = f" and {len(cells) - MOST_NAMES} more" if len(cells) > MOST_NAMES else ""
    return [f"{len(cells)} {why}: {', '.join(cells[:MOST_NAMES])}{more}"]


def row(compared: Compared) -> tuple[str, ...]:
    """A cell under the HEADINGS."""
    return (compared.where, *_timing(compared.timing), _said(compared.accuracy), _said(compared.memory))


def numbers(compared: Compared) -> tuple[float | None, ...]:
    """What the row's numbers are, None for words and what is missing: milliseconds, the interval's low end."""
    timing = compared.timing
    if timing is None:
        return (None,) * len(HEADINGS)
    times = (1e3 * timing.a_seconds, 1e3 * timing.b_seconds, timing.ratio, timing.low, timing.p_adjusted)
    return (None, *times, None, None, None)


def _said(finding: Finding) -> str:
    """The numbers stand only beside a change, and beside a status that is another."""
    if finding.change is Change.NO_CHANGE:
        return str(finding.change)
    return finding.line if finding.words else ABSENT


def _timing(timing: Timing | None) -> tuple[str, ...]:
    if timing is None:
        return (ABSENT,) * 6
    interval = ABSENT if timing.low is None else f"{timing.low:.3f} to {timing.high:.3f}"
    p = ABSENT if timing.p_adjusted is None else f"{timing.p_adjusted:.2g}"
    seconds = (f"{1e3 * value:.4g}" for value in (timing.a_seconds, timing.b_seconds))
    return (*seconds, f"{timing.ratio:.3f}", interval, p, str(timing.change))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The whole of it, the news first."""
    for line in header(comparison):
        console.print(Text(line))
    if comparison.compared:
        columns = tuple(Column(title, numeric=title in NUMERIC) for title in HEADINGS)
        print_table(Table("", columns, tuple(map(row, comparison.compared))), console)
    for line in [headline(comparison), *footer(comparison)]:
        console.print(Text(line))


def summary(comparison: Comparison) -> str:
    """Markdown for a pull request: the cells with news, the worst first, and the rest by number."""
    worse = [each for each in comparison.compared if each.changes & FOR_THE_WORSE]
    news = [each for each in comparison.compared if each.changes & (FOR_THE_WORSE | FOR_THE_BETTER)]
    title = f"## Comparison: {f'**{_cells(len(worse))} got worse**' if worse else 'nothing got worse'}"
    rows = [row(each) for each in news]
    notes = [f"- {markdown(line)}" for line in [*header(comparison), *footer(comparison)]]
    return "\n".join([title, "", f"{headline(comparison)}.", *markdown_table(HEADINGS, rows), "", *notes]) + "\n\n"


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"
