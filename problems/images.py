"""Patches of real pictures, grey values in [0, 1], and of striped ones.

Without a folder the pictures are those that scikit-image ships. The public test sets are not shipped (their licences):
BSD68, Set12 and Train400 come with the DnCNN code (github.com/cszn/DnCNN), Urban100 with SelfExSR
(github.com/jbhuang0604/SelfExSR). Point `folder` at a copy: every picture in it is read, in the order of the names.
`problems/_picture_files.py` says what becomes of colours, transparency and depth.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator

from problems._picture_files import SUFFIXES, read_grey
from problems.registry import nearest

BUNDLED = ("camera", "brick", "grass", "gravel", "moon", "coins")
"""What a folder that is left out holds."""
ALSO_BUNDLED = ("page", "text", "clock", "cell")
"""Those of scikit-image that are there by their names alone."""
STRIPED = {"stripes_vertical": (0, 1), "stripes_diagonal": (1, 1)}
"""Made pictures, by how far a row and a column lead across the stripes (BLORC, journal, Section 5.2)."""
STRIPED_PIXELS, STRIPE_PIXELS = 256, 5
"""Along a side of such a picture, and of a row within one stripe; the paper gives the first alone (U.11). Two stripes
are 10 pixels: patches at a stride of 7 meet every phase of them."""


def names(folder: str | None) -> list[str]:
    """Of the pictures of a folder, or of the bundled ones. Raises ValueError for no folder, and for one without any."""
    if folder is None:
        return list(BUNDLED)
    if not Path(folder).is_dir():
        wrong = "is a file, not a folder of pictures" if Path(folder).exists() else "does not exist"
        raise ValueError(f"folder '{folder}' {wrong}")
    found = sorted(
        path.name for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES and not path.is_dir()
    )
    if not found:
        known = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
        raise ValueError(f"folder '{folder}' holds no picture ({known}): problems/images.py says where the sets are")
    return found


def picture(name: str, folder: str | None) -> Float[np.ndarray, "height width"]:
    """One of `names`, of those that are bundled besides, or a striped one. Raises ValueError where there is none."""
    if name in STRIPED:
        return _stripes(*STRIPED[name])
    known = [*BUNDLED, *ALSO_BUNDLED, *STRIPED] if folder is None else names(folder)
    if name not in known:
        where = "bundled" if folder is None else f"in folder '{folder}'"
        raise ValueError(f"no picture '{name}' is {where}: {nearest(name, known)}")
    return _read(name, folder)


@cache
def pictures(folder: str | None) -> tuple[Float[np.ndarray, "height width"], ...]:
    """The pictures of a folder, or the bundled ones. Raises ValueError where the folder holds none."""
    return tuple(_read(name, folder) for name in names(folder))


def _read(name: str, folder: str | None) -> Float[np.ndarray, "height width"]:
    if folder is not None:
        return read_grey(Path(folder) / name)
    from skimage import data
    from skimage.util import img_as_float64

    return img_as_float64(getattr(data, name)())


def _stripes(down: int, along: int) -> Float[np.ndarray, "height width"]:
    row, column = np.indices((STRIPED_PIXELS, STRIPED_PIXELS))
    return ((down * row + along * column) // STRIPE_PIXELS % 2).astype(np.float64)


def patch(side: int, folder: str | None, rng: Generator) -> Float[np.ndarray, " n"]:
    """One square patch at a random place of a random picture, its rows joined. Raises ValueError if none fits."""
    return crop(side, side, folder, rng)


def crop(height: int, width: int, folder: str | None, rng: Generator) -> Float[np.ndarray, " n"]:
    """One patch of that size at a random place of a random one of the pictures that are large enough, its rows joined.

    Raises ValueError where none is.
    """
    fitting = [picture for picture in pictures(folder) if picture.shape[0] >= height and picture.shape[1] >= width]
    if not fitting:
        sizes = (
            f"{name} has {x.shape[0]} x {x.shape[1]}" for name, x in zip(names(folder), pictures(folder), strict=True)
        )
        raise ValueError(f"no picture has room for a patch of {height} x {width} pixels: {', '.join(sizes)}")
    picture = fitting[rng.integers(len(fitting))]
    row, column = (rng.integers(of - cut + 1) for of, cut in zip(picture.shape, (height, width), strict=True))
    return picture[row : row + height, column : column + width].ravel().copy()


def grid_patches(
    of: Float[np.ndarray, "height width"], side: int, stride: int, count: int, rng: Generator
) -> Float[np.ndarray, "count n"]:
    """So many of the square patches whose corners are `stride` pixels apart, their rows joined, none of them twice.

    More of them extend fewer. Raises ValueError where there are not so many.
    """
    height, width = of.shape
    there = max(0, (height - side) // stride + 1) * max(0, (width - side) // stride + 1)
    if count > there:
        cut = f"{side} x {side} pixels, stride {stride}"
        raise ValueError(f"a picture of {height} x {width} has {there} patches ({cut}), not {count} pairs: use fewer")
    grid = sliding_window_view(of, (side, side))[::stride, ::stride].reshape(there, side * side)
    return grid[rng.permutation(there)[:count]]
