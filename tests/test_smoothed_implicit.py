"""smoothed_implicit against differences of its own smoothed loss, and against the l1 gradient as epsilon falls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.smoothed_implicit import SmoothedImplicit
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import Problem, Structure, Theta
from problems.penalties import L1, CornerRoundedL1, MoreauL1
from tests import analysis_l1_truth
from tests.toy_family import ToyFamily

SMOOTHINGS = ["corner_rounded", "moreau"]
ROUTES = [
    {"solve_by": "newton", "hessian": "dense", "tolerance": 1e-12},
    {"solve_by": "newton", "hessian": "cg", "tolerance": 1e-12},
    {"solve_by": "accelerated_gradient", "hessian": "dense", "tolerance": 1e-12},
    {"solve_by": "accelerated_gradient", "hessian": "cg", "tolerance": 1e-12},
]
ROUTE_NAMES = ["newton-dense", "newton-cg", "accelerated-dense", "accelerated-cg"]
WIDE = Settings(n=16, transform="finite_difference", scale=0.3, pairs=2, seed=1)
TALL_FULL = Settings(n=12, k=18, transform="gaussian", scale=0.5, forward="gaussian", fidelity="full", pairs=2, seed=2)


@dataclass(frozen=True)
class Game(ToyFamily):
    """F(x) = H x - y with H positive definite but not symmetric, K = W, M = V^T with V other than W."""

    structure = Structure.AFFINE_F | Structure.UNIQUE | Structure.L1
    penalty = L1()

    H: Tensor
    W: Tensor
    V: Tensor

    @classmethod
    def build(cls, settings: Any) -> "Game":
        rng = np.random.default_rng(settings)
        n, k, b = 7, 9, 3
        skew, W = rng.normal(size=(n, n)), rng.normal(size=(k, n)) / 3
        H = 2 * np.eye(n) + 0.7 * (skew - skew.T)
        arrays = (rng.normal(size=(b, n)), rng.normal(size=(b, n)), H, W, W + 0.1 * rng.normal(size=(k, n)))
        return cls(*map(torch.from_numpy, arrays))

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.W.shape[1],)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (self.W.shape[0],)

    def theta0(self) -> Theta:
        return {"W": self.W, "V": self.V, "H": self.H}

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        return x @ theta["H"].T - self.y

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        return x @ theta["W"].T

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        return u @ theta["V"]

    def loss(self, x: Tensor, theta: Theta) -> Tensor:
        return 0.5 * ((x - self.x_true) ** 2).sum() + 0.1 * (theta["V"] ** 3).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        zero = {name: torch.zeros_like(value) for name, value in theta.items()}
        return x - self.x_true, {**zero, "V": 0.3 * theta["V"] ** 2}

    def tensors(self) -> dict[str, Tensor]:
        return {"y": self.y, "x_true": self.x_true}


def gradient(method: SmoothedImplicit, problem: Problem) -> Theta:
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    assert solution.converged
    return method.hypergradient(prepared, theta, solution)


def smoothed_loss(method: SmoothedImplicit, problem: Problem, theta: Theta) -> float:
    solution = method.solve(method.prepare(problem), theta)
    assert solution.converged
    return float(problem.loss(solution.x, theta))


def check_against_differences(method: SmoothedImplicit, reference: SmoothedImplicit, problem: Problem) -> None:
    """Fourth-order central differences of L, by `reference`, along three random directions; relative error <= 1e-8."""
    found, theta, rng = gradient(method, problem), problem.theta0(), np.random.default_rng(0)
    size = float(sum((value**2).sum() for value in found.values())) ** 0.5
    for _ in range(3):
        direction = {name: torch.from_numpy(rng.normal(size=value.shape)) for name, value in theta.items()}
        slope = 0.0
        h = 2.5e-5
        for multiple, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = {name: value + multiple * h * direction[name] for name, value in theta.items()}
            slope += weight * smoothed_loss(reference, problem, moved) / (12 * h)
        expected = float(sum((found[name] * direction[name]).sum() for name in theta))
        # Truncation fell 16-fold per halving of h, to 6e-11 here; rounding is 1e-15 / h of the loss.
        assert abs(slope - expected) <= 1e-8 * size


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("route", ROUTES, ids=ROUTE_NAMES)
@pytest.mark.parametrize("instance", [WIDE, TALL_FULL], ids=["wide", "tall-full"])
def test_it_is_the_exact_gradient_of_the_smoothed_problem(smoothing: Any, route: Any, instance: Settings) -> None:
    method = SmoothedImplicit(smoothing=smoothing, epsilon=0.05, **route)
    reference = SmoothedImplicit(smoothing=smoothing, epsilon=0.05, tolerance=1e-13)
    check_against_differences(method, reference, AnalysisL1.build(instance))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("seed", range(3))
def test_games_too(smoothing: Any, seed: int) -> None:
    method = SmoothedImplicit(smoothing=smoothing, epsilon=0.05, tolerance=1e-13)
    check_against_differences(method, method, Game.build(seed))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(
    "instance",
    [
        Settings(n=16, transform="finite_difference", scale=0.3, seed=1),
        Settings(n=16, k=12, transform="gaussian", seed=1),
        Settings(n=16, k=32, transform="gaussian", scale=0.3, seed=3),
    ],
    ids=["wide", "rows-three-quarters", "tall"],
)
def test_bias_against_l1_falls_with_epsilon(smoothing: Any, instance: Settings) -> None:
    problem = AnalysisL1.build(instance)
    truth = analysis_l1_truth.solve(problem, problem.W.numpy()).gradient
    biases = []
    for epsilon in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        found = gradient(SmoothedImplicit(smoothing=smoothing, epsilon=epsilon), problem)["W"].numpy()
        biases.append(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    # To first order the bias is epsilon over the margins, which are above 1e-4 here: tenfold per tenfold at the end.
    assert np.all(np.diff(biases) < 0)
    assert biases[-1] <= 1e-4
    assert biases[-1] == pytest.approx(0.1 * biases[-2], rel=0.2)


@settings(max_examples=25, deadline=None)
@given(
    smoothing=st.sampled_from(SMOOTHINGS),
    epsilon=st.sampled_from([1e-1, 1e-2, 1e-4, 1e-6, 1e-8]),
    n=st.integers(2, 24),
    k=st.integers(1, 40),
    transform=st.sampled_from(["identity", "dct", "gaussian"]),
    scale=st.sampled_from([0.03, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_newton_reaches_twelve_digits_at_any_epsilon(
    smoothing: Any, epsilon: float, n: int, k: int, transform: Any, scale: float, seed: int
) -> None:
    problem = AnalysisL1.build(Settings(n=n, k=k, transform=transform, scale=scale, pairs=3, seed=seed))
    method, theta = SmoothedImplicit(smoothing=smoothing, epsilon=epsilon, tolerance=1e-12), problem.theta0()
    solution = method.solve(method.prepare(problem), theta)
    assert solution.converged
    assert solution.u is not None
    # The path has at most 12 stages from |Ky| to epsilon / 1000, of a few Newton steps each, as at any epsilon.
    assert solution.iterations <= 80
    # The method's own claim, restated from x and u: stationarity to 1e-12 ...
    y = problem.y.abs().amax(1)
    stationarity = (problem.F(solution.x, theta) + problem.M(solution.u, theta)).abs().amax(1) / y
    assert float(stationarity.max()) <= 1e-12
    # ... and u = phi'(z) at a z that differs from Kx by no more than 1e-12 epsilon or the rounding of Kx.
    phi = CornerRoundedL1(epsilon) if smoothing == "corner_rounded" else MoreauL1(1 / epsilon)
    z = problem.K(solution.x, theta)
    slack = 1e-12 * epsilon + 1e-14 * float(torch.linalg.matrix_norm(problem.W)) * float(y.max())
    length = z.abs().clamp(min=epsilon) if smoothing == "corner_rounded" else torch.full_like(z, epsilon)
    # A length in z per unit of u, since phi(z) u = z, or epsilon u = z; u itself rounds at 1e-16.
    assert bool(((solution.u - phi.derivative(z)).abs() * length <= slack + 1e-15 * length).all())


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("route", ROUTES, ids=ROUTE_NAMES)
def test_a_batch_is_the_sum_of_its_samples(smoothing: Any, route: Any) -> None:
    problem = AnalysisL1.build(WIDE.model_copy(update={"pairs": 3}))
    method = SmoothedImplicit(smoothing=smoothing, epsilon=1e-2, **route)
    singles = sum(gradient(method, problem.subset(slice(i, i + 1)))["W"] for i in range(3))
    found = gradient(method, problem)["W"]
    # Each is within its tolerance, 1e-12, times the condition of the smoothed problem, 1 / epsilon and more.
    assert float((found - singles).norm() / found.norm()) <= 1e-9


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("epsilon", [1e-2, 1e-4])
def test_all_routes_agree(smoothing: Any, epsilon: float) -> None:
    problem = AnalysisL1.build(WIDE)
    found = [
        gradient(SmoothedImplicit(smoothing=smoothing, epsilon=epsilon, **route), problem)["W"] for route in ROUTES
    ]
    for other in found[1:]:
        # A residual of 1e-12 over epsilon = 1e-4, which first-order iterates turn into an error of u.
        assert float((other - found[0]).norm() / found[0].norm()) <= 1e-7


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_warm_start_and_repetition(smoothing: Any) -> None:
    problem = AnalysisL1.build(WIDE)
    method, theta = SmoothedImplicit(smoothing=smoothing), problem.theta0()
    prepared = method.prepare(problem)
    cold = method.solve(prepared, theta)
    assert method.solve(prepared, theta, cold).iterations == 0
    moved = {"W": theta["W"] + 1e-5 * torch.ones_like(theta["W"])}
    near, far = method.solve(prepared, moved, cold), method.solve(prepared, moved)
    assert near.converged
    assert near.iterations < far.iterations
    # Both are within 1e-10 of the one solution.
    assert float((near.x - far.x).abs().max()) <= 1e-9
    x, W = cold.x.clone(), theta["W"].clone()
    first, second = (method.hypergradient(prepared, theta, cold)["W"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(cold.x, x)
    assert torch.equal(theta["W"], W)


def test_a_bad_warm_start_does_no_harm() -> None:
    problem, other = AnalysisL1.build(WIDE), AnalysisL1.build(WIDE.model_copy(update={"seed": 9}))
    method, theta = SmoothedImplicit(), problem.theta0()
    wrong = method.solve(method.prepare(other), theta)
    cold, warm = (method.solve(method.prepare(problem), theta, start) for start in (None, wrong))
    assert warm.converged
    assert float((warm.x - cold.x).abs().max()) <= 1e-9


@pytest.mark.parametrize("route", ROUTES, ids=ROUTE_NAMES)
def test_too_few_steps_are_not_called_converged(route: Any) -> None:
    problem, method = AnalysisL1.build(WIDE), SmoothedImplicit(max_steps=3, **route)
    solution = method.solve(method.prepare(problem), problem.theta0())
    assert not solution.converged
    assert solution.iterations == 3


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_single_precision(smoothing: Any) -> None:
    problem = AnalysisL1.build(WIDE)
    method = SmoothedImplicit(smoothing=smoothing, epsilon=1e-2, tolerance=1e-6)
    exact = gradient(method.model_copy(update={"tolerance": 1e-12}), problem)["W"]
    found = gradient(method, problem.to("cpu", torch.float32))["W"]
    assert found.dtype == torch.float32
    # Seven digits, of which the condition 1 / epsilon takes two to three.
    assert float((found.double() - exact).norm() / exact.norm()) <= 1e-3


@pytest.mark.parametrize(
    ("method", "problem", "words"),
    [
        (SmoothedImplicit(hessian="cg"), Game.build(0), "hessian = 'dense'"),
        (SmoothedImplicit(solve_by="accelerated_gradient"), Game.build(0), "solve_by = 'newton'"),
        (SmoothedImplicit(), AnalysisL1.build(Settings(n=8, forward="mask")), "full column rank"),
    ],
)
def test_refusals_name_the_remedy(method: SmoothedImplicit, problem: Problem, words: str) -> None:
    refusal = method.refusal(problem)
    assert refusal is not None
    assert words in refusal


def test_nothing_else_is_refused() -> None:
    assert SmoothedImplicit().refusal(Game.build(0)) is None
    for route in ROUTES:
        assert SmoothedImplicit(**route).refusal(AnalysisL1.build(TALL_FULL)) is None
