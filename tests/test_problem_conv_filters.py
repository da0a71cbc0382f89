"""The family conv_filters against circulant and Fourier matrices, printed formulas and its own autodiff."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import circulant
from skimage import io

from bench import plan
from bench.catalogue import Catalogue
from bench.config import parse
from problems import image_operators, images
from problems.contract import AutodiffProblem, Structure, Theta, input_sha256, transform_norm
from problems.conv_filters import ConvFilters, Settings
from problems.penalties import SmoothPenalty
from tests.toy_family import close, draws

FORWARDS = get_args(image_operators.Forward)
PENALTIES = ("corner_rounded", "l1", "log_sum", "student_t", "quadratic")
SHAPES = [(8, 3), (7, 4), (5, 5), ((4, 6), (3, 2)), ((5, 3), (2, 3)), ((1, 5), (1, 4)), ((4, 4), 4), ((3, 1), (3, 1))]


def build(**keys: Any) -> ConvFilters:
    return ConvFilters.build(Settings(**keys))


@st.composite
def instances(draw: Any) -> ConvFilters:
    pixels = st.integers(1, 6)
    shape = draw(st.one_of(st.integers(2, 12), st.tuples(pixels, pixels).filter(lambda shape: shape != (1, 1))))
    if isinstance(shape, int):
        size: Any = draw(st.integers(2, shape))
    else:
        inside = st.tuples(*(st.integers(1, side) for side in shape))
        size = draw(inside.filter(lambda size: size != (1, 1)))
    penalty = draw(st.sampled_from(PENALTIES))
    return build(
        shape=shape,
        filter_size=size,
        filters="random",
        count=draw(st.integers(1, 4)),
        log_weight=draw(st.floats(-2.0, 1.0)),
        weights=draw(st.sampled_from(["inside", "outside"])) if penalty != "l1" else "inside",
        penalty=penalty,
        forward=draw(st.sampled_from(FORWARDS)),
        pairs=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**31)),
    )


def away_from_start(problem: ConvFilters) -> Theta:
    """theta0 with weights that differ from filter to filter."""
    theta = problem.theta0()
    return {**theta, "b": torch.linspace(-0.5, 0.7, len(theta["b"]), dtype=torch.float64)}


def circulants(problem: ConvFilters) -> list[np.ndarray]:
    """C(c_k) entry by entry: the pixel (i, j) of c * x has the weight c[s, t] on the pixel (i - s, j - t)."""
    (h, w), (rows, columns) = problem.settings.sides, problem.settings.taps
    matrices = []
    for c in problem.c.numpy():
        C = np.zeros((h * w, h * w))
        for i, j, s, t in np.ndindex(h, w, rows, columns):
            C[i * w + j, (i - s) % h * w + (j - t) % w] += c[s * columns + t]
        matrices.append(C)
    return matrices


def stacked(problem: ConvFilters, theta: Theta) -> tuple[np.ndarray, np.ndarray]:
    """K and M as the equation has them."""
    w = np.exp(problem.settings.log_weight + theta["b"].numpy())
    C = circulants(problem)
    weighted = np.concatenate([w_k * C_k for w_k, C_k in zip(w, C, strict=True)])
    return (weighted if problem.settings.weights == "inside" else np.concatenate(C)), weighted.T


@pytest.mark.parametrize("weights", ["inside", "outside"])
@pytest.mark.parametrize(("shape", "filter_size"), SHAPES)
def test_k_and_m_are_stacked_circulant_matrices(shape: Any, filter_size: Any, weights: Any) -> None:
    problem = build(shape=shape, filter_size=filter_size, filters="random", log_weight=-1.0, weights=weights)
    theta = away_from_start(problem)
    x, p, u, a = draws(problem)
    K, M = (torch.from_numpy(matrix) for matrix in stacked(problem, theta))
    assert close(problem.K(x, theta), x @ K.T)
    assert close(problem.M(u, theta), u @ M.T)
    maps = problem.linearise(x, theta)
    for linear, matrix, right, left in ((maps.K, K, x, a), (maps.M, M, u, p)):
        assert close(linear.matvec(right), right @ matrix.T)
        assert close(linear.rmatvec(left), left @ matrix)
        assert linear.dense().shape == (problem.batch, *matrix.shape)
        assert close(linear.dense()[-1], matrix)
    if weights == "inside":
        assert np.array_equal(K.numpy(), M.numpy().T)
        norm = float(torch.linalg.matrix_norm(K, 2))
        assert norm <= transform_norm(problem, theta) <= 1.03 * norm


@pytest.mark.parametrize(("n", "taps"), [(7, 3), (8, 4), (5, 5)])
def test_in_one_dimension_the_first_column_is_the_filter(n: int, taps: int) -> None:
    problem = build(shape=n, filter_size=taps, log_weight=0.0)
    expected = np.concatenate([circulant(np.pad(c, (0, n - taps))) for c in problem.c.numpy()])
    dense = problem.linearise(problem.y, problem.theta0()).K.dense()
    np.testing.assert_allclose(dense[0].numpy(), expected, atol=1e-15)


@pytest.mark.parametrize("taps", [2, 3, 5, (2, 3)])
def test_dct_filters_are_orthonormal_and_of_mean_zero(taps: Any) -> None:
    problem = build(shape=(6, 6), filter_size=taps)
    S = int(np.prod(problem.settings.taps))
    assert problem.c.shape == (S - 1, S)
    np.testing.assert_allclose((problem.c @ problem.c.T).numpy(), np.eye(S - 1), atol=1e-14)
    np.testing.assert_allclose(problem.c.sum(1).numpy(), 0.0, atol=1e-14)
    np.testing.assert_array_equal(build(shape=(6, 6), filter_size=taps, count=2).c.numpy(), problem.c[:2].numpy())


@given(problem=instances())
@settings(max_examples=40)
def test_pullback_and_linearise_are_those_of_autodiff(problem: ConvFilters) -> None:
    x, p, u, a = draws(problem)
    theta = away_from_start(problem)
    pulled, expected = (kind.pullback(problem, p, a, x, u, theta) for kind in (ConvFilters, AutodiffProblem))
    assert set(pulled) == set(expected) == {"b", "c"}
    for name, value in expected.items():
        assert pulled[name].shape == theta[name].shape
        assert close(pulled[name], value)
    ours, derived = (kind.linearise(problem, x, theta) for kind in (ConvFilters, AutodiffProblem))
    for name, right, left in (("F_x", p, x), ("K", x, a), ("M", u, p)):
        mine, other = getattr(ours, name), getattr(derived, name)
        assert close(mine.matvec(right), other.matvec(right))
        assert close(mine.rmatvec(left), other.rmatvec(left))
        assert close(mine.dense(), other.dense())


@given(problem=instances())
@settings(max_examples=40)
def test_minimisation_means_that_m_is_the_adjoint_of_k(problem: ConvFilters) -> None:
    x, _, u, _ = draws(problem)
    theta = away_from_start(problem)
    paired = (problem.K(x, theta) * u).sum() - (x * problem.M(u, theta)).sum()
    assert Structure.MINIMISATION not in problem.structure or abs(float(paired)) <= 1e-12 * float(u.norm() * x.norm())
    assert (Structure.MINIMISATION in problem.structure) == (problem.settings.weights == "inside")


@pytest.mark.parametrize("weights", ["inside", "outside"])
@pytest.mark.parametrize("penalty", [name for name in PENALTIES if name != "l1"])
def test_the_inclusion_is_the_gradient_of_equation_ex(penalty: Any, weights: Any) -> None:
    """The cost is written with shifts and differentiated by a complex step, which has no truncation to speak of."""
    problem = build(shape=(5, 4), filter_size=(2, 3), penalty=penalty, weights=weights, epsilon=EPSILONS[penalty])
    theta = away_from_start(problem)
    x, y = draws(problem)[0], problem.y.numpy()
    w = np.exp(problem.settings.log_weight + theta["b"].numpy())
    # The length is in the unit of c_k * x at b = 0, where (Ex) has it.
    length = (EPSILONS[penalty] or 1.0) * (np.exp(problem.settings.log_weight) if weights == "inside" else 1.0)
    phi = {
        "corner_rounded": lambda z: np.sqrt(z**2 + length**2),
        "log_sum": lambda z: np.log(1 + (z / length) ** 2),
        "student_t": lambda z: np.log(10 * length + np.sqrt(z**2 + length**2)),
        "quadratic": lambda z: z**2,
    }[penalty]

    def cost(v: np.ndarray) -> complex:
        picture, value = v.reshape(5, 4), 0.5 * ((v - y[0]) ** 2).sum()
        for w_k, c in zip(w, problem.c.numpy().reshape(-1, 2, 3), strict=True):
            z = sum(c[s, t] * np.roll(picture, (s, t), (0, 1)) for s, t in np.ndindex(2, 3))
            value += phi(w_k * z).sum() if weights == "inside" else w_k * phi(z).sum()
        return value

    slopes = [cost(x[0].numpy() + 1e-30j * e).imag / 1e-30 for e in np.eye(20)]
    assert isinstance(problem.penalty, SmoothPenalty)
    u = problem.penalty.derivative(problem.K(x, theta))
    np.testing.assert_allclose((problem.F(x, theta) + problem.M(u, theta))[0].numpy(), slopes, rtol=1e-11, atol=1e-13)


def test_at_equal_weights_the_corner_rounded_norm_takes_them_inside_and_outside_for_the_same() -> None:
    """w sqrt(z^2 + e^2) = sqrt((w z)^2 + (w e)^2): one lower level, and one derivative in c, though not in b."""
    inside, outside = (build(weights=weights, log_weight=-3.0) for weights in ("inside", "outside"))
    theta = inside.theta0()
    x, p, _, _ = draws(inside)
    pulled = []
    for problem in (inside, outside):
        assert isinstance(problem.penalty, SmoothPenalty)
        z = problem.K(x, theta)
        a = problem.penalty.second_derivative(z) * problem.linearise(x, theta).M.rmatvec(p)
        u = problem.penalty.derivative(z)
        pulled.append({"Mu": problem.M(u, theta), **problem.pullback(p, a, x, u, theta)})
    assert close(pulled[0]["Mu"], pulled[1]["Mu"])
    assert close(pulled[0]["c"], pulled[1]["c"])
    assert not close(pulled[0]["b"], pulled[1]["b"], 1e-3)


EPSILONS = {"corner_rounded": 0.3, "log_sum": 0.5, "student_t": 0.2, "quadratic": None}


@pytest.mark.parametrize("weights", ["inside", "outside"])
def test_hypergradient_of_the_quadratic_penalty_against_its_closed_form(weights: Any) -> None:
    """x* = (I + M diag(phi'') K)^-1 y with explicit matrices (the review, section 2.3), its loss differenced; then the
    adjoint through the family's own products."""
    problem = build(shape=(4, 5), filter_size=(2, 2), penalty="quadratic", weights=weights, log_weight=-1.0, pairs=3)
    theta = away_from_start(problem)

    def solved(theta: Theta) -> np.ndarray:
        K, M = stacked(ConvFilters(**{**vars(problem), "c": theta["c"]}), theta)
        return np.linalg.solve(np.eye(20) + 2 * M @ K, problem.y.numpy().T).T

    def loss(theta: Theta) -> float:
        return 0.5 * float(((solved(theta) - problem.x_true.numpy()) ** 2).sum())

    x = torch.from_numpy(solved(theta))
    g_x, g_theta = problem.loss_gradient(x, theta)
    K, M = (torch.from_numpy(matrix) for matrix in stacked(problem, theta))
    p = torch.linalg.solve(torch.eye(20, dtype=torch.float64) + 2 * K.T @ M.T, g_x.T).T
    pulled = problem.pullback(p, 2 * (p @ M), x, 2 * problem.K(x, theta), theta)
    h = 1e-5
    for name, value in theta.items():
        for place in np.ndindex(*value.shape):
            step = torch.zeros_like(value)
            step[place] = h
            slope = (loss({**theta, name: value + step}) - loss({**theta, name: value - step})) / (2 * h)
            # h^2 times a third derivative of order one, and rounding 1e-15 / h.
            assert slope == pytest.approx(float(g_theta[name][place] - pulled[name][place]), abs=2e-9)


