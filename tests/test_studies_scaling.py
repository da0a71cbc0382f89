"""The studies of growth: exponents that are known because the costs were made from them, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import cli, config
from bench.catalogue import Catalogue
from bench.plan import expand
from bench.record import Record, read_journal
from reports.growth import GRADIENT_TIME, PEAK_MEMORY, Axis, Position, curves, placed
from reports.growth_figure import draw
from reports.orders import Order
from reports.scaling import Exponent
from reports.studies import review_table_4_1, table1_memory
from reports.study import Claim, Study, Verdict, claims_table
from reports.style import Look
from tests.test_reports import failed, made_up

CONFIGS = Path(__file__).parents[1] / "bench" / "configs"
MEBIBYTE = 2.0**20

N, R, T = 529, 20, 20
SIZES = {"N": (144, 256, 529, 1024, 2025), "R": (10, 20, 40, 80, 160), "T": (10, 20, 40, 80, 160)}
METHODS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "minimizer[adjoint=dense]": ("minimizer", {"adjoint": "dense"}, False),
    "minimizer[adjoint=cg]": ("minimizer", {"adjoint": "cg"}, False),
    "unrolled_reverse": ("unrolled_reverse", {"solver": {"key": "gradient_descent"}}, True),
    "unrolled_forward": ("unrolled_forward", {"solver": {"key": "gradient_descent"}}, True),
}
TRUE = {
    "minimizer[adjoint=dense]": ((3, 1, 0), (2, 0, 0)),
    "minimizer[adjoint=cg]": ((1, 1, 0), (1, 1, 0)),
    "unrolled_reverse": ((1, 1, 1), (1, 1, 1)),
    "unrolled_forward": ((1, 2, 1), (1, 2, 0)),
}
"""Of the gradient's time and of the peak, in N, R and T: what the records below are made from."""


def cost(powers: tuple[float, ...], sizes: tuple[int, int, int]) -> float:
    return float(sizes[0] ** powers[0] * sizes[1] ** powers[1] * sizes[2] ** powers[2])


def cell(label: str, sizes: tuple[int, int, int], powers: Any = None, **fields: Any) -> Record:
    method, parameters, has_steps = METHODS[label]
    time, memory = (powers or TRUE)[label]
    costs = {"gradient_seconds": 1e-9 * cost(time, sizes), "host_peak_bytes": int(1e5 * cost(memory, sizes))}
    own = {**parameters, **({"steps": sizes[2]} if has_steps else {})}
    instance = {"problem": "conv_filters", "problem_parameters": {}, "theta_size": sizes[1]}
    return made_up(method, sizes[0], method_parameters=own, **{**instance, **costs, **fields})


def along_all_axes(powers: Any = None) -> list[Record]:
    sizes = [(n, R, T) for n in SIZES["N"]] + [(N, r, T) for r in SIZES["R"] if r != R]
    records = [cell(label, each, powers) for label in METHODS for each in sizes]
    steps = [(N, R, t) for t in SIZES["T"] if t != T]
    return records + [cell(label, each, powers) for label in METHODS if METHODS[label][2] for each in steps]


def claims(study: Study) -> dict[tuple[str, str, str], Claim]:
    """By label, cost and axis, which open the statement."""
    found = {}
    for claim in study.claims:
        label, _, rest = claim.published.partition(", ")
        kind, against, axis = rest.split(":")[0].split(" ")
        assert against == "against"
        found[label, kind, axis] = claim
    return found


@pytest.mark.parametrize(
    ("text", "exponents"),
    [
        ("0", (0, 0, 0)),
        ("1", (0, 0, 0)),
        ("O(T)", (0, 0, 1)),
        ("N*R", (1, 1, 0)),
        ("O(T*N + N^3)", (3, 0, 1)),
        ("O(c_A*N + R*N)", (1, 1, 0)),
    ],
)
def test_printed_orders_are_read(text, exponents):
    order = Order.parse(text)
    assert tuple(order.exponent(letter) for letter in "NRT") == exponents


def test_orders_add_and_multiply():
    product = Order.parse("O(T*R)") * Order.parse("O(c_A*N + R*N)")
    assert (product.exponent("N"), product.exponent("R"), product.exponent("T")) == (1, 2, 1)
    assert (product + Order.parse("N^3")).exponent("N") == 3
    assert (Order.parse("0") * Order.parse("N^3")).terms == ()


def test_an_order_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"order 'N\*log\(N\)': 'log\(N\)' is no power of a letter"):
        Order.parse("N*log(N)")


