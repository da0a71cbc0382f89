"""The views that compare whole runs, against numbers worked out by hand, exact power laws and pyperf's own files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyperf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.record import Record
from reports.cells import RESOLUTION_BYTES
from reports.content import read_content
from reports.crossovers import crossover_table, crossovers
from reports.device_dtype import pairs
from reports.instances import group
from reports.phases import breakdowns
from reports.profiles import Profile, leading, profile, remarks, rosters, share, steps
from reports.rows import MOST_ROWS, Panel, pages
from reports.scaling import all_series
from reports.spread import Suites
from reports.work_precision import panels
from tests.test_reports import BAR, failed, made_up, write_run

REFERENCE_RUNS = Path(__file__).parents[1] / "results" / "reference_runs"


def seconds(total: float, mad: float = 0.0) -> dict[str, float]:
    return {"total_seconds": total, "total_mad_seconds": mad}


def on(instance: int, method: str, total: float, **fields: Any) -> Record:
    return made_up(method, seed=instance, **seconds(total, fields.pop("mad", 0.0)), **fields)


MATRIX = [
    *(on(1, "a", 1.0), on(1, "b", 2.0), on(1, "c", 4.0)),
    *(on(2, "a", 3.0), on(2, "b", 1.5), failed("timeout", "c", seed=2)),
    *(on(3, "a", 2.0), on(3, "b", 0.1, error_relative=0.5), on(3, "c", 2.0)),
    *(on(4, "a", 1.0), on(4, "b", 10.0, flags=["unstable"]), on(4, "c", 5.0)),
]
"""Three methods on four instances: one timeout, and one fast gradient that is wrong by half."""


def only_profile(records: list[Record], quantity: Any = "time", **others: float) -> Profile:
    (roster,) = rosters(group(records))
    found = profile(roster, quantity, **others)
    assert found is not None
    return found


def test_a_profile_is_the_one_worked_out_by_hand() -> None:
    found = only_profile(MATRIX)
    a, b, c = found.curves
    assert found.instances == 4
    # Per instance the time over the smallest among the methods that solved it.
    assert a.values == (1.0, 2.0, 1.0, 1.0)
    assert b.values == (2.0, 1.0, math.inf, 10.0)
    assert c.values == (4.0, math.inf, 1.0, 5.0)
    assert [share(a.values, tau) for tau in (1, 1.99, 2, 100)] == [0.75, 0.75, 1.0, 1.0]
    assert [share(b.values, tau) for tau in (1, 2, 9.99, 10, 1e9)] == [0.25, 0.5, 0.5, 0.75, 0.75]
    assert [share(c.values, tau) for tau in (1, 4, 5, 1e9)] == [0.25, 0.5, 0.75, 0.75]
    assert steps(b.values, 1.0, 20.0) == ([1.0, 2.0, 10.0, 20.0], [0.25, 0.5, 0.75, 0.75])
    assert [curve.solved for curve in found.curves] == [4, 3, 3]
    assert [curve.flagged for curve in found.curves] == [0, 1, 0]
    assert "1 of 12 times are flagged" in remarks([found])
    assert "4 instances, 3 methods" in remarks([found])


def test_without_a_limit_on_the_error_the_wrong_gradient_is_the_fastest() -> None:
    a, b, c = only_profile(MATRIX, accurate=math.inf).curves
    assert (a.values[2], b.values[2], c.values[2]) == (20.0, 1.0, 20.0)


def test_a_band_is_the_ratio_with_all_medians_off_for_and_against() -> None:
    records = [on(instance, "a", 2.0, mad=0.5) for instance in (1, 2, 3)]
    records += [on(instance, "b", 4.0, mad=1.0) for instance in (1, 2, 3)]
    a, b = only_profile(records).curves
    assert (a.values[0], a.low[0], a.high[0]) == (1.0, 1.0, 1.0)  # at worst 2.5 against 3.0: still the best
    assert (b.values[0], b.low[0], b.high[0]) == (2.0, 3.0 / 2.5, 5.0 / 1.5)


def test_a_method_that_was_not_run_has_not_failed() -> None:
    more = [record for instance in (5, 6) for record in (on(instance, "a", 1.0), on(instance, "b", 3.0))]
    lonely = on(7, "a", 1.0)
    all_three, two = rosters(group([*MATRIX, *more, lonely]))
    assert (all_three.variants, len(all_three.instances)) == (("a", "b", "c"), 4)
    assert (two.variants, len(two.instances)) == (("a", "b"), 6)
    found = profile(two, "time")
    assert found is not None
    assert found.curves[1].values == (2.0, 1.0, math.inf, 10.0, 3.0, 3.0)


def test_an_instance_that_nobody_solved_counts_against_all_and_an_unmeasured_one_not_at_all() -> None:
    wrong = [on(5, method, 1.0, error_relative=0.9) for method in "abc"]
    lost = [failed("crashed", method, seed=6) for method in "abc"]
    found = only_profile([*MATRIX, *wrong, *lost])
    assert (found.instances, found.unsolved, found.left_out) == (5, 1, 1)
    assert [share(curve.values, 1e9) for curve in found.curves] == [0.8, 0.6, 0.6]
    assert only_profile([*MATRIX, *wrong, *lost], "error").left_out == 1


def test_devices_and_precisions_are_instances_of_their_own() -> None:
    records = [
        on(1, method, time, dtype=dtype, threads=threads)
        for method, time in (("a", 1.0), ("b", 3.0))
        for dtype in ("float64", "float32")
        for threads in (1, 2)
    ]
    assert only_profile(records).instances == 4


def test_the_data_profile_counts_an_error_below_the_bar_at_the_bar() -> None:
    errors = {"a": (1e-15, 1e-9, 1e-3, 1e-3), "b": (1e-6, 1e-9, 1e-2, None)}
    records = [
        on(instance, method, 1.0, error_relative=error) if error else failed("crashed", method, seed=instance)
        for method, own in errors.items()
        for instance, error in enumerate(own)
    ]
    a, b = only_profile(records, "error").curves
    assert a.values == (BAR, 1e-9, 1e-3, 1e-3)
    assert b.values == (1e-6, 1e-9, 1e-2, math.inf)
    assert [share(b.values, e) for e in (1e-9, 1e-6, 1e-2, 10.0)] == [0.25, 0.5, 0.75, 0.75]


def test_memory_below_its_resolution_is_not_told_apart() -> None:
    peaks = {"a": 0, "b": 12_288, "c": 80_000}
    records = [on(instance, name, 1.0, host_peak_bytes=peak) for name, peak in peaks.items() for instance in range(3)]
    a, b, c = only_profile(records, "memory").curves
    assert a.values == b.values == (1.0,) * 3
    assert c.values == (80_000 / RESOLUTION_BYTES,) * 3


def test_of_many_variants_those_that_lead_their_method_are_drawn() -> None:
    variants = [
        on(instance, "b", time, method_parameters={"steps": steps})
        for instance in (1, 2, 3)
        for steps, time in ((10, 9.0), (20, 3.0), (30, 4.0))
    ]
    found = only_profile([*variants, *(on(instance, "a", 1.0) for instance in (1, 2, 3))])
    assert {curve.variant for curve in leading(found)} == {"a", "b[steps=20]"}


def test_nothing_is_profiled_where_too_little_was_run() -> None:
    assert rosters(group([on(1, "a", 1.0), on(1, "b", 1.0), on(2, "a", 1.0), on(2, "b", 1.0)])) == []
    untimed = [on(instance, method, 0.0) for method in "ab" for instance in range(3)]
    (roster,) = rosters(group(untimed))
    assert profile(roster, "time") is None


SIZES = (64, 128, 256, 512)


def power(
    method: str, factor: float, exponent: float, mad: float = 0.0, sizes: tuple[int, ...] = SIZES
) -> list[Record]:
    return [made_up(method, n=n, k=n, **seconds(factor * n**exponent, mad * factor * n**exponent)) for n in sizes]


def test_power_laws_cross_where_their_formulas_do() -> None:
    # 1e-6 n^2 = 2e-4 n at n = 200, after 0.04 s
    found = crossovers(all_series(group([*power("square", 1e-6, 2.0), *power("line", 2e-4, 1.0)])))
    (one,) = found
    assert (one.first.label, one.then.label, one.after, one.before) == ("square", "line", 128, 256)
    assert one.fitted == pytest.approx(200.0, rel=1e-9)  # rounding of the logarithms
    assert one.size == pytest.approx(200.0, rel=1e-9)
    assert one.seconds == pytest.approx(0.04, rel=1e-9)
    (row,) = crossover_table(found).rows
    assert row == ("square", "line", "1", "1", "128", "256", "200", "200")


def test_sizes_within_the_spread_widen_the_interval() -> None:
    # The ratio is n / 200: 0.64 at 128 and 1.28 at 256, 0.32 at 64 and 2.56 at 512. Off by a quarter each, the two in
    # the middle overlap: |t - s| <= (t + s) / 4 where the ratio is between 3/5 and 5/3.
    records = [*power("square", 1e-6, 2.0, mad=0.25), *power("line", 2e-4, 1.0, mad=0.25)]
    (one,) = crossovers(all_series(group(records)))
    assert (one.after, one.before) == (64, 512)
    assert one.size == pytest.approx(200.0, rel=1e-9)


def test_no_crossover_without_one() -> None:
    apart = [*power("square", 1e-3, 2.0), *power("line", 1e-6, 1.0)]
    same_method = [
        record.model_copy(update={"method": "a", "method_parameters": {"m": record.method}})
        for record in [*power("square", 1e-6, 2.0), *power("line", 2e-4, 1.0)]
    ]
    few = [*power("square", 1e-6, 2.0), *power("line", 2e-4, 1.0, sizes=(64, 512))]
    for records in (apart, same_method, few):
        assert crossovers(all_series(group(records))) == []


def test_a_ratio_that_is_no_power_has_no_fitted_size() -> None:
    jump = [made_up("jump", n=n, k=n, **seconds(time)) for n, time in zip(SIZES, (1e-3, 1e-3, 9.0, 9.0), strict=True)]
    flat = [made_up("flat", n=n, k=n, **seconds(2e-3)) for n in SIZES]
    (one,) = crossovers(all_series(group([*jump, *flat])))
    assert (one.after, one.before) == (128, 256)
    # On logarithms a line through the jump 1e-3 to 9.0 passes 2e-3 at log 2 / log 9000 of the way.
    assert one.size == pytest.approx(128 * 2 ** (math.log(2) / math.log(9000)), rel=1e-12)
    assert one.seconds == pytest.approx(2e-3, rel=1e-12)


def test_the_exponent_of_memory_leaves_out_what_is_not_resolved() -> None:
    def of(n: int) -> Record:
        return made_up(n=n, k=n, host_peak_bytes=9 * n**2 if n > 64 else 39_000)

    (series,) = all_series(group([of(n) for n in (64, 128, 256, 512)]))
    assert series.memory_exponent is not None
    assert series.memory_exponent.value == pytest.approx(2.0, abs=1e-9)  # an exact power of n over 128 to 512
    assert (series.memory_exponent.smallest, series.memory_exponent.largest) == (128, 512)


def test_phases_add_up() -> None:
    record = made_up(
        solve_seconds=3e-3,
        solve_mad_seconds=2e-4,
        gradient_seconds=1e-3,
        gradient_mad_seconds=4e-4,
        prepare_seconds=7.0,
    )
    untimed = failed("timeout", "slow")
    (cell,) = breakdowns(group([record, untimed])[0])
    assert (cell.solve_share.seconds, cell.gradient_share.seconds) == pytest.approx((0.75, 0.25))
    assert (cell.solve_share.mad_seconds, cell.gradient_share.mad_seconds) == pytest.approx((0.05, 0.1))
    assert cell.prepare is not None
    assert cell.prepare.seconds == 7.0


def suite(path: Path, cell_id: str, processes: list[list[float]]) -> None:
    """As the harness writes it: a run per process, warm-ups beside the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    benchmarks = [
        {
            "metadata": {"name": f"{cell_id} {phase}"},
            "runs": [{"values": [factor * value for value in own], "warmups": [[1, 99.0]]} for own in processes],
        }
        for phase, factor in (("solve", 0.75), ("gradient", 0.25), ("total", 1.0))
    ]
    path.write_text(json.dumps({"benchmarks": benchmarks, "metadata": {"unit": "second"}, "version": "1.0"}))


