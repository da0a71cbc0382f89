"""The pictures that a folder of `denoise` keeps."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from bench.own_files import read_own


def kept_picture(path: Path) -> Image.Image | None:
    """8 bit grey; None where the file is missing, or damaged, which is said."""
    return read_own(path, _decoded)


def _decoded(path: Path) -> Image.Image:
    text = path.read_bytes()
    try:
        picture = Image.open(BytesIO(text))
        picture.load()
    except Exception as error:  # SyntaxError, OSError and others, by what of the file is torn
        raise ValueError(f"{path}: no picture") from error
    return picture