def fourier_rows(measured: np.ndarray) -> np.ndarray:
    """Rows of the unitary transform by its definition, real parts, then imaginary ones."""
    (h, w) = measured.shape
    i, j = np.divmod(np.arange(h * w), w)
    rows = [np.exp(-2j * np.pi * (s * i / h + t * j / w)) / np.sqrt(h * w) for s, t in np.argwhere(measured)]
    return np.concatenate([np.real(rows), np.imag(rows)])


def matrix_of(A: image_operators.ForwardOperator, shape: tuple[int, int]) -> np.ndarray:
    """A by its definition, without its products."""
    h, w = shape
    if isinstance(A, image_operators.Mask):
        return np.eye(h * w)[A.kept.numpy()]
    if isinstance(A, image_operators.Dense):
        return A.A.numpy()
    if isinstance(A, image_operators.SubsampledFourier):
        return fourier_rows(A.measured.numpy())
    assert isinstance(A, image_operators.Identity | image_operators.Blur)
    if isinstance(A, image_operators.Identity):
        return np.eye(h * w)
    taps = [np.exp(-0.5 * np.minimum(np.arange(side), side - np.arange(side)) ** 2) for side in shape]
    return np.kron(*(circulant(tap / tap.sum()) for tap in taps))


@pytest.mark.parametrize("shape", [7, 8, (4, 6), (5, 3), (1, 4), (4, 1), (5, 6)])
@pytest.mark.parametrize("forward", FORWARDS)
def test_forward_operators_are_their_matrices(forward: Any, shape: Any) -> None:
    problem = build(shape=shape, filter_size=1, filters="random", count=1, forward=forward, pairs=3, seed=1)
    A, rng = problem.A, np.random.default_rng(0)
    matrix = matrix_of(A, problem.settings.sides)
    x, r = (torch.from_numpy(rng.normal(size=(2, side))) for side in matrix.shape[::-1])
    assert A.forward(x).dtype == torch.float64
    np.testing.assert_allclose(A.forward(x).numpy(), x.numpy() @ matrix.T, atol=1e-13)
    np.testing.assert_allclose(A.adjoint(r).numpy(), r.numpy() @ matrix, atol=1e-13)
    np.testing.assert_allclose(A.gram(x).numpy(), x.numpy() @ matrix.T @ matrix, atol=1e-13)
    x = draws(problem)[0]
    gradient = (x.numpy() @ matrix.T - problem.y.numpy()) @ matrix
    np.testing.assert_allclose(problem.F(x, problem.theta0()).numpy(), gradient, atol=1e-12)
    assert A.injective == (np.linalg.matrix_rank(matrix) == matrix.shape[1])


