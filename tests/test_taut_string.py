"""The taut string against its own optimality conditions, closed forms, two other solvers and the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from first_order_truth import build, clarabel
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.reference import reference_for
from methods.blorc import Blorc
from methods.solvers.active_set import ActiveSet
from methods.solvers.taut_string import TautString
from problems.analysis_l1 import AnalysisL1
from problems.contract import kkt_residual, scales


def denoiser(y: np.ndarray, weight: float) -> AnalysisL1:
    """1/2 ||x - y||^2 + |weight| sum |x[j+1] - x[j]| for the rows of y."""
    n = y.shape[1]
    W = weight * (np.eye(n, k=1) - np.eye(n))[: n - 1]
    samples = torch.from_numpy(y)
    return replace(build(n=2, transform="finite_difference"), y=samples, x_true=0 * samples, W=torch.from_numpy(W))


def violation(y: np.ndarray, weight: float, x: np.ndarray, u: np.ndarray) -> float:
    """How far from optimal, written out in long double: stationarity relative to |y|, and 0 <= |Dx| - u Dx."""
    y, x, u = (array.astype(np.longdouble) for array in (y, x, u))
    size = max(float(np.abs(y).max()), 1e-300)
    jumps = np.diff(x, axis=1)
    adjoint = weight * -np.diff(np.pad(u, ((0, 0), (1, 1))), axis=1)
    stationarity = np.abs(x - y + adjoint).max() / size
    alignment = (np.abs(jumps) - np.sign(weight) * u * jumps).max(initial=0.0) / size
    return float(max(stationarity, alignment, np.abs(u).max(initial=0.0) - 1.0))


# Below 1e-308 a mean of two numbers has no correct digit left.
ordinary, short = st.floats(-10, 10, allow_subnormal=False), st.floats(-1, 1, allow_subnormal=False)
signals = st.integers(1, 40).flatmap(
    lambda n: st.one_of(
        arrays(np.float64, (2, n), elements=ordinary),
        arrays(np.float64, (2, n), elements=st.integers(-2, 2).map(float)),  # ties everywhere
        arrays(np.float64, (2, n), elements=short).map(lambda steps: np.cumsum(steps, axis=1)),
    )
)


@settings(max_examples=150, deadline=None)
@given(y=signals, weight=st.one_of(st.floats(1e-3, 50.0), st.floats(-5.0, -1e-3), st.sampled_from([0.5, 1.0, 2.0])))
def test_optimality(y: np.ndarray, weight: float) -> None:
    """The problem is strictly convex: what meets its conditions is the solution."""
    problem = denoiser(y, weight)
    solved = TautString().solve(problem, problem.theta0())
    assert solved.converged
    # Sums over up to 40 entries, each rounded at 1e-16 of the largest.
    assert violation(y, weight, solved.x.numpy(), solved.u.numpy()) <= 1e-14


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 32), weight=st.floats(0.05, 3.0))
def test_the_active_set_finds_the_same(seed: int, n: int, weight: float) -> None:
    problem = denoiser(np.random.default_rng(seed).normal(size=(2, n)), weight)
    mine, other = (solver.solve(problem, problem.theta0()) for solver in (TautString(), ActiveSet()))
    assert other.converged
    # The active set's Gram matrix of differences has a condition number of up to n^2 = 1e3.
    torch.testing.assert_close(mine.x, other.x, rtol=0, atol=1e-12)
    torch.testing.assert_close(mine.u, other.u, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, -0.3])
def test_clarabel_finds_the_same(scale: float) -> None:
    problem = build(n=64, transform="finite_difference", scale=scale, pairs=3, seed=2)
    solved = TautString().solve(problem, problem.theta0())
    # Clarabel's gap of 1e-12 bounds ||x - x*||^2 / 2, so 1e-6; it ends far below its tolerance, at 5e-11 here.
    torch.testing.assert_close(solved.x, clarabel(problem), rtol=0, atol=1e-9)


def test_long_signals_stay_exact() -> None:
    problem = build(n=1024, transform="finite_difference", scale=0.3, pairs=4)
    theta = problem.theta0()
    solved = TautString().solve(problem, theta)
    certificate = float(kkt_residual(problem, solved.x, solved.u, theta, scales(problem, theta)).max())
    assert max(certificate, solved.residual) <= 1e-14  # pieces of up to 1024 entries, summed from their own start


@pytest.mark.parametrize("excess", [1.0, 1.5, 1e6])
def test_a_heavy_weight_leaves_the_mean(excess: float) -> None:
    """Constant from the weight at which the tube first holds a straight string: u = sum(mean - y) / weight."""
    y = np.random.default_rng(0).normal(size=(1, 50))
    sums = np.cumsum(y.mean() - y, axis=1)[:, :-1]
    weight = excess * np.abs(sums).max()
    solved = TautString().solve(problem := denoiser(y, weight), problem.theta0())
    np.testing.assert_allclose(solved.x.numpy(), np.full_like(y, y.mean()), rtol=0, atol=1e-14)
    np.testing.assert_allclose(solved.u.numpy(), sums / weight, rtol=0, atol=1e-13)  # 50 sums of rounding


def test_a_light_weight_moves_each_sample_by_its_neighbours() -> None:
    """x = y - W^T sign(W y) while no piece forms, that is while no difference is below four weights."""
    y = np.random.default_rng(1).normal(size=(1, 50))
    weight = np.abs(np.diff(y)).min() / 4.001
    solved = TautString().solve(problem := denoiser(y, weight), problem.theta0())
    signs = np.sign(np.diff(y))
    np.testing.assert_array_equal(solved.u.numpy(), signs)
    np.testing.assert_allclose(solved.x.numpy(), y + weight * np.diff(np.pad(signs, ((0, 0), (1, 1)))), atol=1e-15)


def test_a_flat_signal_a_single_sample_and_no_weight_come_back_as_they_are() -> None:
    rng = np.random.default_rng(2)
    for y, weight in [(np.full((1, 9), 0.1), 0.7), (rng.normal(size=(2, 1)), 0.7), (rng.normal(size=(2, 9)), 0.0)]:
        solved = TautString().solve(problem := denoiser(y, weight), problem.theta0())
        np.testing.assert_allclose(solved.x.numpy(), y, rtol=0, atol=1e-16)
        assert not solved.u.any()


def test_the_sign_of_the_weight_is_that_of_u() -> None:
    y = np.random.default_rng(3).normal(size=(2, 30))
    plus, minus = (TautString().solve(problem := denoiser(y, weight), problem.theta0()) for weight in (0.4, -0.4))
    assert torch.equal(plus.x, minus.x)
    assert torch.equal(plus.u, -minus.u)


def test_the_reference_rests_on_the_same_solution() -> None:
    """Both margins of the reference's lower level, and its derivative along W, from the taut string alone.

    On one pattern x* is linear in the weight and L quadratic, so that a central difference of L has no error but
    rounding: 1e-16 L / 1e-4.
    """
    problem = build(n=12, transform="finite_difference", scale=0.3, seed=4)
    reference = reference_for(problem, "coordinates", 0, None)
    solved = TautString().solve(problem, problem.theta0())
    Kx, inside = (problem.W @ solved.x[0]).abs(), solved.u[0].abs() < 1
    assert 0 < int(inside.sum()) < len(inside)
    assert reference.margin_primal == pytest.approx(float((Kx[~inside] / Kx.max()).min()), rel=1e-10)
    assert reference.margin_dual == pytest.approx(float(1 - solved.u[0][inside].abs().max()), rel=1e-10)

    def at(stretch: float) -> tuple[float, torch.Tensor]:
        theta = {"W": stretch * problem.W}
        moved = TautString().solve(problem, theta)
        return float(problem.loss(moved.x, theta)), moved.u.abs() < 1

    (ahead, pattern), (behind, pattern_behind) = at(1 + 1e-4), at(1 - 1e-4)
    assert torch.equal(pattern[0], inside)
    assert torch.equal(pattern_behind[0], inside)
    along_W = float(reference.values @ problem.W.numpy().ravel())
    assert along_W == pytest.approx((ahead - behind) / 2e-4, abs=1e-11)


@pytest.mark.parametrize(
    "other",
    [
        {"transform": "dct"},
        {"transform": "identity"},
        {"transform": "finite_difference", "k": 9},
    ],
    ids=lambda other: "-".join(map(str, other.values())),
)
def test_another_transform_is_refused_with_the_remedy(other: dict) -> None:
    problem = build(n=8, **other)
    refusal = TautString().refusal(problem)
    assert refusal is not None
    assert "solver = 'active_set'" in refusal
    with pytest.raises(ValueError, match="finite_difference"):
        TautString().solve(problem, problem.theta0())


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 30), k=st.integers(0, 28), scale=st.sampled_from([0.05, 0.3, -0.3, 2.0]), seed=st.integers(0, 9)
)
def test_the_first_differences_alone_are_a_shorter_string(n: int, k: int, scale: float, seed: int) -> None:
    """Past sample k no row acts: x = y. The rest is the string of k + 1 samples, and its gradient theirs."""
    k = min(k, n - 1)
    whole = denoiser(np.random.default_rng(seed).normal(size=(3, n)), scale)
    cut = replace(whole, W=whole.W[:k])
    solved = TautString().solve(cut, cut.theta0())
    assert solved.converged
    # Both sides are right to rounding, of entries of size one.
    np.testing.assert_array_equal(solved.x[:, k + 1 :], cut.y[:, k + 1 :])
    if k > 0:
        short = denoiser(cut.y[:, : k + 1].numpy(), scale)
        expected = TautString().solve(short, short.theta0())
        torch.testing.assert_close(solved.x[:, : k + 1], expected.x, rtol=0, atol=1e-14)
    other = ActiveSet().solve(cut, cut.theta0())
    torch.testing.assert_close(solved.x, other.x, rtol=0, atol=1e-13)
    assert solved.factor is not None
    assert other.factor is not None
    g = torch.from_numpy(np.random.default_rng(seed + 10).normal(size=(3, n)))
    torch.testing.assert_close(solved.factor.adjoint(g), other.factor.adjoint(g), rtol=0, atol=1e-9)


def test_a_transform_that_is_nearly_a_difference_is_no_difference() -> None:
    problem = build(n=8, transform="finite_difference")
    assert TautString().refusal(problem) is None
    W = problem.W.clone()
    W[2, 5] = 1e-12
    with pytest.raises(ValueError, match="one weight"):
        TautString().solve(problem, {"W": W})


def test_another_forward_operator_is_refused() -> None:
    refusal = TautString().refusal(build(n=8, transform="finite_difference", forward="blur"))
    assert refusal is not None
    assert "forward = 'identity'" in refusal


def test_a_sample_that_is_not_a_number_is_not_called_converged() -> None:
    y = np.random.default_rng(4).normal(size=(3, 9))
    y[1, 4] = np.nan
    solved = TautString().solve(problem := denoiser(y, 0.3), problem.theta0())
    assert not solved.converged
    assert bool(solved.x[[0, 2]].isfinite().all())


def test_a_gradient_method_runs_on_it() -> None:
    """The closed form takes (x*, u) from any solver, here by the key that a configuration would write."""
    problem = build(n=12, transform="finite_difference", scale=0.3, seed=4)
    method = Blorc(solver="taut_string")
    assert method.refusal(problem) is None
    prepared, theta = method.prepare(problem), problem.theta0()
    gradient = method.hypergradient(prepared, theta, method.solve(prepared, theta))["W"].numpy().ravel()
    expected = reference_for(problem, "coordinates", 0, None).values
    # The reference's error bars are near 1e-11, relative.
    assert np.linalg.norm(gradient - expected) <= 1e-9 * np.linalg.norm(expected)
    assert "finite_difference" in (method.refusal(build(n=12, transform="dct")) or "")


def test_single_precision_comes_back_single() -> None:
    problem = build(n=16, transform="finite_difference", scale=0.3)
    double = TautString().solve(problem, problem.theta0())
    single = problem.to("cpu", torch.float32)
    solved = TautString().solve(single, single.theta0())
    assert solved.x.dtype == solved.u.dtype == torch.float32
    torch.testing.assert_close(solved.x.double(), double.x, rtol=0, atol=1e-6)  # y itself is rounded at 6e-8
