"""Losses and PSNR against epochs and seconds: `curves.jsonl`, one line per epoch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pydantic

from bench.lines import Lines, Parsed, read_lines, repair
from bench.whole_file import whole

CURVES = "curves.jsonl"
SCHEMA = 1
"""Of the lines, which do not say so."""


@dataclass(frozen=True)
class Point:
    """After so many whole epochs. Losses are means over pairs of loss_factor ||x* - x_t||^2 (of the family's own loss,
    in that proportion); null where there is nothing to take them of."""

    epoch: int
    updates: int
    gradients: int
    """Batch gradients: an update of L-BFGS takes several."""
    seconds: float
    """Of work on this training, interruptions and lost work left out."""
    training_loss: float | None
    """The running mean: each pair at the theta that it met in this epoch."""
    training_psnr_db: float | None
    validation_loss: float | None
    """At theta as it is after the epoch."""
    validation_psnr_db: float | None
    rate: float
    """alpha of the last update."""
    unconverged: int
    """Calls of the backend in this epoch whose solver stopped before its tolerance."""

    def to_line(self) -> str:
        """Without the line break. JSON knows no infinity: those of a PSNR become null."""
        values = {name: _finite(value) for name, value in asdict(self).items()}
        return json.dumps(values)


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None


_LINE = pydantic.TypeAdapter(Point)


def read(folder: Path) -> list[Point]:
    """Those of a run folder; a torn last line, or what else is no point, is left out and said. Raises SchemaError."""
    return _read(folder / CURVES).values


def _read(path: Path) -> Parsed[Point]:
    return read_lines(path, _LINE.validate_json, (SCHEMA,), "its epoch is missing in the curves")


class Curves:
    """The file of a training that goes on after `epochs`: what was written of later ones is cut off."""

    def __init__(self, folder: Path, epochs: int) -> None:
        path = folder / CURVES
        there = _read(path)
        repair(path, there)
        kept = [line for point, line in zip(there.values, there.good_lines, strict=True) if point.epoch <= epochs]
        with whole(path) as file:
            file.writelines(kept)
        self._lines = Lines(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.settle()
        self._lines.close()

    def append(self, point: Point) -> None:
        """Seen by readers at once, on the disk after `settle`. Raises OSError."""
        self._lines.append(point.to_line())

    def settle(self) -> None:
        """Before a checkpoint, which must not know of epochs that the curves have lost. Raises OSError."""
        self._lines.sync()