@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    forward=st.sampled_from(FORWARDS),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_adjoints_of_forward_operators(sides: Any, forward: Any, seed: int) -> None:
    A = build(shape=sides, filter_size=1, filters="random", count=1, forward=forward, seed=seed).A
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(3, int(np.prod(sides)))))
    r = torch.from_numpy(rng.normal(size=A.forward(x).shape))
    left, right = float((A.forward(x) * r).sum()), float((x * A.adjoint(r)).sum())
    assert left == pytest.approx(right, rel=1e-12, abs=1e-12)
    assert close(A.gram(x), A.adjoint(A.forward(x)))


def test_all_frequencies_are_a_unitary_transform_of_the_real_picture() -> None:
    problem = build(shape=(6, 5), forward="fourier_random", sampling=1.0, noise=0.0, pairs=2)
    assert problem.y.shape == (2, 60)
    spectrum = np.fft.fft2(problem.x_true.numpy().reshape(2, 6, 5), norm="ortho").reshape(2, 30)
    np.testing.assert_allclose(problem.y.numpy(), np.concatenate([spectrum.real, spectrum.imag], 1), atol=1e-13)
    np.testing.assert_allclose(problem.A.adjoint(problem.y).numpy(), problem.x_true.numpy(), atol=1e-13)
    assert Structure.UNIQUE in problem.structure
    # One of each pair of conjugate frequencies is all that a real picture has.
    half = image_operators.SubsampledFourier(torch.ones(6, 5, dtype=torch.bool))
    half.measured[:, 3:] = False
    half.measured[4:, 0] = False
    assert half.injective
    half.measured[1, 1] = False
    assert not half.injective


