"""The page in headless Chromium: it sorts, filters, opens rows, draws every plot, at a phone's width and a desk's."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.record import read_journal
from reports.denoised_page import write_denoised
from reports.trainings_page import write_trainings
from reports.write import write_report
from tests import report_folders, report_runs
from tests.conftest import LargePage

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}")

RUNS: dict[str, Callable[[Path], Path]] = {
    "hostile": report_runs.hostile_run,
    "one_cell": report_runs.one_cell_run,
    "failed": report_runs.failed_run,
    "rich": report_runs.rich_run,
}
BOTH = {
    "learn": (report_folders.learn_folder, write_trainings),
    "denoise": (report_folders.denoise_folder, write_denoised),
}
PHONE, DESK = 400, 1600
ROWS = "#cells tbody tr"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, large_page: LargePage) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {name: make(folder / name) for name, make in RUNS.items()}
    written = {name: write_report([run], folder / f"{name}-out", {"html"}) for name, run in made.items()}
    written |= {
        name: write(make(folder / name), folder / f"{name}-out", {"html"}) for name, (make, write) in BOTH.items()
    }
    return {**{name: path for name, (path,) in written.items()}, "large": large_page.path}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Opened:
    """A page, what its console complained of, and what it asked the network for."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self.asked.append(asked.url))
        self.page.goto(file.as_uri())

    def column(self, title: str) -> list[str]:
        """The texts of a column of the cells, as shown."""
        titles = [text.split("\n")[0] for text in self.page.locator("#cells thead button").all_inner_texts()]
        return self.page.locator(f"{ROWS} > :nth-child({titles.index(title) + 1})").all_inner_texts()


@pytest.fixture
def opened(browser: Any, files: dict[str, Path]) -> Iterator[Callable[..., Opened]]:
    pages: list[Opened] = []

    def open_page(name: str, width: int = DESK, scheme: str = "light") -> Opened:
        pages.append(Opened(browser, files[name], width, scheme))
        return pages[-1]

    yield open_page
    for each in pages:
        each.page.close()


