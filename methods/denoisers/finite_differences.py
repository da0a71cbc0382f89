"""The standard transform for piecewise-constant signals: first differences with a tuned weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from methods.denoisers._analysis import denoised, tuned
from methods.denoisers.contract import SignalDenoiser, Signals


class FiniteDifferences(SignalDenoiser):
    """x*(w W), W the n - 1 first differences: one-dimensional total variation, solved exactly by the taut string.

    The standard transform of BLORC's experiments (journal, Section 5.1; readings.md J.14, X.14): the paper does not say
    how its weight was chosen; here it has the least squared error on the training pairs. Time: O(n) per signal.
    """

    one_dimensional = True

    def fit(self, clean: Signals, noisy: Signals) -> Callable[[Signals], Signals]:
        """Tunes the weight."""
        W = np.diff(np.eye(clean.shape[1]), axis=0)
        weight = tuned(lambda w: denoised(w * W, noisy), clean)
        return lambda signals: denoised(weight * W, signals)
