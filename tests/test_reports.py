"""The reports, on records made up here: what they print is held against the journal and the published CSV."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.record import Record, read_journal
from reports import cells, latex, markdown, published, rounding
from reports.comparison import comparison_table
from reports.instances import group
from reports.knobs import UNSET, knobs
from reports.tables import main_table
from reports.write import FORMATS, terminal_table, write_report

HOSTILE = r"my_layer%50$|<b>#&{x}\input{/etc/passwd}~^*_`[link](x)"
PUBLISHED = Path(__file__).parents[1] / "results" / "published" / "blorc_table4_gradients.csv"

TABLE_4 = {
    "signal": "piecewise_constant",
    "transform": "identity",
    "scale": 1.0,
    "fidelity": "half",
    "forward": "identity",
    "noise": 0.1,
}
TOTAL_VARIATION = {**TABLE_4, "transform": "finite_difference", "scale": 0.1}

BAR = 2.1e-12


def made_up(method: str = "blorc", n: int = 36, **fields: Any) -> Record:
    """A plausible record; only the tests may make one up."""
    settings = fields.pop("problem_parameters", TABLE_4)
    parameters = fields.pop("method_parameters", {})
    pairs = fields.get("pairs", 100)
    plausible: dict[str, Any] = {
        "cell_id": f"{method}-{n}-{json.dumps(parameters)}-{json.dumps(settings, sort_keys=True)}",
        "problem": "analysis_l1",
        "k": n,
        "theta_size": n * n,
        "pairs": pairs,
        "batch": 1,
        "device": "cpu",
        "dtype": "float64",
        "threads": 1,
        "seed": 0,
        "status": "ok",
        "prepare_seconds": 1.234e-4,
        "prepare_mad_seconds": 3e-6,
        "solve_seconds": 8.7654e-4 * n / 36,
        "solve_mad_seconds": 2.1e-5,
        "gradient_seconds": 5.4321e-5 * n / 36,
        "gradient_mad_seconds": 1.2e-6,
        "total_seconds": 9.3086e-4 * n / 36,
        "total_mad_seconds": 2.2e-5,
        "host_peak_bytes": 1_234_567,
        "error_relative": 4.0e-13,
        "error_max_abs": 2.0e-13,
        "error_angle_degrees": 1e-11,
        "reference_error_relative": BAR,
        "reference_error_max_abs": 3 * BAR,
        "reference_kind": "central differences, 64 directions",
        "reference_norm": 3.0,
        "margin_primal": 1e-3,
        "margin_dual": 2e-3,
        "cosupport_rank_defect": 0,
        "kkt_residual": 1.1e-15,
        "iterations": 120.0,
        "reproduce": f"python -m bench reproduce {method}-{n} RUN",
    }
    given_fields = {"problem_parameters": {**settings, "n": n, "pairs": pairs, "seed": 0}, **fields}
    return Record(method=method, n=n, method_parameters=parameters, **{**plausible, **given_fields})


def failed(status: str, method: str, n: int = 36, message: str = "", **fields: Any) -> Record:
    """A record without a result."""
    nothing = dict.fromkeys(
        [
            *(f"{phase}{mad}_seconds" for phase in ("prepare", "solve", "gradient", "total") for mad in ("", "_mad")),
            "host_peak_bytes",
            "error_relative",
            "error_max_abs",
            "error_angle_degrees",
            "kkt_residual",
            "iterations",
        ]
    )
    return made_up(method, n, **{**nothing, "status": status, "message": message, **fields})


def timed(factor: float) -> dict[str, float]:
    """Times as those of `made_up`, slower."""
    return {
        "solve_seconds": 8.7654e-4 * factor,
        "gradient_seconds": 5.4321e-5 * factor,
        "total_seconds": 9.3086e-4 * factor,
    }


def full_run() -> list[Record]:
    """Several problems, sizes, methods and variants, with every kind of failure."""
    records = []
    for settings in (TABLE_4, TOTAL_VARIATION, {**TOTAL_VARIATION, "transform": "dct"}, {**TABLE_4, "scale": 0.5}):
        for n in (36, 64):
            common = {"n": n, "problem_parameters": settings}
            size = n / 36
            records += [
                made_up(**common),
                made_up("active_set_adjoint", **common, **timed(0.6 * size), error_relative=2e-15),
                made_up("torch_closed_form", **common, **timed(4 * size), error_relative=5e-12, flags=["noisy"]),
            ]
            for mode in ("lsqr", "lsmr"):
                for tolerance in (1e-4, 1e-7, 1e-10):
                    knob = {"mode": mode, "tolerance": tolerance}
                    speed = timed((20 - 2 * math.log10(tolerance)) * size * (1.4 if mode == "lsmr" else 1))
                    error = 20 * tolerance**0.7 * (0.2 if mode == "lsmr" else 1.0)
                    records.append(
                        made_up("cvxpy_layer", **common, **speed, method_parameters=knob, error_relative=error)
                    )
            for epsilon in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
                speed = timed(2 * size * epsilon**-0.3)
                records.append(
                    made_up(
                        "smoothed_implicit",
                        **common,
                        **speed,
                        method_parameters={"epsilon": epsilon},
                        error_relative=2 * epsilon,
                    )
                )
            for steps in (100, 1000, 10000):
                knob = {"solver": {"key": "dual_pgd"}, "steps": steps}
                error = 3.0 * math.exp(-steps / 350) + 1e-13
                records.append(
                    made_up(
                        "unrolled_reverse", **common, **timed(steps / 50), method_parameters=knob, error_relative=error
                    )
                )
            records += [
                failed("timeout", "finite_differences", **common, message="killed after 120 s"),
                failed("crashed", "equilibrium", **common, message="worker died with signal 11"),
            ]
    records += [
        failed("unsupported", "pudle", message="needs identity_k: use the family synthesis_lasso"),
        failed("error", "my_layer", n=64, message="Traceback:\n  ValueError: x | y"),
    ]
    return records


def write_run(folder: Path, records: Iterable[Record], environment: dict[str, Any] | None = None) -> Path:
    """A run folder as the harness leaves it."""
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("".join(record.to_line() + "\n" for record in records))
    if environment is not None:
        (folder / "environment.json").write_text(json.dumps(environment))
        (folder / "config.toml").write_text('title = "Table 4: one gradient"\n')
    return folder


ENVIRONMENT = {
    "cpu": "Made-up CPU_X 100% @ 3 GHz",
    "cores": 2,
    "memory_bytes": 8 * 2**30,
    "os": "Linux",
    "python": "3.11.9",
    "packages": {"numpy": "2.4.0", "torch": "2.13.0"},
    "gpu": None,
    "git_sha": "0123abc",
    "git_dirty": True,
    "command": "python -m bench run bench/configs/table4.toml",
}

positive = st.floats(min_value=1e-30, max_value=1e12, allow_nan=False)


@given(positive, st.integers(1, 6))
def test_scientific_is_within_half_a_unit_of_its_last_digit(value: float, digits: int) -> None:
    printed = Fraction(rounding.scientific(value, digits))
    unit = Fraction(10) ** (math.floor(math.log10(value)) - digits + 1)
    # math.log10 may put a value next to a power of ten into the neighbouring decade: then its unit is ten times larger.
    assert abs(printed - Fraction(value)) <= 10 * unit / 2
    assert float(rounding.scientific(float(printed), digits)) == float(printed)


@given(positive)
def test_a_bound_is_never_printed_below_its_value_nor_above_twice_it(value: float) -> None:
    printed = float(rounding.upper_bound(value))
    assert value <= printed <= 2 * value


@given(positive, positive)
def test_errors_at_or_below_the_bar_print_as_the_bar_and_no_others_do(value: float, bar: float) -> None:
    text = rounding.error(value, bar)
    assert text.startswith("<= ") == (value <= bar)
    if value <= bar:
        assert float(text.removeprefix("<= ")) >= bar


@pytest.mark.parametrize(
    ("value", "bar", "text"),
    [
        (1e-13, 2.1e-12, "<= 3e-12"),
        (3e-12, 3e-12, "<= 3e-12"),
        (3.2e-9, 3e-12, "3.2e-9"),
        (0.0, None, "0"),
        (None, 1e-12, "-"),
        (2.5, 1e-12, "2.5"),
        (12.9, 1e-12, "13"),
        (0.23, 1e-12, "2.3e-1"),
        (1e-13, 9.5e-12, "<= 1e-11"),
    ],
)
def test_printed_errors(value: float | None, bar: float | None, text: str) -> None:
    assert rounding.error(value, bar) == text


@given(st.floats(1e-9, 1e4), st.floats(1e-2, 0.5))
def test_a_time_is_rounded_to_its_spread(value: float, share: float) -> None:
    spread = share * value
    median, deviation = (Fraction(text) for text in rounding.with_spread(value, spread).split(" ± "))
    # One significant digit of the spread, two where the first is a 1: the step is between a twentieth of it and half.
    assert abs(median - Fraction(value)) <= Fraction(spread) / 4
    assert abs(deviation - Fraction(spread)) <= Fraction(spread) / 4
    digits = f"{float(deviation):e}".partition("e")[0].replace(".", "").rstrip("0")
    assert len(digits) <= 2


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (12.3456, 0.0512, "12.35 ± 0.05"),
        (12.3456, 0.0149, "12.346 ± 0.015"),
        (12345.0, 230.0, "12300 ± 200"),
        (7.54321, None, "7.54"),
        (7.54321, 0.0, "7.54"),
        (None, None, "-"),
        (0.5, 2.0, "0 ± 2"),
        (0.33679, 0.000015, "0.33679 ± 0.00002"),
        (12.3456, 0.0009, "12.346 ± 0.001"),
    ],
)
def test_printed_times(value: float | None, spread: float | None, text: str) -> None:
    assert rounding.with_spread(value, spread) == text


def test_units_are_those_of_the_headings() -> None:
    record = made_up(gradient_seconds=0.0123, gradient_mad_seconds=0.0004, host_peak_bytes=3 * 2**20)
    assert cells.time(record, "gradient") == "12.3 ± 0.4"
    assert cells.memory(record.host_peak_bytes) == "3.00"
    headings = [column.heading for column in main_table(group([record])[0]).columns]
    assert {"gradient (ms)", "peak memory (MiB)", "angle (degrees)", "relative error (Frobenius)"} <= set(headings)


def test_the_bar_bounds_the_other_norms_too() -> None:
    bars = {"reference_error_relative": 1e-12, "reference_error_max_abs": 5e-12}
    record = made_up(error_max_abs=1e-12, error_angle_degrees=1e-12, **bars)
    assert cells.largest_error(record) == "<= 5e-12"
    assert cells.angle(record) == "<= 6e-11"  # asin(1e-12) in degrees is 5.73e-11


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"reference_norm": 0.0, "error_relative": None}, "gradient is 0"),
        ({"reference_norm": 1e-14, "reference_error_relative": 30.0, "error_relative": 2.0}, "gradient is 0"),
        ({"reference_norm": None, "error_relative": None, "reference_error_relative": None}, "no reference"),
        ({"status": "timeout", "error_relative": None}, "timeout"),
        ({"status": "inaccurate_solver", "error_relative": 1e-3}, "1.0e-3"),
    ],
)
def test_a_word_stands_where_there_is_no_relative_error(fields: dict[str, Any], text: str) -> None:
    assert cells.relative_error(made_up(**fields)) == text


def test_only_timing_flags_mark_a_time() -> None:
    assert cells.time(made_up(flags=["noisy"]), "solve").endswith(cells.FLAGGED)
    kinks = made_up(flags=["kinks=3"])
    assert not cells.time(kinks, "solve").endswith(cells.FLAGGED)
    assert cells.status(kinks) == "ok, right, kinks=3"


def published_rows() -> list[dict[str, str]]:
    with PUBLISHED.open(newline="") as file:
        return list(csv.DictReader(file))


def test_published_numbers_are_those_of_the_file() -> None:
    table = comparison_table(group([made_up(), made_up(n=64)])[0])
    columns = {column.title: index for index, column in enumerate(table.columns)}
    printed = {
        (row[columns["paper's method"]], int(row[columns["n"]])): (
            float(row[columns["published time"]]),
            float(row[columns["published error"]]),
            float(row[columns["published time / BLORC's"]]),
        )
        for row in table.rows
        if row[columns["paper's method"]] != rounding.ABSENT
    }
    file = {(row["method"], int(row["n"])): row for row in published_rows()}
    assert printed.keys() == file.keys()
    for (method, n), (time, error, ratio) in printed.items():
        assert (time, error) == (float(file[method, n]["time_ms"]), float(file[method, n]["error"]))
        exact = time / float(file["BLORC", n]["time_ms"])
        assert ratio == pytest.approx(exact, rel=0.05)  # two significant digits


def test_the_papers_methods_stand_beside_ours_and_the_others_below() -> None:
    cvxpy = [
        made_up("cvxpy_layer", method_parameters=parameters, **timed(factor))
        for parameters, factor in [
            ({"solver": "Clarabel", "tolerance": 1e-12, "mode": "lsmr"}, 50),
            ({"mode": "dense"}, 40),
            ({"mode": "lsqr"}, 20),
            ({"mode": "lsqr", "tolerance": 1e-9}, 30),
        ]
    ]
    records = [made_up(flags=["noisy"]), *cvxpy, made_up("active_set_adjoint", **timed(0.5))]
    rows = [row for row in comparison_table(group(records)[0]).rows if row[2] == "36"]
    assert [row[:2] for row in rows[:3]] == [
        ("BLORC", "blorc"),
        ("PyTorch on the closed form", "torch_closed_form"),
        ("CVXPY (diffcp)", "cvxpy_layer[mode=lsqr]"),
    ]
    assert rows[1][5] == "not measured"
    assert rows[2][-2:] == ("20*", "20*")  # blorc's timing is flagged, and so is a ratio to it
    assert ("-", "active_set_adjoint") in [row[:2] for row in rows[3:]]


@pytest.mark.parametrize(
    ("settings", "is_papers"),
    [
        (TABLE_4, True),
        ({**TABLE_4, "fidelity": "full"}, True),
        ({**TABLE_4, "scale": 0.5}, True),
        ({**TABLE_4, "scale": 0.1}, False),
        ({**TABLE_4, "forward": "blur"}, False),
        ({**TABLE_4, "instance": "kink"}, False),
        (TOTAL_VARIATION, False),
    ],
)
def test_the_papers_instance_is_denoising_at_the_identity(settings: dict[str, Any], is_papers: bool) -> None:
    assert published.is_papers_instance(group([made_up(problem_parameters=settings)])[0]) is is_papers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {},
            # 3.2e-9 over the bars, 2.1e-12 and three times that
            "our error is smaller by a factor of 1500 or more; read as an absolute error, our error is smaller by a "
            "factor of 510 or more. Where ours is smaller",
        ),
        ({"reference_error_relative": 1e-9}, "too near our reference's own bar"),
        ({"error_relative": 4e-9, "error_max_abs": 2e-9}, "of one size"),
        (
            {"error_relative": 3.2e-6, "error_max_abs": 3.2e-7},
            "read as an absolute error, our error is larger by a factor of 100. Where ours is larger",
        ),
        ({"reference_norm": 0.0, "error_relative": None}, "cannot tell the gradients of this instance from zero"),
        ({"error_relative": None, "reference_error_relative": None}, "has no reference"),
        ({"status": "timeout", "error_relative": None}, "not measured, our blorc ended with timeout"),
    ],
)
def test_what_is_said_of_the_papers_error_follows_the_data(fields: dict[str, Any], expected: str) -> None:
    of_36, of_64 = published.said_of_the_error(group([made_up(**fields)]))
    assert "the paper prints 3.2e-9" in of_36
    assert expected in of_36
    assert of_64.startswith("n = 64")
    assert of_64.endswith("not measured in this run.")


def test_without_the_papers_instance_nothing_is_said_to_be_measured() -> None:
    (sentence,) = published.said_of_the_error(group([made_up(problem_parameters=TOTAL_VARIATION)]))
    assert sentence.startswith("Not measured")
    assert "3.2e-9 (n = 36) and 5.13e-9 (n = 64)" in sentence


def test_an_instance_is_stated_in_words() -> None:
    full = {**TOTAL_VARIATION, "fidelity": "full", "forward": "blur", "folder": "a"}
    records = [
        made_up(problem_parameters=full, pairs=5, batch=5, seed=3),
        made_up(problem="game", problem_parameters={}),
    ]
    assert [own.title for own in group(records)] == [
        "analysis_l1: piecewise-constant signals, W = 0.1 x finite differences, data term ||Ax - y||^2, A = blur, "
        "noise 0.1, folder = a; seed 3, 5 pairs, 5 per call",
        "game; seed 0, 100 pairs, one per call",
    ]


def test_sizes_share_a_table_and_batches_do_not() -> None:
    groups = group([made_up(), made_up(n=64), made_up(batch=100)])
    assert [own.sizes for own in groups] == [[36, 64], [36]]


def test_devices_are_told_apart() -> None:
    (own,) = group([made_up(), made_up(device="cuda")])
    assert [row[0] for row in main_table(own).rows] == ["blorc on cpu", "blorc on cuda"]


def test_a_knob_is_the_swept_number_and_the_rest_makes_curves() -> None:
    records = [
        made_up("cvxpy_layer", method_parameters={"mode": mode, **tolerance})
        for mode in ("lsqr", "lsmr")
        for tolerance in ({"tolerance": 1e-4}, {"tolerance": 1e-12}, {})
    ]
    (knob,) = knobs([made_up(), *records])
    assert (knob.method, knob.name, knob.values) == ("cvxpy_layer", "tolerance", (UNSET, 1e-12, 1e-4))
    assert [curve.rest for curve in knob.curves] == ["mode = lsqr", "mode = lsmr"]
    assert [curve.joined for curve in knob.curves] == [[1, 2], [1, 2]]
    (words,) = knobs([record for record in records if "tolerance" not in record.method_parameters])
    assert (words.name, words.values, words.is_number) == ("mode", ("lsmr", "lsqr"), False)


@pytest.fixture(scope="module")
def small_run() -> list[Record]:
    """Two instances, one of them the paper's, with hostile names and failures."""
    records = [
        record
        for record in full_run()
        if record.problem_parameters["transform"] == "finite_difference" or record.problem_parameters["scale"] == 1.0
    ]
    return [*records, made_up(HOSTILE, method_parameters={"a": HOSTILE}), failed("error", HOSTILE, 64, message=HOSTILE)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, small_run: list[Record]) -> tuple[Path, list[Path]]:
    run = write_run(tmp_path_factory.mktemp("report") / "run", small_run, ENVIRONMENT)
    return run, write_report([run], run / "report")


