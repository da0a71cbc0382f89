"""The arrays that a run's folder keeps for pictures; bench/kept.py states the format.

A file may be missing, or be cut short by a full disk, which is said: then there is None, and no picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from bench.own_files import read_own
from bench.record import Record
from problems.arrays import read_arrays

Kind = Literal["coordinates", "directions"]
T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """The differences that one slope was read off; `h` falls. None where too few steps precede an extrapolation."""

    h: tuple[float, ...]
    differences: tuple[float, ...]
    extrapolated: tuple[float | None, ...]
    rounding: tuple[float, ...]
    plateau: tuple[float, float]
    """Its largest and its smallest step."""
    value: float
    bar: float


@dataclass(frozen=True)
class Reference:
    """Of the first pair of an instance, along every coordinate of theta, or along directions."""

    values: Float[np.ndarray, " r"]
    bars: Float[np.ndarray, " r"]
    usable: Bool[np.ndarray, " r"]
    """Where there is a derivative."""
    swept: int | None
    """The entry that `sweep` is of."""
    sweep: Sweep | None


def gradient_path(folder: Path, record: Record) -> Path:
    """Of a cell's first call."""
    return folder / "gradients" / f"{record.cell_id}.npz"


def gradient_of(folder: Path, record: Record) -> dict[str, np.ndarray] | None:
    """dL/dW of a cell's first call, in the shape of W, for each part W of theta."""
    return _read(gradient_path(folder, record), lambda arrays: {k.removeprefix("dL_d"): arrays[k] for k in arrays})


def reference_of(folder: Path, record: Record, kind: Kind) -> Reference | None:
    """The reference that the first call of the record's instance was judged by."""
    return _read(folder / "references" / f"{record.input_sha256}-{kind}.npz", _reference)


def _reference(arrays: dict[str, np.ndarray]) -> Reference:
    rest: dict[str, Any] = json.loads(arrays["rest"].tobytes().decode())
    sweep = rest["sweep"]
    if sweep is not None:
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in sweep.items()
        }
        given["h"] = given.pop("steps")
        sweep = Sweep(**given) if given["plateau"] is not None else None
    return Reference(arrays["values"], arrays["bars"], arrays["usable"], rest["swept"], sweep)


def _read(path: Path, as_what: Callable[[dict[str, np.ndarray]], T]) -> T | None:
    return read_own(path, lambda file: as_what(read_arrays(file)))
