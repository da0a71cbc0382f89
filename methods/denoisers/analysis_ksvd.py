"""Analysis K-SVD: an analysis dictionary learned from the noisy picture itself."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import pydantic
import torch
from jaxtyping import Bool, Float
from scipy.linalg import null_space
from torch import Tensor

from methods.denoisers._patches import averaged, patches
from methods.denoisers.contract import Picture, PictureDenoiser

CHUNK = 4096
"""Patches coded at a time: n^2 numbers each."""
ROUNDING = 1e-9
"""Relative size of w_j^T x up to which it is zero."""

SAME = 0.995
"""Cosine above which two rows are one."""


class AnalysisKsvd(PictureDenoiser):
    """Rubinstein, Peleg and Elad, "Analysis K-SVD: a dictionary-learning algorithm for the analysis sparse model", IEEE
    Transactions on Signal Processing, 2013; what BLORC is held against on pictures (readings.md J.21).

    Of patches y_i about their mean it learns unit rows w_j, and cosupports L_i with w_j^T x_i = 0 for j in L_i:

    - backward greedy coding: from x = y, ever the row with the smallest |w_j^T x| joins the cosupport and is projected
      out, as long as ||x - y|| <= gain sqrt(n) sigma;
    - row update: w_j is the direction in which the patches that have j in their cosupport vary least, the last left
      singular vector of those y_i. A row that too few patches have, or that another row is already, is drawn anew,
      orthogonal to random patches.

    The picture is the mean of its coded patches. Time: O(r (k n + n r)) per patch and coding, r the rank of its
    cosupport; `iterations` codings of `training` patches and one of all. Not convex: it depends on its seed.
    """

    side: Annotated[int, pydantic.Field(ge=2)] = 8
    rows: Annotated[int, pydantic.Field(ge=1)] = 128
    """k, twice the pixels of a patch in the paper's pictures."""
    training: Annotated[int, pydantic.Field(ge=100)] = 10_000
    iterations: Annotated[int, pydantic.Field(ge=1)] = 20
    gain: Annotated[float, pydantic.Field(gt=0)] = 1.15
    stride: Annotated[int, pydantic.Field(ge=1)] = 1
    seed: Annotated[int, pydantic.Field(ge=0)] = 0

    def denoise(self, noisy: Picture, sigma: float) -> Picture:
        own = patches(noisy, self.side, self.stride)
        mean = own.mean(1, keepdims=True)
        # Coordinates about the mean: the constant row is orthogonal to every patch, and all rows would become it.
        about = null_space(np.ones((1, own.shape[1])))
        y = torch.from_numpy(own @ about)
        radius = self.gain * self.side * sigma
        rng = np.random.default_rng(self.seed)
        chosen = rng.permutation(len(y))[: self.training]
        W = self._learned(y[torch.from_numpy(chosen)], radius, rng)
        coded = torch.cat([code(W, chunk, radius)[0] for chunk in _chunks(y)]).numpy()
        return averaged(coded @ about.T + mean, noisy.shape, self.side, self.stride)

    def _learned(self, y: Float[Tensor, "b n"], radius: float, rng: np.random.Generator) -> Float[Tensor, "k n"]:
        W = torch.stack([_between(y, rng) for _ in range(self.rows)])
        for _ in range(self.iterations):
            on = torch.cat([code(W, chunk, radius)[1] for chunk in _chunks(y)])
            for j in range(self.rows):
                members = y[on[:, j]]
                W[j] = _between(y, rng) if len(members) < y.shape[1] else _least_varying(members)
                if float((W[:j] @ W[j]).abs().max() if j else 0.0) > SAME:
                    W[j] = _between(y, rng)
        return W


def _chunks(y: Float[Tensor, "b n"]) -> list[Float[Tensor, "chunk n"]]:
    return [y[start : start + CHUNK] for start in range(0, len(y), CHUNK)]


def code(
    W: Float[Tensor, "k n"], y: Float[Tensor, "b n"], radius: float
) -> tuple[Float[Tensor, "b n"], Bool[Tensor, "b k"]]:
    """The coded patches and their cosupports, by the backward greedy rule."""
    b, n = y.shape
    coded = y.clone()
    # Of those that are not settled yet; settled ones are taken out when they are a quarter, not one by one: the bases
    # are most of what there is to move.
    at, y_at, x = torch.arange(b), y, y.clone()
    basis, going = y.new_zeros(b, n, n), torch.ones(b, dtype=torch.bool)
    for step in range(n):
        products = (x @ W.T).abs()
        spanned = products <= ROUNDING * y_at.norm(dim=1, keepdim=True)  # orthogonal to x already: no step
        q, known = W[products.masked_fill(spanned, math.inf).argmin(1)], basis[:, :step]
        for _ in range(2):  # the second time takes away what rounding left
            q = q - ((q[:, None] @ known.mT) @ known)[:, 0]
        q = q / q.norm(dim=1, keepdim=True)
        moved = x - (q * x).sum(1, keepdim=True) * q
        going &= (moved - y_at).norm(dim=1) <= radius
        x, basis[:, step] = torch.where(going[:, None], moved, x), q
        if 4 * int(going.sum()) <= 3 * len(going):
            coded[at] = x
            at, y_at, x, basis, going = at[going], y_at[going], x[going], basis[going], going[going]
        if not len(at):
            break
    coded[at] = x
    return coded, (coded @ W.T).abs() <= ROUNDING * y.norm(dim=1, keepdim=True)


def _between(y: Float[Tensor, "b n"], rng: np.random.Generator) -> Float[Tensor, " n"]:
    """The direction that one fewer random patches than there are dimensions do not have."""
    some = torch.from_numpy(rng.permutation(len(y))[: y.shape[1] - 1])
    return _least_varying(y[some])


def _least_varying(members: Float[Tensor, "b n"]) -> Float[Tensor, " n"]:
    return torch.linalg.eigh(members.T @ members)[1][:, 0]