def test_every_format_is_written_and_every_figure_is_linked(written: tuple[Path, list[Path]]) -> None:
    _, paths = written
    assert all(path.stat().st_size > 0 for path in paths)
    assert {"report.md", "report.tex", "tables.tex", "records.csv"} <= {path.name for path in paths}
    folder = paths[0].parent
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (folder / "report.md").read_text())
    pngs = {path.name for path in paths if path.suffix == ".png"}
    assert set(links) == pngs
    assert {
        "error_against_gradient_time.png",
        "error_against_total_time.png",
        "knob_smoothed_implicit.png",
        "knob_cvxpy_layer.png",
        "knob_unrolled_reverse.png",
    } <= pngs
    included = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", (folder / "report.tex").read_text())
    assert set(included) == {path.name for path in paths if path.suffix == ".pdf"}


def test_the_csv_holds_the_journal_unrounded(written: tuple[Path, list[Path]]) -> None:
    run, paths = written
    with next(path for path in paths if path.suffix == ".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    records = read_journal(run)
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        journal = json.loads(record.to_line())
        assert set(journal) <= set(row)
        for name, value in journal.items():
            if value is None:
                assert row[name] == ""
            elif isinstance(value, int | float):
                assert float(row[name]) == value
            elif isinstance(value, dict | list):
                assert json.loads(row[name]) == value
            else:
                assert row[name] == value


def markdown_tables(text: str) -> list[list[str]]:
    """The cells of every table row, as an independent CommonMark parser reads them; no markup but tables and bold."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(text)
    rows: list[list[str]] = []
    for index, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            children = tokens[index + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special"}, tokens[index + 1].content
            rows[-1].append("".join(child.content for child in children))
        assert token.type != "html_block", token.content
    return rows


def test_markdown_shows_hostile_names_as_they_are_and_every_failure(
    written: tuple[Path, list[Path]], small_run: list[Record]
) -> None:
    text = (written[1][0].parent / "report.md").read_text()
    rows = markdown_tables(text)
    assert any(row[0] == f"{HOSTILE}[a={HOSTILE}]" for row in rows)
    for record in small_run:
        if record.status != "ok":
            assert any(row[0] == record.variant and row[-1] == record.status for row in rows)
            assert markdown.escape(record.message) in text


@given(st.text(max_size=60))
def test_markdown_escaping_is_undone_by_a_parser(text: str) -> None:
    plain = " ".join(text.split())
    source = f"| {markdown.escape(text)} | b |\n| --- | --- |\n"
    # A parser replaces NUL by U+FFFD, as CommonMark demands.
    assert markdown_tables(source) == [[plain.replace("\0", "\ufffd"), "b"]]


def tex_is_sound(text: str) -> None:
    """Braces and environments balance, and no special character stands outside the templates' own commands."""
    text = re.sub(r"^% .*|(?<=\{)%$", "", text, flags=re.MULTILINE)  # the templates' own comments
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        assert depth >= 0
    assert depth == 0
    environments: list[str] = []
    for match in re.finditer(r"\\(begin|end)\{([a-z*]+)\}", text):
        if match[1] == "begin":
            environments.append(match[2])
        else:
            assert environments.pop() == match[2]
    assert not environments
    bare = re.sub(r"\$\\(?:le|pm)\$|\$[\d.]+ \\times 10\^\{-?\d+\}\$", "", text)
    bare = re.sub(r"\\includegraphics.*|\\[#$%&_{}\\]", "", bare)
    assert not re.findall(r"[$#_^~%]", bare)
    known = (
        "documentclass usepackage begin end section centering caption resizebox textwidth textheight toprule midrule "
        "bottomrule par medskip footnotesize raggedright shortstack item input Large paragraph textbackslash "
        "textasciicircum textasciitilde textasciigrave textless textgreater textbar"
    )
    assert set(re.findall(r"\\([A-Za-z]+)", bare)) <= set(known.split())


def test_latex_is_sound_and_holds_every_row(written: tuple[Path, list[Path]], small_run: list[Record]) -> None:
    folder = written[1][0].parent
    report, tables = (folder / "report.tex").read_text(), (folder / "tables.tex").read_text()
    tex_is_sound(report)
    tex_is_sound(tables)
    assert re.findall(r"\\input\{([^}]*)\}", report) == ["tables"]  # and not the hostile name's
    assert "\\input{" not in tables
    columns = re.findall(r"\\begin\{tabular\}\{((?:[lr]|p\{20em\})+)\}", tables)
    widths = [len(each.replace("{20em}", "")) for each in columns]
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", tables, flags=re.DOTALL)
    for width, body in zip(widths, bodies, strict=True):
        for row in body.strip().split("\n"):
            assert len(re.findall(r"(?<!\\)&", row)) == width - 1
    for record in small_run:
        row = [line for line in tables.split("\n") if line.startswith(latex.escape(record.variant) + " & ")]
        assert any(f"& {record.n} & {record.k} &" in line for line in row)
        assert any(line.endswith(f"& {latex.escape(cells.status(record))} \\\\") for line in row)


@given(st.text(max_size=60))
def test_latex_escaping_leaves_no_special_character(text: str) -> None:
    tex_is_sound(latex.escape(text))
    assert latex.escape(text).isprintable()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("<= 3e-12", r"$\le$ $3 \times 10^{-12}$"),
        ("4.8e-5", r"$4.8 \times 10^{-5}$"),
        ("0.93 ± 0.02*", r"0.93 $\pm$ 0.02*"),
        ("-", "--"),
        ("out_of_memory", r"out\_of\_memory"),
    ],
)
def test_latex_numbers(text: str, source: str) -> None:
    assert latex.number(text) == source


