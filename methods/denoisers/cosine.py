"""The standard transform for smooth signals: soft thresholding in the discrete cosine transform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.fft import dct, idct

from methods.denoisers._analysis import tuned
from methods.denoisers.contract import SignalDenoiser, Signals


class Cosine(SignalDenoiser):
    """x*(w C), C the orthonormal DCT-II: x* = C^T S_w(C y), S_w the soft threshold, as C C^T = I (readings.md J.26).

    The weight has the least squared error on the training pairs. Time: O(n log n) per signal.
    """

    one_dimensional = True

    def fit(self, clean: Signals, noisy: Signals) -> Callable[[Signals], Signals]:
        """Tunes the threshold."""
        weight = tuned(lambda w: _shrunk(noisy, w), clean)
        return lambda signals: _shrunk(signals, weight)


def _shrunk(signals: Signals, weight: float) -> Signals:
    coefficients = dct(signals, norm="ortho", axis=1)
    kept = np.sign(coefficients) * np.maximum(np.abs(coefficients) - weight, 0.0)
    return np.asarray(idct(kept, norm="ortho", axis=1))
