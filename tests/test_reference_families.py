"""The reference on the families beyond analysis_l1, against 50 digits and formulas."""

import math
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
import pydantic
import pytest
import torch

from bench._exact_lower_level import solve_exactly
from bench._existence import derivative_exists
from bench._lower_level import LowerLevel
from bench._patterns import conic_pattern, moreau_pattern
from bench._slopes import loss_change, moved, one_sided
from bench._smooth_lower_level import SmoothLevel, solve_smoothly
from bench.extended_precision import gradient_in_extended_precision
from bench.reference import reference_for
from problems import analysis_l1, conv_filters, synthesis_lasso, tv_game
from problems.contract import AutodiffProblem, Structure
from problems.penalties import CornerRoundedL1, MoreauL1

FAMILIES = {
    "conv_filters": (conv_filters.ConvFilters, conv_filters.Settings),
    "synthesis_lasso": (synthesis_lasso.SynthesisLasso, synthesis_lasso.Settings),
    "tv_game": (tv_game.TvGame, tv_game.Settings),
}


def one_pair(family, **settings):
    of, of_settings = FAMILIES[family]
    return of.build(of_settings(**settings)).subset(slice(0, 1))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("conv_filters", {"shape": 12, "penalty": "l1"}),
        ("synthesis_lasso", {"m": 8, "p": 5, "nonzeros": 2}),
        ("synthesis_lasso", {"m": 5, "p": 7, "nonzeros": 2, "loss": "least_squares"}),
        ("tv_game", {"penalty": "l1", "weights": "pair"}),
        ("tv_game", {"penalty": "l1", "symmetric": True}),
    ],
    ids=str,
)
def test_l1_families_agree_with_fifty_digits_inside_their_bar(family, settings):
    problem = one_pair(family, **settings)
    truth = gradient_in_extended_precision(problem).values
    reference = reference_for(problem, "coordinates", 0, None)
    assert reference.verdict == "smooth"
    # 1e-15: the 50 digits end in a pull-back in double precision
    assert (np.abs(reference.values - truth) <= reference.bars + 1e-15 * np.linalg.norm(truth)).all()
    assert np.linalg.norm(reference.bars) <= 1e-9 * np.linalg.norm(truth)  # K is rounded at every step


class _Settings(pydantic.BaseModel):
    """The toy has none."""


@dataclass(frozen=True)
class Toy(AutodiffProblem):
    """F(x) = x + r x^3 - y, K = W, M = s W^T entry by entry: neither affine nor a minimisation."""

    settings_type = _Settings

    y: torch.Tensor
    W: torch.Tensor
    r: float
    s: torch.Tensor
    penalty: Any
    structure = Structure.UNIQUE

    @classmethod
    def build(cls, settings):
        raise NotImplementedError

    batch = 1
    x_shape = property(lambda self: (self.W.shape[1],))
    u_shape = property(lambda self: (self.W.shape[0],))
    parameters = property(lambda self: {})

    def to(self, device, dtype):
        raise NotImplementedError

    def subset(self, samples):
        del samples
        return self

    def tensors(self):
        return {"y": self.y}

    def theta0(self):
        return {"W": self.W, "t": torch.tensor([0.3], dtype=torch.float64)}

    def F(self, x, theta):
        return (1 + theta["t"]) * x + self.r * x**3 - self.y

    def K(self, x, theta):
        return x @ theta["W"].T

    def M(self, u, theta):
        return u @ (self.s * theta["W"])

    def loss(self, x, theta):
        return (0.5 * x**2 + theta["t"] * torch.sin(x)).sum()  # no quadratic one, and it knows theta

    def loss_gradient(self, x, theta):
        raise AssertionError("the reference differentiates the loss itself")

    conic = conic_data = loss_gradient


def toy(penalty):
    rng = np.random.default_rng(3)
    y, W, s = (
        torch.from_numpy(part) for part in (rng.normal(size=2), rng.normal(size=(3, 2)), rng.uniform(0.8, 1.2, (3, 2)))
    )
    return Toy(y, W, 0.2, s, penalty)


