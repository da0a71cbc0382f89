"""The studies of accuracy: their truths, their fits on records of known laws, and one small run of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smooth_truth import SmoothGame
from test_reports import failed, made_up, write_run

from bench import config
from bench.record import Record, read_journal
from bench.reference import reference_for
from methods.approximate_implicit import ApproximateImplicit
from methods.minimizer import Minimizer
from methods.unrolled_reverse import UnrolledReverse
from problems.conv_filters import ConvFilters, Settings
from reports.studies import minimizer_vs_unrolled, review_figure_5_1, smoothing_bias
from reports.studies._fits import power, rate
from reports.study import Study, Verdict
from reports.write import write_report
from tests.in_process import bench

CONFIGS = Path(__file__).parents[1] / "bench" / "configs"
STUDIES: dict[str, Callable[[Sequence[Record]], Study]] = {
    "review_figure_5_1": review_figure_5_1.study,
    "minimizer_vs_unrolled": minimizer_vs_unrolled.study,
    "smoothing_bias": smoothing_bias.study,
}
STEPS = (4, 8, 16, 24, 32, 40, 48, 64)
EPSILONS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


# --- truths ---------------------------------------------------------------------------------------------------------


def in_fourier(problem: ConvFilters, c: np.ndarray) -> tuple[float, np.ndarray]:
    """L of one filter, phi(z) = z^2 and A = I, and dL/dc: every frequency is a scalar problem,
    x^ = y^ / (1 + 2 w^2 |c^|^2), w = e^b0. Written from the review's (Ex) alone, nothing of the suite's in it."""
    y, x_true, w = problem.y.numpy(), problem.x_true.numpy(), math.exp(problem.settings.log_weight)
    n = y.shape[1]
    waves = np.exp(-2j * np.pi * np.outer(np.arange(len(c)), np.arange(n)) / n)
    c_hat, y_hat = c @ waves, np.fft.fft(y)
    d = 1 + 2 * w**2 * np.abs(c_hat) ** 2
    x_hat = y_hat / d
    off = x_hat - np.fft.fft(x_true)
    slopes = [
        float((np.conj(off) * -y_hat / d**2 * 4 * w**2 * (np.conj(c_hat) * wave).real).real.sum() / n) for wave in waves
    ]
    return float(0.5 * (np.abs(off) ** 2).sum() / n), np.array(slopes)


def two_taps(**settings: Any) -> ConvFilters:
    common = {"shape": 64, "filter_size": 2, "count": 1, "penalty": "quadratic", "ripple": 0.0, "pairs": 1}
    return ConvFilters.build(Settings(**{**common, **settings}))


@pytest.mark.parametrize(
    "settings",
    [{"log_weight": -2.5}, {"log_weight": 0.0}, {"log_weight": 0.0, "filters": "random", "seed": 1}],
    ids=str,
)
def test_the_reference_of_figure_5_1_is_the_closed_form_to_its_bar(settings: dict[str, Any]) -> None:
    problem = two_taps(**settings)
    c = problem.theta0()["c"][0].numpy()
    _, slopes = in_fourier(problem, c)
    closed = np.array([*slopes, slopes @ c])  # K holds e^b c alone, so dL/db = <c, dL/dc>
    found = reference_for(problem, "coordinates", 0, None)
    assert found.usable.all()
    # Its own bar, and the rounding of the closed form: sums of 64 numbers below 1.
    assert (np.abs(found.values - closed) <= found.bars + 1e-13).all()
    assert float(found.bars.max()) <= 1e-9 * float(np.abs(closed).max())


def test_the_loss_of_figure_5_1_is_low_where_the_taps_are_opposite() -> None:
    """readings.md X.28: the caption has c_1 close to c_0."""
    problem = two_taps(log_weight=-2.5, pairs=5)  # e^-5 outside of phi
    opposite, equal = (in_fourier(problem, np.array([1.0, sign]) / 2**0.5)[0] for sign in (-1.0, 1.0))
    without, _ = in_fourier(problem, np.zeros(2))
    assert opposite < without < equal


def test_stopped_early_both_ways_are_what_they_say() -> None:
    """x_t from the formula of gradient descent, p_k from numpy's powers of I - s H, CG's p_n exact."""
    problem = SmoothGame.sample(pairs=1)
    theta, t, k = problem.theta0(), 7, 3
    method = ApproximateImplicit(steps=t, adjoint="fixed_point", adjoint_steps=k)
    prepared = method.prepare(problem)
    solution = method.solve(prepared, theta)
    W, n = problem.W.numpy(), 12
    most = problem.H.numpy() + np.diag(theta["c"].numpy()) + W.T @ W / 0.1
    L = solution.memory
    assert pytest.approx(np.linalg.norm(most, 2), rel=0.05) == L  # 100 products of the power method
    s, x = 1.8 / L, np.zeros(n)
    for _ in range(t):
        z = W @ x
        x = x - s * ((problem.H.numpy() + np.diag(theta["c"].numpy())) @ x - problem.y[0].numpy()
                     + W.T @ (z / np.sqrt(z * z + 0.01)))  # fmt: skip
    np.testing.assert_allclose(solution.x[0].numpy(), x, rtol=0, atol=1e-13)  # rounding of seven steps

    x_t = solution.x[0].numpy()
    curvature = 0.01 / ((W @ x_t) ** 2 + 0.01) ** 1.5
    H = problem.H.numpy() + np.diag(theta["c"].numpy()) + W.T @ (curvature[:, None] * W)
    g_x = x_t - problem.x_true[0].numpy()
    series = s * sum(np.linalg.matrix_power(np.eye(n) - s * H, j) for j in range(k)) @ g_x
    exact = ApproximateImplicit(steps=t, adjoint="cg", adjoint_steps=10 * n)
    for stopped, p in ((method, series), (exact, np.linalg.solve(H, g_x))):
        G = stopped.hypergradient(prepared, theta, solution)
        tensor = torch.from_numpy(p)[None]
        a = torch.from_numpy(curvature * (W @ p))[None]
        _, g_theta = problem.loss_gradient(solution.x, theta)
        pulled = problem.pullback(tensor, a, solution.x, solution.u, theta)
        for name in G:
            # Rounding, times the condition number of H, some hundreds.
            np.testing.assert_allclose(G[name], g_theta[name] - pulled[name], rtol=1e-9, atol=1e-11)


def test_stopped_late_they_are_the_minimizer_and_the_unrolled_gradient() -> None:
    problem = SmoothGame.sample()
    exact = Minimizer(adjoint="dense")
    others = [
        ApproximateImplicit(steps=1500),
        ApproximateImplicit(steps=1500, adjoint="fixed_point"),
        ApproximateImplicit(solver="accelerated_gradient", steps=400),
        UnrolledReverse(solver="gradient_descent", steps=1500),
    ]
    truth, *found = (
        method.hypergradient(prepared, problem.theta0(), method.solve(prepared, problem.theta0()))
        for method in (exact, *others)
        for prepared in [method.prepare(problem)]
    )
    for gradient in found:
        for name in truth:
            # x* to 1e-12 by the first, magnified by phi'' |H^-1|, some tens.
            torch.testing.assert_close(gradient[name], truth[name], rtol=1e-8, atol=1e-9)


# --- fits and verdicts on records of known laws ---------------------------------------------------------------------


def test_fits_find_the_law_and_their_interval_its_scatter() -> None:
    xs = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    exact = power([(x, 3 * x**0.75) for x in xs])
    assert exact is not None
    assert exact.value == pytest.approx(0.75, abs=1e-12)
    assert exact.half_width < 1e-7  # the root of what rounding leaves of 1 - r^2
    noisy = power([(x, 3 * x**0.75 * factor) for x, factor in zip(xs, (1.3, 0.8, 1.1, 0.7, 1.4), strict=True)])
    assert noisy is not None
    assert 0.01 < noisy.half_width < 0.3
    assert noisy.low < 0.75 < noisy.high
    linear = rate([(t, 0.9**t) for t in STEPS])
    assert linear is not None
    assert linear.value == pytest.approx(0.9, abs=1e-12)
    assert power([(x, x) for x in xs[:3]]) is None
    assert rate([(1.0, 0.5)] * 5) is None


FILTERS = {"penalty": "quadratic", "log_weight": 0.0, "filters": "dct"}


def by_tolerance(p: float) -> list[Record]:
    """Angles of 40 tolerance^p degrees by two solvers, and 20 * 0.7^t by steps."""
    common = {"n": 64, "problem": "conv_filters", "problem_parameters": FILTERS, "reference_error_relative": 1e-14}
    records = [
        made_up(
            "minimizer",
            **common,
            method_parameters={"solver": {"key": key, "tolerance": 10.0**-power}, "adjoint": "dense"},
            error_angle_degrees=40 * 10.0 ** (-power * p),
            quantities={"solution_error_relative": 0.1 * 10.0 ** (-power * p)},
        )
        for key in ("lbfgs", "gradient_descent")
        for power in range(1, 9)
    ]
    records += [
        made_up(
            "approximate_implicit",
            **common,
            method_parameters={"steps": t, "adjoint_steps": 200},
            error_angle_degrees=20 * 0.7**t,
        )
        for t in STEPS
    ]
    return records


def test_figure_5_1_is_judged_by_its_exponent() -> None:
    good = review_figure_5_1.study(by_tolerance(1.0))
    governed, caption, stops = good.claims
    assert governed.verdict is Verdict.REPRODUCED
    assert "p = 1.00 to 1.00 on 2 series; angle ~ (error of x)^p with p = 1.00 to 1.00" in governed.ours
    assert (caption.verdict, stops.verdict) == (Verdict.NOT_TESTABLE, Verdict.NOT_TESTABLE)
    assert "4.0e-4" in stops.ours  # 40 degrees times 1e-5
    assert any("0.700" in cell for row in good.tables[0].rows for cell in row)  # q of the steps
    assert review_figure_5_1.study(by_tolerance(0.3)).claims[0].verdict is Verdict.NOT_REPRODUCED


def by_steps(itd: Callable[[int], float], cg: Callable[[int], float], fixed: Callable[[int], float]) -> list[Record]:
    """Errors against t by three ways, and against k with CG's rate 0.5 and the fixed point's 0.9 (kappa 18: 0.62)."""
    common = {"n": 64, "problem": "conv_filters", "problem_parameters": FILTERS, "reference_error_relative": 1e-14}
    solver = {"key": "gradient_descent"}
    laws: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
        ("unrolled_reverse", {"solver": solver}, itd),
        ("approximate_implicit", {"solver": "gradient_descent", "adjoint": "cg"}, cg),
        ("approximate_implicit", {"solver": "gradient_descent", "adjoint": "fixed_point"}, fixed),
    ]
    records = [
        made_up(method, **common, method_parameters={**own, "steps": t}, error_relative=law(t), total_seconds=1e-3 * t)
        for method, own, law in laws
        for t in STEPS
    ]
    for adjoint, q in (("cg", 0.5), ("fixed_point", 0.9)):
        own = {"solver": "accelerated_gradient", "adjoint": adjoint, "steps": 300}
        records += [
            made_up(
                "approximate_implicit",
                **common,
                method_parameters={**own, "adjoint_steps": k},
                error_relative=0.09 * q**k,
            )
            for k in STEPS
        ]
    return records


def test_minimizer_and_unrolling_are_judged_by_their_rates() -> None:
    study = minimizer_vs_unrolled.study(
        by_steps(lambda t: 0.01 * t * 0.8**t, lambda t: 0.002 * 0.8**t, lambda t: 0.01 * 0.8**t)
    )
    verdicts = [claim.verdict for claim in study.claims]
    assert verdicts == [Verdict.REPRODUCED] * 5 + [Verdict.NOT_TESTABLE]
    linear, _, factor, _, adjoint, complexity = study.claims
    assert "AID-FP on quadratic, n = 64: q = 0.800" in linear.ours
    assert "m = 1.000" in factor.ours
    assert "bound for CG 0.62" in adjoint.ours
    # 0.01 * 0.8^t = 1e-6 at t = 41.3
    assert "AID-FP on quadratic, n = 64 41" in complexity.ours
    (row,) = (row for row in study.tables[0].rows if row[1:3] == ("AID-FP", "t"))
    assert row[5:7] == ("41", "41.3")  # a millisecond per step


def test_a_conjugate_gradient_that_gains_nothing_and_a_law_that_is_none_are_not_reproduced() -> None:
    study = minimizer_vs_unrolled.study(by_steps(lambda t: 1e-2 / t, lambda t: 0.01 * 0.8**t, lambda t: 0.01 * 0.8**t))
    linear, faster, factor, order, _, _ = study.claims
    assert linear.verdict is Verdict.NOT_REPRODUCED  # 1/t is no line in t
    assert faster.verdict is Verdict.REPRODUCED
    assert factor.verdict is Verdict.NOT_REPRODUCED  # grows faster than t
    assert order.verdict is Verdict.NOT_REPRODUCED  # CG and the fixed point are equal
    assert "x_t is the same for all" in order.why


def smoothed(p: float, kink: float, steps: float) -> list[Record]:
    """Errors of epsilon^p, ten times `kink` as much near the kink, which rise again at 1e-8; steps ~ epsilon^-steps."""
    records = []
    for instance, factor in (({}, 1.0), ({"instance": "near_kink", "margin": 1e-4}, 10 * kink)):
        common: dict[str, Any] = {"n": 36, "problem_parameters": instance, "reference_error_relative": 1e-14}
        records.append(made_up("active_set_adjoint", **common, error_relative=1e-15))
        for smoothing in ("corner_rounded", "moreau"):
            for solver in ({}, {"solve_by": "accelerated_gradient"}):
                for epsilon in EPSILONS:
                    error = 0.5 * factor * epsilon**p if epsilon > 1e-8 else 1e-3
                    records.append(
                        made_up(
                            "smoothed_implicit",
                            **common,
                            method_parameters={"smoothing": smoothing, "epsilon": epsilon, **solver},
                            error_relative=error,
                            iterations=100 * epsilon**-steps,
                            total_seconds=1e-3 * epsilon**-steps,
                        )
                    )
    return records


def test_smoothing_is_judged_by_its_bias_and_its_steps() -> None:
    study = smoothing_bias.study(smoothed(1.0, 1.0, 0.4))
    assert [claim.verdict for claim in study.claims] == [Verdict.REPRODUCED] * 7
    assert "4 of 4 intervals, widened by 0.01, hold p = 1" in study.claims[0].why
    assert "r = 0.400" in study.claims[4].ours
    row = study.tables[0].rows[0]
    assert row[2].startswith("1.000")
    assert row[4:6] == ("1e-7", "1e-7")  # the least error, and where rounding takes over
    far = smoothing_bias.study(smoothed(1.0, 0.01, 0.9))
    bias, corner, moreau, _, curvature, _, _ = far.claims
    assert bias.verdict is Verdict.REPRODUCED
    assert (corner.verdict, moreau.verdict) == (Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED)
    assert curvature.verdict is Verdict.NOT_REPRODUCED  # more than the root of 1/epsilon
    rising = smoothing_bias.study(smoothed(-0.5, 1.0, -0.1))
    assert Verdict.REPRODUCED not in [rising.claims[0].verdict, *(claim.verdict for claim in rising.claims[3:])]


RECORDS = {
    "review_figure_5_1": by_tolerance(1.0),
    "minimizer_vs_unrolled": by_steps(lambda t: t * 0.8**t, lambda t: 0.8**t, lambda t: 0.8**t),
    "smoothing_bias": smoothed(1.0, 1.0, 0.4),
}


@pytest.mark.parametrize("name", STUDIES)
def test_failed_cells_are_not_measured_and_are_named(name: str, tmp_path: Path) -> None:
    """All claims but those that no run can test; the page and its empty figures are written all the same."""
    testable = [claim.verdict is not Verdict.NOT_TESTABLE for claim in STUDIES[name](RECORDS[name]).claims]
    lost = [
        failed("timeout", record.method, record.n, problem=record.problem, method_parameters=record.method_parameters,
               problem_parameters=record.problem_parameters)
        for record in RECORDS[name]
    ]  # fmt: skip
    study = STUDIES[name](lost)
    for claim, could in zip(study.claims, testable, strict=True):
        if could:
            assert (claim.verdict, claim.ours) == (Verdict.NOT_MEASURED, "-")
            assert claim.why
    assert "timeout" in study.tables[0].rows[0][-1]
    for records in (lost, [made_up()]):  # nothing that the study asks for
        assert Verdict.REPRODUCED not in [claim.verdict for claim in STUDIES[name](records).claims]
        run = write_run(tmp_path / str(len(records)), records)
        (run / "config.toml").write_text(f'study = "{name}"\n')
        written = {path.name for path in write_report([run], run / "out", {"md"})}
        assert {f"{figure.stem}.png" for figure in study.figures} <= written


@pytest.mark.parametrize("name", STUDIES)
def test_the_configuration_is_sound_and_its_figures_are_clean(name: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from reports.style import Look, use_house_style

    assert config.load(CONFIGS / f"{name}.toml").study == name
    use_house_style()
    look = Look.of((record.method for record in RECORDS[name]), (record.n for record in RECORDS[name]))
    for drawn in STUDIES[name](RECORDS[name]).figures:
        figure = drawn.draw(look)
        FigureCanvasAgg(figure).draw()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= -0.01  # half the width of a line at the edge, in inches
        assert box.x1 <= width + 0.01
        assert box.y1 <= height + 0.01
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert axes.get_ylabel()
            assert axes.lines
            assert not figure.legends[0].get_window_extent().overlaps(axes.get_tightbbox())


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("review_figure_5_1", "method=approximate_implicit,seed=1,steps=8"),
        ("minimizer_vs_unrolled", "method=approximate_implicit,steps=8,penalty=quadratic"),
        ("smoothing_bias", "method=active_set_adjoint,n=16"),
    ],
)
def test_a_few_cells_run_and_are_reported_by_the_command(name: str, only: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for command in (
        ["run", CONFIGS / f"{name}.toml", "--out", run, "--only", only],
        ["report", run, "--format", "md", "--out", tmp_path / "report"],
    ):
        done = bench(*command)
        assert done.exit_code == 0, done.output
    records = read_journal(run)
    assert records
    assert all(record.status == "ok" for record in records)
    assert STUDIES[name](records).title in (tmp_path / "report" / "report.md").read_text()