def test_radial_masks_are_lines_through_frequency_zero() -> None:
    def measured(shape: tuple[int, int], spokes: int) -> np.ndarray:
        return np.fft.fftshift(image_operators.radial_frequencies(shape, spokes).measured.numpy())

    cross = np.zeros((8, 8), dtype=bool)
    cross[4, :] = cross[:, 4] = True
    np.testing.assert_array_equal(measured((8, 8), 1), cross & (np.arange(8) == 4)[:, None])
    np.testing.assert_array_equal(measured((8, 8), 2), cross)
    four = cross.copy()
    inner = np.arange(1, 8)
    # Half the side is the radius, so that the diagonals end at 4 / sqrt(2) = 2.8.
    four[inner[abs(inner - 4) <= 3], inner[abs(inner - 4) <= 3]] = True
    four[inner[abs(inner - 4) <= 3], 8 - inner[abs(inner - 4) <= 3]] = True
    np.testing.assert_array_equal(measured((8, 8), 4), four)
    counts = [measured((32, 32), spokes).sum() for spokes in (1, 4, 16, 64)]
    assert counts == sorted(counts)
    assert all(measured((9, 7), spokes)[4, 3] for spokes in (1, 5))
    # Off the edge frequency -side/2, the picture of every line is the line itself.
    odd = measured((9, 7), 5)
    np.testing.assert_array_equal(odd, odd[::-1, ::-1])


