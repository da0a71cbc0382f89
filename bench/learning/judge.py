"""The learned theta on held-out pairs, beside denoisers that were fitted to the pairs of the training."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from bench.learning.config import Experiment
from bench.learning.held_out import HeldOut
from bench.learning.outcome import LEARNED, NOISY, Psnr
from bench.learning.pairs import Pairs, psnr_db
from methods.denoisers.contract import Signals
from problems.contract import Measurement, Problem, Theta

MOST_FITTED = 1000
"""Training pairs that a denoiser is fitted to, the first ones; more move its one weight by less than its 1 %."""

Denoise = Callable[[Signals], Signals]


class Judge:
    """Keeps the fitted denoisers: a configuration with axes trains on the same pairs again and again."""

    def __init__(self) -> None:
        self._fitted: dict[tuple[str, str], Denoise] = {}

    def judged(self, experiment: Experiment, theta: Theta) -> tuple[dict[str, Psnr], dict[str, str]]:
        """The PSNR of each by its name, and what those said that failed. Costs one solve of each pair.

        All of them are in the space of x_true: what theta reconstructs, what a denoiser makes, and y where it is x_true
        plus noise.
        """
        test = experiment.test
        if test is None:
            return {}, {}
        pairs = Pairs(test.pairs, experiment.method, warm=False)
        try:
            for numbers in torch.split(torch.arange(test.pairs.batch, device=pairs.x.device), experiment.config.batch):
                pairs.solve(theta, numbers)
        except Exception as error:  # of a third party's backend, too: theta is learned, and stays
            return {}, {LEARNED: f"{type(error).__name__}: {' '.join(str(error).split())}"}
        assert pairs.errors is not None  # else it was refused
        tensors = test.pairs.tensors()
        x_true, y = tensors["x_true"], tensors["y"]
        errors, failed = {LEARNED: pairs.errors}, {}
        if test.pairs.measurement is Measurement.NOISY:
            errors[NOISY] = (y - x_true).square().flatten(1).mean(1)
        for name in test.denoisers:
            try:
                made = self._denoiser(name, test, experiment.training)(y.cpu().double().numpy())
                errors[name] = (torch.from_numpy(made).to(y) - x_true).square().mean(1)
            except Exception as error:  # one that fails costs its own number
                failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        readings = experiment.config.readings
        own = {name: _each_db(squared, readings.psnr_peak) for name, squared in errors.items()}
        return {
            name: Psnr(
                mean_db=psnr_db(squared, readings.psnr_peak, readings.psnr_average),
                deviation_db=_deviation(own[name]),
                gain_db=float((own[LEARNED] - own[name]).mean()),
                gain_deviation_db=_deviation(own[LEARNED] - own[name]),
            )
            for name, squared in errors.items()
        }, failed

    def _denoiser(self, name: str, test: HeldOut, training: Problem) -> Denoise:
        """Raises what its `fit` does."""
        tensors = training.tensors()
        clean, noisy = (tensors[side][:MOST_FITTED].cpu().double().numpy() for side in ("x_true", "y"))
        key = (sha256(clean.tobytes() + noisy.tobytes()).hexdigest(), name)
        if key not in self._fitted:
            self._fitted[key] = test.denoisers[name].fit(clean, noisy)
        return self._fitted[key]


def _each_db(squared: Tensor, peak: float) -> np.ndarray:
    return np.asarray(10 * (peak**2 / squared).log10().cpu().double())


def _deviation(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