def test_the_spread_is_that_of_pyperfs_values(tmp_path: Path) -> None:
    values = [[1.0, 1.1, 0.9], [2.0, 1.05]]
    records = [made_up(cell_id="ca11", **seconds(1.05)), made_up("lost", cell_id="10"), made_up("torn", cell_id="11")]
    folder = write_run(tmp_path / "run", records)
    suite(folder / "pyperf" / "ca11.json", "ca11", values)
    (folder / "pyperf" / "11.json").write_text('{"benchmarks": [')
    content = read_content([folder])
    suites = Suites.of(content.runs)
    (found,) = suites.samples(content.groups[0], "total")
    assert found.processes == ((1.0, 1.1, 0.9), (2.0, 1.05))
    assert (
        found.seconds
        == pyperf.BenchmarkSuite.load(str(folder / "pyperf" / "ca11.json")).get_benchmark("ca11 total").get_values()
    )
    assert found.median == 1.05
    assert found.percent == pytest.approx([100 * (value / 1.05 - 1) for value in found.seconds])
    assert found.quartiles == pytest.approx(tuple(np.percentile(found.percent, [25, 75])))
    (solves,) = suites.samples(content.groups[0], "solve")
    assert solves.processes[1] == (1.5, 0.75 * 1.05)


def test_the_values_of_a_real_run_have_the_medians_of_its_records() -> None:
    content = read_content([REFERENCE_RUNS / "table4-cpu"])
    suites = Suites.of(content.runs)
    found = [cell for own in content.groups[:2] for cell in suites.samples(own, "total")]
    assert len(found) == 28
    for cell in found:
        assert cell.median == pytest.approx(cell.record.total_seconds, rel=1e-12)
        deviation = median(abs(value - cell.median) for value in cell.seconds)
        assert deviation == pytest.approx(cell.record.total_mad_seconds, rel=1e-9)