def test_the_report_states_the_machine_the_command_and_what_is_open(written: tuple[Path, list[Path]]) -> None:
    text = (written[1][0].parent / "report.md").read_text()
    for part in ("python -m bench run bench/configs/table4.toml", "8.0 GiB", "3.11.9", "numpy 2.4.0", "0123abc with"):
        assert part in text
    for item in ("U.1", "U.2", "U.3", "X.1", "X.17", "X.18"):
        assert f"**{item}**" in text
    assert "# Table 4: one gradient" in text


def test_a_command_is_stated_as_it_was_typed(tmp_path: Path) -> None:
    typed = {"command": ["/x/bench/__main__.py", "run", "a b.toml"], "gpus": ["Made-up GPU"]}
    run = write_run(tmp_path / "run", [failed("timeout", "blorc")], typed)
    write_report([run], tmp_path / "out", {"md"})
    text = (tmp_path / "out" / "report.md").read_text()
    assert "python -m bench run 'a b.toml'" in text
    assert "Made-up GPU" in text


@pytest.mark.parametrize(
    "records",
    [
        [made_up()],
        [failed("timeout", "blorc"), failed("crashed", "cvxpy_layer", 64)],
        [made_up(reference_norm=0.0, error_relative=None, error_max_abs=0.0, reference_error_relative=None)],
        [made_up(gradient_seconds=None, total_seconds=None, method_parameters={"steps": steps}) for steps in (1, 9)],
        [made_up(reference_kind=None, reference_norm=None, reference_error_relative=None, error_relative=None)],
        [made_up(error_relative=0.0, reference_error_relative=None)],
    ],
    ids=["one cell", "all failed", "zero gradient", "no times", "no reference", "exact"],
)
def test_odd_runs_are_reported(tmp_path: Path, records: list[Record]) -> None:
    run = write_run(tmp_path / "run", records)
    paths = write_report([run], tmp_path / "out", {"md", "csv"})
    drawn = [path.stem for path in paths if path.suffix == ".png"]
    has_point = [record for record in records if record.error_relative is not None]
    assert ("error_against_total_time" in drawn) == any(record.total_seconds for record in has_point)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "not recorded" in text
    for record in records:
        assert any(row[:1] == [record.variant] and row[-1] == cells.status(record) for row in markdown_tables(text))


