"""One finished cell, as it stands in `journal.jsonl` and in `records.parquet`.

Format, version 1. One JSON object per line; keys are the fields below, in this order. Times are seconds and memory is
bytes; a number that could not be measured is null. `*_seconds` are medians over all values of all worker processes,
`*_mad_seconds` the median absolute deviation beside each. Times and memory are those of ONE call on `batch` pairs;
errors are over all pairs of the cell that the reference covers, their gradients stacked:

    error_relative           ||G - R||_F / ||R||_F
    error_max_abs            max |G - R|, over the pairs with all coordinates
    error_angle_degrees      angle between G and R, over the pairs with all coordinates
    best_scalar              c = <G,R> / <G,G>, the factor by which G comes nearest to R: 1 for a right gradient, 100
                             for the mean of a batch of 100 instead of its sum; null where G is zero
    reference_error_relative the reference's own error bar, in the unit of error_relative
    reference_error_max_abs  the largest bar of a coordinate, over the pairs with all coordinates
    reference_norm           ||R||_F; 0 means that every gradient vanishes and error_relative is null
    kink_count               entries, of all calls, along which the loss has two one-sided slopes and no derivative;
                             the errors above leave them out
    error_outside_interval   the largest distance of such an entry of G from the interval between its two slopes,
                             relative to the steepest of all these slopes; null where kink_count is 0
    accuracy                 what the errors come to, in a word (Correctness); of a record without it they are asked
    output_tail              the end of what the method printed and of its exception's traceback, OUTPUT_LINES lines of
                             OUTPUT_CHARACTERS characters at most; null where nothing was. All is in `output/CELL.txt`
    device_difference_relative
                             ||G - G_cpu||_F / ||G_cpu||_F of the first call, for a cell on another device than the CPU
    wall_seconds             all that the cell took, starts of its processes included
    measured_seconds         of these, spent in calls of the method: the pass, warm-ups, timed values, the memory's run
    quantities               what the run's `[measure] quantities` say of the cell, medians over its calls, by name
    input_sha256             of every number that defines the instance
    plugin_sha256            of the third party's file that made the cell and of the modules beside it that it imports
                             (bench/plugins.py); of a method's and a family's, sha256 of the two, the method's first;
                             null where neither is a plug-in, and in records of before
    environment              which of the run's `environments/*.json` it was measured in
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from bench.lines import Parsed, accepted, parse

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


class Correctness(enum.StrEnum):
    """Whether a cell's gradient is the reference's; said beside the status, which says only that the method ran."""

    RIGHT = "right"
    """Within the reference's own bar, or RIGHT_BELOW."""
    INEXACT = "inexact"
    """Up to INEXACT_BELOW: a descent direction as good as the exact one, such as that of a smoothed problem."""
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """There is no reference, or one that cannot tell, or no gradient to hold against it."""


RIGHT_BELOW = {"float64": 1e-6, "float32": 1e-3}
"""Relative errors up to these are right: about half of the digits that a dtype carries (16 and 7), as a lower level
solved to its default tolerance, 1e-10 or better, leaves them, and as a gradient check in that dtype allows."""
INEXACT_BELOW = 1e-2
"""Relative errors above it are wrong: an angle of half a degree and more."""
OVERFLOW = "error_overflow"
"""The flag of an error beyond the largest double, which stands as null."""
OUTPUT_LINES, OUTPUT_CHARACTERS = 20, 2000


def correctness(numbers: dict[str, Any]) -> Correctness:
    """The word for a record's errors, given by their fields.

    Where an entry has two slopes, its distance from the interval between them counts, too; where the reference's
    gradient vanishes, which leaves no relative error, the largest absolute one stands in for it.
    """
    if OVERFLOW in numbers.get("flags", ()):
        return Correctness.WRONG
    error, bar = numbers.get("error_relative"), numbers.get("reference_error_relative") or 0.0
    if numbers.get("reference_norm") is not None and (error is None or bar >= 1.0):
        error, bar = numbers.get("error_max_abs"), numbers.get("reference_error_max_abs") or 0.0
    within = error is not None and error <= bar
    excess = [0.0 if within else error, numbers.get("error_outside_interval")]
    known = [each for each in excess if each is not None]
    if not known or (within and bar > INEXACT_BELOW):
        return Correctness.UNKNOWN
    if max(known) <= RIGHT_BELOW.get(numbers["dtype"], RIGHT_BELOW["float64"]):
        return Correctness.RIGHT
    return Correctness.INEXACT if max(known) <= INEXACT_BELOW else Correctness.WRONG


class Record(pydantic.BaseModel):
    """One cell: method x problem x size x device x dtype x batch x parameters."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    """Fields of a later suite that has the same `schema` are kept as they are, wherever records are copied."""

    schema_version: int = pydantic.Field(default=SCHEMA, alias="schema")
    cell_id: str
    input_sha256: str | None = None
    plugin_sha256: str | None = None
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
    seed: Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
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
    best_scalar: float | None = None
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
    output_tail: str | None = None
    accuracy: Correctness = pydantic.Field(default_factory=correctness)

    @pydantic.field_validator("message", "reproduce", "output_tail")
    @classmethod
    def _encodable(cls, text: str | None) -> str | None:
        """Half a surrogate pair, as of a file's name that is not UTF-8, cannot be written down."""
        return None if text is None else text.encode("utf-8", "backslashreplace").decode()

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


def parse_journal(text: bytes) -> Parsed[Record]:
    """The records of a journal; a torn last line, and lines that are no records, take no other with them."""
    return parse(text, Record.from_line, (SCHEMA,), "its cell counts as not measured")


def read_journal(run: Path) -> list[Record]:
    """The records of a run folder, in the order in which they finished; damaged lines are left out.

    Raises SchemaError where some are of another version of the format.
    """
    path = run / "journal.jsonl"
    return accepted(path, parse_journal(path.read_bytes())).values


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record with all its fields, objects, lists and output as JSON text, and a column `variant`."""
    import pandas as pd  # 75 MB that a runner does without

    rows = []
    for record in records:
        row = record.model_dump(mode="json", by_alias=True)
        row |= {name: json.dumps(value) for name, value in row.items() if isinstance(value, dict | list)}
        if record.output_tail is not None:
            row["output_tail"] = json.dumps(record.output_tail)  # a row of a CSV file stays one line
        rows.append({**row, "variant": record.variant})
    return pd.DataFrame(rows)