def toy_gradient_in_thirty_digits(problem, epsilon):
    """Newton's method and differences of 1e-10 with mpmath, for the corner-rounded penalty."""
    with mpmath.workdps(30):
        y, s = problem.y.tolist(), problem.s.tolist()
        theta0 = [*problem.W.numpy().ravel().tolist(), 0.3]
        k, n = problem.W.shape
        start = solve_smoothly(SmoothLevel.of(problem, problem.theta0())).tolist()

        def loss(theta):
            W, t = [theta[i * n : (i + 1) * n] for i in range(k)], theta[-1]

            def residual(*x):
                z = [sum(W[i][j] * x[j] for j in range(n)) for i in range(k)]
                u = [zi / mpmath.sqrt(zi**2 + mpmath.mpf(epsilon) ** 2) for zi in z]
                return [
                    (1 + t) * x[j]
                    + mpmath.mpf(problem.r) * x[j] ** 3
                    - y[j]
                    + sum(s[i][j] * W[i][j] * u[i] for i in range(k))
                    for j in range(n)
                ]

            x = mpmath.findroot(residual, start, tol=1e-50)
            return sum(xj**2 / 2 + t * mpmath.sin(xj) for xj in x)

        h = mpmath.mpf(10) ** -10
        base = [mpmath.mpf(entry) for entry in theta0]
        gradient = []
        for i in range(len(base)):
            ahead, behind = list(base), list(base)
            ahead[i] += h
            behind[i] -= h
            gradient.append(float((loss(ahead) - loss(behind)) / (2 * h)))
        return np.array(gradient)


def test_a_smooth_penalty_agrees_with_thirty_digits_inside_its_bar():
    """A nonlinear F, M != K^T, and a loss that is not quadratic and depends on theta."""
    problem = toy(CornerRoundedL1(0.1))
    truth = toy_gradient_in_thirty_digits(problem, 0.1)
    reference = reference_for(problem, "coordinates", 0, None)
    assert reference.verdict == "smooth"
    assert (np.abs(reference.values - truth) <= reference.bars + 1e-16 * np.linalg.norm(truth)).all()
    assert np.linalg.norm(reference.bars) <= 1e-10 * np.linalg.norm(truth)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("conv_filters", {"shape": 12}),
        ("conv_filters", {"shape": 12, "forward": "blur", "weights": "outside"}),
        ("tv_game", {"weights": "pair"}),
        ("tv_game", {"graph": "grid", "learn_alpha": True}),
    ],
    ids=str,
)
def test_smooth_families_agree_with_their_adjoint_system_inside_their_bar(family, settings):
    """(F_x + M diag(phi'') K)^T p = g_x and the pull-back, at the reference's own x*: no differences."""
    problem = one_pair(family, **settings)
    theta = problem.theta0()
    level = SmoothLevel.of(problem, theta)
    x = solve_smoothly(level)
    u, curvature = level.derivative(level.K @ x), level.second_derivative(level.K @ x)
    point, certificate = torch.from_numpy(x)[None], torch.from_numpy(u)[None]
    g_x, g_theta = problem.loss_gradient(point, theta)
    p = np.linalg.solve(level.jacobian(x).T, g_x[0].numpy())
    a = curvature * (level.M.T @ p)
    pulled = problem.pullback(torch.from_numpy(p)[None], torch.from_numpy(a)[None], point, certificate, theta)
    truth = torch.cat([(g_theta[name] - pulled[name]).reshape(-1) for name in theta]).numpy()
    reference = reference_for(problem, "coordinates", 0, None)
    assert reference.verdict == "smooth"
    # 1e-13: the system in double precision, of a condition below 1e3
    assert (np.abs(reference.values - truth) <= reference.bars + 1e-13 * np.linalg.norm(truth)).all()
    assert np.linalg.norm(reference.bars) <= 1e-9 * np.linalg.norm(truth)


def test_both_routes_to_a_pattern_agree_where_both_exist():
    """A cone program, and the Moreau envelope as alpha grows, on a game that is a minimisation."""
    for seed in range(3):
        problem = one_pair("tv_game", penalty="l1", symmetric=True, seed=seed)
        level = LowerLevel.of(problem, problem.theta0())
        assert level.is_minimisation
        assert np.array_equal(conic_pattern(level), moreau_pattern(level))


@pytest.mark.parametrize(("w", "inside"), [(0.2, True), (0.6, False)])
def test_scalar_envelope_on_either_side_of_its_corner(w, inside):
    """(1 + t) x + w clip(2 w x) = 3: x* = 3 / (1 + t + 2 w^2) inside, (3 - w) / (1 + t) outside."""
    ones, t = torch.ones((1, 1), dtype=torch.float64), 0.3
    problem = replace(toy(MoreauL1(2.0)), y=3.0 * ones[0], W=w * ones, r=0.0, s=ones)
    x = 3.0 / (1.0 + t + 2.0 * w * w) if inside else (3.0 - w) / (1.0 + t)
    assert (2.0 * w * x < 1.0) == inside
    slope = -4.0 * w * x / (1.0 + t + 2.0 * w * w) if inside else -1.0 / (1.0 + t)
    reference = reference_for(problem, "coordinates", 0, None)
    assert abs(reference.values[0] - (x + t * math.cos(x)) * slope) <= reference.bars[0] + 1e-15
    assert reference.bars[0] <= 1e-11


