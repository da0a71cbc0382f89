"""Each hard instance is what its docstring says, and the reference finds the stated truth there."""

import cvxpy as cp
import numpy as np
import pydantic
import pytest
from typer.testing import CliRunner

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel
from bench.cli import app
from bench.extended_precision import gradient_in_extended_precision
from bench.record import read_journal
from bench.reference import reference_for
from problems import hard
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import kkt_residual, scales

SIZE = {"picture_tv": 9, "one_sample": 1, "all_zero": 4, "zero_transform": 4, "kink": 5, "duplicated_rows": 5}
"""n, where it is not 8: some need their own, and a coordinate that is a kink takes 10 ms."""


def built(name, margin=None, n=None):
    """The problem, and what the instance planted: x*."""
    n = n or SIZE.get(name, 8)
    problem = AnalysisL1.build(Settings(instance=name, n=n, margin=margin))
    made = hard.INSTANCES[name](hard.Asked(n, margin or 1e-6, np.random.default_rng([0, 0])))
    assert np.array_equal(made.W, problem.W.numpy())
    return problem, made


def coordinates(problem):
    """The reference, with all of its entries shaped like W."""
    reference = reference_for(problem, "coordinates", 0, None)
    assert reference.kind == "coordinates"
    return reference, lambda name: getattr(reference, name).reshape(problem.W.shape)


CASES = [(name, None) for name in hard.INSTANCES] + [("near_kink", 10.0**-e) for e in (2, 4, 8, 10, 12)]


@pytest.mark.parametrize(("name", "margin"), CASES)
@pytest.mark.parametrize("larger", [False, True])
def test_planted_solution_is_found_and_certified(name, margin, larger):
    grown = {"picture_tv": 64, "one_sample": 1}.get(name, 32)
    problem, made = built(name, margin, grown if larger else None)
    solved = solve_exactly(LowerLevel.of(problem, problem.theta0()))
    size = max(np.abs(made.x_star).max(), np.abs(made.y).max())
    # y = x* + W^T u is rounded, and so is W0 x* = 0: a few roundings, times the condition of W0 (at most 1e2 here;
    # ill_conditioned has its zeros exactly).
    assert np.abs(solved.x - made.x_star).max() <= 1e-14 * size
    x, u = (problem.W.new_tensor(part.astype(float))[None] for part in (solved.x, solved.u))
    theta = problem.theta0()
    assert float(kkt_residual(problem, x, u, theta, scales(problem, theta))) <= 1e-12