def test_a_line_follows_its_knob_and_words_have_no_order() -> None:
    records = [
        made_up("smoothed", method_parameters={"epsilon": epsilon, "kind": kind}, **seconds(1 / epsilon))
        for kind in ("p", "q")
        for epsilon in (1e-1, 1e-3, 1e-2)
    ]
    records += [made_up("layer", method_parameters={"mode": mode}) for mode in ("lsqr", "dense")]
    (panel,) = panels(group([*records, made_up("exact"), failed("crashed", "lost")]))
    named = {line.name: line for line in panel.lines}
    assert set(named) == {
        "smoothed: epsilon 1e-3 to 0.1, kind = p",
        "smoothed: epsilon 1e-3 to 0.1, kind = q",
        "layer: mode dense, lsqr",
        "exact",
    }
    assert [point.value for point in named["smoothed: epsilon 1e-3 to 0.1, kind = p"].points] == [1e-3, 1e-2, 1e-1]
    assert not named["layer: mode dense, lsqr"].is_number
    assert panels(group([made_up("exact")])) == []


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=2, max_size=12))
def test_the_frontier_is_what_no_other_cell_beats(places: list[tuple[int, int]]) -> None:
    records = [
        made_up("m", method_parameters={"steps": step}, error_relative=10.0**-error, **seconds(float(time)))
        for step, (time, error) in enumerate(places)
    ]
    (panel,) = panels(group(records))

    def beats(one: Any, other: Any) -> bool:
        no_worse = one.seconds <= other.seconds and one.error <= other.error
        return no_worse and (one.seconds, one.error) != (other.seconds, other.error)

    unbeaten = {(p.seconds, p.error) for p in panel.points if not any(beats(other, p) for other in panel.points)}
    assert {(point.seconds, point.error) for point in panel.frontier} == unbeaten


