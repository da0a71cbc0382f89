"""Three studies of papers: their quantities against outside truths, their pages on records whose numbers are known."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthesis_truth import build, jacobian, relative, solve
from test_reports import failed, made_up

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel
from bench.quantities.encoder_rate import EncoderRate
from bench.quantities.jacobian_error import JacobianError, exact_jacobian, unfolded_jacobian
from bench.quantities.pattern_radius import FARTHEST, PatternRadius, change_by_experiment, kept_shares
from bench.quantities.pattern_radius import Path as Radius
from bench.record import Record
from methods.active_set_adjoint import ActiveSetAdjoint
from methods.contract import Method
from methods.pudle_dec import PudleDec
from methods.solvers.support_polish import SupportPolish
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import Problem
from reports.study import Claim, Study, Verdict, read_study

ROOT = Path(__file__).parents[1]
WELL = {"m": 12, "p": 8, "nonzeros": 2, "noise": 0.1, "pairs": 2, "seed": 2, "loss": "lasso"}
"""With independent atoms, so that the encoder is fast."""
SMALL = {"m": 6, "p": 9, "nonzeros": 2, "noise": 0.1, "pairs": 2, "seed": 3, "loss": "lasso"}


def measured(quantity: Any, problem: Problem, method: Method) -> dict[str, float]:
    theta, prepared = problem.theta0(), method.prepare(problem)
    return dict(quantity.of(problem, method, prepared, theta, method.solve(prepared, theta)))


# --- jacobian_error, encoder_rate -------------------------------------------------------------------------------------


def test_the_exact_jacobian_is_that_of_normal_equations() -> None:
    """Of tests/synthesis_truth.py, whose support is Clarabel's and whose formula is written by hand."""
    problem = build(**SMALL)
    for b in range(2):
        found = exact_jacobian(problem.subset(slice(b, b + 1)), problem.theta0())
        truth = jacobian(problem, solve(problem, b), b).reshape(found.shape)
        assert relative(found, truth) <= 1e-12  # rounding


@pytest.mark.parametrize("variant", [{}, {"decay": 0.9}, {"hard_threshold": 0.05}])
def test_the_unfolded_jacobian_is_that_of_differences(variant: dict[str, Any]) -> None:
    pair, method = build(**{**SMALL, "pairs": 1}), PudleDec(steps=12, alpha=0.1, **variant)
    found = unfolded_jacobian(method, pair, pair.theta0())
    assert 0 < np.count_nonzero(np.abs(found).sum(1)) < len(found)
    h, prepared = 1e-5, method.prepare(pair)
    for entry in range(pair.D.numel()):
        step = torch.zeros(pair.D.numel(), dtype=torch.float64)
        step[entry] = h
        ends = [method.solve(prepared, {"D": pair.D + sign * step.view_as(pair.D)}).x[0].numpy() for sign in (1, -1)]
        # h^2 times a third derivative, and rounding over h: some 1e-9 both.
        np.testing.assert_allclose(found[:, entry], (ends[0] - ends[1]) / (2 * h), rtol=0, atol=1e-7)


def test_the_jacobian_error_is_of_the_pairs_stacked_and_vanishes() -> None:
    problem = build(**WELL)
    found = measured(JacobianError(), problem, PudleDec(steps=9, alpha=0.1))["jacobian_error_relative"]
    truth = np.stack([jacobian(problem, solve(problem, b), b) for b in range(2)])
    own = np.stack(
        [
            unfolded_jacobian(PudleDec(steps=9, alpha=0.1), problem.subset(slice(b, b + 1)), problem.theta0())
            for b in range(2)
        ]
    )
    assert found == pytest.approx(relative(own.reshape(truth.shape), truth), rel=1e-10)
    assert found > 0.1
    # 1000 steps at a rate below 0.95: rounding.
    assert measured(JacobianError(), problem, PudleDec(steps=1000, alpha=0.1))["jacobian_error_relative"] <= 1e-10


