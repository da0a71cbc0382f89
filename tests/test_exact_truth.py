"""The truth in 450 digits that the small instances are judged by, against formulas."""

import numpy as np
import pytest
from exact_truth import truth

from problems import hard
from problems.analysis_l1 import AnalysisL1, Settings


def hard_truth(name, n=4):
    problem = AnalysisL1.build(Settings(instance=name, n=n))
    found = truth(problem)
    made = hard.INSTANCES[name](hard.Asked(n, 1e-6, np.random.default_rng([0, 0])))
    return found, made, (part.astype(float).reshape(made.W.shape) for part in (found.ahead, found.behind))


def test_slopes_of_the_kink_are_those_of_its_formula():
    found, made, (ahead, behind) = hard_truth("kink")
    g, n = made.x_star - made.x_true, len(made.y)
    u = np.where(made.x_star == 0.0, 2.0 * made.y, np.sign(made.x_star))

    def slope(D):
        s, r, moved = 2.0 * D[0] @ made.x_star, D.T @ u, 2.0 * D @ made.x_star
        rest = np.where(made.x_star != 0.0, g * r, g * moved)[1:].sum()
        return g[0] * (max(0.0, s - r[0]) - s) - rest

    units = np.eye(n * n).reshape(-1, n, n)
    assert ahead.ravel() == pytest.approx(np.array([slope(D) for D in units]), rel=1e-14, abs=1e-15)
    assert behind.ravel() == pytest.approx(np.array([-slope(-D) for D in units]), rel=1e-14, abs=1e-15)
    assert found.point.touching.tolist() == [True] + [False] * (n - 1)


def test_slopes_of_duplicated_rows_are_those_of_their_formula():
    found, made, (ahead, behind) = hard_truth("duplicated_rows")
    x, g = made.x_star, made.x_star - made.x_true
    assert found.point.defect == 1
    assert (ahead[0, 0], behind[0, 0]) == pytest.approx((0.0, 0.0), abs=1e-15)
    assert ahead[0, 1] == pytest.approx(-g[1], rel=1e-14)
    assert behind[0, 1] == pytest.approx(-g[0] * x[1] / 0.4 + g[1] * (0.4 - made.y[0]) / 0.4, rel=1e-14)


@pytest.mark.parametrize("name", ["zero_transform", "zero_data", "near_kink", "tall_2n"])
def test_planted_solutions_are_found(name):
    found, made, (ahead, behind) = hard_truth(name)
    size = np.abs(made.y).max() or 1.0
    assert np.abs(found.point.x.astype(float) - made.x_star).max() <= 1e-15 * 10 * size  # y is rounded
    if name == "zero_transform":  # x* = y: the slope ahead is -g_j sign(y_j), behind its negative
        g = made.y - made.x_true
        assert ahead == pytest.approx(np.tile(-g * np.sign(made.y), (4, 1)), rel=1e-14)
        assert behind == pytest.approx(-ahead, rel=1e-14)
