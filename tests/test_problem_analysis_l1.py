"""The contract that every method relies on, checked on analysis_l1 against adjointness, differences and Clarabel."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import io

from problems import operators, signals
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import Structure, input_sha256, kkt_residual, scales, transform_norm
from tests import analysis_l1_truth
from tests.toy_family import close, draws

TRANSFORMS = get_args(operators.Transform)
FORWARDS = get_args(operators.Forward)
SIGNALS = [*signals.GENERATORS, "patches"]


@st.composite
def instances(draw: Any) -> AnalysisL1:
    transform, n = draw(st.sampled_from(TRANSFORMS)), draw(st.integers(2, 20))
    most = n * (n - 1) // 2 if transform == "finite_difference" else 30
    return AnalysisL1.build(
        Settings(
            signal=draw(st.sampled_from(list(signals.GENERATORS))),
            n=n,
            k=draw(st.integers(1, most)),
            transform=transform,
            scale=draw(st.floats(0.1, 2.0)),
            fidelity=draw(st.sampled_from(["half", "full"])),
            forward=draw(st.sampled_from(FORWARDS)),
            pairs=draw(st.integers(1, 4)),
            seed=draw(st.integers(0, 2**31)),
        )
    )


@given(problem=instances())
@settings(max_examples=40, deadline=None)
def test_minimisation_means_that_m_is_the_adjoint_of_k(problem: AnalysisL1) -> None:
    assert Structure.MINIMISATION in problem.structure
    x, _, u, _ = draws(problem)
    theta = problem.theta0()
    assert close((problem.K(x, theta) * u).sum(), (x * problem.M(u, theta)).sum())


@given(problem=instances())
@settings(max_examples=40, deadline=None)
def test_linearised_maps(problem: AnalysisL1) -> None:
    x, p, u, a = draws(problem)
    theta = problem.theta0()
    maps = problem.linearise(x, theta)
    assert close(maps.K.matvec(x), problem.K(x, theta))
    assert close(maps.M.matvec(u), problem.M(u, theta))
    # F is affine, so that a difference of any size is its derivative.
    assert close(maps.F_x.matvec(p), problem.F(x + p, theta) - problem.F(x, theta))
    for linear, argument, test in ((maps.F_x, x, p), (maps.K, x, a), (maps.M, u, p)):
        assert close((linear.matvec(argument) * test).sum(), (argument * linear.rmatvec(test)).sum())
        dense = linear.dense()
        assert close(torch.einsum("bij,bj->bi", dense, argument), linear.matvec(argument))
        assert close(torch.einsum("bij,bi->bj", dense, test), linear.rmatvec(test))


@given(problem=instances())
@settings(max_examples=40, deadline=None)
def test_pullback_is_the_derivative_of_the_pairing(problem: AnalysisL1) -> None:
    x, p, u, a = draws(problem)
    W = problem.W
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=W.shape))

    def pairing(theta: dict[str, torch.Tensor]) -> float:
        return float((p * (problem.F(x, theta) + problem.M(u, theta))).sum() + (a * problem.K(x, theta)).sum())

    # The pairing is affine in W: the difference is exact at any step.
    slope = 0.5 * (pairing({"W": W + direction}) - pairing({"W": W - direction}))
    pulled = problem.pullback(p, a, x, u, problem.theta0())["W"]
    assert slope == pytest.approx(float((pulled * direction).sum()), rel=1e-10, abs=1e-10)
    assert close(pulled, torch.einsum("bk,bn->kn", u, p) + torch.einsum("bk,bn->kn", a, x))


@given(problem=instances())
@settings(max_examples=20, deadline=None)
def test_loss_gradient_is_the_derivative_of_the_loss(problem: AnalysisL1) -> None:
    x, p, _, _ = draws(problem)
    theta, h = problem.theta0(), 1e-3
    g_x, g_theta = problem.loss_gradient(x, theta)
    slope = float(problem.loss(x + h * p, theta) - problem.loss(x - h * p, theta)) / (2 * h)
    # The loss is quadratic: no truncation; rounding 1e-15 / h of the loss.
    assert slope == pytest.approx(float((g_x * p).sum()), rel=1e-10, abs=1e-10)
    assert float(g_theta["W"].abs().max()) == 0.0
    assert g_theta["W"].shape == theta["W"].shape


@given(problem=instances())
@settings(max_examples=20, deadline=None)
def test_a_subset_is_a_slice_and_losses_add_up(problem: AnalysisL1) -> None:
    x, _, _, _ = draws(problem)
    theta = problem.theta0()
    parts = [problem.subset(slice(i, i + 1)) for i in range(problem.batch)]
    for i, part in enumerate(parts):
        assert part.batch == 1
        # A product of one row may be summed in another order than the same row in a batch.
        assert close(part.F(x[i : i + 1], theta), problem.F(x, theta)[i : i + 1])
        assert torch.equal(part.x_true, problem.x_true[i : i + 1])
    assert close(
        torch.stack([part.loss(x[i : i + 1], theta) for i, part in enumerate(parts)]).sum(), problem.loss(x, theta)
    )


@pytest.mark.parametrize("forward", ["identity", "blur"])
def test_single_precision_is_the_same_problem(forward: Any) -> None:
    problem = AnalysisL1.build(Settings(n=9, transform="dct", forward=forward, fidelity="full", pairs=2))
    single = problem.to("cpu", torch.float32)
    x, _, u, _ = draws(problem)
    for exact, rounded in (
        (problem.F(x, problem.theta0()), single.F(x.float(), single.theta0())),
        (problem.K(x, problem.theta0()), single.K(x.float(), single.theta0())),
        (problem.M(u, problem.theta0()), single.M(u.float(), single.theta0())),
        (problem.loss(x, problem.theta0()), single.loss(x.float(), single.theta0())),
    ):
        assert rounded.dtype == torch.float32
        # Seven digits, less one for sums of up to 18 terms.
        assert close(rounded.double(), exact, 1e-6)
    assert single.structure == problem.structure
    assert single.settings == problem.settings
    assert problem.y.dtype == torch.float64


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_combination_builds_and_is_deterministic(signal: Any, forward: Any, transform: Any) -> None:
    chosen = Settings(signal=signal, forward=forward, transform=transform, n=16, pairs=3, seed=5)
    problem, again = AnalysisL1.build(chosen), AnalysisL1.build(chosen)
    assert input_sha256(problem) == input_sha256(again)
    assert problem.x_shape == (16,)
    assert problem.u_shape == (problem.W.shape[0],)
    assert problem.F(problem.x_true, problem.theta0()).shape == (3, 16)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*problem.tensors().values(), problem.W))
    # More pairs extend fewer, and leave the operators alone.
    more = AnalysisL1.build(chosen.model_copy(update={"pairs": 5}))
    assert torch.equal(more.y[:3], problem.y)
    assert torch.equal(more.x_true[:3], problem.x_true)
    assert torch.equal(more.W, problem.W)
    assert not torch.equal(more.y[3], more.y[2])
    other = AnalysisL1.build(chosen.model_copy(update={"seed": 6}))
    assert input_sha256(other) != input_sha256(problem)
    # UNIQUE is what the rank of A says.
    full = problem.A is None or int(torch.linalg.matrix_rank(problem.A)) == 16
    assert (Structure.UNIQUE in problem.structure) == full
    assert full == (forward in ("identity", "blur", "gaussian"))
    assert (Structure.IDENTITY_FORWARD in problem.structure) == (forward == "identity")


def test_fidelity_doubles_the_data_term_and_withdraws_the_identity() -> None:
    half, full = (AnalysisL1.build(Settings(n=8, forward="identity", fidelity=c)) for c in ("half", "full"))
    x = draws(half)[0]
    assert torch.equal(full.F(x, full.theta0()), 2 * half.F(x, half.theta0()))
    assert Structure.IDENTITY_FORWARD not in full.structure
    assert input_sha256(half) != input_sha256(full)


@pytest.mark.parametrize("signal", list(signals.GENERATORS))
@pytest.mark.parametrize("n", [2, 7, 64])
def test_signals_have_peak_one_and_noise_its_deviation(signal: Any, n: int) -> None:
    problem = AnalysisL1.build(Settings(signal=signal, n=n, pairs=40, noise=0.2))
    np.testing.assert_allclose(problem.x_true.abs().amax(1).numpy(), 1.0, rtol=1e-15)
    clean = AnalysisL1.build(Settings(signal=signal, n=n, pairs=40, noise=0.0))
    assert torch.equal(clean.y, clean.x_true)
    # Five standard errors of a deviation estimated from 40 n samples.
    deviation = float((problem.y - problem.x_true).square().mean().sqrt())
    assert deviation == pytest.approx(0.2, rel=5 / np.sqrt(2 * 40 * n))


@pytest.mark.parametrize(
    ("signal", "transform", "scale"),
    [
        ("piecewise_constant", "finite_difference", 0.3),
        ("piecewise_constant", "identity", 1.0),
        ("dct_sparse", "dct", 0.3),
        ("gaussian", "gaussian", 0.3),
        ("patches", "dct", 0.1),
    ],
)
def test_x_true_is_not_aligned_with_the_pieces_of_the_reconstruction(signal: Any, transform: Any, scale: float) -> None:
    """Where it is, a = W0^{+T} (x* - x_true) vanishes and a gradient without it looks exact (problems/README.md)."""
    problem = AnalysisL1.build(Settings(signal=signal, transform=transform, scale=scale, n=36, pairs=10))
    for sample in range(10):
        truth = analysis_l1_truth.solve(problem, problem.W.numpy(), sample)
        # Who drops a is wrong by 1 % or more, where the methods are compared at 1e-3 and below.
        assert np.linalg.norm(np.outer(truth.a, truth.x)) >= 0.01 * np.linalg.norm(truth.gradient)


@pytest.mark.parametrize("fidelity", ["half", "full"])
@pytest.mark.parametrize("forward", ["identity", "blur", "gaussian"])
def test_conic_form_kkt_residual_and_scales(forward: Any, fidelity: Any) -> None:
    """Two statements of the problem by cvxpy, the family's own and the test's, have one solution."""
    chosen = Settings(n=16, transform="finite_difference", scale=0.3, forward=forward, fidelity=fidelity)
    problem = AnalysisL1.build(chosen)
    theta = problem.theta0()
    truth = analysis_l1_truth.solve(problem, problem.W.numpy())
    program, parameters, variables = problem.conic()
    assert program.is_dpp()
    given_values = {**{name: value.numpy() for name, value in theta.items()}, "y": problem.conic_data()["y"][0].numpy()}
    assert set(parameters) == set(given_values)
    for name, parameter in parameters.items():
        parameter.value = given_values[name]
    program.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    # An interior-point solution is this far from the vertex that the truth is polished to.
    np.testing.assert_allclose(variables["x"].value, truth.x, atol=1e-6)
    np.testing.assert_allclose(variables["u"].value, truth.u, atol=1e-5)

    x, u = torch.from_numpy(truth.x)[None], torch.from_numpy(truth.u)[None]
    relative_to = scales(problem, theta)
    assert float(kkt_residual(problem, x, u, theta, relative_to).max()) <= 1e-14 * 16
    assert float(kkt_residual(problem, x, -u, theta, relative_to).max()) >= 0.1
    norm = float(torch.linalg.matrix_norm(problem.W, 2))
    assert norm <= transform_norm(problem, theta) <= 1.03 * norm


def test_patches_come_from_the_folder_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (9, 11), dtype=np.uint8)
    colour = np.repeat(rng.integers(0, 256, (8, 8, 1), dtype=np.uint8), 3, axis=2)
    io.imsave(tmp_path / "a.png", picture, check_contrast=False)
    io.imsave(tmp_path / "b.png", colour, check_contrast=False)
    io.imsave(tmp_path / "too_small.png", picture[:3, :3], check_contrast=False)
    (tmp_path / "notes.txt").write_text("not a picture")
    problem = AnalysisL1.build(Settings(signal="patches", n=16, pairs=30, folder=str(tmp_path)))
    # Grey is a weighted mean of equal channels: 1e-15.
    places = [
        source[i : i + 4, j : j + 4].ravel()
        for source in (picture / 255, colour[..., 0] / 255)
        for i in range(source.shape[0] - 3)
        for j in range(source.shape[1] - 3)
    ]
    found = [min(np.abs(place - patch).max() for place in places) for patch in problem.x_true.numpy()]
    assert max(found) <= 1e-12
    assert len({patch.tobytes() for patch in problem.x_true.numpy()}) > 10


def test_bundled_patches_are_grey_values() -> None:
    problem = AnalysisL1.build(Settings(signal="patches", n=36, pairs=20, transform="finite_difference"))
    assert float(problem.x_true.min()) >= 0.0
    assert float(problem.x_true.max()) <= 1.0
    assert problem.W.shape == (60, 36)
    # Rows and columns of a picture, differenced by numpy.
    square = problem.x_true[0].reshape(6, 6).numpy()
    differences = problem.K(problem.x_true[:1], problem.theta0())[0].numpy()
    np.testing.assert_allclose(
        np.sort(differences),
        np.sort(np.r_[np.diff(square, axis=0).ravel(), np.diff(square, axis=1).ravel()]),
        atol=1e-15,
    )


def test_folders_without_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no picture"):
        AnalysisL1.build(Settings(signal="patches", n=16, folder=str(tmp_path)))
    io.imsave(tmp_path / "small.png", np.arange(9, dtype=np.uint8).reshape(3, 3), check_contrast=False)
    with pytest.raises(ValueError, match="no picture has room for a patch of 4 x 4"):
        AnalysisL1.build(Settings(signal="patches", n=16, folder=str(tmp_path)))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"n": 0}, "greater than or equal to 1"),
        ({"n": 2.5}, "integer"),
        ({"k": 0}, "greater than or equal to 1"),
        ({"pairs": 0}, "greater than or equal to 1"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"noise": -0.1}, "greater than or equal to 0"),
        ({"noise": float("inf")}, "finite"),
        ({"scale": float("nan")}, "finite"),
        ({"signal": "piecewise"}, "'piecewise_constant'"),
        ({"transform": "wavelet"}, "'finite_difference'"),
        ({"forward": "radon"}, "'blur'"),
        ({"fidelity": "double"}, "'half'"),
        ({"sacle": 1.0}, "Extra inputs"),
        ({"signal": "patches", "n": 60}, "n = 60 is not a square"),
    ],
)
def test_bad_settings_are_refused_with_one_message(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        Settings(**bad)
    (error,) = refused.value.errors()
    assert words in error["msg"]


def test_impossible_transforms_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="at most 6 rows for n = 4, not k = 7"):
        AnalysisL1.build(Settings(n=4, k=7, transform="finite_difference"))
    with pytest.raises(ValueError, match="has 24 rows, not k = 16: leave k out"):
        AnalysisL1.build(Settings(signal="patches", n=16, k=16, transform="finite_difference"))