def test_the_encoders_rate_is_that_of_its_code() -> None:
    """Far from the start two steps are apart by the factor rho, once the support has settled."""
    pair = build(**{**WELL, "pairs": 1})
    early, late = (measured(EncoderRate(), pair, PudleDec(steps=T, alpha=0.1)) for T in (1, 400))
    D, code = pair.D.numpy(), solve(pair)
    assert late["step_times_lipschitz"] == pytest.approx(0.1 * np.linalg.norm(D, 2) ** 2, rel=1e-12)
    assert late["support_count"] == code.support.sum()
    assert late["support_difference_count"] == 0
    one_step = PudleDec(steps=1, alpha=0.1)
    z = one_step.solve(one_step.prepare(pair), pair.theta0()).x[0].numpy()
    assert early["support_difference_count"] == ((z != 0) != code.support).sum()
    method = PudleDec(steps=100, alpha=0.1), PudleDec(steps=101, alpha=0.1)
    errors = [np.linalg.norm(one.solve(one.prepare(pair), pair.theta0()).x[0].numpy() - code.z) for one in method]
    # The slower of two modes or more: the others have a share left that falls with T.
    assert errors[1] / errors[0] == pytest.approx(late["rate_bound"], rel=1e-2)


def test_what_has_no_code_is_refused_and_what_unfolds_nothing_is_left_out() -> None:
    transform = AnalysisL1.build(Settings(n=8))
    for quantity in (JacobianError(), EncoderRate()):
        with pytest.raises(ValueError, match="use the family synthesis_lasso"):
            measured(quantity, transform, ActiveSetAdjoint())
        assert measured(quantity, build(**SMALL), ActiveSetAdjoint(solver=SupportPolish())) == {}
    with pytest.raises(ValueError, match="use the family analysis_l1"):
        measured(PatternRadius(), build(**SMALL), PudleDec(steps=1))


# --- pattern_radius ---------------------------------------------------------------------------------------------------


def denoiser(W: np.ndarray, y: np.ndarray) -> AnalysisL1:
    problem = AnalysisL1.build(Settings(n=len(y)))
    return AnalysisL1(
        problem.settings,
        torch.from_numpy(y)[None],
        torch.from_numpy(y)[None],
        torch.from_numpy(W),
        None,
        problem.structure,
    )


def path_of(problem: AnalysisL1, V: np.ndarray) -> Radius:
    level = LowerLevel.of(problem, problem.theta0())
    return Radius.of(level, solve_exactly(level).signs, V)


def test_a_diagonal_w_changes_where_soft_thresholding_says() -> None:
    """W = diag(w): x_i = sign(y_i) max(|y_i| - |w_i|, 0). Along diag(v) entry i changes where |w_i + t v_i| = |y_i|."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        w, y, v = rng.uniform(0.5, 1.5, 6), rng.uniform(0.5, 1.5, 6) * rng.choice([-1, 1], 6), rng.normal(size=6)
        v /= np.linalg.norm(v)
        on = w < np.abs(y)
        candidates = np.concatenate([(np.abs(y) - w) / v, (-w / v)[on], ((-np.abs(y) - w) / v)])
        truth = candidates[candidates > 0].min()
        problem = denoiser(np.diag(w), y)
        path = path_of(problem, np.diag(v))
        assert path.first_change(FARTHEST) == pytest.approx(truth, rel=1e-12)
        # The bisection's end: a tenth of t over 2^30.
        assert change_by_experiment(problem, problem.W, np.diag(v)) == pytest.approx(truth, rel=1e-9)


def test_the_linear_change_of_a_diagonal_w() -> None:
    """On the support the margin |w_i| (|y_i| - |w_i|) has the slope v_i (|y_i| - 2 w_i); off it u_i = y_i / w_i."""
    w, y, v = np.array([0.5, 1.5]), np.array([1.0, 1.0]), np.array([0.6, -0.8])
    # Entry 0: w (y - w) = 0.25, slope v (y - 2 w) = 0, so no change. Entry 1: 1 - y/w = 1/3, slope y v / w^2 = -0.3556.
    assert path_of(denoiser(np.diag(w), y), np.diag(v)).linear_change == pytest.approx(
        (1 / 3) / (0.8 / 2.25), rel=1e-12
    )


def test_a_dense_direction_against_clarabel() -> None:
    """Bisection on the sign pattern that the references' conic solver finds, which shares nothing with the path."""
    problem = AnalysisL1.build(Settings(n=8, transform="finite_difference", scale=0.2, seed=2))
    V = np.random.default_rng(4).normal(size=tuple(problem.W.shape))
    V /= np.linalg.norm(V)
    path = path_of(problem, V)
    found = path.first_change(FARTHEST)

    def signs(t: float) -> np.ndarray:
        return solve_exactly(LowerLevel.of(problem, {"W": problem.W + t * torch.from_numpy(V)})).signs

    for share in np.linspace(0, 1 - 1e-6, 12):
        np.testing.assert_array_equal(signs(share * found), path.signs)
    assert not np.array_equal(signs((1 + 1e-6) * found), path.signs)