def test_kink_has_the_slopes_of_its_formula():
    problem, made = built("kink")
    reference, entries = coordinates(problem)
    n, g = len(made.y), made.x_star - made.x_true
    u = np.where(made.x_star == 0.0, 2.0 * made.y, np.sign(made.x_star))

    def slope(D):
        s, r, moved = 2.0 * D[0] @ made.x_star, D.T @ u, 2.0 * D @ made.x_star
        rest = np.where(made.x_star != 0.0, g * r, g * moved)[1:].sum()
        return g[0] * (max(0.0, s - r[0]) - s) - rest

    units = np.eye(n * n).reshape(-1, n, n)
    ahead, behind = np.array([slope(D) for D in units]), np.array([-slope(-D) for D in units])
    kink = ahead != behind
    assert (entries("ahead")[0, 0], entries("behind")[0, 0]) == pytest.approx((0.0, -1.0), abs=1e-12)
    assert np.array_equal(reference.kink, kink)
    assert np.array_equal(reference.usable, ~kink)
    assert reference.bars.max() <= 1e-11  # forward differences in 19 digits, extrapolated twice
    assert (np.abs(reference.ahead - ahead) <= reference.bars + 1e-15).all()
    assert (np.abs(reference.behind - behind) <= reference.bars + 1e-15).all()
    assert reference.margin_dual == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("margin", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_near_kink_has_a_derivative_at_every_margin(margin):
    problem, made = built("near_kink", margin)
    reference, _ = coordinates(problem)
    g, on = made.x_star - made.x_true, made.x_star == 0.0
    u, p, a = np.where(on, 2.0 * made.y, np.sign(made.x_star)), np.where(on, 0.0, g), np.where(on, 2.0 * g, 0.0)
    truth = -(np.outer(u, p) + np.outer(a, made.x_star)).ravel()
    assert reference.verdict == "smooth"
    assert (np.abs(reference.values - truth) <= reference.bars).all()
    assert np.linalg.norm(reference.bars) <= 1e-13 * np.linalg.norm(truth)
    assert reference.margin_dual == pytest.approx(margin, rel=1e-3)  # y_0 = (1 - margin) / 2 holds 1e-16


def test_duplicated_rows_have_the_slopes_of_their_formula():
    problem, made = built("duplicated_rows")
    reference, entries = coordinates(problem)
    assert (reference.verdict, reference.cosupport_rank_defect, reference.margin_dual) == ("kink", 1, None)
    x, g = made.x_star, made.x_star - made.x_true
    assert entries("usable")[0, 0]
    assert entries("values")[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert entries("ahead")[0, 1] == pytest.approx(-g[1], abs=1e-11)
    assert entries("behind")[0, 1] == pytest.approx(-g[0] * x[1] / 0.4 + g[1] * (0.4 - made.y[0]) / 0.4, abs=1e-11)


@pytest.mark.parametrize("name", ["tall_2n", "tall_3n", "ill_conditioned", "generic", "huge", "tiny"])
def test_a_derivative_exists_and_fifty_digits_agree(name):
    problem, _ = built(name)
    reference, _ = coordinates(problem)
    truth = gradient_in_extended_precision(problem).values
    assert reference.verdict == "smooth"
    assert (np.abs(reference.values - truth) <= reference.bars + 1e-16 * np.linalg.norm(truth)).all()
    # Differences in double precision lose the condition number of K0, here 1e8, and say so.
    allowed = 1e-7 if name == "ill_conditioned" else 1e-13
    assert np.linalg.norm(reference.bars) <= allowed * np.linalg.norm(truth)


@pytest.mark.parametrize(("name", "factor"), [("huge", 1e8), ("tiny", 1e-8)])
def test_scaled_instances_have_the_scaled_gradient(name, factor):
    values = [reference_for(built(which)[0], "coordinates", 0, None).values for which in (name, "generic")]
    # The factor is no power of two, so W, y and x_true are rounded once: their condition is below 1e2.
    assert np.linalg.norm(values[0] - factor * values[1]) <= 1e-14 * np.linalg.norm(values[0])


@pytest.mark.parametrize("name", ["all_zero", "zero_data"])
def test_where_x_stays_zero_the_gradient_vanishes(name):
    reference, _ = coordinates(built(name)[0])
    assert reference.verdict == "smooth"
    assert reference.usable.all()
    assert np.abs(reference.values).max() <= 1e-15  # x* = 0 at every step


def test_zero_transform_has_the_slopes_of_its_formula():
    problem, made = built("zero_transform")
    reference, entries = coordinates(problem)
    truth = np.tile(-(made.y - made.x_true) * np.sign(made.y), (len(made.y), 1))
    assert reference.verdict == "kink"
    assert reference.kink.all()
    assert np.abs(entries("ahead") - truth).max() <= 1e-12
    assert np.abs(entries("behind") + truth).max() <= 1e-12
    assert reference.cosupport_rank_defect == len(made.y)


def test_one_sample_is_the_papers_scalar_case():
    reference, _ = coordinates(built("one_sample")[0])
    assert abs(reference.values[0] + 0.45) <= reference.bars[0] + 1e-16


def test_picture_tv_has_two_slopes_that_the_conic_solver_alone_confirms():
    """8 x 8, as in PEERS.md. One-sided differences of the loss at Clarabel's own solutions, extrapolated once."""
    problem, _ = built("picture_tv", n=64)
    reference = reference_for(problem, 2, 0, None)
    assert reference.verdict == "kink"
    assert reference.kink.all()
    assert reference.cosupport_rank_defect == 104 - 62  # two connected pieces of 32 pixels, 8 of 112 rows across
    W, y, x_true = problem.W.numpy(), problem.y[0].numpy(), problem.x_true[0].numpy()
    x, parameter = cp.Variable(64), cp.Parameter(W.shape)
    program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x - y) + cp.norm1(parameter @ x)))

    def loss(W):
        parameter.value = W
        program.solve(solver=cp.CLARABEL, ignore_dpp=True, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        return 0.5 * ((x.value - x_true) ** 2).sum()

    D, h, here = reference.directions[0].reshape(W.shape), 1e-6, loss(W)
    for side, slope in ((1.0, reference.ahead[0]), (-1.0, reference.behind[0])):
        near, far = ((loss(W + side * step * D) - here) / (side * step) for step in (h, 2.0 * h))
        # the slopes curve by 1e-4 of themselves over h (near against the limit), so one extrapolation leaves 1e-8;
        # Clarabel's tolerance on L over h is 1e-13 * 30 / 1e-6, 1e-7 of the slopes' size
        assert 2.0 * near - far == pytest.approx(slope, rel=1e-5)
    assert abs(reference.ahead[0] - reference.behind[0]) > 0.1 * abs(reference.ahead[0])


def test_a_coordinate_of_picture_tv_has_a_derivative_that_no_formula_gives():
    """W_11, 3 x 3: u is not unique, and the dual picks u_1 = 0 for a change of either sign, so that L stays as it is.

    The closed form with any other u gives another number (pinv: 0.044); the conic solver alone says 0 on both sides.
    """
    problem, _ = built("picture_tv")
    reference, entries = coordinates(problem)
    assert reference.verdict == "kink"
    assert entries("usable")[1, 1]
    assert entries("values")[1, 1] == pytest.approx(0.0, abs=1e-11)
    W, y, x_true = problem.W.numpy(), problem.y[0].numpy(), problem.x_true[0].numpy()
    losses = []
    for change in (-1e-2, 0.0, 1e-2):
        V, x = W.copy(), cp.Variable(9)
        V[1, 1] += change
        program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x - y) + cp.norm1(V @ x)))
        program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        losses.append(0.5 * ((x.value - x_true) ** 2).sum())
    assert np.ptp(losses) <= 1e-6  # the solver's noise; a slope of 0.044 would make it 8.8e-4


