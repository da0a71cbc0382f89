"""Block matching and collaborative filtering, of the package `bm3d`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import numpy as np
import pydantic

from methods.denoisers.contract import Picture, PictureDenoiser


class Bm3d(PictureDenoiser):
    """BM3D (Dabov, Foi, Katkovnik and Egiazarian 2007) as its authors distribute it: the group `denoise`."""

    told: Annotated[float, pydantic.Field(gt=0)] = 1.0
    """The standard deviation that it is told, in those of the noise: all that there is to tune."""

    @pydantic.model_validator(mode="after")
    def _installed(self) -> Bm3d:
        if find_spec("bm3d") is None:
            raise ValueError("bm3d is not installed: pip install bm3d (the group `denoise`)")
        return self

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        from bm3d import bm3d

        return np.asarray(bm3d(noisy, sigma_psd=self.told * sigma), dtype=np.float64)
