"""A learned transform on the overlapping patches of a picture."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic
from jaxtyping import Float

from methods.denoisers._analysis import denoised
from methods.denoisers._patches import averaged, patches
from methods.denoisers.contract import Picture, PictureDenoiser
from problems.arrays import read_arrays


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
        parts = [transform_of(Path(file)) for file in self.files]
        columns = {part.shape[1] for part in parts}
        side = round(np.sqrt(min(columns)))
        if columns != {side * side}:
            raise ValueError(
                f"transforms of {sorted(columns)} columns cannot be stacked: each needs side^2, of the same side"
            )
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


WANTED = "point it at the theta.npz of a learn folder, a matrix of finite numbers with one row at least"


def transform_of(file: Path) -> Float[np.ndarray, "k n"]:
    """W as `learn` has saved it. Raises ValueError, one line, where the file holds no such W."""
    if not file.is_file():
        raise ValueError(f"there is no {file}: `python -m bench learn CONFIG --out FOLDER` makes one for each training")
    try:
        W = read_arrays(file)["W"]
    except (OSError, ValueError):
        raise ValueError(f"{file} is not a whole .npz file of plain arrays: {WANTED}") from None
    except KeyError:
        raise ValueError(f"{file} holds no transform W: {WANTED}") from None
    if W.ndim != 2 or not W.size or W.dtype.kind not in "fiu" or not np.isfinite(W).all():
        raise ValueError(f"{file}: its W is {W.dtype} of shape {W.shape}, or not finite: {WANTED}")
    return W.astype(np.float64)


def picture_of(file: Path) -> str:
    """The picture that a transform was learned on; empty where its file does not say. Raises as `transform_of` does."""
    transform_of(file)
    try:
        return str(json.loads(str(read_arrays(file)["about"]))["problem"]["picture"])
    except (ValueError, KeyError, TypeError):
        return ""
