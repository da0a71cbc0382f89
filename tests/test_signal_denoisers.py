"""The transforms that a learned one is held against: exact, orthogonal, and tuned to the best weight there is."""

import numpy as np
import pytest
from scipy.fft import dct

from methods.denoisers._analysis import denoised, tuned
from methods.denoisers.cosine import Cosine
from methods.denoisers.finite_differences import FiniteDifferences
from methods.denoisers.orthogonal_dictionary import OrthogonalDictionary
from problems import signals

N = 24


def pairs(kind="piecewise_constant", count=60, seed=0):
    rng = np.random.default_rng(seed)
    clean = np.stack([signals.draw(kind, N, 0.0, rng) for _ in range(count)])
    return clean, clean + 0.1 * rng.normal(size=clean.shape)


def error(denoiser, clean, noisy):
    return ((denoiser.fit(clean, noisy)(noisy) - clean) ** 2).mean()


def test_a_diagonal_transform_is_a_soft_threshold():
    """At W = diag(w): x_i = sign(y_i) max(|y_i| - |w_i|, 0)."""
    rng = np.random.default_rng(0)
    w, y = rng.uniform(0.0, 1.0, N), rng.normal(size=(5, N))
    expected = np.sign(y) * np.maximum(np.abs(y) - w, 0.0)
    assert np.abs(denoised(np.diag(w), y) - expected).max() <= 1e-14


def test_differences_leave_the_mean_alone_and_a_large_weight_leaves_nothing_else():
    """Of total variation: the sum of x* is that of y, and x* is the mean once the weight exceeds the tube's."""
    _, noisy = pairs()
    W = np.diff(np.eye(N), axis=0)
    for weight in (0.1, 1.0, 100.0):
        assert np.abs(denoised(weight * W, noisy).mean(1) - noisy.mean(1)).max() <= 1e-14
    assert np.abs(denoised(100.0 * W, noisy) - noisy.mean(1, keepdims=True)).max() <= 1e-13


@pytest.mark.parametrize("denoiser", [FiniteDifferences(), Cosine(), OrthogonalDictionary(steps=200)], ids=str)
def test_no_weight_of_a_grid_is_better(denoiser, monkeypatch):
    """The tuned weight against 60 others: a bounded search that stopped in a worse valley would lose."""
    clean, noisy = pairs()
    best = error(denoiser, clean, noisy)
    for weight in np.logspace(-3, 1, 60):
        for module in ("finite_differences", "cosine", "orthogonal_dictionary"):
            monkeypatch.setattr(f"methods.denoisers.{module}.tuned", lambda shrink, clean, weight=weight: weight)
        assert best <= error(denoiser, clean, noisy) * (1 + 1e-3)  # the weight is found to 1 %, the error to its square


def test_each_transform_suits_its_own_signals():
    """Differences gain more on jumps, cosines more on harmonics, by over a decibel each (1.26 in squared error)."""
    jumps, smooth = pairs(), pairs("dct_sparse")
    assert 1.26 * error(FiniteDifferences(), *jumps) < error(Cosine(), *jumps)
    assert 1.26 * error(Cosine(), *smooth) < error(FiniteDifferences(), *smooth)


def test_thresholding_in_the_cosine_transform_is_its_analysis_lasso():
    clean, noisy = pairs()
    C = dct(np.eye(N), norm="ortho", axis=0)
    weight = tuned(lambda w: denoised(w * C, noisy), clean)
    assert np.abs(Cosine().fit(clean, noisy)(noisy) - denoised(weight * C, noisy)).max() <= 1e-12


def test_the_unsupervised_dictionary_is_orthogonal_and_sparser_than_standard_ones():
    """On the signals it has learned from: sum ||W x_t||_1 below that of the cosine transform, and of W = I."""
    clean, _ = pairs(count=100)
    W = OrthogonalDictionary(steps=1000).learned(clean)
    assert np.abs(W @ W.T - np.eye(N)).max() <= 1e-13
    assert np.abs(clean @ W.T).sum() < np.abs(dct(clean, norm="ortho", axis=1)).sum() < np.abs(clean).sum()
