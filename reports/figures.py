"""All figures of a report, drawn and saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from bench.aligned import Table
from bench.whole_file import whole
from reports import error_time, knob_figure
from reports.content import Content, Run
from reports.instances import Group
from reports.published import is_papers_instance
from reports.study import Study, StudyFigure, claims_table, read_study
from reports.style import Look, use_house_style
from reports.views import views


@dataclass(frozen=True)
class Drawn:
    """A saved figure: the files' name without suffix, what it shows, how to read it, and the files."""

    stem: str
    title: str
    remarks: str
    paths: tuple[Path, ...]


def draw_all(content: Content, folder: Path, suffixes: Sequence[str]) -> list[Drawn]:
    """Error against time under both readings, one figure per swept method, then the views; none without a point."""
    use_house_style()
    groups = content.groups
    records = [record for group in groups for record in group.records]
    look = Look.of((record.method for record in records), (record.n for record in records))
    drawn = []
    for reading, words in error_time.READINGS.items():
        figure = error_time.draw(groups, reading, look)
        if figure is not None:
            title = f"Relative error against the time of {words}."
            remarks = f"{_published(groups)}{error_time.undrawn(groups, reading)}"
            drawn.append(save(figure, f"error_against_{reading}_time", title, remarks, folder, suffixes))
    for method in knob_figure.swept_methods(groups):
        stem = "knob_" + re.sub(r"[^A-Za-z0-9_]", "_", method)
        title, remarks = f"Error and time of {method} over its knob.", " One line per size and setting of the rest."
        drawn.append(save(knob_figure.draw(groups, method, look), stem, title, remarks, folder, suffixes))
    for view in views(content, look):
        drawn += [save(view.figure, view.stem, view.title, view.remarks, folder, suffixes)]
    return drawn


@dataclass(frozen=True)
class Page:
    """A study with its figures saved."""

    study: Study
    claims: Table
    figures: tuple[Drawn, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """What is published beside this run first, where anything is."""
        return (self.claims, *self.study.tables)


def draw_studies(runs: Sequence[Run], folder: Path, suffixes: Sequence[str]) -> list[Page]:
    """The pages of the runs that are a study's."""
    use_house_style()
    pages = []
    for run in runs:
        if run.study is not None:
            look = Look.of((record.method for record in run.records), (record.n for record in run.records))
            pages.append(draw_study(read_study(run.study, run.records), look, folder, suffixes))
    return pages


def draw_study(study: Study, look: Look, folder: Path, suffixes: Sequence[str]) -> Page:
    """Its figures saved."""
    return Page(study, claims_table(study), save_all(study.figures, look, folder, suffixes))


def save_all(figures: Iterable[StudyFigure], look: Look, folder: Path, suffixes: Sequence[str]) -> tuple[Drawn, ...]:
    """Drawn one after the other."""
    return tuple(
        save(figure.draw(look), figure.stem, figure.title, figure.remarks, folder, suffixes) for figure in figures
    )


def _published(groups: Sequence[Group]) -> str:
    if not any(is_papers_instance(group) for group in groups):
        return ""
    return " Hollow: the paper's Table 4, on its own machine, its norm and what its time covers not stated."


def save(figure: Figure, stem: str, title: str, remarks: str, folder: Path, suffixes: Sequence[str]) -> Drawn:
    """One file for each suffix."""
    paths = tuple(folder / f"{stem}.{suffix}" for suffix in suffixes)
    for path in paths:
        drawn = BytesIO()
        figure.savefig(drawn, format=path.suffix[1:])
        if path.suffix == ".png" and not any(axes.images for axes in figure.axes):  # a colour scale needs them all
            drawn = _with_a_palette(drawn)
        with whole(path) as file:
            file.write(drawn.getbuffer())
        figure.set_layout_engine("none")  # the first file has settled it, at half of a figure's cost
    return Drawn(stem, title, remarks.strip(), paths)


def _with_a_palette(drawn: BytesIO) -> BytesIO:
    """256 colours of its own: a quarter of the bytes, for pictures that a repository keeps."""
    written = BytesIO()
    with Image.open(drawn) as picture:
        colours = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        colours.save(written, format="PNG", dpi=picture.info["dpi"], optimize=True)
    return written
