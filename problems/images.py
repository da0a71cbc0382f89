"""Patches of real pictures, grey values in [0, 1].

Without a folder the pictures are those that scikit-image ships. The public test sets are not shipped (their licences):
BSD68, Set12 and Train400 come with the DnCNN code (github.com/cszn/DnCNN), Urban100 with SelfExSR
(github.com/jbhuang0604/SelfExSR). Point `folder` at a copy: every PNG or JPEG in it is read, in the order of the names.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

BUNDLED = ("camera", "brick", "grass", "gravel", "moon", "coins")


@cache
def pictures(folder: str | None) -> tuple[Float[np.ndarray, "height width"], ...]:
    """The pictures of a folder, or the bundled ones. Raises ValueError where the folder holds none."""
    from skimage import data
    from skimage.color import rgb2gray
    from skimage.io import imread
    from skimage.util import img_as_float64

    if folder is None:
        return tuple(img_as_float64(getattr(data, name)()) for name in BUNDLED)
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    if not paths:
        raise ValueError(f"folder '{folder}' holds no PNG or JPEG picture: problems/images.py says where the sets are")
    read = (imread(path) for path in paths)
    return tuple(img_as_float64(rgb2gray(x[..., :3]) if x.ndim == 3 else x) for x in read)


def patch(side: int, folder: str | None, rng: Generator) -> Float[np.ndarray, " n"]:
    """One square patch at a random place of a random picture, its rows joined. Raises ValueError if none fits."""
    return crop(side, side, folder, rng)


def crop(height: int, width: int, folder: str | None, rng: Generator) -> Float[np.ndarray, " n"]:
    """One patch of that size at a random place of a random picture, its rows joined. Raises ValueError if none fits."""
    fitting = [picture for picture in pictures(folder) if picture.shape[0] >= height and picture.shape[1] >= width]
    if not fitting:
        raise ValueError(f"no picture has room for a patch of {height} x {width} pixels")
    picture = fitting[rng.integers(len(fitting))]
    row, column = (rng.integers(of - cut + 1) for of, cut in zip(picture.shape, (height, width), strict=True))
    return picture[row : row + height, column : column + width].ravel().copy()
