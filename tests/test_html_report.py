"""The page without a browser: its sentences and numbers held against the Parquet, its escaping, its size."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.cli import _changes
from bench.compare import compare
from bench.record import Record
from reports import plots as views
from reports.content import Content, read_content
from reports.instances import group
from reports.page import to_html
from reports.plots import look_of, theme
from reports.short_names import told_apart
from reports.study import Claim, Study, StudyFigure
from reports.study import Verdict as StudyVerdict
from reports.style import Look
from reports.summary import MOST_LINES, to_summary
from reports.svg import inline_svg
from reports.verdicts import verdicts
from reports.write import write_report
from tests import report_runs
from tests.conftest import LargePage
from tests.test_compare import Folder, noisy
from tests.test_reports import ENVIRONMENT, failed, made_up, timed, write_run

RUNS: dict[str, Callable[[Path], Path]] = {
    "hostile": report_runs.hostile_run,
    "one_cell": report_runs.one_cell_run,
    "failed": report_runs.failed_run,
    "rich": report_runs.rich_run,
}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Content]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: read_content([make(folder / name)]) for name, make in RUNS.items()}


@pytest.fixture(scope="module")
def pages(contents: dict[str, Content]) -> dict[str, str]:
    return {name: to_html(content) for name, content in contents.items()}


class Elements(HTMLParser):
    """The names of a page's elements, all attributes, and the text of its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.data: dict[str, str] = {}
        self.text: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.inside = dict(attrs).get("id") or "" if tag == "script" else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == "script" else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.data[self.inside] = self.data.get(self.inside, "") + data
        else:
            self.text.append(data)


def unpacked(packed: Any) -> list[Any]:
    return packed if isinstance(packed, list) else [packed["words"][place] for place in packed["at"]]


def test_the_pages_numbers_are_those_of_the_parquet(tmp_path: Path) -> None:
    run = report_runs.rich_run(tmp_path / "run")
    write_report([run], tmp_path, {"html", "csv"})
    table = json.loads(Elements((tmp_path / "report.html").read_text()).data["data-cells"])
    frame = pd.read_parquet(tmp_path / "records.parquet").set_index("cell_id")
    frame = frame.loc[unpacked(table["details"]["cell"])]
    fields = {"n": "n", "k": "k", "gradient": "gradient_seconds", "solve + gradient": "total_seconds",
              "peak memory": "host_peak_bytes", "relative error": "error_relative"}  # fmt: skip
    titles = [column["title"] for column in table["columns"]]
    for title, field in fields.items():
        shown = pd.Series(table["values"][titles.index(title)], dtype=float)
        expected = frame[field].astype(float).reset_index(drop=True)
        pd.testing.assert_series_equal(shown, expected, check_names=False, check_exact=True)
    texts = unpacked(table["text"][titles.index("solve + gradient")])
    for text, seconds in zip(texts, frame["total_seconds"], strict=True):
        if pd.isna(seconds):
            assert text == "-"
        else:
            median, spread = (float(part) for part in text.rstrip("*").split(" ± "))
            assert abs(median - 1e3 * seconds) <= spread  # rounded where the spread has its first digits


def test_points_stand_where_the_records_say(contents: dict[str, Content], pages: dict[str, str]) -> None:
    content = contents["rich"]
    figures = json.loads(gzip.decompress(base64.b64decode(Elements(pages["rich"]).data["data-plots"])))
    traces = [trace for figure in figures["error_against_total_time"] for trace in figure["data"]]
    cells = [trace for trace in traces if trace.get("meta") == "cells"]
    assert sum(len(trace["customdata"]) for trace in cells) > 50
    for trace in cells:
        for place, milliseconds in zip(trace["customdata"], trace["x"], strict=True):
            assert milliseconds == 1e3 * (content.records[place].total_seconds or 0.0)