def test_a_run_says_kink_and_scores_the_gradient_against_the_slopes(tmp_path):
    config = tmp_path / "kink.toml"
    config.write_text(
        '[[problem]]\ninstance = "kink"\nn = 4\n[[method]]\nkey = "active_set_adjoint"\n'
        "[measure]\nprocesses = 1\ntiming = false\nmemory = false\n"
    )
    done = CliRunner().invoke(app, ["run", str(config), "--out", str(tmp_path / "run")])
    (record,) = read_journal(tmp_path / "run")
    assert record.status == "kink", done.output
    assert record.kink_count == 6  # W_00, two W_0j with x*_j != 0 and three W_i0
    assert record.error_outside_interval is not None
    assert record.error_outside_interval <= 1e-11  # the bars of the slopes
    assert record.error_relative is not None
    assert record.error_relative <= 1e-11
    assert record.margin_dual == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"instance": "kinks"}, "did you mean 'kink'"),
        ({"instance": "kink", "transform": "dct"}, "leave transform = 'dct' out"),
        ({"instance": "kink", "margin": 0.1}, "margin is for instance = 'near_kink' alone"),
        ({"instance": "kink", "pairs": 2}, "leave pairs = 2 out"),
    ],
)
def test_settings_that_an_instance_cannot_have_are_refused(settings, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        Settings(**settings)
