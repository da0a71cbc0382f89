"""Denoisers: of signals, which may be fitted to training pairs, and of pictures, whose noise level is known."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pydantic
from jaxtyping import Float

Signals = Float[np.ndarray, "b n"]
Picture = Float[np.ndarray, "height width"]


class SignalDenoiser(pydantic.BaseModel, abc.ABC):
    """Its fields are its parameters; what it learns is in the function that `fit` returns."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    one_dimensional: ClassVar[bool] = False
    """Whether it takes neighbours in a row for neighbours, which in the joined rows of a picture they are not."""

    @abc.abstractmethod
    def fit(self, clean: Signals, noisy: Signals) -> Callable[[Signals], Signals]:
        """The map from noisy signals to denoised ones, with what it has to choose chosen on these pairs."""


class PictureDenoiser(pydantic.BaseModel, abc.ABC):
    """Its fields are its parameters."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    @abc.abstractmethod
    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        """The picture without its noise, whose standard deviation is `sigma`, in the unit of the grey values."""
