"""The step sweep that a reference keeps, and the report's pictures of it and of the kink margins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import _exact_lower_level, kept
from bench._sweep import Sweep
from bench.extended_precision import gradient_in_extended_precision
from bench.record import Record, Status
from bench.reference import Reference, cached, load, reference_for
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import Problem, Structure, input_sha256
from problems.synthesis_lasso import Settings as LassoSettings
from problems.synthesis_lasso import SynthesisLasso
from reports import reference_quality_figure
from reports.content import read_content
from reports.plots import reference_quality as plot
from reports.reference_quality import CLOSEST, LEAST_MARGIN, TOUCHES, ReferenceQuality, reference_quality, remarks
from reports.style import Look
from tests.bench_cells import cell_of, record_of
from tests.test_reference import one_pair

LOOK = Look.of(["blorc"], [8])


def generic() -> AnalysisL1:
    return AnalysisL1.build(Settings(n=8, transform="dct", scale=0.2))


def stated_otherwise() -> Problem:
    """The same as a family would state it whose theta is not known to be W itself: central differences step by step."""
    problem = generic()
    return replace(problem, structure=problem.structure & ~(Structure.TRANSFORM | Structure.IDENTITY_FORWARD))


def swept(problem: Problem) -> tuple[Reference, int, Sweep]:
    found = reference_for(problem, 4, 0, None)
    assert found.swept is not None
    assert found.sweep is not None
    return found, found.swept, found.sweep


ROUTES: dict[str, Callable[[], Problem]] = {"one inverse": generic, "central": stated_otherwise}


@pytest.mark.parametrize("route", ROUTES)
def test_the_sweep_is_of_the_entry_with_the_largest_bar_and_its_plateau_holds_the_value(route: str) -> None:
    found, entry, sweep = swept(ROUTES[route]())
    assert found.bars[entry] == found.bars.max()
    assert sweep.plateau is not None
    largest, smallest = sweep.plateau
    pairs = zip(sweep.steps, sweep.extrapolated, strict=True)
    agreeing = [one for h, one in pairs if one is not None and smallest <= h <= largest]
    assert len(agreeing) == 4  # PLATEAU
    assert all(abs(one - found.values[entry]) <= found.bars[entry] for one in agreeing)
    # Alone, the products of a direction may be summed in another order than among its neighbours.
    assert abs(sweep.value - found.values[entry]) <= found.bars[entry]
    assert sweep.bar == pytest.approx(found.bars[entry], rel=0.5)


@pytest.mark.parametrize("route", ROUTES)
def test_quotients_converge_like_h_squared_to_the_fifty_digit_slope(route: str) -> None:
    found, entry, sweep = swept(ROUTES[route]())
    assert found.directions is not None
    truth = float(found.directions[entry] @ gradient_in_extended_precision(generic()).values)
    off = np.abs(np.array(sweep.differences) - truth)
    steps = np.array(sweep.steps)
    clear = off > 100 * np.maximum(np.array(sweep.rounding), 1e-16 * abs(truth))
    assert clear.sum() >= 2
    order = np.polyfit(np.log(steps[clear]), np.log(off[clear]), 1)[0]
    # A central difference of a smooth function; the h^4 term bends the line.
    assert order == pytest.approx(2.0, abs=0.1)
    assert abs(sweep.value - truth) <= sweep.bar + 1e-16 * abs(truth)


def test_one_sided_sweeps_beside_a_kink() -> None:
    """W = I/2 and y_0 = 1/2: row 0 touches its bound, so that forward differences are taken along every coordinate."""
    found = reference_for(one_pair(np.eye(3) / 2, [0.5, 2.0, -1.5], [0.1, 0.2, 0.3]), "coordinates", 0, None)
    assert (found.verdict, found.kink[0], found.usable[8]) == ("kink", True, True)
    assert found.swept is not None
    assert found.sweep is not None
    assert found.usable[found.swept]
    steps = np.array(found.sweep.steps)
    np.testing.assert_allclose(steps[:-1] / steps[1:], 4.0)  # a central sweep halves
    assert abs(found.sweep.value - found.values[found.swept]) <= found.sweep.bar + found.bars[found.swept]


def test_there_is_none_where_there_is_no_derivative() -> None:
    found = reference_for(one_pair([[1.0]], [1.0], [0.25]), "coordinates", 0, None)  # |w| = y, a kink (J.25)
    assert (found.verdict, found.swept, found.sweep) == ("kink", None, None)


def test_another_family_keeps_one(tmp_path: Path) -> None:
    found = reference_for(SynthesisLasso.build(LassoSettings(m=8, p=4, pairs=1)), 2, 0, tmp_path)
    assert found.sweep is not None
    assert found.swept in (0, 1)
    (path,) = tmp_path.iterdir()
    assert load(path).sweep == found.sweep  # every digit survives JSON


# --- the report -----------------------------------------------------------------------------------------------------


def run_folder(folder: Path, *records: Record) -> Path:
    folder.mkdir()
    (folder / "journal.jsonl").write_text("".join(record.to_line() + "\n" for record in records))
    return folder


def of_instance(n: int, sha256: str, **others: float | None) -> Record:
    cell = cell_of(n=n, batch=1)
    return record_of(cell, Status.OK, input_sha256=sha256, error_relative=1e-15, **others)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three instances: one with a sweep, one on a kink, one whose u is not unique."""
    problem = generic()
    sha256 = input_sha256(problem)
    there = run_folder(
        tmp_path / "run",
        of_instance(8, sha256, margin_primal=1e-3, margin_dual=0.2),
        of_instance(9, "b" * 64, margin_primal=0.0, margin_dual=0.5),
        of_instance(10, "c" * 64, margin_primal=0.25, cosupport_rank_defect=1),
    )
    kept.keep(
        cached(problem, "coordinates", 0, [tmp_path / "cache"])[0], there, kept.reference_file(sha256, "coordinates")
    )
    return there


