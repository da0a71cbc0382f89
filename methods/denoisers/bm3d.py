"""Block matching and collaborative filtering, of the package `bm3d`."""

from __future__ import annotations

import numpy as np

from methods.denoisers.contract import Picture, PictureDenoiser


class Bm3d(PictureDenoiser):
    """BM3D (Dabov, Foi, Katkovnik and Egiazarian 2007) as its authors distribute it: the group `denoise`."""

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        """Raises ValueError where the package is not installed."""
        try:
            from bm3d import bm3d
        except ImportError:
            raise ValueError("bm3d is not installed: pip install bm3d (the group `denoise`)") from None
        return np.asarray(bm3d(noisy, sigma_psd=sigma), dtype=np.float64)