def test_the_verdict_is_computed_from_the_records(contents: dict[str, Content]) -> None:
    content = contents["rich"]
    frame = pd.DataFrame([record.model_dump() for record in content.records])
    frame["instance"] = frame["problem_parameters"].map(lambda own: own["transform"])
    exact = frame[
        (frame["status"] == "ok")
        & ((frame["error_relative"] <= 1e-8) | (frame["error_relative"] <= frame["reference_error_relative"]))
        & frame["flags"].map(lambda flags: "noisy" not in flags)
    ]
    first = exact.sort_values("total_seconds").groupby(["instance", "n"]).first()["method"].value_counts()
    sentence, memory, failures = verdicts(content.groups)
    assert sentence.startswith(f"{first.index[0]} is the fastest")
    assert f"in all {first.iloc[0]} instances and sizes" in sentence
    assert "ms for solve + gradient" in sentence
    assert "MiB" in memory
    lost = int((~frame["status"].isin(["ok", "kink"])).sum())
    assert failures.startswith(f"{lost} of {len(frame)} cells gave no gradient")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([made_up(), made_up("b", **timed(2.0))], ("blorc is the fastest", "2.0 times as fast as b, the next")),
        ([made_up(), made_up("b", **timed(0.5))], ("b is the fastest", "2.0 times as fast as blorc, the next")),
        ([made_up(), made_up("b", **timed(1.01))], ("level with b within their spread",)),
        ([made_up(flags=["unstable"])], ("There is no fastest", "every timing carries a flag")),
        ([made_up(total_seconds=None)], ("There is no fastest", "no such cell was timed")),
        ([made_up(error_relative=1e-3)], ("No cell is exact", "1.0e-3, of blorc at n = 36; blorc is the fastest")),
        ([made_up(error_relative=None)], ("No cell has a relative error against a reference",)),
        ([made_up(), made_up("b", host_peak_bytes=9_000_000)], ("In memory blorc is the cheapest", "1.18 MiB", "8.58")),
        ([made_up(), made_up("b", host_peak_bytes=1_240_000)], ("In memory blorc and b are the cheapest",)),
        ([made_up(), failed("timeout", "b", 64)], ("1 of 2 cells gave no gradient: b timeout (n = 64).",)),
        ([made_up(status="kink", kink_count=2)], ("The only cell gave a gradient; 1 stands at a kink",)),
        ([failed("crashed", "b")], ("The only cell gave no gradient: b crashed (n = 36).", "There is no cheapest")),
    ],
)  # fmt: skip
def test_each_verdict_follows_its_numbers(records: list[Record], expected: tuple[str, ...]) -> None:
    said = " ".join(verdicts(group(records)))
    for part in expected:
        assert part in said, said


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_one_file_without_a_network_or_foreign_markup(pages: dict[str, str], name: str) -> None:
    page = Elements(pages[name])
    assert page.names["img"] == page.names["link"] - 1 == page.names["iframe"] == 0
    assert page.names["script"] == 4  # cells, plots, plotly, ours
    assert not [
        value for key, value in page.attributes if key in {"src", "href"} and not value.startswith(("#", "data:"))
    ]
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert "default-src 'none'" in pages[name]
    assert json.loads(page.data["data-cells"])  # nothing in it ended its element


def test_hostile_names_stand_on_the_page_as_they_are(pages: dict[str, str]) -> None:
    page = Elements(pages["hostile"])
    assert any(report_runs.MARKUP in text for text in page.text)
    labels = unpacked(json.loads(page.data["data-cells"])["text"][0])
    assert any(label.startswith(report_runs.MARKUP) for label in labels)


def test_a_run_without_a_result_says_so_in_words(pages: dict[str, str]) -> None:
    page = Elements(pages["failed"])
    text = " ".join(page.text)
    for word in ("unsupported", "timeout", "out_of_memory", "crashed", "nonfinite", "inaccurate_solver"):
        assert word in text
    assert "7 of 7 cells gave no gradient" in text


def test_five_thousand_cells_take_under_20_seconds_and_10_megabytes(large_page: LargePage) -> None:
    assert large_page.seconds < 20
    assert large_page.path.stat().st_size < 10e6
    cells = json.loads(Elements(large_page.path.read_text()).data["data-cells"])
    assert len(unpacked(cells["text"][0])) == 5000


def test_a_method_has_one_colour_in_all_plots(contents: dict[str, Content]) -> None:
    content = contents["rich"]
    look, seen = look_of(content), Counter[str]()
    for plot in views.plots(content):
        for figure in plot.figures.values():
            for trace in figure.data:
                for line in (trace.marker if "marker" in trace else None, trace.line if "line" in trace else None):
                    if trace.name in look.methods and line is not None and isinstance(line.color, str):
                        assert line.color == theme.colour(look, trace.name), (plot.stem, trace.name)
                        seen[plot.stem] += 1
    assert len(seen) >= 2
    assert len({theme.colour(look, method) for method in look.methods[:10]}) == 10


