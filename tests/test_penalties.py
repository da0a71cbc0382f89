"""Penalties against their definitions: scipy's minimiser for prox and envelope, differences for derivatives,
and the printed formulas of the smooth penalties differentiated in extended precision."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from problems.penalties import L1, CornerRoundedL1, LogSum, MoreauL1, Quadratic, SmoothPenalty, StudentT

LENGTHS = st.floats(0.05, 2.0)
POINTS = st.floats(-3.0, 3.0)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def smooth(name: str, length: float) -> SmoothPenalty:
    return CornerRoundedL1(length) if name == "corner_rounded" else MoreauL1(1 / length)


@given(z=POINTS, step=LENGTHS)
def test_prox_minimises_its_definition(z: float, step: float) -> None:
    found = float(L1().prox(tensor(z), step)[0])
    best = minimize_scalar(lambda v: step * abs(v) + 0.5 * (v - z) ** 2, bounds=(-4, 4), options={"xatol": 1e-10})
    # The cost is 1-strongly convex: a minimiser that scipy places to 1e-8 in value is right to 2e-4.
    assert step * abs(found) + 0.5 * (found - z) ** 2 <= best.fun + 1e-15
    assert found == pytest.approx(best.x, abs=2e-4)


@given(z=POINTS, step=LENGTHS)
def test_prox_and_dual_projection_obey_moreaus_identity(z: float, step: float) -> None:
    recomposed = L1().prox(tensor(z), step) + step * L1().project_dual(tensor(z) / step)
    assert float(recomposed[0]) == pytest.approx(z, abs=1e-15)


@given(z=POINTS, length=LENGTHS)
def test_moreau_envelope_is_the_minimum_it_is_named_for(z: float, length: float) -> None:
    best = minimize_scalar(lambda v: abs(v) + (z - v) ** 2 / (2 * length), bounds=(-4, 4), options={"xatol": 1e-10})
    at_kink = z * z / (2 * length)
    # The bounded search stops near, never on, the kink v = 0: there its value is off by its step.
    assert float(MoreauL1(1 / length).value(tensor(z))[0]) == pytest.approx(min(best.fun, at_kink), abs=1e-9)


@pytest.mark.parametrize("name", ["corner_rounded", "moreau"])
@given(z=POINTS, length=LENGTHS)
def test_derivatives_match_differences(name: str, z: float, length: float) -> None:
    penalty, h = smooth(name, length), 1e-5
    values = [float(penalty.value(tensor(z + shift))[0]) for shift in (-h, h)]
    slopes = [float(penalty.derivative(tensor(z + shift))[0]) for shift in (-h, h)]
    # Central differences: h^2 phi'''/6 <= 1e-10 / (6 * 0.05^2), and a corner of phi' (Moreau) costs h * curvature.
    assert (values[1] - values[0]) / (2 * h) == pytest.approx(float(penalty.derivative(tensor(z))[0]), abs=2.1e-4)
    if name == "corner_rounded" or abs(abs(z) - length) > 2 * h:
        expected = float(penalty.second_derivative(tensor(z))[0])
        # h^2 phi''''/6 with phi'''' <= 9 / length^3 <= 72000.
        assert (slopes[1] - slopes[0]) / (2 * h) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("name", ["corner_rounded", "moreau"])
@given(length=LENGTHS)
def test_curvature_is_the_largest_second_derivative(name: str, length: float) -> None:
    penalty = smooth(name, length)
    grid = torch.linspace(-3, 3, 601, dtype=torch.float64)
    assert float(penalty.second_derivative(grid).max()) == pytest.approx(penalty.curvature, rel=1e-12)


@pytest.mark.parametrize(("name", "above", "below"), [("corner_rounded", 1.0, 0.0), ("moreau", 0.0, 0.5)])
@pytest.mark.parametrize("length", [1e-1, 1e-4, 1e-8])
def test_smoothings_stay_within_their_length_of_the_l1_norm(
    name: str, above: float, below: float, length: float
) -> None:
    penalty, z = smooth(name, length), torch.from_numpy(np.random.default_rng(0).normal(size=(7, 5)))
    excess = penalty.value(z) - L1().value(z)
    assert excess.shape == z.shape
    # sqrt(z^2 + e^2) - |z| lies in [0, e]; Huber's function below |z| by at most e / 2. Values round to 1e-15.
    assert float(excess.max()) <= above * length + 1e-15
    assert float(excess.min()) >= -below * length - 1e-15
    assert float(penalty.derivative(z).abs().max()) <= 1.0
    assert float(penalty.second_derivative(z).min()) >= 0.0


# As the review prints them: (CR1N), section 6.1 twice, section 5.1.
PRINTED = {
    CornerRoundedL1: lambda z, e: mpmath.sqrt(z**2 + e**2),
    LogSum: lambda z, e: mpmath.log(1 + (z / e) ** 2),
    StudentT: lambda z, e: mpmath.log(10 * e + mpmath.sqrt(z**2 + e**2)),
    Quadratic: lambda z, e: z**2,
}


def of_length(kind: type[SmoothPenalty], length: float) -> SmoothPenalty:
    return kind() if kind is Quadratic else kind(length)


@pytest.mark.parametrize("kind", PRINTED)
@given(z=POINTS, length=LENGTHS)
def test_printed_formulas_and_their_derivatives(kind: type[SmoothPenalty], z: float, length: float) -> None:
    penalty = of_length(kind, length)
    maps = (penalty.value, penalty.derivative, penalty.second_derivative)
    with mpmath.workdps(40):
        expected = [float(mpmath.diff(lambda t: PRINTED[kind](t, mpmath.mpf(length)), z, order)) for order in range(3)]
    # phi'' is a difference of two terms of size 1 / length^2 at most; the rest rounds to a few 1e-16 of its own size.
    for order, (found, value) in enumerate(zip(maps, expected, strict=True)):
        assert float(found(tensor(z))[0]) == pytest.approx(value, rel=1e-14, abs=1e-15 / length**order)


@pytest.mark.parametrize("kind", [*PRINTED, MoreauL1])
@given(length=LENGTHS)
def test_curvature_bounds_the_second_derivative_which_is_negative_iff_not_convex(
    kind: type[SmoothPenalty], length: float
) -> None:
    penalty = of_length(kind, length)
    grid = length * torch.linspace(-30, 30, 6001, dtype=torch.float64)
    second = penalty.second_derivative(grid)
    assert float(second.abs().max()) == pytest.approx(penalty.curvature, rel=1e-12)
    assert (float(second.min()) >= 0.0) == penalty.convex


def test_where_the_penalties_that_are_not_convex_bend_down() -> None:
    log_sum, student_t = LogSum(0.5), StudentT(0.5)
    # phi'' = 0 at z = epsilon, least at sqrt(3) epsilon; for the other where s^3 - 2 s = 10, s^2 = 1 + (z / epsilon)^2.
    assert float(log_sum.second_derivative(tensor(0.5))[0]) == 0.0
    assert float(log_sum.second_derivative(tensor(0.5 * 3**0.5))[0]) == pytest.approx(-log_sum.curvature / 8, rel=1e-14)
    s = float(np.roots([1, 0, -2, -10]).real.max())
    inflection = 0.5 * (s * s - 1) ** 0.5
    assert inflection == pytest.approx(2.25 * 0.5, rel=1e-3)
    assert abs(float(student_t.second_derivative(tensor(inflection))[0])) <= 1e-14 * student_t.curvature
    assert L1.convex
