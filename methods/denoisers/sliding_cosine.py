"""Soft thresholding in the cosine transform of overlapping patches."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pydantic
from scipy.fft import dctn, idctn

from methods.denoisers._patches import averaged, patches
from methods.denoisers.contract import Picture, PictureDenoiser


class SlidingCosine(PictureDenoiser):
    """C^T S_w(C P_j y) on every patch, C the orthonormal two-dimensional DCT, its constant atom left alone; then the
    mean of the patches at every pixel: what `patch_transform` is at W = w C.

    The threshold is w = threshold * sigma. Time: O(patches n log n).
    """

    side: Annotated[int, pydantic.Field(ge=2)] = 8
    stride: Annotated[int, pydantic.Field(ge=1)] = 1
    threshold: Annotated[float, pydantic.Field(ge=0)] = 1.5
    """In standard deviations of the noise."""

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        own = patches(noisy, self.side, self.stride).reshape(-1, self.side, self.side)
        coefficients = dctn(own, norm="ortho", axes=(1, 2))
        kept = np.sign(coefficients) * np.maximum(np.abs(coefficients) - self.threshold * sigma, 0.0)
        kept[:, 0, 0] = coefficients[:, 0, 0]
        shrunk = idctn(kept, norm="ortho", axes=(1, 2)).reshape(len(own), -1)
        return averaged(shrunk, noisy.shape, self.side, self.stride)