@pytest.mark.parametrize(("forward", "sampling", "count"), [("mask", 0.25, 16), ("fourier_random", 0.25, 16)])
def test_sampling_is_the_fraction_that_is_measured(forward: Any, sampling: float, count: int) -> None:
    A = build(shape=(8, 8), forward=forward, sampling=sampling).A
    if isinstance(A, image_operators.SubsampledFourier):
        assert int(A.measured.sum()) == count
        assert bool(A.measured[0, 0])
    else:
        assert isinstance(A, image_operators.Mask)
        assert len(set(A.kept.tolist())) == count


@pytest.mark.parametrize("weights", ["inside", "outside"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("forward", FORWARDS)
def test_structure_of_every_combination(forward: Any, penalty: Any, weights: Any) -> None:
    if penalty == "l1" and weights == "outside":
        return
    chosen = Settings(forward=forward, penalty=penalty, weights=weights, shape=(5, 4), pairs=3, seed=5)
    problem, again = ConvFilters.build(chosen), ConvFilters.build(chosen)
    expected = {
        Structure.AFFINE_F: True,
        Structure.MINIMISATION: weights == "inside",
        Structure.IDENTITY_FORWARD: forward == "identity",
        Structure.L1: penalty == "l1",
        Structure.SMOOTH: penalty != "l1",
        # Two minimisers are no surprise where phi is not convex; nor where A has a kernel, c = 0 being a filter, too.
        Structure.UNIQUE: forward in ("identity", "blur", "dense") and penalty not in ("log_sum", "student_t"),
    }
    for flag in Structure:
        assert (flag in problem.structure) == expected.get(flag, False), flag
    assert problem.structure == problem.to("cpu", torch.float32).structure == problem.subset(slice(0, 1)).structure
    with pytest.raises(NotImplementedError):
        problem.conic()
    assert input_sha256(problem) == input_sha256(again)
    more = ConvFilters.build(chosen.model_copy(update={"pairs": 5}))
    assert torch.equal(more.y[:3], problem.y)
    assert torch.equal(more.x_true[:3], problem.x_true)
    assert Settings(**problem.parameters) == chosen


def test_every_setting_that_changes_the_problem_changes_its_hash() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"log_weight": -3.0},
        {"epsilon": 0.02},
        {"weights": "outside"},
        {"penalty": "l1"},
        {"penalty": "student_t"},
        {"penalty": "log_sum"},
        {"penalty": "quadratic"},
        {"noise": 0.2},
        {"filters": "random"},
        {"filter_size": 4},
        {"count": 2},
        {"shape": (4, 16)},
        *({"forward": forward} for forward in FORWARDS[1:]),
        {"forward": "blur", "blur_deviation": 2.0},
        {"forward": "fourier_radial", "spokes": 3},
        {"forward": "mask", "sampling": 0.5},
    ]
    hashes = {input_sha256(build(**change)) for change in changes}
    assert len(hashes) == len(changes)


