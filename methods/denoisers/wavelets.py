"""Wavelet thresholding of scikit-image."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pydantic

from methods.denoisers.contract import Picture, PictureDenoiser
from problems.registry import nearest


class Wavelets(PictureDenoiser):
    """Soft thresholds in an orthogonal wavelet transform, BayesShrink's own for each subband (Chang, Yu and Vetterli
    2000) or one for all (`weight` standard deviations), as scikit-image has it; averaged over shifts of the picture.
    """

    wavelet: str = "db2"
    rule: Literal["BayesShrink", "VisuShrink"] = "BayesShrink"
    shifts: Annotated[int, pydantic.Field(ge=0)] = 3
    """Along each side, up to so many pixels."""

    @pydantic.model_validator(mode="after")
    def _installed(self) -> Wavelets:
        try:
            from pywt import wavelist
        except ImportError:
            raise ValueError("wavelets need PyWavelets: pip install PyWavelets (the group `denoise`)") from None
        if self.wavelet not in (known := wavelist(kind="discrete")):
            raise ValueError(f"there is no wavelet '{self.wavelet}': {nearest(self.wavelet, known)}")
        return self

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        from skimage.restoration import denoise_wavelet

        total = np.zeros_like(noisy)
        for shift in np.ndindex(self.shifts + 1, self.shifts + 1):
            shifted = np.roll(noisy, shift, axis=(0, 1))
            thresholded = denoise_wavelet(
                shifted, sigma=sigma, wavelet=self.wavelet, method=self.rule, rescale_sigma=False
            )
            total += np.roll(thresholded, (-shift[0], -shift[1]), axis=(0, 1))
        return total / (self.shifts + 1) ** 2