@pytest.mark.parametrize("name", RUNS)
def test_a_summary_is_short_and_counts_what_it_leaves_out(contents: dict[str, Content], name: str) -> None:
    content = contents[name]
    summary = to_summary(content)
    assert len(summary.splitlines()) <= MOST_LINES
    lost = sum(record.status != "ok" for record in content.records)
    listed = len(re.findall(r"^- .*: \*\*\w+\*\*", summary, re.MULTILINE))
    more = re.search(r"^- and (\d+) more$", summary, re.MULTILINE)
    assert listed + (int(more[1]) if more else 0) == lost


def test_two_runs_are_compared_with_intervals(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b", git_sha="e" * 40)
    for name, factor in {"same": 1.0, "slower": 1.3, "faster": 1 / 1.3}.items():
        a.add(name, noisy(len(name)))
        b.add(name, noisy(10 + len(name), factor), error_relative=1e-2 if name == "same" else 1e-12)
    changes = _changes(a.path, b.path)
    (path,) = write_report([a.path, b.path], tmp_path / "report", {"html"}, [changes])
    page = Elements(path.read_text())
    table = json.loads(page.data["data-changes-0"])
    truth = {each.cell_id: each.timing for each in compare(a.run, b.run).compared}
    for cell, ratio, interval in zip(
        unpacked(table["details"]["cell"]), table["values"][3], unpacked(table["text"][4]), strict=True
    ):
        timing = truth[cell]
        assert timing is not None
        assert ratio == timing.ratio
        assert interval == f"{timing.low:.3f} to {timing.high:.3f}"
    assert Counter(unpacked(table["filters"]["accuracy"])) == {"worse": 1, "no change": 2}
    assert set(unpacked(table["filters"]["time"])) >= {"slower", "faster"}
    text = " ".join(page.text)
    assert changes.headline in text
    assert "git_sha" in text or "commit" in text  # what sets the runs apart
    (ratios,) = json.loads(gzip.decompress(base64.b64decode(page.data["data-plots"])))["ratios-0"]
    assert sorted(x for trace in ratios["data"] for x in trace["x"]) == sorted(each.ratio for each in truth.values())


def test_runs_without_a_common_cell_are_compared_in_one_line(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [made_up()], ENVIRONMENT)
    b = write_run(tmp_path / "b", [made_up("other")], ENVIRONMENT)
    changes = _changes(a, b)
    assert "no cell in common" in changes.headline
    assert "no cell in common" in to_html(read_content([a, b]), [changes])


def test_long_names_are_told_apart_by_what_differs() -> None:
    names = ["p: signals, W = I, noise 0.1; seed 0", "p: signals, W = DCT, noise 0.1; seed 1"]
    assert told_apart(names) == ["W = I, seed 0", "W = DCT, seed 1"]
    assert told_apart(["only, one"]) == ["only, one"]
    assert told_apart(["a, b", "a"]) == ["a, b", "a"]


def test_a_studys_figure_takes_the_pages_colours() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#0173b2")
    axes.set_xlabel("n (samples)")
    svg = inline_svg(figure, "study")
    assert svg.startswith("<svg ")
    assert "currentColor" in svg
    assert "#0173b2" in svg  # a method keeps its colour
    assert "#000000" not in svg
    names = re.findall(r'\bid="([^"]+)"', svg)
    assert len(names) == len(set(names)) > 0
    assert all(name.startswith("study-") for name in names)


def test_a_study_stands_first_with_its_claims_and_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(look: Look) -> Figure:
        figure = Figure()
        figure.subplots().set_xlabel(f"{len(look.methods)} methods")
        return figure

    claim = Claim("<b>Paper</b>, Table 1", "4.2 dB", "4.1 ± 0.2 dB", StudyVerdict.REPRODUCED, "within the spread")
    table = Table("Gains", (Column("method", numeric=False), Column("gain", "dB")), (("blorc", "4.1 ± 0.2"),), ())
    study = Study("A study", "Is it so?", (claim,), (table,), (StudyFigure("gain", "Gain", "By method.", draw),))
    monkeypatch.setattr("reports.page.read_study", lambda name, records: study)
    run = report_runs.one_cell_run(tmp_path / "run")
    (run / "config.toml").write_text('title = "t"\nstudy = "s"\n')
    page = to_html(read_content([run]))
    order = [page.index(text) for text in ("4.1 ± 0.2 dB", "<svg ", "<h3>Gains", 'id="picture"', 'id="cells"')]
    assert order == sorted(order)
    assert "&lt;b&gt;Paper&lt;/b&gt;" in page
    assert re.search(r"<td[^>]*>reproduced</td>\s*<td[^>]*>within the spread</td>", page)