@pytest.mark.parametrize(("name", "width", "scheme"), [
    ("rich", PHONE, "dark"), ("rich", DESK, "light"), ("hostile", PHONE, "light"), ("hostile", DESK, "dark"),
    ("one_cell", PHONE, "light"), ("failed", PHONE, "dark"), ("large", PHONE, "light"),
    ("learn", PHONE, "dark"), ("learn", DESK, "light"), ("denoise", PHONE, "light"), ("denoise", DESK, "dark"),
])  # fmt: skip
def test_a_page_opens_draws_everything_and_fits(
    opened: Callable[..., Opened], name: str, width: int, scheme: str
) -> None:
    own = opened(name, width, scheme)
    own.page.evaluate("report.drawAll()")
    assert own.page.evaluate("document.documentElement.scrollWidth") <= width
    assert own.page.locator(ROWS).count() > 0
    plots = own.page.evaluate(
        """[...document.querySelectorAll('.plot')].map((plot) => ({
            stem: plot.id, drawn: plot.querySelectorAll('.main-svg').length,
            axes: Object.entries(plot._fullLayout).filter(([name]) => /^[xy]axis\\d*$/.test(name))
                .filter(([, axis]) => axis.visible && axis.showticklabels && !axis.matches)
                .map(([, axis]) => axis.title.text),
            keys: plot.querySelectorAll('.legend .traces').length + plot.querySelectorAll('.colorbar').length,
            wide: plot.querySelector('.main-svg').getBoundingClientRect().width}))"""
    )
    if name in ("rich", "large"):
        assert len(plots) >= 5
    if name in BOTH:
        assert len(plots) == 3
    for plot in plots:
        assert plot["drawn"], plot
        assert plot["keys"], plot  # a legend, or a heat map's scale
        assert any(text for text in plot["axes"]), plot
        assert plot["wide"] <= width
    assert own.complaints == []
    assert [url for url in own.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert own.page.title() not in ("1", "2")  # no hostile name ran


def test_the_table_sorts_both_ways_with_missing_values_last(
    opened: Callable[..., Opened], files: dict[str, Path]
) -> None:
    own = opened("rich")
    records = read_journal(files["rich"].parent.parent / "rich")
    title = "solve + gradient"
    heading = own.page.locator("#cells thead th", has=own.page.locator(f"button:text-is('{title}')"))
    ordered = sorted(1e3 * record.total_seconds for record in records if record.total_seconds)
    for direction, expected in (("ascending", ordered[0]), ("descending", ordered[-1])):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        shown = [float(text.split(" ±")[0]) for text in own.column(title)]
        assert shown == sorted(shown, reverse=direction == "descending")
        assert shown[0] == pytest.approx(expected, rel=0.05)  # the text is rounded to its spread of 2 %
    while own.page.locator("#cells button[name=on]").is_enabled():
        own.page.locator("#cells button[name=on]").click()
    lost = sum(record.total_seconds is None for record in records)
    assert own.column(title)[-lost:] == ["-"] * lost


@pytest.mark.parametrize(("name", "title"), [("learn", "learned W"), ("denoise", "PSNR")])
def test_trainings_and_scores_sort_with_words_last(opened: Callable[..., Opened], name: str, title: str) -> None:
    own = opened(name)
    heading = own.page.locator("#cells thead th", has=own.page.locator(f"button:text-is('{title}')"))
    lost = sum(text in ("failed", "missing") for text in own.column(title))
    assert lost
    for falling in (False, True):
        heading.locator("button").click()
        shown = own.column(title)
        assert set(shown[-lost:]) == {"failed", "missing"}
        numbers = [float(text) for text in shown[:-lost]]
        assert numbers == sorted(numbers, reverse=falling)
        assert len(set(numbers)) > 1


def test_a_table_that_stands_whole_sorts_by_what_it_shows(opened: Callable[..., Opened]) -> None:
    """PSNR of a mean: the rows of a denoiser that failed are words, and come last both ways."""
    own = opened("denoise")
    table = own.page.locator("#means table").first
    heading = table.locator("th", has=own.page.locator("button:text-is('PSNR')"))
    place = table.locator("thead th").all_inner_texts().index("PSNR\ndB") + 1
    rows = set(table.locator("tbody tr").all_inner_texts())
    for falling in (False, True):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == ("descending" if falling else "ascending")
        shown = table.locator(f"tbody tr > :nth-child({place})").all_inner_texts()
        numbers = [float(text) for text in shown if text[0].isdigit()]
        assert numbers == sorted(numbers, reverse=falling)
        assert len(numbers) == 2
        assert all(text.startswith(("failed", "missing")) for text in shown[2:])
    assert set(table.locator("tbody tr").all_inner_texts()) == rows


def test_claims_are_cards_on_a_phone_and_a_table_at_a_desk(opened: Callable[..., Opened]) -> None:
    for width, cards in ((PHONE, True), (DESK, False)):
        page = opened("learn", width).page
        row = page.locator("#study-1 table.words tbody tr").first
        boxes = [cell.bounding_box() for cell in row.locator("> *").all()]
        stacked = all(above["y"] + above["height"] <= below["y"] + 1 for above, below in itertools.pairwise(boxes))
        assert stacked is cards
        assert all(box["x"] + box["width"] <= width for box in boxes)


def test_pictures_are_shown_and_open_one_after_the_other(opened: Callable[..., Opened]) -> None:
    page = opened("denoise", PHONE).page
    exhibits = page.locator("details.exhibit")
    assert exhibits.count() == 4  # two pictures, two sigmas
    exhibits.last.locator("summary").click()
    images = exhibits.last.locator("img")
    assert images.count() == 4  # clean, noisy and two denoisers; the third failed
    assert "failed" in exhibits.last.inner_text()
    for image in images.all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("each => each.complete && each.naturalWidth") == 24
        assert image.bounding_box()["width"] > 100


def test_the_table_filters_and_its_rows_open(opened: Callable[..., Opened], files: dict[str, Path]) -> None:
    own = opened("rich", PHONE)
    records = read_journal(files["rich"].parent.parent / "rich")
    for name in ("problem", "n", "device", "status"):
        assert own.page.locator(f"#cells select[name={name}]").count() == 1
    own.page.select_option("#cells select[name=status]", label="timeout")
    own.page.select_option("#cells select[name=n]", label="64")
    wanted = [record for record in records if record.status == "timeout" and record.n == 64]
    assert own.column("status, accuracy, flags") == ["timeout"] * len(wanted)
    assert own.column("relative error") == ["timeout"] * len(wanted)
    assert f"1 to {len(wanted)} of {len(wanted)}, of {len(records)} cells" in own.page.inner_text("#cells .count")
    own.page.locator(f"{ROWS} button").first.click()
    detail = own.page.inner_text("#cells .detail")
    assert "killed after 120 s" in detail
    assert wanted[0].reproduce in detail
    own.page.locator(f"{ROWS} button").first.click()
    assert own.page.locator("#cells .detail").count() == 0
    own.page.fill("#cells input", "no such thing")
    assert own.page.locator(ROWS).count() == 0
    assert "no cell matches" in own.page.inner_text("#cells .count")


def test_five_thousand_rows_are_shown_in_pages(opened: Callable[..., Opened]) -> None:
    own = opened("large")
    rows = own.page.locator(ROWS).count()
    assert rows < 200
    own.page.locator("#cells button[name=on]").click()
    assert own.page.inner_text("#cells .count") == f"{rows + 1} to {2 * rows} of 5000 cells"
    own.page.select_option("#cells select[name=status]", label="timeout")
    assert "of 500, of 5000 cells" in own.page.inner_text("#cells .count")


def test_hostile_names_are_shown_letter_by_letter(opened: Callable[..., Opened]) -> None:
    own = opened("hostile")
    own.page.evaluate("report.drawAll()")
    assert any(report_runs.MARKUP in text for text in own.column("method"))
    assert own.page.locator("main img").count() == 0


def test_light_and_dark_reach_the_plots(opened: Callable[..., Opened]) -> None:
    own = opened("one_cell", scheme="light")
    own.page.evaluate("report.drawAll()")
    ink = "document.querySelector('.plot')._fullLayout.font.color"
    paper = "getComputedStyle(document.body).backgroundColor"
    before = own.page.evaluate(f"[{ink}, {paper}]")
    own.page.click("#theme")
    own.page.wait_for_function(f"{ink} !== {before[0]!r}")
    after = own.page.evaluate(f"[{ink}, {paper}]")
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert before == ["#1b1f24", "rgb(255, 255, 255)"]


def test_without_scripts_the_first_rows_and_the_verdict_stand(browser: Any, files: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["large"].as_uri())
    assert page.locator(ROWS).count() == 50
    assert page.locator(".verdicts li").count() == 3
    context.close()