def test_a_margin_that_returns_at_a_pole_is_seen() -> None:
    """u_1 = y_1 / (1 - t) is outside its box between t = 1 - |y_1| and 1 + |y_1| alone, a pole between them."""
    problem = denoiser(np.diag([0.1, 1.0]), np.array([5.0, 1e-3]))
    V = np.diag([0.0, -1.0])
    assert path_of(problem, V).first_change(3.0) == pytest.approx(1.0 - 1e-3, rel=1e-9)


def test_at_w_zero_no_perturbation_keeps_the_pattern_and_at_the_identity_the_papers_all_do() -> None:
    zero = AnalysisL1.build(Settings(n=6, scale=0.0, pairs=2))
    shares = kept_shares(zero, zero.W, np.random.default_rng(0))
    assert shares["pattern_kept_share_1e-08"] == 0.0
    assert shares["pattern_trials_count"] == 500.0
    one = AnalysisL1.build(Settings(n=6, pairs=2))
    assert kept_shares(one, one.W, np.random.default_rng(0))["pattern_kept_share_1e-08"] == 1.0
    assert "pattern_change_exact_relative" not in measured(PatternRadius(), zero, ActiveSetAdjoint())


# --- Pages ------------------------------------------------------------------------------------------------------------


def page(name: str, records: list[Record]) -> Study:
    found = read_study(name, records)
    for table in found.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    return found


def claim(study: Study, words: str) -> Claim:
    (found,) = [one for one in study.claims if words in one.published]
    return found


LASSO = {"m": 50, "p": 100, "weight": 0.2, "loss": "lasso"}
RHO = 0.9


def unfolded(method: str, T: int, error: float, lasso: dict[str, Any] | None = None) -> Record:
    quantities = {
        "solution_error_relative": 0.3 * RHO**T,
        "jacobian_error_relative": 0.1 * T * RHO**T,
        "rate_bound": RHO,
        "step_times_lipschitz": 1.12,
        "support_difference_count": 3.0 if T < 30 else 0.0,
        "support_count": 6.0,
    }
    return made_up(
        method,
        100,
        problem="synthesis_lasso",
        problem_parameters=lasso or LASSO,
        quantities=quantities,
        method_parameters={"steps": T, "alpha": 0.2},
        error_relative=error,
        pairs=1,
    )


def pudle(exponent: float = 2.0) -> list[Record]:
    steps = range(10, 131, 10)
    return (
        [unfolded("pudle_dec", T, 0.5 * RHO**T) for T in steps]
        + [unfolded("pudle_ae_lasso", T, 0.2 * T * RHO ** (exponent * T)) for T in steps]
        + [unfolded("pudle_ae_ls", T, 0.7 + RHO ** (2 * T)) for T in steps]
    )


def test_pudle_on_errors_of_a_known_rate() -> None:
    study = page("pudle_figures_2_3", pudle())
    verdicts = {one.published: one.verdict for one in study.claims}
    assert claim(study, "below 1/sigma_max").verdict == Verdict.NOT_REPRODUCED
    assert "alpha sigma_max^2 = 1.12" in claim(study, "below 1/sigma_max").ours
    others = [verdict for said, verdict in verdicts.items() if "below 1/sigma_max" not in said]
    assert others == [Verdict.REPRODUCED] * 7
    (row,) = study.tables[0].rows
    cells = dict(zip([column.title for column in study.tables[0].columns], row, strict=True))
    assert cells["B, by T"] == "30"
    for name in ("code", "Jacobian", "g_dec"):
        assert float(cells[name].split(" ")[0]) == pytest.approx(RHO, rel=1e-6)
    assert float(cells["g_ae-lasso"].split(" ")[0]) == pytest.approx(RHO**2, rel=1e-6)
    low, high = map(float, cells["ratio of exponents"].split(" to "))
    assert low < 2 <= high < 2.01  # T q^T is the law itself; q^T alone is slower by log(T) over T
    assert "0.7" in claim(study, "levels off").ours