def test_the_exponents_put_in_come_out():
    """Exact powers: the fit is exact but for rounding, and for bytes that are whole numbers (1e-5 of the smallest)."""
    found = {(curve.label, curve.axis.letter): curve for curve in along_curves(along_all_axes())}
    assert len(found) == 10  # T for two of the four
    for (label, letter), curve in found.items():
        for measured, powers in zip((GRADIENT_TIME, PEAK_MEMORY), TRUE[label], strict=True):
            exponent = curve.exponent(measured)
            assert exponent is not None
            assert exponent.value == pytest.approx(powers["NRT".index(letter)], abs=1e-4)
            assert (exponent.smallest, exponent.largest) == (SIZES[letter][1], SIZES[letter][-1])


def along_curves(records):
    return curves(records, review_table_4_1.label, review_table_4_1.AXES)


def test_a_cell_off_the_base_point_is_on_no_curve():
    odd = cell("unrolled_reverse", (N, 160, 160), gradient_seconds=1e6)
    for curve in along_curves([*along_all_axes(), odd]):
        assert odd not in curve.records


@pytest.mark.parametrize(
    ("value", "half_width", "printed", "position"),
    [
        (1.0, 0.1, 1, Position.HOLDS),
        (1.25, 0.1, 1, Position.HOLDS),  # within the interval and the margin of 0.2
        (1.35, 0.1, 1, Position.ABOVE),
        (0.65, 0.1, 1, Position.BELOW),
        (1.0, 0.6, 1, None),
        (4.0, 0.6, 1, Position.ABOVE),  # wide, and yet clear
    ],
)
def test_where_an_interval_lies(value, half_width, printed, position):
    assert placed(Exponent(value, half_width, 1, 2), printed) == position


def test_the_verdicts_on_the_reviews_table():
    found = claims(review_table_4_1.study(along_all_axes()))
    assert len(found) == 20
    not_reproduced = {key for key, claim in found.items() if claim.verdict is Verdict.NOT_REPRODUCED}
    # TRUE is above the table there: T N R numbers kept where T N are printed, N R^2 where N R are.
    assert not_reproduced == {("unrolled_reverse", "memory", "R"), ("unrolled_forward", "memory", "R")}
    assert {claim.verdict for key, claim in found.items() if key not in not_reproduced} == {Verdict.REPRODUCED}
    printed = {key: int(claim.published.rpartition("p = ")[2]) for key, claim in found.items()}
    assert [printed["unrolled_forward", "time", letter] for letter in "NRT"] == [1, 2, 1]
    assert [printed["unrolled_reverse", "memory", letter] for letter in "NRT"] == [1, 0, 1]
    assert [printed["minimizer[adjoint=dense]", "time", letter] for letter in "NR"] == [3, 1]
    below = found["minimizer[adjoint=cg]", "time", "N"]
    assert below.ours.startswith("p = 1.00 ± 0.00 over N = 256 to 2025 (R = 20);")
    assert below.why.startswith("the interval lies below 2: ")


def test_a_time_that_grows_too_fast_is_not_reproduced():
    faster = {**TRUE, "unrolled_reverse": ((2, 1, 1), (1, 0, 1))}
    found = claims(review_table_4_1.study(along_all_axes(faster)))
    assert found["unrolled_reverse", "time", "N"].verdict is Verdict.NOT_REPRODUCED
    assert found["unrolled_reverse", "time", "N"].why == "the interval lies above 1"
    assert found["unrolled_reverse", "memory", "R"].verdict is Verdict.REPRODUCED


def test_failed_cells_are_named_and_too_few_are_not_measured():
    records = [
        failed("timeout", record.method, record.n, method_parameters=record.method_parameters, theta_size=R)
        if record.method == "unrolled_forward" and record.n > 256
        else record
        for record in along_all_axes()
        if record.theta_size == R and record.method_parameters.get("steps", T) == T
    ]
    study = review_table_4_1.study(records)
    lost = claims(study)["unrolled_forward", "time", "N"]
    assert lost.verdict is Verdict.NOT_MEASURED
    assert lost.ours == "-"
    assert lost.why == (
        "2 of the 3 sizes that an exponent needs (N = 529: timeout; N = 1024: timeout; N = 2025: timeout)"
    )
    (row,) = (row for row in study.tables[0].rows if row[:2] == ("unrolled_forward", "N"))
    assert row[3:] == ("-", "-", "-", "-", "N = 529: timeout; N = 1024: timeout; N = 2025: timeout")


