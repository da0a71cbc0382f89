"""A picture's file as grey values between 0, black, and 1, white: as a viewer shows it, or refused by its name.

- Colours become grey by Pillow's `convert("L")`: (19595 R + 38470 G + 7471 B + 32768) >> 16 of 8-bit values, which is
  ITU-R 601's 0.299 R + 0.587 G + 0.114 B, rounded. All are integers: every machine has the same grey values.
- CMYK, palettes and the like become RGB first, by Pillow's own conversions. Colour profiles and gamma are not applied.
- What is transparent lies on white, the page that viewers show it on.
- The picture stands upright: the orientation that a camera has noted (EXIF) is applied.
- 16-bit grey keeps its depth. Of 16-bit colours Pillow reads the upper 8 bits.
- Floats are grey values, and must be in [0, 1]. Integers of 32 bits are refused: no file says which of them is white.
- A file of several pictures (an animation, pages) is refused; of a camera's JPEG with previews it is the first.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps, TiffImagePlugin

Picture = Float[np.ndarray, "height width"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Of the files that are taken for pictures, in small letters."""
PHOTOMETRIC, BITS_PER_SAMPLE = 262, 258
"""Tags of a TIFF file. A photometric interpretation of 0 has white at 0."""


def read_grey(path: Path) -> Picture:
    """Raises ValueError, one line that names the file, where it is damaged, too large or no picture of a known kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the file says beside its pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # 90 million pixels: 0.7 GB here
            # Opened here, as Pillow 13 scrambles a TIFF that lies on its side where it is given the file's name.
            with open(path, "rb") as file, Image.open(file) as image:
                return _grey(image)
    except Exception as error:  # a decoder that meets any bytes raises anything
        raise ValueError(f"picture {path} cannot be read: {' '.join(str(error).split())}") from None


def _grey(image: Image.Image) -> Picture:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"it holds {frames} pictures: save the one that is meant in a file of its own")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or upright.mode == "F":
        return _deep(upright, image)
    if upright.mode == "I":
        raise ValueError(
            "its grey values are integers of 32 bits, and no file says which is white: save it with 16 or 8"
        )
    if upright.has_transparency_data:
        page = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(page, upright.convert("RGBA"))
    if upright.mode not in ("1", "L"):
        upright = upright.convert("RGB")
    return np.asarray(upright.convert("L")) * (1 / 255)  # as scikit-image has it, whose results are recorded


def _deep(upright: Image.Image, file: Image.Image) -> Picture:
    """16-bit or floating-point grey, which Pillow hands over as the file has them."""
    if upright.has_transparency_data:
        raise ValueError("it has a transparent grey value of 16 bits: save it without transparency")
    x = np.asarray(upright).astype(np.float64)
    tags = file.tag_v2 if isinstance(file, TiffImagePlugin.TiffImageFile) else {}
    if upright.mode != "F":
        (bits,) = tags.get(BITS_PER_SAMPLE, (16,))
        x *= 1 / (2**bits - 1)
    if not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"its grey values are between {x.min():g} and {x.max():g}: scale them to between 0 and 1")
    return 1 - x if tags.get(PHOTOMETRIC, 1) == 0 else x