def test_pudle_with_no_acceleration_is_not_reproduced() -> None:
    study = page("pudle_figures_2_3", pudle(exponent=1.3))
    assert claim(study, "twice that of g_dec").verdict == Verdict.NOT_REPRODUCED
    assert claim(study, "g_ae-lasso: O").verdict == Verdict.NOT_REPRODUCED
    assert claim(study, "g_dec: O").verdict == Verdict.REPRODUCED


def test_pudle_with_a_failed_cell_or_with_nothing_is_not_measured() -> None:
    records = pudle()
    records[4] = failed(
        "timeout",
        "pudle_dec",
        100,
        "after 60 s",
        problem="synthesis_lasso",
        problem_parameters=LASSO,
        method_parameters={"steps": 50, "alpha": 0.2},
        pairs=1,
    )
    for study in (page("pudle_figures_2_3", records), page("pudle_figures_2_3", [made_up()])):
        rates = [one for one in study.claims if "below 1/sigma_max" not in one.published]
        assert {one.verdict for one in rates} == {Verdict.NOT_MEASURED}
    assert "timeout after 60 s" in claim(page("pudle_figures_2_3", records), "twice that").why


GAME = {"graph": "ring", "reach": 1.0, "symmetric": True}


def unrolled(key: str, steps: int, error: float, game: dict[str, Any], **solver: float) -> Record:
    return made_up(
        "unrolled_reverse",
        64,
        problem="tv_game",
        problem_parameters=game,
        error_relative=error,
        method_parameters={"solver": {"key": key, **solver}, "steps": steps},
        pairs=4,
        quantities={"solution_error_relative": error / 2},
    )


def games(extra_rate: float, game: dict[str, Any]) -> list[Record]:
    """Errors extra_rate^T of the extra-gradient, 0.9^T of the gradient with its better step, 0.99^T with its other."""
    return (
        [unrolled("game_gradient", T, 0.99**T, game) for T in (24, 48, 96)]
        + [unrolled("game_gradient", T, 0.9**T, game, step=1.9) for T in (24, 48, 96)]
        + [unrolled("extragradient", T, extra_rate**T, game, step=0.8) for T in (12, 24, 48)]
    )


ASYMMETRIC = {**GAME, "symmetric": False, "ratio": 3.0}
FACTORS = "Error of the first hypergradient by that of the second"


def factors(study: Study, game: str, comparison: str) -> tuple[str, list[str]]:
    """At which numbers, and the error of the first by that of the second at each."""
    rows = next(table for table in study.tables if table.title == FACTORS).rows
    own = next(row for row in rows if game in row[0] and comparison in row[1])
    return own[2], own[3].split(", ")


@pytest.mark.parametrize("extra_rate", [0.95, 0.85, 0.75])
def test_extragradient_by_cost_and_by_steps(extra_rate: float) -> None:
    study = page("extragradient", games(extra_rate, GAME) + games(0.95, ASYMMETRIC))
    at, by_cost = factors(study, ", symmetric", "equal cost")
    assert at == "24, 48, 96 pseudo-gradients"
    expected = [extra_rate ** (T / 2) / 0.9**T for T in (24, 48, 96)]
    assert [float(said) for said in by_cost] == pytest.approx(expected, rel=0.05)  # two digits
    at, by_steps = factors(study, ", symmetric", "equal steps")
    assert at == "24, 48 steps"
    assert [float(said) for said in by_steps] == pytest.approx([(extra_rate / 0.9) ** T for T in (24, 48)], rel=0.05)
    _, more = factors(study, "asymmetric", "twice as many")
    assert [float(said) for said in more] == pytest.approx([0.9**-24, 0.9**-48], rel=0.05)


@pytest.mark.parametrize("records", [[], games(0.75, GAME) + games(0.75, ASYMMETRIC)], ids=["no games", "games"])
def test_decibels_of_trained_games_are_not_testable_by_a_distance(records: list[Record]) -> None:
    claims = page("extragradient", records).claims
    assert [claim.verdict for claim in claims] == [Verdict.NOT_TESTABLE] * 6
    assert all("dB" in claim.published and "PSNR" in claim.why for claim in claims)


