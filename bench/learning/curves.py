"""Losses and PSNR against epochs and seconds: `curves.jsonl`, one line per epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bench.whole_file import write_whole

CURVES = "curves.jsonl"


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
        """JSON knows no infinity: those of a PSNR become null."""
        values = {name: _finite(value) for name, value in asdict(self).items()}
        return json.dumps(values) + "\n"


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None


def read(folder: Path) -> list[Point]:
    """Those of a run folder; a torn last line, or what else is no point, ends them."""
    path = folder / CURVES
    return list(_points(path.read_bytes())) if path.exists() else []


def _points(text: bytes) -> Iterator[Point]:
    for line in text.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                return
            yield Point(**json.loads(line))
        except (ValueError, TypeError):
            return


class Curves:
    """The file of a training that goes on after `epochs`: what was written of later ones is cut off."""

    def __init__(self, folder: Path, epochs: int) -> None:
        self._path = folder / CURVES
        self._keep([point for point in read(folder) if point.epoch <= epochs])
        self._lines = open(self._path, "ab")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.settle()
        self._lines.close()

    def append(self, point: Point) -> None:
        """Seen by readers at once, on the disk after `settle`."""
        self._lines.write(point.to_line().encode())
        self._lines.flush()

    def settle(self) -> None:
        """Before a checkpoint, which must not know of epochs that the curves have lost."""
        os.fsync(self._lines.fileno())

    def _keep(self, points: list[Point]) -> None:
        write_whole(self._path, "".join(point.to_line() for point in points))
