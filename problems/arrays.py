"""Arrays by their names from a .npz file, nothing unpickled; whatever else a file may hold, one error says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Raises OSError where it cannot be read, and ValueError where it is no whole .npz file of plain arrays."""
    text = path.read_bytes()
    try:
        stored = np.load(io.BytesIO(text), allow_pickle=False)
        if not isinstance(stored, NpzFile):
            raise ValueError("it holds one array without a name")
        with stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy, zipfile and zlib each have several for a file that is torn
        reason = " ".join(str(error).split()) if text else "it is empty"
        raise ValueError(f"{path}: not a whole .npz file of plain arrays: {reason}") from error