def test_several_runs_stay_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, [made_up(**timed(factor))]) for name, factor in (("one", 1), ("two", 3))]
    write_report(runs, tmp_path / "out", {"md", "csv"})
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.count("### run 1 (one): analysis") == 1
    assert text.count("### run 2 (two): analysis") == 1
    assert [row[0] for row in csv.reader(StringIO((tmp_path / "out" / "records.csv").read_text()))] == [
        "run",
        *map(str, runs),
    ]


def empty(folder: Path) -> list[Path]:
    return [write_run(folder / "run", [])]


def missing(folder: Path) -> list[Path]:
    return [folder / "nowhere"]


def none(folder: Path) -> list[Path]:
    del folder
    return []


@pytest.mark.parametrize(
    ("make", "message"),
    [(empty, "run has no finished cell yet"), (missing, "nowhere is no run folder"), (none, "needs a run folder")],
)
def test_nothing_to_report_is_said_clearly(tmp_path: Path, make: Callable[[Path], list[Path]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_report(make(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no report format docx: choose among html, md, tex, csv, pr"):
        write_report([tmp_path], tmp_path, {"docx", *FORMATS})


def test_the_terminal_table_aligns_and_drops_no_row(small_run: list[Record]) -> None:
    for width in (80, 120, 240):
        out = StringIO()
        terminal_table(small_run, Console(file=out, width=width, color_system=None))
        lines = out.getvalue().split("\n")
        assert max(map(len, lines)) <= width
        body = [line for line in lines if re.search(r"  \d+ {2,}.* (ok|timeout|crashed|unsupported|error)", line)]
        assert len(body) == len(small_run)
    out = StringIO()
    terminal_table([], Console(file=out, width=80))
    assert out.getvalue() == "no finished cell yet\n"


def test_the_terminal_table_does_not_pay_for_figures() -> None:
    code = (
        "import sys, reports.terminal, reports.write; print([m for m in ('matplotlib', 'jinja2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_points_stand_at_their_errors_or_in_the_band() -> None:
    from reports.error_axis import error_axis

    errors = [1e-14, 5e-12, 1e-3, 1e-15, 1e-14]
    axis = error_axis([0.1, 0.2, 0.3, 0.11, 0.9], [made_up(error_relative=error) for error in errors])
    assert (axis.heights[1], axis.heights[2]) == (5e-12, 1e-3)
    band = [axis.heights[index] for index in (0, 3, 4)]
    assert all(axis.bottom < height < axis.floor <= BAR for height in band)
    assert band[0] != band[1]  # close in time: kept apart
    assert band[0] == band[2]  # far in time: the same lane
    assert axis.bar == BAR


def test_nothing_in_a_figure_is_clipped_and_colours_stay(small_run: list[Record]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from reports import error_time, knob_figure
    from reports.style import Look, use_house_style

    use_house_style()
    look = Look.of((record.method for record in small_run), (record.n for record in small_run))
    assert look.colour("blorc") == Look.of(["a", "b"], [1]).colour("blorc")
    groups = group(small_run)
    figures = [error_time.draw(groups, "total", look), error_time.draw(groups[:1], "gradient", look)]
    figures += [knob_figure.draw(groups[:1], "cvxpy_layer", look)]
    for figure in figures:
        assert figure is not None
        FigureCanvasAgg(figure).draw()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        # A hundredth of an inch: half the width of a line at the edge.
        assert min(box.x0, box.y0) >= -0.01
        assert box.x1 <= width + 0.01
        assert box.y1 <= height + 0.01
        (legend,) = figure.legends
        for axes in figure.axes:
            assert axes.lines
            assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
