"""The file that the gate holds a run against.

Format, version 2: {schema, tolerances: {factor, memory_factor, memory_slack_bytes, time_factor}, machine: {cpu,
logical_cores}, cells: {cell_id: {method, variant, problem, n, input_sha256, status, error_relative,
reference_error_relative, host_peak_bytes, device_peak_bytes, solve_seconds, gradient_seconds}}}. `machine` is the one
that the times are from; `input_sha256` may be left out. Numbers are rounded up to three digits; what was not measured,
or carries a flag that says not to trust it, is null. Spreads of times are left out: a cell whose times spread by a
tenth or more is flagged `unstable`, and the others' spreads are far inside `time_factor`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pydantic

from bench.lines import foreign_schema
from bench.record import TIMING_FLAGS, Record, Status
from bench.whole_file import make_folder, write_whole

MEBIBYTE = 2**20
SAMPLED = "memory_sampled"
"""The flag of a memory that may have peaked between two looks."""


class BaselineError(ValueError):
    """A baseline that cannot be read; one line."""


class Part(pydantic.BaseModel):
    """An object of the file, all of whose keys are known."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tolerances(Part):
    """How much worse is as good: a maintainer's to change in the file; an update keeps them.

    Memory: peaks of the same code lie within 0.2 MiB of each other, but those of forward mode, whose many small tensors
    the allocator packs by chance, were seen at 4.6 and 6.5 MiB, at 25 and 33 MiB.
    """

    factor: float = pydantic.Field(default=3.0, ge=1)
    memory_factor: float = pydantic.Field(default=1.3, ge=1)
    memory_slack_bytes: int = pydantic.Field(default=MEBIBYTE, ge=0)
    time_factor: float = pydantic.Field(default=1.5, ge=1)


class Machine(Part):
    """The model of a machine; null where it is not known."""

    cpu: str | None = None
    logical_cores: int | None = None

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> Self:
        """From a run's environment; one that says nothing, or nonsense, is of an unknown machine."""
        try:
            return cls.model_validate({name: environment.get(name) for name in cls.model_fields})
        except pydantic.ValidationError:
            return cls()

    def __str__(self) -> str:
        return f"{self.cpu}, {self.logical_cores} logical cores" if self.cpu else "unknown"


class BaselineCell(Part):
    """What a cell is held to."""

    method: str
    variant: str
    problem: str
    n: int
    input_sha256: str | None = None
    """Of the instance; None in a baseline of before, which is then held against any input."""
    status: Status
    error_relative: float | None
    reference_error_relative: float | None
    host_peak_bytes: int | None
    device_peak_bytes: int | None
    solve_seconds: float | None = pydantic.Field(gt=0)
    gradient_seconds: float | None = pydantic.Field(gt=0)


class Baseline(Part):
    """The whole file."""

    schema_version: Literal[2] = pydantic.Field(default=2, alias="schema")
    tolerances: Tolerances
    machine: Machine
    cells: dict[str, BaselineCell]


def read_baseline(path: Path) -> Baseline:
    """Raises BaselineError, and OSError where it cannot be read."""
    document = _document(path)
    if document.get("schema") == 1:
        raise BaselineError(f"{path}: a baseline of schema 1, which holds no memory: write it again with --update")
    return _validated(Baseline, document, path)


def kept_tolerances(path: Path) -> Tolerances:
    """Those of the file that an update replaces; the usual ones where there is no file. Raises BaselineError."""
    if not path.exists():
        return Tolerances()
    document = _document(path)
    if document.get("schema") == 1:  # its only tolerance stood beside the cells
        return _validated(Tolerances, {name: document[name] for name in document.keys() & {"factor"}}, path)
    return _validated(Baseline, document, path).tolerances


M = TypeVar("M", bound=Part)


def _validated(model: type[M], document: dict[str, Any], path: Path) -> M:
    if foreign := foreign_schema(document.get("schema"), (2,)):
        raise BaselineError(f"{path}: not a baseline for this suite: {foreign}")
    try:
        return model.model_validate(document)
    except pydantic.ValidationError as error:
        raise _not_a_baseline(path, error) from None


def _not_a_baseline(path: Path, error: Exception) -> BaselineError:
    return BaselineError(f"{path}: not a baseline: {' '.join(str(error).split())[:200]}")


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaselineError(f"{path}: there is no such baseline: write it with --update") from None
    except ValueError as error:
        raise _not_a_baseline(path, error) from None
    if not isinstance(document, dict):
        raise BaselineError(f"{path}: not a baseline: it holds a {type(document).__name__} and no object")
    return document


def write_baseline(path: Path, records: Mapping[str, Record], machine: Machine, tolerances: Tolerances) -> None:
    """Sorted, numbers rounded up to three digits, so that a difference between two baselines means something.

    Raises OSError; the file that was there before then stays.
    """
    cells = {cell_id: _held_to(record) for cell_id, record in sorted(records.items())}
    baseline = Baseline(tolerances=tolerances, machine=machine, cells=cells)
    make_folder(path.parent)
    write_whole(path, baseline.model_dump_json(by_alias=True, indent=2) + "\n")


def _held_to(record: Record) -> BaselineCell:
    timed = TIMING_FLAGS.isdisjoint(record.flags)
    return BaselineCell(
        method=record.method,
        variant=record.variant,
        problem=record.problem,
        n=record.n,
        input_sha256=record.input_sha256,
        status=record.status,
        error_relative=_rounded_up(record.error_relative),
        reference_error_relative=_rounded_up(record.reference_error_relative),
        host_peak_bytes=None if SAMPLED in record.flags else record.host_peak_bytes,
        device_peak_bytes=record.device_peak_bytes,
        solve_seconds=_rounded_up(record.solve_seconds) if timed else None,
        gradient_seconds=_rounded_up(record.gradient_seconds) if timed else None,
    )


def _rounded_up(value: float | None) -> float | None:
    """To three digits, never below the value."""
    if not value:
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    rounded = float(f"{math.ceil(value / unit) * unit:.2e}")
    return rounded if rounded >= value else float(f"{rounded + unit:.2e}")
