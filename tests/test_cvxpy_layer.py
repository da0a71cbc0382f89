"""cvxpy_layer against the exact gradient of tests/analysis_l1_truth.py, and its claims on the library it wraps."""

from typing import Any

import diffcp.cone_program
import numpy as np
import pytest
import torch

from methods.cvxpy_layer import CvxpyLayer
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import kkt_residual, scales
from tests import analysis_l1_truth

SQUARE = Settings(n=16, transform="identity", seed=1)
TALL = Settings(n=16, k=32, transform="gaussian", scale=0.3, seed=3)
WIDE = Settings(n=16, transform="finite_difference", scale=0.3, seed=0)


def gradient(method: CvxpyLayer, problem: AnalysisL1) -> np.ndarray:
    prepared, theta = method.prepare(problem), problem.theta0()
    return method.hypergradient(prepared, theta, method.solve(prepared, theta))["W"].numpy()


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("settings", [SQUARE, TALL, WIDE], ids=["square", "tall", "wide"])
def test_the_truth_is_the_derivative_of_the_loss(settings: Settings) -> None:
    problem = AnalysisL1.build(settings)
    W, rng, h = problem.W.numpy(), np.random.default_rng(0), 1e-6
    truth = analysis_l1_truth.solve(problem, W)
    for _ in range(3):
        direction = rng.normal(size=W.shape)
        plus, minus = (analysis_l1_truth.solve(problem, W + step * direction).loss for step in (h, -h))
        # Losses round to 1e-16: their difference quotient is good to 1e-10 / |gradient|, and h^2 = 1e-12.
        error = abs((plus - minus) / (2 * h) - (truth.gradient * direction).sum())
        assert error <= 1e-7 * np.linalg.norm(truth.gradient)


@pytest.mark.parametrize("settings", [SQUARE, TALL, WIDE], ids=["square", "tall", "wide"])
@pytest.mark.parametrize(
    ("solver", "mode", "tolerance", "bound"),
    [
        # SCS reaches 1e-12, and the dense mode solves the linear system to rounding.
        ("SCS", "dense", 1e-12, 1e-9),
        # lsmr stops at 1e-10 relative residual, lsqr at 1e-8, times the embedding's condition number.
        ("SCS", "lsmr", 1e-12, 1e-6),
        ("SCS", "lsqr", 1e-12, 1e-4),
        # Central differences of step 1e-3 of a map that is smooth there; one-sided ones are off by their step.
        ("SCS", "lpgd", 1e-12, 1e-6),
        ("SCS", "lpgd_left", 1e-12, 2e-3),
        ("SCS", "lpgd_right", 1e-12, 2e-3),
        # Clarabel stalls near 1e-7 on the second-order cone; at its defaults, 1e-8, it is good to the root of that.
        ("Clarabel", "dense", 1e-12, 2e-5),
        ("Clarabel", "lsmr", 1e-12, 2e-5),
        ("Clarabel", "lsmr", None, 1e-3),
    ],
)
def test_gradient(settings: Settings, solver: Any, mode: Any, tolerance: float | None, bound: float) -> None:
    problem = AnalysisL1.build(settings)
    truth = analysis_l1_truth.solve(problem, problem.W.numpy())
    found = gradient(CvxpyLayer(solver=solver, mode=mode, tolerance=tolerance), problem)
    assert relative_error(found, truth.gradient) <= bound


@pytest.mark.parametrize("forward", ["identity", "blur", "gaussian"])
@pytest.mark.parametrize("fidelity", ["half", "full"])
def test_solution_and_certificate(forward: Any, fidelity: Any) -> None:
    settings = Settings(n=16, transform="finite_difference", scale=0.3, forward=forward, fidelity=fidelity, pairs=2)
    problem = AnalysisL1.build(settings)
    method, theta = CvxpyLayer(tolerance=1e-11), problem.theta0()
    solution = method.solve(method.prepare(problem), theta)
    assert solution.converged
    assert solution.u is not None
    # The sign of u is settled here: F + M u = 0, not F - M u = 0. SCS's tolerance, times the size of its cone program.
    assert float(kkt_residual(problem, solution.x, solution.u, theta, scales(problem, theta)).max()) <= 1e-8
    for sample in range(2):
        truth = analysis_l1_truth.solve(problem, problem.W.numpy(), sample)
        np.testing.assert_allclose(solution.x[sample].numpy(), truth.x, atol=1e-8)


