"""What the clock read in a worker process, and its summary over all of a cell's processes. Free of torch."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Value:
    """One timed value: the mean seconds per call over the chunks that it walked through."""

    solve_seconds: float
    gradient_seconds: float
    calls: int

    @property
    def total_seconds(self) -> float:
        """Solve and gradient."""
        return self.solve_seconds + self.gradient_seconds


@dataclass(frozen=True)
class Timed:
    """What one worker process measured."""

    prepare_seconds: float
    gradient_repeats: int
    warmups: tuple[Value, ...]
    values: tuple[Value, ...]

    def to_json(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)

    @classmethod
    def from_json(cls, json: dict[str, Any]) -> Self:
        """Back from the result file."""
        warmups, values = (tuple(Value(**value) for value in json[name]) for name in ("warmups", "values"))
        return cls(json["prepare_seconds"], json["gradient_repeats"], warmups, values)


@dataclass(frozen=True)
class Summary:
    """Median and median absolute deviation of a phase, in seconds."""

    median: float
    mad: float

    @classmethod
    def of(cls, seconds: list[float]) -> Self:
        """Over the values of all processes."""
        median = statistics.median(seconds)
        return cls(median, statistics.median(abs(value - median) for value in seconds))


def summarise(processes: list[Timed]) -> dict[str, Summary]:
    """Of the phases prepare, solve, gradient and total."""
    values = [value for process in processes for value in process.values]
    return {
        "prepare": Summary.of([process.prepare_seconds for process in processes]),
        "solve": Summary.of([value.solve_seconds for value in values]),
        "gradient": Summary.of([value.gradient_seconds for value in values]),
        "total": Summary.of([value.total_seconds for value in values]),
    }