@given(problem=instances())
@settings(max_examples=20)
def test_loss_and_its_gradient(problem: ConvFilters) -> None:
    x, p, _, _ = draws(problem)
    theta, h = problem.theta0(), 1e-3
    g_x, g_theta = problem.loss_gradient(x, theta)
    assert float(problem.loss(x, theta)) == pytest.approx(0.5 * float((x - problem.x_true).norm()) ** 2, rel=1e-13)
    slope = float(problem.loss(x + h * p, theta) - problem.loss(x - h * p, theta)) / (2 * h)
    # The loss is quadratic: no truncation; rounding 1e-15 / h of the loss.
    assert slope == pytest.approx(float((g_x * p).sum()), rel=1e-10, abs=1e-10)
    assert {name: value.shape for name, value in g_theta.items()} == {n: v.shape for n, v in theta.items()}
    assert all(float(value.abs().max()) == 0.0 for value in g_theta.values())
    # The loss is a sum over the pairs.
    parts = [problem.subset(slice(i, i + 1)).loss(x[i : i + 1], theta) for i in range(problem.batch)]
    assert close(torch.stack(parts).sum(), problem.loss(x, theta))


@pytest.mark.parametrize("forward", FORWARDS)
def test_single_precision_is_the_same_problem(forward: Any) -> None:
    problem = build(shape=(5, 6), forward=forward, log_weight=0.0, pairs=2)
    single = problem.to("cpu", torch.float32)
    x, p, u, a = draws(problem)
    for exact, rounded in (
        (problem.F(x, problem.theta0()), single.F(x.float(), single.theta0())),
        (problem.K(x, problem.theta0()), single.K(x.float(), single.theta0())),
        (problem.M(u, problem.theta0()), single.M(u.float(), single.theta0())),
        (problem.A.gram(x), single.A.gram(x.float())),
        (
            problem.pullback(p, a, x, u, problem.theta0())["c"],
            single.pullback(*(part.float() for part in (p, a, x, u)), single.theta0())["c"],
        ),
    ):
        assert rounded.dtype == torch.float32
        # Seven digits, less one for sums of up to some hundred terms.
        assert close(rounded.double(), exact, 2e-6)


def test_a_picture_of_256_x_256_with_24_filters_needs_no_matrix() -> None:
    """K alone would have 1.6 million rows of 65,536 columns, 800 GB."""
    problem = build(shape=(256, 256), filter_size=5, forward="blur", pairs=1)
    assert problem.u_shape == (24 * 65536,)
    theta = problem.theta0()
    x, p, u, a = draws(problem)
    maps = problem.linearise(x, theta)
    assert isinstance(problem.penalty, SmoothPenalty)
    curvature = problem.penalty.second_derivative(maps.K.matvec(x))

    def hessian(v: torch.Tensor) -> torch.Tensor:
        return maps.F_x.matvec(v) + maps.M.matvec(curvature * maps.K.matvec(v))

    # Sums of 1e5 normal products of random sign: 1e-16 times their root, relative to the vectors' lengths.
    for left, right, size in (
        ((maps.K.matvec(x) * u).sum(), (x * maps.K.rmatvec(u)).sum(), x.norm() * u.norm()),
        ((hessian(x) * p).sum(), (x * hessian(p)).sum(), x.norm() * p.norm()),
    ):
        assert abs(float(left - right)) <= 1e-13 * float(size)
    pulled = problem.pullback(p, a, x, u, theta)
    # Euler: the pairing is linear in c, so that <c, d/dc> is its value.
    value = (p * problem.M(u, theta)).sum() + (a * problem.K(x, theta)).sum()
    assert float((pulled["c"] * theta["c"]).sum()) == pytest.approx(float(value), rel=1e-10)


