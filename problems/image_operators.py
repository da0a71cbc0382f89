"""Forward operators A of pictures, by products only.

A picture of h x w pixels is a row of N = h w numbers; a one-dimensional signal is a picture of one row.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.random import Generator
from torch import Tensor

from problems._portable import cosine, exponential, normal, product, sine, times, total

Shape = tuple[int, int]
Forward = Literal["identity", "mask", "blur", "fourier_random", "fourier_radial", "dense"]
SAMPLING = {"mask": 0.75, "fourier_random": 0.5, "dense": 1.5}
"""Measured pixels, frequencies or rows per pixel where nothing is said."""


class ForwardOperator(abc.ABC):
    """A: R^N -> R^m, real and linear."""

    @abc.abstractmethod
    def forward(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b m"]:
        """A x."""

    @abc.abstractmethod
    def data_of(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " m"]:
        """A x of one picture, to the same bits on every machine (`_portable.py`): what y is made of."""

    @abc.abstractmethod
    def adjoint(self, r: Float[Tensor, "b m"]) -> Float[Tensor, "b N"]:
        """A^T r."""

    @abc.abstractmethod
    def gram(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        """A^T A x."""

    @property
    @abc.abstractmethod
    def injective(self) -> bool:
        """Whether A has full column rank, to the precision in which it was built."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every number that defines it, by name."""


