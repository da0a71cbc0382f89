"""What `denoise` has found: tables on the terminal and in `report.md`, sheets of pictures, and its study's page."""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.denoising.score import NOISY, Denoised, Score, best
from reports.rounding import ABSENT, with_spread
from reports.tables import Column, Table

if TYPE_CHECKING:
    from reports.figures import Drawn
    from reports.study import Study, StudyFigure

NOTES = (
    "PSNR with peak 1 for grey values in [0, 1], SSIM with a uniform window of 7 x 7 pixels, both by scikit-image on "
    "the whole picture, nothing clipped. Noise is drawn from the seed and the clean picture's hash. Pictures below are "
    "clipped to [0, 1]."
)
FAILED = "failed"


def tables(denoised: Denoised) -> list[Table]:
    """One of means for each sigma, then one of PSNR by picture for each."""
    chosen = best(denoised.scores)
    sigmas = list(dict.fromkeys(score.sigma for score in chosen))
    by_sigma = {sigma: [score for score in chosen if score.sigma == sigma] for sigma in sigmas}
    return [_means(sigma, own) for sigma, own in by_sigma.items()] + [_each(s, own) for s, own in by_sigma.items()]


def _means(sigma: float, scores: Sequence[Score]) -> Table:
    pictures, seeds = (len({getattr(score, name) for score in scores}) for name in ("picture", "seed"))
    columns = (
        Column("denoiser", numeric=False),
        Column("tuned to", numeric=False),
        Column("PSNR", "dB"),
        Column("over pictures", "± dB"),
        Column("over seeds", "± dB"),
        Column("SSIM"),
        Column("time", "s per picture"),
    )
    rows = []
    for label, own in _labelled(scores).items():
        tuned = ", ".join(f"{name} = {value}" for name, value in own[0].tuned.items()) or ABSENT
        psnr, ssim = [s.psnr_db for s in own if s.psnr_db is not None], [s.ssim for s in own if s.ssim is not None]
        if len(psnr) < len(own):
            rows.append((label, tuned, f"{FAILED} ({len(own) - len(psnr)} of {len(own)})", *[ABSENT] * 4))
            continue
        of_pictures = [statistics.fmean(values) for values in _grouped(own, lambda score: score.picture)]
        of_seeds = [statistics.stdev(values) for values in _grouped(own, lambda s: s.picture) if len(values) > 1]
        rows.append(
            (
                label,
                tuned,
                f"{statistics.fmean(psnr):.2f}",
                f"{statistics.stdev(of_pictures):.2f}" if len(of_pictures) > 1 else ABSENT,
                f"{math.sqrt(statistics.fmean(s * s for s in of_seeds)):.2f}" if of_seeds else ABSENT,
                f"{statistics.fmean(ssim):.3f}",
                ABSENT if own[0].key == NOISY else f"{statistics.fmean(score.seconds for score in own):.2g}",
            )
        )
    counted = f"{pictures} picture{'s' * (pictures > 1)}, {seeds} seed{'s' * (seeds > 1)}"
    notes = (
        "Over pictures: standard deviation of the pictures' PSNR, each a mean over the seeds; over seeds: of one "
        "picture's PSNR, the root mean square over pictures.",
        "Tuned for the highest mean PSNR on these very pictures, as the paper's baselines were (settings.md J.21).",
    )
    return Table(f"sigma = {sigma:g} of 255: means over {counted}", columns, tuple(rows), notes)


def _each(sigma: float, scores: Sequence[Score]) -> Table:
    labels = list(dict.fromkeys(score.label for score in scores))
    columns = (Column("picture", numeric=False), Column("pixels"), *(Column(label, "dB") for label in labels))
    rows = []
    for picture in dict.fromkeys(score.picture for score in scores):
        own = [score for score in scores if score.picture == picture]
        cells = [_cell([score.psnr_db for score in own if score.label == label]) for label in labels]
        rows.append((picture, f"{own[0].height} x {own[0].width}", *cells))
    return Table(f"sigma = {sigma:g} of 255: PSNR by picture, mean over the seeds", columns, tuple(rows), ())


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return FAILED
    return with_spread(statistics.fmean(known), statistics.stdev(known)) if len(known) > 1 else f"{known[0]:.2f}"


def _labelled(scores: Sequence[Score]) -> dict[str, list[Score]]:
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.label, []).append(score)
    return found


def _grouped(scores: Sequence[Score], key: Callable[[Score], str]) -> list[list[float]]:
    found: dict[str, list[float]] = {}
    for score in scores:
        if score.psnr_db is not None:
            found.setdefault(key(score), []).append(score.psnr_db)
    return list(found.values())


def print_tables(denoised: Denoised, console: Console) -> None:
    """The means, aligned."""
    for table in tables(denoised):
        if not table.rows or table.columns[0].title != "denoiser":
            continue
        shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns:
            shown.add_column(Text(column.heading), justify="right" if column.numeric else "left")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(Text(table.title, style="bold"))
        console.print(shown)


def read_study(name: str, denoised: Denoised) -> Study:
    """The page of a study of `denoise`; the configuration has found its file."""
    make: Callable[[Denoised], Study] = importlib.import_module(f"reports.studies.{name}").study
    return make(denoised)


def write(denoised: Denoised) -> list[Path]:
    """`report.md` and its pictures, in the run's folder. Returns the files written, the report first."""
    from reports.denoised_figure import sheets
    from reports.figures import Page
    from reports.markdown import escape
    from reports.study import claims_table
    from reports.style import use_house_style
    from reports.templating import template

    use_house_style()
    folder, pages = denoised.folder, []
    if denoised.study is not None:
        study = read_study(denoised.study, denoised)
        pages.append(Page(study, claims_table(study), tuple(_drawn(one, folder) for one in study.figures)))
    shown = [_drawn(sheet, folder) for sheet in sheets(denoised)]
    report = folder / "report.md"
    text = template("denoise.md.j2", escape).render(
        title=denoised.title,
        notes=[NOTES],
        pages=pages,
        tables=tables(denoised),
        sheets=shown,
        failures=[score for score in denoised.scores if score.message],
    )
    report.write_text(text, encoding="utf-8")
    figures = [*shown, *(figure for page in pages for figure in page.figures)]
    return [report, *(path for figure in figures for path in figure.paths)]


def _drawn(figure: StudyFigure, folder: Path) -> Drawn:
    from reports.figures import Drawn
    from reports.style import Look

    path = folder / f"{figure.stem}.png"
    figure.draw(Look.of((), ())).savefig(path)
    return Drawn(figure.stem, figure.title, figure.remarks, (path,))
