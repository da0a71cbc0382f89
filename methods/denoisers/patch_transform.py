"""A learned transform on the overlapping patches of a picture."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic
from jaxtyping import Float

from methods.denoisers._analysis import denoised
from methods.denoisers._patches import averaged, patches
from methods.denoisers.contract import Picture, PictureDenoiser


class PatchTransform(PictureDenoiser):
    """Each patch x_j = argmin c/2 ||x - P_j y||^2 + ||w W x||_1, then the mean of the patches at every pixel (BLORC,
    journal, Section 5.2; readings.md J.18 to J.20), all patches in one batch of the exact solver.

    W is what `learn` has saved, several of them stacked: three transforms of 64 x 64 make one of 192 x 64. The paper
    prints the patch problem without the half (c = 2), which is W / 2 with it (readings.md X.1). The mean of a patch is
    kept apart where `centred`: a W learned on patches about their mean knows nothing of it.

    Time: O(patches) exact solves of n = side^2 unknowns. Memory: O(patches (n + k)). Where the stacked W has more rows
    than n, dependent rows on the cosupport are common: x* is unique all the same.
    """

    files: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    """`theta.npz` files of `learn`, whose arrays W are stacked; every W has side^2 columns."""
    weight: Annotated[float, pydantic.Field(gt=0)] = 1.0
    """w: 1 as learned; another noise level, or a stack of several, asks for another."""
    stride: Annotated[int, pydantic.Field(ge=1)] = 1
    fidelity: Literal["half", "full"] = "half"
    """Whether the data term has its half, as for W's learning."""
    centred: bool = False

    @pydantic.model_validator(mode="after")
    def _readable(self) -> PatchTransform:
        """Before anything is denoised: learning what is missing takes longer than saying so."""
        assert len(self.W)
        return self

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def W_sha256(self) -> str:
        """Of the stack, whatever its files are called: a parameter to be recorded with the others."""
        return hashlib.sha256(self.W.tobytes()).hexdigest()

    @cached_property
    def W(self) -> Float[np.ndarray, "k n"]:
        """The stack. Raises ValueError where a file has no W, or not one for square patches of one size."""
        parts = [_read(Path(file)) for file in self.files]
        columns = {part.shape[1] for part in parts}
        side = round(np.sqrt(min(columns)))
        if columns != {side * side}:
            raise ValueError(f"transforms of {sorted(columns)} columns cannot be stacked for square patches")
        return np.concatenate(parts)

    @property
    def side(self) -> int:
        """Pixels along a side of a patch."""
        return round(np.sqrt(self.W.shape[1]))

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        """`sigma` is not used: W knows the noise that it was learned for."""
        del sigma
        own = patches(noisy, self.side, self.stride)
        mean = own.mean(1, keepdims=True) if self.centred else 0.0
        scale = self.weight * (1.0 if self.fidelity == "half" else 0.5)
        return averaged(denoised(scale * self.W, own - mean) + mean, noisy.shape, self.side, self.stride)


def _read(file: Path) -> Float[np.ndarray, "k n"]:
    if not file.is_file():
        raise ValueError(f"there is no {file}: `python -m bench learn CONFIG --out FOLDER` makes one for each training")
    try:
        with np.load(file, allow_pickle=False) as stored:
            W = np.asarray(stored["W"])
    except Exception as error:  # numpy and zipfile raise anything on a file that is damaged, or no archive
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{file} holds no transform W: point it at the theta.npz of a learn folder ({why})") from None
    if W.ndim != 2 or not W.size or W.dtype.kind not in "fiu" or not np.isfinite(W).all():
        has = f"{W.dtype} of shape {W.shape}"
        raise ValueError(f"{file}: W must be a matrix of finite numbers, one row at least; it is {has}")
    return W.astype(np.float64)