def quality(folder: Path) -> ReferenceQuality:
    found = reference_quality(read_content([folder]))
    assert found is not None
    return found


def test_the_report_reads_what_the_bench_wrote(folder: Path, tmp_path: Path) -> None:
    (path,) = (tmp_path / "cache").iterdir()
    reference = load(path)
    assert reference.sweep is not None
    (trail,) = quality(folder).trails
    value = reference.sweep.value
    assert trail.h == reference.sweep.steps
    assert trail.plateau == reference.sweep.plateau
    expected = np.maximum(np.abs(np.array(reference.sweep.differences) - value) / abs(value), CLOSEST)
    np.testing.assert_array_equal(trail.off, expected)
    assert trail.bar == max(reference.sweep.bar / abs(value), CLOSEST)
    assert trail.entry == f"coordinate {reference.swept}"


def test_margins_come_nearest_to_a_kink_first(folder: Path) -> None:
    found = quality(folder)
    assert [(own.n, own.primal, own.dual) for own in found.margins] == [(9, 0.0, 0.5), (8, 1e-3, 0.2), (10, 0.25, None)]
    assert found.margins[2].label.endswith("n = 10: u not unique")
    assert TOUCHES == _exact_lower_level.TOUCH
    assert LEAST_MARGIN < TOUCHES


def test_what_is_left_out_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.reference_quality.MOST_MARGINS", 1)
    monkeypatch.setattr("reports.reference_quality.MOST_TRAILS", 0)
    found = quality(folder)
    assert (len(found.trails), found.trails_left_out, len(found.margins), found.margins_left_out) == (0, 1, 1, 2)
    assert "farther from a kink, not drawn: 2." in remarks(found)


def test_both_figures_show_the_same_numbers(folder: Path) -> None:
    found = quality(folder)
    panel, strip = reference_quality_figure.draw(found).axes
    lines = {line.get_marker(): line.get_ydata() for line in panel.get_lines()}
    np.testing.assert_array_equal(lines["o"], found.trails[0].off)
    primal, dual = (line.get_xdata() for line in strip.get_lines()[:2])
    np.testing.assert_array_equal(primal, [LEAST_MARGIN, 1e-3, 0.25])
    np.testing.assert_array_equal(dual, [0.5, 0.2])
    shown = plot.plot(read_content([folder]), LOOK)
    assert shown is not None
    traces = {trace.name: trace for trace in shown.figures[found.trails[0].title].data}
    np.testing.assert_array_equal(traces["difference quotient"].y, found.trails[0].off)
    points = {trace.name: trace for trace in shown.figures[plot.MARGINS].data}
    np.testing.assert_array_equal(points["primal margin"].x, [LEAST_MARGIN, 1e-3, 0.25])


@pytest.mark.parametrize("damage", ["absent", "cut short", "of version 4"])
def test_a_run_without_a_sweep_has_no_such_picture(folder: Path, damage: str) -> None:
    (path,) = (folder / "references").iterdir()
    if damage == "absent":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:200])
    else:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        rest = json.loads(arrays["rest"].tobytes())
        del rest["sweep"], rest["swept"]
        np.savez(path, **(arrays | {"rest": np.frombuffer(json.dumps(rest).encode(), np.uint8)}))
    content = read_content([folder])
    assert reference_quality(content) is None
    assert plot.plot(content, LOOK) is None