def test_pairs_differ_in_one_thing_alone() -> None:
    records = [
        made_up(**seconds(8.0, 1.0), device="cpu", dtype="float64"),
        made_up(**seconds(2.0, 0.5), device="cuda:0", dtype="float64"),
        made_up(**seconds(1.0), device="cuda:0", dtype="float32"),
        made_up("lost", device="cpu"),
        failed("out_of_memory", "lost", device="cuda:0"),
    ]
    groups = group(records)
    blorc, lost = pairs(groups, "device")
    assert blorc.ratio == 4.0
    assert blorc.interval == (7.0 / 2.5, 9.0 / 1.5)
    assert (lost.ratio, lost.word) == (None, "out_of_memory")
    (precision,) = pairs(groups, "dtype")
    assert (precision.ratio, precision.label) == (2.0, "blorc (cuda:0)")
    assert pairs(group([made_up(), made_up(n=64)]), "device") == []


def test_rows_have_the_heading_of_their_size_and_pages_an_end() -> None:
    (own,) = group([made_up(), made_up("b"), made_up(n=64)])
    panel = Panel(own, tuple(breakdowns(own)))
    assert [label for label, _ in panel.rows] == ["n = 36", "blorc", "b", "n = 64", "blorc"]
    per_page = MOST_ROWS // 5
    assert [len(page) for page in pages([panel] * (2 * per_page + 1))] == [per_page, per_page, 1]