@pytest.mark.parametrize("mode", ["dense", "lsqr", "lpgd"])
def test_a_batch_is_the_sum_of_its_samples(mode: Any) -> None:
    problem, method = AnalysisL1.build(SQUARE.model_copy(update={"pairs": 3})), CvxpyLayer(mode=mode, tolerance=1e-10)
    singles = sum(gradient(method, problem.subset(slice(i, i + 1))) for i in range(3))
    # The same program, sample by sample, in the same order.
    np.testing.assert_allclose(gradient(method, problem), singles, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", ["dense", "lsqr", "lpgd"])
def test_hypergradient_is_repeatable_and_leaves_everything_as_it_was(mode: Any) -> None:
    problem, method = AnalysisL1.build(WIDE), CvxpyLayer(mode=mode)
    W, theta = problem.W.clone(), problem.theta0()
    prepared = method.prepare(problem)
    solution = method.solve(prepared, theta)
    x = solution.x.clone()
    first, second = (method.hypergradient(prepared, theta, solution)["W"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(theta["W"], W)
    assert torch.equal(solution.x, x)
    assert not theta["W"].requires_grad


def test_pairs_of_one_shape_share_one_compiled_layer_and_no_others_do() -> None:
    method = CvxpyLayer()
    base = Settings(n=8, transform="dct", forward="gaussian", pairs=2)
    problem = AnalysisL1.build(base)
    tool = method.prepare(problem.subset(slice(0, 1))).tool
    assert method.prepare(problem.subset(slice(1, 2))).tool is tool
    assert method.prepare(AnalysisL1.build(base.model_copy(update={"scale": 0.5}))).tool is tool
    # A, the weight of the data term, and the shapes are baked into the canonical form.
    for changed in ({"seed": 1}, {"fidelity": "full"}, {"k": 9}, {"forward": "identity"}):
        assert method.prepare(AnalysisL1.build(base.model_copy(update=changed))).tool is not tool


def test_a_shared_layer_serves_each_problem_its_own_data() -> None:
    method = CvxpyLayer(mode="dense", tolerance=1e-12)
    for seed in (4, 5):
        problem = AnalysisL1.build(SQUARE.model_copy(update={"seed": seed}))
        truth = analysis_l1_truth.solve(problem, problem.W.numpy())
        assert relative_error(gradient(method, problem), truth.gradient) <= 1e-9


def test_it_runs_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("diffcp opened a pool of threads")

    monkeypatch.setattr(diffcp.cone_program, "ThreadPool", refuse)
    gradient(CvxpyLayer(), AnalysisL1.build(SQUARE.model_copy(update={"pairs": 2})))


@pytest.mark.parametrize("solver", ["SCS", "Clarabel"])
def test_the_tolerance_reaches_the_solver(solver: Any) -> None:
    problem = AnalysisL1.build(TALL)
    truth = analysis_l1_truth.solve(problem, problem.W.numpy())

    def error(tolerance: float) -> float:
        method = CvxpyLayer(solver=solver, tolerance=tolerance)
        return float(np.abs(method.solve(method.prepare(problem), problem.theta0()).x[0].numpy() - truth.x).max())

    assert error(1e-10) <= 1e-2 * error(1e-2)


def test_an_unreachable_tolerance_is_not_called_converged() -> None:
    problem, method = AnalysisL1.build(Settings(n=4, transform="dct")), CvxpyLayer(tolerance=1e-300)
    assert not method.solve(method.prepare(problem), problem.theta0()).converged


def test_single_precision_is_refused_with_the_remedy() -> None:
    problem = AnalysisL1.build(SQUARE)
    assert CvxpyLayer().refusal(problem) is None
    refusal = CvxpyLayer().refusal(problem.to("cpu", torch.float32))
    assert refusal == "diffcp computes in double precision: set dtype = 'float64'"


def test_problems_without_a_unique_solution_are_refused_with_the_remedy() -> None:
    refusal = CvxpyLayer().refusal(AnalysisL1.build(SQUARE.model_copy(update={"forward": "mask"})))
    assert refusal is not None
    assert refusal.startswith("needs unique: use a forward matrix with full column rank")
