"""One finished cell, as it stands in `journal.jsonl` and in `records.parquet`.

Format, version 1. One JSON object per line; keys are the fields below, in this order. Times are seconds and memory is
bytes; a number that could not be measured is null. `*_seconds` are medians over all values of all worker processes,
`*_mad_seconds` the median absolute deviation beside each. Times and memory are those of ONE call on `batch` pairs;
errors are over all pairs of the cell that the reference covers, their gradients stacked:

    error_relative           ||G - R||_F / ||R||_F
    error_max_abs            max |G - R|, over the pairs with all coordinates
    error_angle_degrees      angle between G and R, over the pairs with all coordinates
    reference_error_relative the reference's own error bar, in the unit of error_relative
    reference_error_max_abs  the largest bar of a coordinate, over the pairs with all coordinates
    reference_norm           ||R||_F; 0 means that every gradient vanishes and error_relative is null
    kink_count               entries, of all calls, along which the loss has two one-sided slopes and no derivative;
                             the errors above leave them out
    error_outside_interval   the largest distance of such an entry of G from the interval between its two slopes,
                             relative to the steepest of all these slopes; null where kink_count is 0
    device_difference_relative
                             ||G - G_cpu||_F / ||G_cpu||_F of the first call, for a cell on another device than the CPU
    wall_seconds             all that the cell took, starts of its processes included
    measured_seconds         of these, spent in calls of the method: the pass, warm-ups, timed values, the memory's run
    quantities               what the run's `[measure] quantities` say of the cell, medians over its calls, by name
    environment              which of the run's `environments/*.json` it was measured in
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


TIMING_FLAGS = frozenset({"unstable", "loaded", "threads", "throttled", "noisy"})
"""The flags that say that a time is not to be trusted; others are about accuracy or memory. Runs of before have
`noisy` for `unstable`."""


class Status(enum.StrEnum):
    """What became of a cell. Every value but `ok` is printed as a word where a number would stand."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    ERROR = "error"
    NONFINITE = "nonfinite"
    INACCURATE_SOLVER = "inaccurate_solver"
    KINK = "kink"


class Record(pydantic.BaseModel):
    """One cell: method x problem x size x device x dtype x batch x parameters."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    schema_version: int = pydantic.Field(default=SCHEMA, alias="schema")
    cell_id: str
    input_sha256: str | None = None
    method: str
    method_parameters: dict[str, Any]
    problem: str
    problem_parameters: dict[str, Any]
    n: int
    k: int
    theta_size: int
    pairs: int
    batch: int
    device: str
    dtype: str
    threads: int
    seed: int
    status: Status
    message: str = ""
    prepare_seconds: float | None = None
    prepare_mad_seconds: float | None = None
    solve_seconds: float | None = None
    solve_mad_seconds: float | None = None
    gradient_seconds: float | None = None
    gradient_mad_seconds: float | None = None
    total_seconds: float | None = None
    total_mad_seconds: float | None = None
    host_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    error_relative: float | None = None
    error_max_abs: float | None = None
    error_angle_degrees: float | None = None
    reference_error_relative: float | None = None
    reference_error_max_abs: float | None = None
    reference_kind: str | None = None
    reference_norm: float | None = None
    margin_primal: float | None = None
    margin_dual: float | None = None
    cosupport_rank_defect: int | None = None
    kink_count: int | None = None
    error_outside_interval: float | None = None
    kkt_residual: float | None = None
    iterations: float | None = None
    device_difference_relative: float | None = None
    wall_seconds: float | None = None
    measured_seconds: float | None = None
    quantities: dict[str, float] = {}
    environment: str = ""
    flags: list[str] = []
    reproduce: str = ""

    def to_line(self) -> str:
        """The journal's line, without the line break."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), allow_nan=False)

    @classmethod
    def from_line(cls, line: str) -> Record:
        """Raises pydantic.ValidationError for a line that is no record."""
        return cls.model_validate_json(line)

    @property
    def variant(self) -> str:
        """The method with the parameters that set it apart: `cvxpy_layer[mode=lsqr]`."""
        return variant_name(self.method, self.method_parameters)


def variant_name(method: str, parameters: dict[str, Any]) -> str:
    """`unrolled_reverse[solver=dual_pgd,steps=100]`: a solver is named by its key, its own parameters following it."""

    def written(value: Any) -> str:
        if isinstance(value, dict) and "key" in value:
            inner = ",".join(f"{name}={written(entry)}" for name, entry in value.items() if name != "key")
            return f"{value['key']}({inner})" if inner else str(value["key"])
        return f"{value:g}" if isinstance(value, float) else str(value)

    listed = ",".join(f"{name}={written(value)}" for name, value in parameters.items())
    return f"{method}[{listed}]" if listed else method


@dataclass(frozen=True)
class Parsed:
    """A journal's lines, told apart."""

    records: list[Record]
    """In the order in which they finished."""
    good_lines: list[bytes]
    damaged_lines: list[bytes]
    """Whole lines that are no records."""
    damage: list[str]
    """One clause for each of them, and for a torn last line."""


def parse_journal(text: bytes) -> Parsed:
    """The records of a journal; a torn last line, and lines that are no records, take no other with them."""
    parsed = Parsed([], [], [], [])
    *lines, torn = text.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            parsed.records.append(Record.from_line(line.decode()))
            parsed.good_lines.append(line + b"\n")
        except ValueError:  # pydantic's ValidationError and UnicodeDecodeError are its children
            parsed.damaged_lines.append(line + b"\n")
            parsed.damage.append(f"line {number} is no record: left out, its cell counts as not measured")
    if torn:
        parsed.damage.append(f"line {len(lines) + 1} is torn, as a run was killed while it wrote: left out")
    return parsed


def read_journal(run: Path) -> list[Record]:
    """The records of a run folder, in the order in which they finished; damaged lines are left out."""
    return parse_journal((run / "journal.jsonl").read_bytes()).records


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record with every field of the format, parameters as JSON text, and a column `variant`."""
    import pandas as pd  # 75 MB that a runner does without

    rows = []
    for record in records:
        row = record.model_dump(mode="json", by_alias=True)
        for name in ("method_parameters", "problem_parameters", "quantities", "flags"):
            row[name] = json.dumps(row[name])
        rows.append({**row, "variant": record.variant})
    return pd.DataFrame(rows)
