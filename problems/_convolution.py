"""Circular convolution of pictures with small filters, and its adjoint in either factor.

A picture of h x w pixels is a row of N = h w numbers, a filter of fh x fw taps a row of S = fh fw. A one-dimensional
signal is a picture of one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class CircularConvolution:
    """(c * x)[i] = sum_s c[s] x[i - s], indices modulo h and w: C(c) is circulant, c and zeros its first column.

    Each product is one matrix product with the S shifted copies of a picture: K S N multiplications for K filters, and
    S N + K N numbers per sample. With 5 x 5 filters that is 4 to 8 times faster than by FFT, whose cost is in the 2 K
    transforms of K N numbers. On CUDA `adjoint_in_x` adds in no fixed order: calls agree to rounding, not bit by bit.
    """

    shifts: Int[Tensor, "S N"]
    """shifts[s, i] is the pixel i - s."""

    @classmethod
    def of(cls, shape: tuple[int, int], size: tuple[int, int]) -> CircularConvolution:
        """For pictures of that shape and filters of that size."""
        rows, columns = (
            (torch.arange(pixels) - torch.arange(taps)[:, None]) % pixels
            for pixels, taps in zip(shape, size, strict=True)
        )
        return cls((rows[:, None, :, None] * shape[1] + columns[None, :, None, :]).flatten(2).flatten(0, 1))

    def responses(self, c: Float[Tensor, "K S"], x: Float[Tensor, "b N"]) -> Float[Tensor, "b K N"]:
        """c_k * x for every filter."""
        return c @ x[:, self.shifts]

    def adjoint_in_x(self, c: Float[Tensor, "K S"], z: Float[Tensor, "b K N"]) -> Float[Tensor, "b N"]:
        """sum_k C(c_k)^T z_k."""
        shifted = (c.T @ z).flatten(1)
        return shifted.new_zeros(z.shape[0], self.shifts.shape[1]).index_add(1, self.shifts.flatten(), shifted)

    def adjoint_in_c(self, z: Float[Tensor, "b K N"], x: Float[Tensor, "b N"]) -> Float[Tensor, "K S"]:
        """sum_i z_k[i] x[i - s], summed over the batch."""
        return (z @ x[:, self.shifts].mT).sum(0)