def test_a_missing_method_is_not_measured():
    records = [record for record in along_all_axes() if record.method != "minimizer"]
    found = claims(review_table_4_1.study(records))
    lost = found["minimizer[adjoint=cg]", "memory", "N"]
    assert (lost.verdict, lost.why) == (Verdict.NOT_MEASURED, "no cell of it in this run")


def test_memory_that_is_noise_is_left_out_with_a_word():
    # 40 kB is what a peak is good to: 39 kB is noise, 41 kB is not.
    peaks = {144: 39_000, 256: 41_000, 529: 82_000, 1024: 164_000, 2025: 328_000}
    records = [cell("minimizer[adjoint=cg]", (n, R, T), host_peak_bytes=peak) for n, peak in peaks.items()]
    (curve,) = (curve for curve in along_curves(records) if curve.axis.letter == "N")
    assert [size for size, _ in curve.points(PEAK_MEMORY)] == [256, 529, 1024, 2025]
    assert curve.left_out(PEAK_MEMORY) == "N = 144: below 0.04 MiB"
    assert curve.left_out(GRADIENT_TIME) == ""


def test_flagged_times_carry_their_mark_and_memory_none():
    records = [cell("minimizer[adjoint=cg]", (n, R, T), flags=["loaded"]) for n in SIZES["N"]]
    study = review_table_4_1.study(records)
    found = claims(study)
    assert "± 0.00* over" in found["minimizer[adjoint=cg]", "time", "N"].ours
    assert "*" not in found["minimizer[adjoint=cg]", "memory", "N"].ours
    assert study.tables[0].notes[-1] == "* flagged (loaded): do not rank by these timings."


def test_the_figure_has_a_panel_per_axis_the_points_and_the_fitted_line():
    records = [cell("unrolled_reverse", (n, R, T)) for n in SIZES["N"]]
    axes = review_table_4_1.AXES
    look = Look.of(["unrolled_reverse"], SIZES["N"])
    figure = draw(along_curves(records), GRADIENT_TIME, axes, look)
    panels = figure.axes
    assert [panel.get_xlabel() for panel in panels] == [axis.words for axis in axes]
    assert panels[0].get_title(loc="left") == "R = 20, T = 20"
    assert panels[0].get_ylabel() == "time of the gradient\n(ms per call)"
    measured, filled, line = panels[0].lines
    assert list(measured.get_xdata()) == list(SIZES["N"])
    assert list(filled.get_xdata()) == list(SIZES["N"][1:])  # four of five sizes are fitted
    expected = [1e-6 * cost((1, 1, 1), (n, R, T)) for n in SIZES["N"]]  # ms, from nanoseconds
    assert list(measured.get_ydata()) == pytest.approx(expected, rel=1e-12)
    assert list(line.get_ydata()) == pytest.approx(expected[1:], rel=1e-9)


def memory_cell(method: str, n: int, numbers: float, **parameters: Any) -> Record:
    bytes_ = int(8 * numbers)
    return made_up(method, n, method_parameters=parameters, host_peak_bytes=bytes_, theta_size=n * n)


def table1_cells(stored: float) -> list[Record]:
    """Peaks of `stored` N^3 numbers beside N^2 of them, those of unrolling growing by T N besides."""
    records = []
    for n in (64, 128, 256, 512):
        most = stored * n**3 + 3 * n**2
        records += [memory_cell("smoothed_implicit", n, most, hessian=name, epsilon=0.01) for name in ("dense", "cg")]
        records += [memory_cell("unrolled_reverse", n, most, solver={"key": "dual_fista"}, steps=100)]
        records += [memory_cell("blorc", n, 4 * n**2), memory_cell("active_set_adjoint", n, 2 * n**2)]
    for steps in (200, 400, 800, 1600):
        numbers = (stored * 512**3 + 3 * 512**2) * steps / 100
        records.append(memory_cell("unrolled_reverse", 512, numbers, solver={"key": "dual_fista"}, steps=steps))
    return records


def test_square_memory_contradicts_the_cube_of_table_1():
    *by_size, tensor = table1_memory.study(table1_cells(stored=0.0)).claims
    verdicts = [claim.verdict for claim in by_size]
    reproduced, not_reproduced = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED
    assert verdicts == [not_reproduced] * 3 + [reproduced] * 3
    assert by_size[0].ours.startswith("p = 2.00 ± 0.00 over N = 64 to 512; 6.00 MiB at N = 512")
    assert "vector-Jacobian products" in by_size[0].why
    assert tensor.verdict is Verdict.NOT_REPRODUCED
    assert "smoothed_implicit[hessian=cg]: 6.00 MiB at N = 512, where N^3 numbers are 1024 MiB" in tensor.ours