def test_patches_are_cut_out_of_the_folders_pictures(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 11), dtype=np.uint8)
    io.imsave(tmp_path / "a.png", picture, check_contrast=False)
    io.imsave(tmp_path / "too_low.png", picture[:3], check_contrast=False)
    problem = build(shape=(4, 7), pairs=20, folder=str(tmp_path))
    places = [(picture / 255)[i : i + 4, j : j + 7].ravel() for i in range(6) for j in range(5)]
    assert all(min(np.abs(place - x).max() for place in places) <= 1e-15 for x in problem.x_true.numpy())
    assert len(np.unique(problem.x_true.numpy(), axis=0)) > 5
    # A square is what `patch` draws with the same generator, as analysis_l1 has drawn it since it was recorded.
    square = images.crop(5, 5, str(tmp_path), np.random.default_rng(3))
    np.testing.assert_array_equal(square, images.patch(5, str(tmp_path), np.random.default_rng(3)))
    with pytest.raises(ValueError, match="no picture has room for a patch of 4 x 12 pixels"):
        build(shape=(4, 12), folder=str(tmp_path))


def test_in_a_configuration_a_pair_of_sides_is_one_value_of_the_axis() -> None:
    def sizes(shape: Any) -> list[tuple[Any, int, int]]:
        document = {
            "problem": [{"family": "conv_filters", "shape": shape, "pairs": 1}],
            "method": [{"key": "finite_differences"}],
        }
        cells = plan.expand(parse(document, "test.toml"), Catalogue.of([]), "test.toml")
        return [(cell.instance.identity.get("shape"), cell.instance.n, cell.instance.k) for cell in cells]

    assert sizes([[4, 6], [5, 5]]) == [([4, 6], 24, 192), ([5, 5], 25, 200)]
    assert sizes([12, [4, 6]]) == [(12, 12, 24), ([4, 6], 24, 192)]
    assert sizes(12) == [(12, 12, 24)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"shape": 8, "signal": "patches"}, "patches are pictures: write shape = [[8, 8]]"),
        ({"shape": (8, 8), "signal": "gaussian"}, "gaussian has one dimension: write shape = 64"),
        ({"filter_size": 9}, "filters of 9 x 9 do not fit into 8 x 8"),
        ({"shape": 8, "filter_size": (2, 3)}, "filters of 2 x 3 do not fit into 1 x 8"),
        ({"count": 9}, "dct has 8 filters of 3 x 3 besides the constant one"),
        ({"filter_size": 1}, "dct has 0 filters of 1 x 1"),
        ({"penalty": "l1", "epsilon": 0.1}, "l1 has no length: leave epsilon out"),
        ({"penalty": "quadratic", "epsilon": 0.1}, "quadratic has no length"),
        ({"penalty": "l1", "weights": "outside"}, "leave weights out"),
        ({"sampling": 0.5}, "sampling is for forward = mask or fourier_random or dense: leave it out"),
        ({"forward": "mask", "spokes": 3}, "spokes is for forward = fourier_radial: leave it out"),
        ({"blur_deviation": 1.0}, "blur_deviation is for forward = blur"),
        ({"forward": "mask", "sampling": 1.5}, "sampling is 1 at most, not 1.5"),
    ],
)
def test_bad_settings_are_refused_with_the_remedy(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        Settings(**bad)
    (error,) = refused.value.errors()
    assert words in error["msg"]


@pytest.mark.parametrize(
    "bad",
    [{"shape": 0}, {"shape": (8, 0)}, {"shape": (2, 2, 2)}, {"epsilon": 0.0}, {"noise": -1.0}, {"forward": "radon"}],
)
def test_impossible_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Settings(**bad)
