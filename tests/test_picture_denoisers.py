"""Patches and their mean, the exact patch transform, and every baseline on a small picture."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from methods.denoisers._patches import averaged, corners, patches
from methods.denoisers.analysis_ksvd import AnalysisKsvd, code
from methods.denoisers.bm3d import Bm3d
from methods.denoisers.patch_transform import PatchTransform
from methods.denoisers.sliding_cosine import SlidingCosine
from methods.denoisers.total_variation import TotalVariation
from methods.denoisers.wavelets import Wavelets
from problems.operators import picture_transform_matrix

SIGMA = 0.1
CLEAN = data.camera()[200:240, 220:268] / 255.0
NOISY = CLEAN + SIGMA * np.random.default_rng(0).normal(size=CLEAN.shape)


def psnr(picture):
    return peak_signal_noise_ratio(CLEAN, picture, data_range=1.0)


CUTS = [((16, 16), 8, 7), ((9, 14), 4, 3), ((8, 8), 8, 5), ((11, 7), 3, 1)]


@pytest.mark.parametrize(("shape", "side", "stride"), CUTS)
def test_the_mean_of_untouched_patches_is_the_picture(shape, side, stride):
    picture = np.random.default_rng(0).normal(size=shape)
    own = patches(picture, side, stride)
    assert np.array_equal(own[-1], picture[-side:, -side:].ravel())
    assert np.abs(averaged(own, shape, side, stride) - picture).max() <= 1e-15


def test_a_pixel_is_the_mean_of_the_patches_that_hold_it():
    own = np.arange(4.0)[:, None] * np.ones((4, 4))
    assert averaged(own, (3, 3), 2, 1).tolist() == [[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]


def test_the_last_patch_ends_with_the_picture():
    """256 pixels, 8 x 8, stride 7: the paper's 36 positions a side (readings.md J.17), and one for what they leave."""
    assert corners(256, 8, 7).tolist() == [*range(0, 36 * 7, 7), 248]


def test_a_picture_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="a picture of 4 x 9 has no patch of 8 x 8"):
        patches(np.zeros((4, 9)), 8, 1)


@pytest.fixture
def cosines(tmp_path):
    """The two-dimensional DCT without its constant atom, whose row is zero."""
    W = picture_transform_matrix("dct", 64, 8, np.random.default_rng(0))
    W[0] = 0.0
    np.savez(tmp_path / "theta.npz", W=W)
    return str(tmp_path / "theta.npz")


def test_the_exact_patch_transform_of_cosines_is_their_soft_threshold(cosines):
    threshold = 1.5
    exact = PatchTransform(files=(cosines,), weight=threshold * SIGMA, stride=3).denoise(NOISY, SIGMA)
    assert np.abs(exact - SlidingCosine(threshold=threshold, stride=3).denoise(NOISY, SIGMA)).max() <= 1e-12


def test_without_the_half_w_counts_half(cosines):
    full = PatchTransform(files=(cosines,), weight=0.3, stride=5, fidelity="full").denoise(NOISY, SIGMA)
    half = PatchTransform(files=(cosines,), weight=0.15, stride=5).denoise(NOISY, SIGMA)
    assert np.array_equal(full, half)


def test_a_stack_of_equal_transforms_is_one_of_their_weight(cosines):
    """Dependent rows on every cosupport, and x* unique all the same."""
    stacked = PatchTransform(files=(cosines,) * 3, weight=0.05, stride=6).denoise(NOISY, SIGMA)
    single = PatchTransform(files=(cosines,), weight=0.15, stride=6).denoise(NOISY, SIGMA)
    assert np.abs(stacked - single).max() <= 1e-10  # relative residual 1e-12 of patches of size 1


def test_a_mean_kept_apart_moves_with_the_picture(cosines):
    denoiser = PatchTransform(files=(cosines,), weight=0.15, stride=4, centred=True)
    assert np.abs(denoiser.denoise(NOISY + 5.0, SIGMA) - denoiser.denoise(NOISY, SIGMA) - 5.0).max() <= 1e-12


def test_files_that_hold_no_transform_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", D=np.eye(4))
    np.savez(tmp_path / "odd.npz", W=np.eye(5))
    for name, said in (("other", "holds no transform W"), ("absent", "learn CONFIG"), ("odd", "stacked")):
        with pytest.raises(ValueError, match=said):
            PatchTransform(files=(str(tmp_path / f"{name}.npz"),)).denoise(NOISY, SIGMA)


SMALL = AnalysisKsvd(side=5, rows=48, training=400, iterations=3, stride=2)
BASELINES = [TotalVariation(), Wavelets(), SlidingCosine(), SMALL]


@pytest.mark.parametrize("denoiser", BASELINES, ids=lambda denoiser: type(denoiser).__name__)
def test_every_baseline_gains_three_decibels_and_keeps_its_input(denoiser):
    before = NOISY.copy()
    denoised = denoiser.denoise(NOISY, SIGMA)
    assert psnr(denoised) >= psnr(NOISY) + 3.0
    assert np.array_equal(NOISY, before)


def test_bm3d_beats_thresholded_cosines():
    pytest.importorskip("bm3d", reason="bm3d is not installed (the group denoise)")
    assert psnr(Bm3d().denoise(NOISY, SIGMA)) > psnr(SlidingCosine().denoise(NOISY, SIGMA))


def test_the_greedy_code_is_orthogonal_to_its_cosupport_within_its_radius():
    rng = np.random.default_rng(0)
    W = torch.from_numpy(rng.normal(size=(20, 9)))
    W /= W.norm(dim=1, keepdim=True)
    y = torch.from_numpy(rng.normal(size=(50, 9)))
    x, on = code(W, y, 1.5)
    assert ((x - y).norm(dim=1) <= 1.5).all()
    assert ((x @ W.T).abs()[on] <= 1e-8).all()
    assert on.any(1).all()
    # one row: the projection that takes the smallest product away
    first, joined = code(W, y, float((y @ W.T).abs().min()) * (1 + 1e-12))
    sample, row = np.unravel_index(int((y @ W.T).abs().argmin()), (50, 20))
    assert joined.nonzero().tolist() == [[sample, row]]
    assert torch.allclose(first[sample], y[sample] - (W[row] @ y[sample]) * W[row], atol=1e-15)