def test_a_stored_jacobian_would_be_recognised():
    *by_size, tensor = table1_memory.study(table1_cells(stored=1.0)).claims
    assert {claim.verdict for claim in by_size} == {Verdict.REPRODUCED}
    assert tensor.verdict is Verdict.REPRODUCED


def test_table_1_without_a_peak_is_not_measured():
    records = [record for record in table1_cells(stored=0.0) if record.method != "unrolled_reverse"]
    study = table1_memory.study(records)
    tensor = study.claims[-1]
    assert (tensor.verdict, tensor.why) == (Verdict.NOT_MEASURED, "no peak of unrolled_reverse")
    assert {row[-2:] for row in claims_table(study).rows if row[1].startswith("unrolled_reverse")} == {
        ("not measured", "no cell of it in this run")
    }


def planned(name: str) -> list[Record]:
    """The configuration's cells as records without a result."""
    path = CONFIGS / f"{name}.toml"
    cells = expand(config.load(path), Catalogue.of([]), str(path))
    return [
        made_up(
            each.method,
            each.instance.n,
            k=each.instance.k,
            theta_size=each.instance.theta_size,
            method_parameters=each.method_parameters,
            cell_id=each.cell_id,
        )
        for each in cells
    ]


def sizes_of(found: Any) -> dict[tuple[str, str], list[int]]:
    return {(curve.label, curve.axis.letter): [curve.size(record) for record in curve.records] for curve in found}


def test_the_reviews_configuration_has_its_axes():
    records = planned("review_table_4_1")
    found = sizes_of(curves(records, review_table_4_1.label, review_table_4_1.AXES))
    dense = (12, 14, 16, 18, 20, 23, 26, 29, 32, 36)
    sides, steps = (*dense, 45, 54, 64, 76, 91), [10, 14, 20, 28, 40, 57, 80, 113, 160]
    for label in METHODS:
        assert found[label, "N"] == [side**2 for side in (dense if "dense" in label else sides)]
        assert found[label, "R"] == [10, 20, 30, 40, 60, 80, 110, 160]  # 3 x 3 taps and a weight per filter
    assert {key for key in found if key[1] == "T"} == {("unrolled_reverse", "T"), ("unrolled_forward", "T")}
    assert all(found[label, "T"] == steps for label in ("unrolled_reverse", "unrolled_forward"))
    assert config.load(CONFIGS / "review_table_4_1.toml").study == "review_table_4_1"


def test_table_1s_configuration_has_its_axes():
    found = sizes_of(curves(planned("table1_memory"), table1_memory.label, table1_memory.AXES))
    unrolled = ("unrolled_reverse", "unrolled_reverse[checkpoint_every=20]")
    for label in (*(name for name, _, _ in table1_memory.CLAIMED), unrolled[1]):
        assert found[label, "N"] == [64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512]
    assert all(found[label, "T"] == [100, 141, 200, 283, 400, 566, 800, 1131, 1600] for label in unrolled)
    assert config.load(CONFIGS / "table1_memory.toml").study == "table1_memory"


def test_a_real_run_makes_its_page(tmp_path):
    """Three small cells through the command, and the report of them."""
    run, out = tmp_path / "run", tmp_path / "report"
    path = str(CONFIGS / "table1_memory.toml")
    only = "method=active_set_adjoint,n=64,n=96,n=128"
    result = CliRunner().invoke(cli.app, ["run", path, "--out", str(run), "--only", only])
    assert result.exit_code == 0, result.output
    records = read_journal(run)
    assert sorted(record.n for record in records) == [64, 96, 128]
    assert {record.status for record in records} == {"ok"}
    result = CliRunner().invoke(cli.app, ["report", str(run), "--out", str(out), "--format", "md"])
    assert result.exit_code == 0, result.output
    report = (out / "report.md").read_text()
    assert "## BLORC's Table 1: memory" in report
    assert "not measured | no peak of smoothed" in report
    for stem in ("table1_memory_peak", "table1_memory_time"):
        assert (out / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({stem}.png)" in report


def test_an_axis_that_a_cell_does_not_have_gives_no_curve():
    steps = Axis("T", "T", lambda record: record.method_parameters.get("steps"))
    assert curves([made_up(n=n) for n in (16, 32, 64)], lambda record: record.method, (steps,)) == []