def everything(folder: Path) -> Path:
    """A run that has something for every view."""
    records = []
    for n in (64, 128, 512):
        for dtype in ("float64", "float32"):
            common: dict[str, Any] = {"n": n, "k": n, "dtype": dtype}
            first, second, third, fourth = ({"cell_id": f"{name}-{n}-{dtype}"} for name in ("s", "l", "u1", "u2"))
            few, many = ({"method_parameters": {"steps": own}} for own in (10, 1000))
            records += [
                made_up("square", **common, **first, **seconds(1e-6 * n**2, 1e-7 * n**2)),
                made_up("line", **common, **second, **seconds(2e-4 * n, 1e-5 * n), error_relative=1e-7),
                made_up("unrolled", **common, **third, **few, error_relative=0.3, flags=["unstable"]),
                failed("timeout", "unrolled", **common, **fourth, **many)
                if n == 512
                else made_up("unrolled", **common, **fourth, **many, **seconds(1e-2, 5e-2)),
            ]
    records += [made_up("gpu_only", n=64, k=64, device="cuda", dtype="float64", cell_id="gpu")]
    records += [made_up("gpu_only", n=64, k=64, cell_id="cpu")]
    write_run(folder, records)
    for record in records:
        if record.total_seconds:
            own = [record.total_seconds * factor for factor in (0.9, 1.0, 3.0)]
            suite(folder / "pyperf" / f"{record.cell_id}.json", record.cell_id, [own, own[:2]])
    return folder


STEMS = {
    "work_precision",
    "profile_time",
    "profile_memory",
    "profile_error",
    "phases",
    "spread",
    "time_against_size",
    "memory_against_size",
    "device_pairs",
    "dtype_pairs",
}


def test_every_view_is_drawn_and_nothing_is_cut_off(tmp_path: Path) -> None:
    from reports.plots import look_of
    from reports.style import use_house_style
    from reports.views import views

    use_house_style()
    content = read_content([everything(tmp_path / "run")])
    drawn = set()
    for view in views(content, look_of(content)):
        view.figure.draw_without_rendering()
        box, (width, height) = view.figure.get_tightbbox(), view.figure.get_size_inches()
        # A fiftieth of an inch: the width of a marker's edge at the border.
        assert min(box.x0, box.y0) >= -0.02, view.stem
        assert box.x1 <= width + 0.02, view.stem
        assert box.y1 <= height + 0.02, view.stem
        (legend,) = view.figure.legends
        for axes in view.figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_tightbbox()), view.stem
        assert view.figure.axes[-1].get_xlabel()
        drawn.add(view.stem.rstrip("_0123456789"))
    assert drawn == STEMS


def test_every_view_is_on_the_page_and_holds_the_same_numbers(tmp_path: Path) -> None:
    import importlib

    from reports.plots import look_of

    content = read_content([everything(tmp_path / "run")])
    look = look_of(content)
    names = ["work_precision", "profile_time", "profile_memory", "profile_error", "phases", "spread", "scaling"]
    plots = {
        name: importlib.import_module(f"reports.plots.{name}").plot(content, look)
        for name in [*names, "device_pairs", "dtype_pairs"]
    }
    for name, plot in plots.items():
        assert plot is not None, name
        for figure in plot.figures.values():
            assert json.loads(figure.to_json())["data"], name
    (roster, *_) = rosters(content.groups)
    expected = profile(roster, "time")
    assert expected is not None
    shown = {trace.name: trace for trace in next(iter(plots["profile_time"].figures.values())).data if trace.name}
    for curve in expected.curves:
        trace = shown[curve.variant + "*" * bool(curve.flagged)]
        assert [share(curve.values, place) for place in trace.x] == list(trace.y)
    bars = [trace for trace in next(iter(plots["phases"].figures.values())).data if trace.type == "bar"]
    assert np.add(*(trace.x for trace in bars)) == pytest.approx(1.0)
