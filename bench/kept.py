"""What a run's folder keeps of the gradients themselves: the first of each cell, and the reference of the first pair.

Format: .npz, nothing pickled.

    gradients/CELL.npz        `dL_dW` for each part W of theta, in its shape and in double precision: of the cell's
                              first call, where that is one pair whose reference has coordinates (8192 at most)
    references/SHA-KIND.npz   `bench/reference.py`'s file of the first pair of the instance with that `input_sha256`:
                              `values`, `bars`, `usable`, `kink`, ..., theta's parts one after another; `rest` is JSON.
                              KIND is `coordinates` or `directions`

They serve pictures alone: a file that is missing, of a cell beyond MOST_BYTES or of an older run, costs no row.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from bench.whole_file import copy_whole, make_folder

if TYPE_CHECKING:
    from bench.record import Record

FIRST_GRADIENT = "first_gradient.npz"
"""In the folder of the worker that computed it."""
GRADIENTS, REFERENCES = "gradients", "references"
KINDS = ("coordinates", "directions")
MOST_BYTES = 64 * 2**20
"""Of both folders together; what comes later is left out. 64 KiB is the largest gradient's file."""
_ONE_AT_A_TIME = threading.Lock()
"""Cells of one instance that are measured side by side keep the same reference, and all of them count the bytes."""


def gradient_file(cell_id: str) -> Path:
    """In the run's folder."""
    return Path(GRADIENTS, f"{cell_id}.npz")


def reference_file(input_sha256: str, kind: str) -> Path:
    """In the run's folder; `kind` is one of KINDS."""
    return Path(REFERENCES, f"{input_sha256}-{kind}.npz")


def files_of(record: Record) -> list[Path]:
    """Those that a cell's run may have left."""
    return [gradient_file(record.cell_id), *(reference_file(record.input_sha256 or "", kind) for kind in KINDS)]


def keep(source: Path, run: Path, name: Path) -> None:
    """A copy in the run's folder, as a whole, in place of an earlier one; none where the folders are full."""
    target = run / name
    with _ONE_AT_A_TIME:
        others = (file for folder in (GRADIENTS, REFERENCES) for file in (run / folder).glob("*.npz") if file != target)
        if source.stat().st_size + sum(file.stat().st_size for file in others) > MOST_BYTES:
            return
        make_folder(target.parent)
        copy_whole(source, target)


def forget(run: Path, cell_id: str) -> None:
    """The gradient of a cell that is measured again."""
    (run / gradient_file(cell_id)).unlink(missing_ok=True)
