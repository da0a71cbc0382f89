"""The gate: fails when a cell's status got worse, or its error grew beyond a factor of the baseline's and the bars.

Baseline format, version 1: {schema, factor, cells: {cell_id: {method, variant, problem, n, status, error_relative,
reference_error_relative}}}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pydantic

from bench.cell import describe
from bench.record import Record, Status

SCHEMA = 1
FACTOR = 3.0
ROUNDING = 1e-13
"""What another machine's order of summation may do to an exact method, whose error and whose bar are 1e-15."""

RANK = {Status.OK: 0, Status.KINK: 1, Status.INACCURATE_SOLVER: 1, Status.UNSUPPORTED: 2}
"""A higher one is worse; the statuses that are not here are failures, all of rank 3."""


class BaselineError(ValueError):
    """A baseline that cannot be read; one line."""


class BaselineCell(pydantic.BaseModel):
    """What a cell is held to."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    method: str
    variant: str
    problem: str
    n: int
    status: Status
    error_relative: float | None
    reference_error_relative: float | None


class Baseline(pydantic.BaseModel):
    """The whole file."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = pydantic.Field(default=1, alias="schema")
    factor: float = pydantic.Field(default=FACTOR, ge=1)
    cells: dict[str, BaselineCell]


@dataclass(frozen=True)
class Verdict:
    """On one cell. `reason` is empty unless it failed."""

    cell_id: str
    where: str
    new: bool
    reason: str

    @property
    def line(self) -> str:
        """Which, where, by how much."""
        return f"{self.where}: {self.reason or ('new, not in the baseline' if self.new else 'ok')}"


def read_baseline(path: Path) -> Baseline:
    """Raises BaselineError."""
    try:
        return Baseline.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise BaselineError(f"{path}: there is no such baseline: write it with --update") from None
    except (OSError, pydantic.ValidationError) as error:
        raise BaselineError(f"{path}: not a baseline: {' '.join(str(error).split())[:200]}") from None


def write_baseline(path: Path, records: Mapping[str, Record], factor: float) -> None:
    """Sorted, numbers rounded up to three digits, so that a difference between two baselines means something."""
    cells = {
        cell_id: BaselineCell(
            method=record.method,
            variant=record.variant,
            problem=record.problem,
            n=record.n,
            status=record.status,
            error_relative=_rounded_up(record.error_relative),
            reference_error_relative=_rounded_up(record.reference_error_relative),
        )
        for cell_id, record in sorted(records.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    baseline = Baseline(factor=factor, cells=cells)
    path.write_text(baseline.model_dump_json(by_alias=True, indent=2) + "\n")


def judge(records: Mapping[str, Record], baseline: Baseline) -> list[Verdict]:
    """One verdict per cell of the baseline and of the run."""
    verdicts = []
    for cell_id, expected in baseline.cells.items():
        record = records.get(cell_id)
        if record is None:
            named = f"{expected.variant} on {expected.problem} n={expected.n} ({cell_id})"
            verdicts.append(Verdict(cell_id, named, new=False, reason="missing from the run"))
        else:
            reason = _reason(record, expected, baseline.factor)
            verdicts.append(Verdict(cell_id, where(record), new=False, reason=reason))
    new = (record for cell_id, record in records.items() if cell_id not in baseline.cells)
    return [*verdicts, *(Verdict(record.cell_id, where(record), new=True, reason="") for record in new)]


def _reason(record: Record, expected: BaselineCell, factor: float) -> str:
    if RANK.get(record.status, 3) > RANK.get(expected.status, 3):
        return f"status {record.status}, baseline {expected.status}" + (f": {record.message}" if record.message else "")
    if expected.error_relative is None:
        return ""
    if record.error_relative is None:
        return f"no error was measured, baseline {expected.error_relative:.1e}"
    bar = max(record.reference_error_relative or 0.0, expected.reference_error_relative or 0.0)
    allowed = factor * expected.error_relative + bar + ROUNDING
    if record.error_relative <= allowed:
        return ""
    baseline = f"baseline {expected.error_relative:.1e}, allowed {allowed:.1e} ({factor:g} x baseline + bar + rounding)"
    return f"error {record.error_relative:.1e}, {baseline}"


def where(record: Record) -> str:
    """`blorc on analysis_l1 dct n=64`."""
    return describe(
        record.variant, record.problem, record.problem_parameters, record.n, record.batch, record.device, record.dtype
    )


def _rounded_up(value: float | None) -> float | None:
    """To three digits, never below the value."""
    if not value:
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    rounded = float(f"{math.ceil(value / unit) * unit:.2e}")
    return rounded if rounded >= value else float(f"{rounded + unit:.2e}")


def junit(verdicts: list[Verdict]) -> str:
    """JUnit XML, one test case per cell."""
    failures = sum(bool(verdict.reason) for verdict in verdicts)
    suite = ElementTree.Element("testsuite", name="accuracy", tests=str(len(verdicts)), failures=str(failures))
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname=verdict.cell_id, name=verdict.where)
        if verdict.reason:
            ElementTree.SubElement(case, "failure", message=verdict.line)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def markdown(verdicts: list[Verdict]) -> str:
    """A summary for a pull request: the failures by name, the rest by number."""
    failed = [verdict for verdict in verdicts if verdict.reason]
    new = sum(verdict.new for verdict in verdicts)
    headline = f"**{len(failed)} of {len(verdicts)} cells failed**" if failed else f"All {len(verdicts)} cells passed"
    rows = [f"| {verdict.where} | {verdict.reason.replace('|', '/')} |" for verdict in failed]
    table = ["", "| cell | what is wrong |", "| --- | --- |", *rows] if failed else []
    return "\n".join(["## Accuracy gate", "", f"{headline} ({new} new).", *table]) + "\n"