def test_extragradient_with_a_failed_cell_has_its_word() -> None:
    records = games(0.75, GAME)
    records[-2] = failed(
        "out_of_memory",
        "unrolled_reverse",
        64,
        "1 GiB",
        problem="tv_game",
        problem_parameters=GAME,
        method_parameters={"solver": {"key": "extragradient", "step": 0.8}, "steps": 24},
        pairs=4,
    )
    _, by_cost = factors(page("extragradient", records), ", symmetric", "equal cost")
    assert by_cost[1] == "out_of_memory"
    assert float(by_cost[0]) == pytest.approx(0.75**12 / 0.9**24, rel=0.05)


def pattern(transform: str, scale: float, share: float, radius: float | None = None) -> Record:
    quantities = {"pattern_kept_share_1e-08": share, "pattern_kept_share_1e-03": share / 2, "pattern_trials_count": 2e3}
    if radius is not None:
        quantities |= {
            "pattern_change_exact_smallest_relative": radius,
            "papers_perturbation_relative": 1e-8,
            "pattern_change_exact_relative": 2 * radius,
            "pattern_change_exact_deviation": 1e-10,
        }
    settings = {"signal": "piecewise_constant", "transform": transform, "scale": scale}
    return made_up("active_set_adjoint", 64, problem_parameters=settings, quantities=quantities, batch=8, pairs=8)


def test_sign_pattern_by_the_share_that_keeps_it() -> None:
    study = page(
        "sign_pattern",
        [
            pattern("identity", 1.0, 1.0, 1e-4),
            pattern("finite_difference", 1.0, 0.9995, 1e-9),
            pattern("identity", 0.0, 0.0),
            pattern("gaussian", 8.0, 1.0, 1e-5),
        ],
    )
    assert claim(study, "W = identity").verdict == Verdict.REPRODUCED
    assert claim(study, "W = identity").ours == "100 % of 2000 trials keep it"
    assert claim(study, "1D finite differences").verdict == Verdict.NOT_REPRODUCED
    assert "99.95 %" in claim(study, "1D finite differences").ours
    assert claim(study, "zero matrix").verdict == Verdict.NOT_REPRODUCED
    assert "X.11" in claim(study, "zero matrix").why
    assert claim(study, "Gaussian").verdict == Verdict.REPRODUCED
    room = claim(study, "neighbourhood")
    assert room.verdict == Verdict.NOT_REPRODUCED  # 1e-9 is nearer than the paper's 1e-8
    assert "1.0e4 times the paper's" in room.ours
    assert claim(study, "nothing is said").verdict == Verdict.NOT_TESTABLE


def test_sign_pattern_of_failed_or_missing_cells_is_not_measured() -> None:
    settings = {"signal": "piecewise_constant", "transform": "identity", "scale": 1.0}
    study = page("sign_pattern", [failed("crashed", "active_set_adjoint", 64, "signal 9", problem_parameters=settings)])
    assert {one.verdict for one in study.claims} == {Verdict.NOT_MEASURED}
    assert "crashed signal 9" in claim(study, "W = identity").why
    assert "no W = zero matrix" in claim(study, "zero matrix").why


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "only", "verdict"),
    [
        ("pudle_figures_2_3", "method=pudle_dec,n=32,steps=10", "not measured"),
        ("extragradient", "method=unrolled_reverse,n=64,steps=12", "not testable"),
    ],
)
def test_a_part_of_the_study_by_the_command(study: str, only: str, verdict: str, tmp_path: Path) -> None:
    config, run, out = ROOT / "bench" / "configs" / f"{study}.toml", tmp_path / "run", tmp_path / "report"
    for command in (
        ["run", str(config), "--only", only, "--out", str(run)],
        ["report", str(run), "--format", "md", "--out", str(out)],
    ):
        subprocess.run([sys.executable, "-m", "bench", *command], cwd=ROOT, check=True, capture_output=True)
    rows = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert rows
    assert all(row["status"] == "ok" and math.isfinite(row["quantities"]["solution_error_relative"]) for row in rows)
    assert verdict in (out / "report.md").read_text()
