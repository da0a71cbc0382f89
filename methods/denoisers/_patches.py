"""Overlapping patches of a picture, and the picture that is their mean."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from methods.denoisers.contract import Picture

Patches = Float[np.ndarray, "patches n"]


def corners(length: int, side: int, stride: int) -> np.ndarray:
    """Where patches begin along one side; the last one ends with the picture, whatever the stride."""
    return np.unique(np.append(np.arange(0, length - side + 1, stride), length - side))


def patches(picture: Picture, side: int, stride: int) -> Patches:
    """Every patch of side x side pixels whose corner is on the grid, rows joined.

    Raises ValueError for a picture smaller than one patch.
    """
    if min(picture.shape) < side:
        raise ValueError(f"a picture of {picture.shape[0]} x {picture.shape[1]} has no patch of {side} x {side} pixels")
    rows, columns = (corners(length, side, stride) for length in picture.shape)
    return sliding_window_view(picture, (side, side))[np.ix_(rows, columns)].reshape(-1, side * side)


def averaged(own: Patches, shape: tuple[int, ...], side: int, stride: int) -> Picture:
    """The picture whose every pixel is the mean of the patches that hold it."""
    rows, columns = (corners(length, side, stride) for length in shape)
    blocks = own.reshape(len(rows), len(columns), side, side)
    total, count = np.zeros(shape), np.zeros(shape)
    for i in range(side):
        for j in range(side):
            at = np.ix_(rows + i, columns + j)
            total[at] += blocks[:, :, i, j]
            count[at] += 1.0
    return total / count
