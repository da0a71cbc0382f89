"""Total variation of scikit-image."""

from __future__ import annotations

from typing import Annotated

import pydantic

from methods.denoisers.contract import Picture, PictureDenoiser


class TotalVariation(PictureDenoiser):
    """min 1/2 ||x - y||^2 + w TV(x), isotropic, by Chambolle's projection (2004) as scikit-image has it.

    The weight is w = weight * sigma. `change` is that of its energy at which it stops.
    """

    weight: Annotated[float, pydantic.Field(gt=0)] = 1.0
    """In standard deviations of the noise."""
    change: Annotated[float, pydantic.Field(gt=0)] = 1e-5
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 1000

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        from skimage.restoration import denoise_tv_chambolle

        steps = self.max_steps
        return denoise_tv_chambolle(noisy, weight=self.weight * sigma, eps=self.change, max_num_iter=steps)