@dataclass(frozen=True)
class Identity(ForwardOperator):
    """A = I."""

    def forward(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return x

    def data_of(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        return x

    def adjoint(self, r: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return r

    def gram(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return x

    @property
    def injective(self) -> bool:
        return True

    def tensors(self) -> dict[str, Tensor]:
        return {}


@dataclass(frozen=True)
class Mask(ForwardOperator):
    """Some of the pixels: inpainting."""

    kept: Int[Tensor, " m"]
    pixels: int

    def forward(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b m"]:
        return x[:, self.kept]

    def data_of(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " m"]:
        return x[self.kept.numpy()]

    def adjoint(self, r: Float[Tensor, "b m"]) -> Float[Tensor, "b N"]:
        return r.new_zeros(r.shape[0], self.pixels).index_copy(1, self.kept, r)

    def gram(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return self.adjoint(self.forward(x))

    @property
    def injective(self) -> bool:
        return len(self.kept) == self.pixels

    def tensors(self) -> dict[str, Tensor]:
        return {"kept": self.kept}


@dataclass(frozen=True)
class Blur(ForwardOperator):
    """Circular convolution with an even kernel, whose spectrum is real: A = A^T. Two FFTs per product."""

    spectrum: Float[Tensor, "h half"]
    """Of the kernel, at the frequencies of `rfft2`."""
    down: Float[Tensor, " h"]
    across: Float[Tensor, " w"]
    """The kernel is the product of the two."""

    def forward(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return _filtered(x, self.spectrum, self.shape)

    def data_of(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        blurred = x.reshape(self.shape)
        for axis, taps in enumerate((self.down.numpy(), self.across.numpy())):
            sharp, blurred = blurred, np.zeros(self.shape)
            for shift in np.flatnonzero(taps):
                blurred += taps[shift] * np.roll(sharp, shift, axis)
        return blurred.ravel()

    def adjoint(self, r: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return _filtered(r, self.spectrum, self.shape)

    def gram(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return _filtered(x, self.spectrum * self.spectrum, self.shape)

    @property
    def shape(self) -> Shape:
        """Rows and columns of the pictures."""
        return len(self.down), len(self.across)

    @property
    def injective(self) -> bool:
        size = self.spectrum.abs()
        return float(size.min()) > math.prod(self.shape) * torch.finfo(size.dtype).eps * float(size.max())

    def tensors(self) -> dict[str, Tensor]:
        return {"spectrum": self.spectrum}


@dataclass(frozen=True)
class SubsampledFourier(ForwardOperator):
    """Some frequencies of the unitary Fourier transform of a real picture: magnetic resonance imaging with one coil.

    y holds the real parts of the measured frequencies, then the imaginary ones, so that R^2m has the inner product
    Re <., .> of C^m and A^T r = Re(F^H P^T r). One complex FFT per product, two real ones for A^T A, which multiplies
    frequency k by the mean of the mask at k and -k: a real picture has conjugate values there.
    """

    measured: Bool[Tensor, "h w"]
    """At the frequencies of `fft2`."""

    def forward(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b m"]:
        z = torch.fft.fft2(x.reshape(-1, *self.measured.shape), norm="ortho").flatten(1)[:, self._places]
        return torch.cat([z.real, z.imag], 1)

    def data_of(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " both"]:
        picture = x.reshape(self.measured.shape)
        (cos_down, sin_down), (cos_across, sin_across) = (_waves(pixels) for pixels in picture.shape)
        cos, sin = product(cos_down, picture), product(sin_down, picture)
        real = product(cos, cos_across) - product(sin, sin_across)
        imaginary = -(product(sin, cos_across) + product(cos, sin_across))
        places = self._places.numpy()
        return np.concatenate([real.ravel()[places], imaginary.ravel()[places]]) / math.sqrt(x.size)

    def adjoint(self, r: Float[Tensor, "b m"]) -> Float[Tensor, "b N"]:
        z = torch.complex(*r.chunk(2, 1))
        full = z.new_zeros(r.shape[0], self.measured.numel()).index_copy(1, self._places, z)
        return torch.fft.ifft2(full.reshape(-1, *self.measured.shape), norm="ortho").real.flatten(1)

    def gram(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        h, w = self.measured.shape
        return _filtered(x, self._mean_of_opposites[:, : w // 2 + 1].to(x.dtype), (h, w))

    @property
    def injective(self) -> bool:
        return bool((self._mean_of_opposites > 0).all())

    def tensors(self) -> dict[str, Tensor]:
        return {"measured": self.measured}

    @property
    def _places(self) -> Int[Tensor, " m"]:
        return self.measured.flatten().nonzero()[:, 0]

    @property
    def _mean_of_opposites(self) -> Float[Tensor, "h w"]:
        opposite = self.measured.flip(0, 1).roll((1, 1), (0, 1))
        return (self.measured.to(torch.float64) + opposite) / 2


@dataclass(frozen=True)
class Dense(ForwardOperator):
    """A as a matrix: m N multiplications per product, and as many numbers. Its columns are in general position."""

    A: Float[Tensor, "m N"]

    def forward(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b m"]:
        return x @ self.A.T

    def data_of(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " m"]:
        return times(self.A.numpy(), x)

    def adjoint(self, r: Float[Tensor, "b m"]) -> Float[Tensor, "b N"]:
        return r @ self.A

    def gram(self, x: Float[Tensor, "b N"]) -> Float[Tensor, "b N"]:
        return x @ self.A.T @ self.A

    @property
    def injective(self) -> bool:
        return self.A.shape[0] >= self.A.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        return {"A": self.A}


def mask(shape: Shape, sampling: float, rng: Generator) -> Mask:
    """That fraction of the pixels, one at least, at random."""
    pixels = math.prod(shape)
    kept = np.sort(rng.permutation(pixels)[: max(1, round(sampling * pixels))])
    return Mask(torch.from_numpy(kept), pixels)


def gaussian_blur(shape: Shape, deviation: float) -> Blur:
    """A sampled Gaussian of that standard deviation in pixels, wrapped round, of sum one."""
    down, across = (_gaussian(pixels, deviation) for pixels in shape)
    rows, columns = (times(_waves(len(taps))[0], taps) for taps in (down, across))
    spectrum = rows[:, None] * columns[: shape[1] // 2 + 1]
    return Blur(torch.from_numpy(spectrum), torch.from_numpy(down), torch.from_numpy(across))


def random_frequencies(shape: Shape, sampling: float, rng: Generator) -> SubsampledFourier:
    """That fraction of the frequencies, zero always among them, the others at random."""
    count = math.prod(shape)
    measured = np.zeros(count, dtype=bool)
    measured[np.append(0, 1 + rng.permutation(count - 1)[: round(sampling * count) - 1])] = True
    return SubsampledFourier(torch.from_numpy(measured.reshape(shape)))


def radial_frequencies(shape: Shape, spokes: int) -> SubsampledFourier:
    """Lines through frequency zero, their angles equidistant: the grid's points next to points a half cell apart."""
    radius = np.arange(-max(shape), max(shape) + 1) / 2
    turns = np.arange(spokes)[:, None] / (2 * spokes)
    rows, columns = (np.rint(radius * along).astype(int) for along in (sine(turns), cosine(turns)))
    h, w = shape
    inside = (-h <= 2 * rows) & (2 * rows < h) & (-w <= 2 * columns) & (2 * columns < w)
    measured = np.zeros(shape, dtype=bool)
    measured[rows[inside] % h, columns[inside] % w] = True
    return SubsampledFourier(torch.from_numpy(measured))


def gaussian_matrix(shape: Shape, sampling: float, rng: Generator) -> Dense:
    """Rows per pixel; independent N(0, 1/N) entries."""
    pixels = math.prod(shape)
    rows = max(1, round(sampling * pixels))
    return Dense(torch.from_numpy(normal(rng, (rows, pixels)) / math.sqrt(pixels)))


def _filtered(x: Float[Tensor, "b N"], spectrum: Float[Tensor, "h half"], shape: Shape) -> Float[Tensor, "b N"]:
    return torch.fft.irfft2(spectrum * torch.fft.rfft2(x.reshape(-1, *shape)), s=shape).flatten(1)


def _gaussian(pixels: int, deviation: float) -> Float[np.ndarray, " pixels"]:
    distance = np.minimum(np.arange(pixels), pixels - np.arange(pixels))
    kernel = exponential(-0.5 * (distance / deviation) ** 2)
    return kernel / total(kernel)


def _waves(pixels: int) -> tuple[Float[np.ndarray, "pixels pixels"], Float[np.ndarray, "pixels pixels"]]:
    """cos and sin of 2 pi i j / pixels."""
    turns, place = np.arange(pixels) / pixels, np.outer(np.arange(pixels), np.arange(pixels)) % pixels
    return cosine(turns)[place], sine(turns)[place]
