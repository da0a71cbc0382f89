"""What the gate and the comparison say about a cell, and how it is written: JUnit XML, Markdown, exit codes."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from bench.cell import describe
from bench.record import Record
from bench.whole_file import naming, write_whole

SUMMARY_ROWS = 25
"""Of a table in a Markdown summary: a pull request shows it whole."""


class Kind(enum.StrEnum):
    """What is judged, the most serious first."""

    ACCURACY = "accuracy"
    INPUT = "input"
    """Whether the two are of the same problem at all; nothing else is judged where they are not."""
    MEMORY = "memory"
    TIME = "time"


EXIT_CODES = {Kind.ACCURACY: 1, Kind.INPUT: 2, Kind.MEMORY: 3, Kind.TIME: 4}
"""What a command ends with whose most serious failure is of this kind; 0 is fine, 2 is bad input. They differ so that
a script on a shared machine can let a mere slowdown pass: `... || [ $? -eq 4 ]`."""


def not_comparable(before: str, now: str) -> str:
    """In place of a verdict, of two inputs by their `input_sha256`."""
    return f"not comparable: the input changed ({before[:8]}, now {now[:8]})"


class Outcome(enum.StrEnum):
    """Of one verdict."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    """It would fail if its kind were asked for; otherwise it is told and lets the command pass."""
    UNJUDGED = "not judged"


@dataclass(frozen=True)
class Verdict:
    """On one cell, in one respect."""

    kind: Kind
    cell_id: str
    where: str
    outcome: Outcome
    reason: str = ""

    @property
    def line(self) -> str:
        """Which, where, by how much."""
        return f"{self.where}: {self.reason or self.outcome}"


def where(record: Record) -> str:
    """`blorc on analysis_l1 dct n=64`."""
    how = (record.batch, record.device, record.dtype, record.threads)
    return describe(record.variant, record.problem, record.problem_parameters, record.n, *how)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 where nothing failed."""
    return min((EXIT_CODES[verdict.kind] for verdict in verdicts if verdict.outcome is Outcome.FAILED), default=0)


def unjudged_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """How many were not judged, by kind and reason."""
    counts = Counter((v.kind, v.reason) for v in verdicts if v.outcome is Outcome.UNJUDGED)
    return [f"{kind}: {count} not judged: {reason}" for (kind, reason), count in sorted(counts.items())]


def junit(name: str, verdicts: Sequence[Verdict]) -> str:
    """JUnit XML: a suite per kind, a case per verdict; a warning is a case that passed and says so in `system-out`."""
    root = ElementTree.Element("testsuites", name=name)
    for kind in Kind:
        own = [verdict for verdict in verdicts if verdict.kind is kind]
        if not own:
            continue
        counts = Counter(verdict.outcome for verdict in own)
        suite = ElementTree.SubElement(root, "testsuite", name=f"{name}.{kind}", tests=str(len(own)), errors="0")
        suite.set("failures", str(counts[Outcome.FAILED]))
        suite.set("skipped", str(counts[Outcome.UNJUDGED]))
        for verdict in own:
            classname = f"{name}.{kind}.{_xml(verdict.cell_id)}"
            case = ElementTree.SubElement(suite, "testcase", classname=classname, name=_xml(verdict.where))
            if verdict.outcome is Outcome.FAILED:
                ElementTree.SubElement(case, "failure", message=_xml(verdict.line))
            elif verdict.outcome is Outcome.UNJUDGED:
                ElementTree.SubElement(case, "skipped", message=_xml(verdict.line))
            elif verdict.outcome is Outcome.WARNED:
                ElementTree.SubElement(case, "system-out").text = _xml(f"warning: {verdict.line}")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 forbids even as references."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, its first `SUMMARY_ROWS` rows and the number of the rest; texts are shown as they are."""
    if not rows:
        return []
    lines = [headings, ["---"] * len(headings), *([markdown(text) for text in row] for row in rows[:SUMMARY_ROWS])]
    more = ["", f"... and {len(rows) - SUMMARY_ROWS} more."] if len(rows) > SUMMARY_ROWS else []
    return ["", *(f"| {' | '.join(line)} |" for line in lines), *more]


MARKUP = re.compile(r"[\\`*{}\[\]<>#!|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Characters that could start markup; an underscore inside a word cannot."""


def markdown(text: str) -> str:
    """The text on one line, nothing in it taken for markup; an `@` calls nobody."""
    shown = MARKUP.sub(lambda match: f"\\{match[0]}", " ".join(text.split()))
    return shown.replace("@", "@\N{ZERO WIDTH SPACE}")


def write(
    verdicts: Sequence[Verdict], name: str, junit_file: Path | None, summary_file: Path | None, summary: str
) -> None:
    """As JUnit XML, and as Markdown, where there is a file for it. Raises OSError.

    GitHub's `$GITHUB_STEP_SUMMARY` is appended to, as a job's other steps may have written there.
    """
    if junit_file is not None:
        write_whole(junit_file, junit(name, verdicts))
    if summary_file is not None:
        with naming(summary_file), open(summary_file, "a", encoding="utf-8") as file:
            file.write(summary)
