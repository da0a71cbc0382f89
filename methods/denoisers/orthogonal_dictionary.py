"""An orthogonal analysis dictionary learned without supervision, as BLORC is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import pydantic
from jaxtyping import Float

from methods.denoisers._analysis import tuned
from methods.denoisers.contract import SignalDenoiser, Signals


class OrthogonalDictionary(SignalDenoiser):
    """min over orthogonal W of sum_t ||W x_t||_1 on clean signals (BLORC, journal, Section 5.1; readings.md J.15).

    ADMM on z_t = W x_t, with the scaled dual v_t:

        z_t <- S_{1/rho}(W x_t - v_t)      W <- U V^T, the singular vectors of sum_t (z_t + v_t) x_t^T (Procrustes)
        v_t <- v_t + z_t - W x_t

    The set of orthogonal matrices is not convex: it ends in a stationary point that depends on its start, W = I. The
    weight w of x*(w W) = W^T S_w(W y) then has the least squared error on the training pairs, of which only the clean
    signals are used for W. Time: an SVD, O(n^3), and O(T n^2) a step.
    """

    signals: Annotated[int, pydantic.Field(ge=1)] = 100
    """T: how many of the clean signals W is learned from."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 2000
    rho: Annotated[float, pydantic.Field(gt=0)] = 30.0
    """Penalty, for signals of peak 1; the paper does not state one."""

    def fit(self, clean: Signals, noisy: Signals) -> Callable[[Signals], Signals]:
        """Learns W from the first clean signals, then tunes the weight on all pairs."""
        W = self.learned(clean[: self.signals])
        weight = tuned(lambda w: _shrunk(noisy, W, w), clean)
        return lambda signals: _shrunk(signals, W, weight)

    def learned(self, clean: Signals) -> Float[np.ndarray, "n n"]:
        """W, orthogonal to rounding."""
        W = np.eye(clean.shape[1])
        v = np.zeros_like(clean)
        for _ in range(self.steps):
            z = _soft(clean @ W.T - v, 1.0 / self.rho)
            left, _, right = np.linalg.svd((z + v).T @ clean)
            W = left @ right
            v += z - clean @ W.T
        return W


def _soft(values: np.ndarray, threshold: float) -> np.ndarray:
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0.0)


def _shrunk(signals: Signals, W: Float[np.ndarray, "n n"], weight: float) -> Signals:
    return _soft(signals @ W.T, weight) @ W