EXISTENCE = [
    *(
        ("conv_filters", {"shape": (4, 4), "filter_size": 2, "penalty": "l1", "log_weight": -3.5, "seed": s})
        for s in (1, 3)
    ),
    ("conv_filters", {"shape": 16, "filter_size": 3, "penalty": "l1", "log_weight": -1.5}),
    ("tv_game", {"graph": "grid", "penalty": "l1", "symmetric": True}),
]


@pytest.mark.parametrize(("family", "settings"), EXISTENCE, ids=str)
def test_existence_agrees_with_one_sided_differences(family, settings):
    """Overlapping zero-mean filters and a grid: dependent rows on the cosupport. Conservative, never wrong."""
    problem = one_pair(family, **settings)
    theta = problem.theta0()
    level = LowerLevel.of(problem, theta)
    base = solve_exactly(level)
    assert base.rank_defect > 0
    rows = np.eye(sum(value.numel() for value in theta.values()))
    exists = derivative_exists(problem, theta, level, base, rows)
    slopes = one_sided(problem, theta, level, base, rows)
    assert exists.any()
    assert slopes.usable[exists].all()
    assert not exists[slopes.kink].any()
    if "b" in theta:  # K0 x* = 0 whatever the weights, so that these have a derivative; some tap has none
        assert exists[-theta["b"].numel() :].all()
        assert slopes.kink.any()
    reference = reference_for(problem, "coordinates", 0, None)
    assert np.array_equal(reference.usable, slopes.usable)
    assert np.array_equal(reference.kink, slopes.kink)
    assert reference.margin_dual is None
    middle = (slopes.ahead + slopes.behind) / 2.0
    assert (np.abs(reference.values - middle) <= reference.bars + slopes.bars).all()


def test_existence_of_duplicated_rows_is_that_of_the_formula():
    """Rows 0 and 4 are equal and on the cosupport: there is none in W_0j and W_4j with x*_j or p_j != 0."""
    W = torch.from_numpy(np.concatenate([0.4 * np.eye(4), 0.4 * np.eye(4)[:1]]))
    y, x_true = torch.tensor([[0.2, 1.0, -0.1, 0.9]], dtype=torch.float64), torch.full((1, 4), 0.5).double()
    problem = replace(analysis_l1.AnalysisL1.build(analysis_l1.Settings(n=4)), W=W, y=y, x_true=x_true)
    theta = problem.theta0()
    level = LowerLevel.of(problem, theta)
    base = solve_exactly(level)
    expected = np.ones((5, 4), bool)
    expected[[[0], [4]], [1, 3]] = False
    found = derivative_exists(problem, theta, level, base, np.eye(20))
    assert np.array_equal(found.reshape(5, 4), expected)


def test_what_has_no_reference_says_why():
    nonconvex = reference_for(one_pair("conv_filters", shape=12, penalty="student_t"), 2, 0, None)
    assert nonconvex.verdict == "failed"
    assert "unique" in nonconvex.message
    continuum = reference_for(one_pair("tv_game", instance="continuum"), 2, 0, None)
    assert (continuum.verdict, "unique" in continuum.message) == ("failed", True)
    masked = [
        analysis_l1.AnalysisL1.build(analysis_l1.Settings(n=8, forward="mask", scale=0.1, transform=transform))
        for transform in ("finite_difference", "identity")
    ]
    # Between two measured samples every monotone x has the same total variation; a sample that costs and is not
    # measured is zero.
    assert "not unique" in reference_for(masked[0], 2, 0, None).message
    assert reference_for(masked[1], 2, 0, None).verdict == "smooth"


def test_change_of_the_loss_is_exact_where_it_is_quadratic():
    """1/2 ||D z - x_true||^2 in both of its arguments at once, against its values; steps of order 1."""
    problem = one_pair("synthesis_lasso", m=6, p=4, nonzeros=2)
    rng = np.random.default_rng(0)
    theta, x, dx, change = problem.theta0(), rng.normal(size=4), rng.normal(size=4), rng.normal(size=24)
    values = [
        float(problem.loss(torch.from_numpy(at)[None], where))
        for at, where in ((x, theta), (x + dx, moved(theta, change)))
    ]
    assert loss_change(problem, theta, change, x, dx) == pytest.approx(values[1] - values[0], rel=1e-13)
