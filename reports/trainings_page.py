"""The report of a folder of trainings: one HTML page, or Markdown with its figures beside it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence, Set
from pathlib import Path

from reports import markdown
from reports.figures import save
from reports.page import Still, escape
from reports.studies._learning import curves_figure, differences, psnr_table, transform_figure
from reports.study import Study, claims_table
from reports.style import Look, use_house_style
from reports.svg import inline_svg
from reports.templating import TEMPLATES, Source, template
from reports.trainings import Group, Trainings, read

FORMATS = ("html", "md")


def write_trainings(folder: Path, out: Path, formats: Set[str] = frozenset(FORMATS)) -> list[Path]:
    """`report.html`, `report.md` and its figures; returns what was written, the reports first.

    Raises ValueError where no training has ended yet; nothing is written then.
    """
    trainings = read(folder)
    study = study_of(trainings)
    use_house_style()
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if "html" in formats:
        written.append(out / "report.html")
        written[-1].write_text(_html(trainings, study), encoding="utf-8")
    if "md" in formats:
        look = Look.of((), ())
        figures = [
            save(figure.draw(look), figure.stem, figure.title, figure.remarks, out, ("png",))
            for figure in study.figures
        ]
        text = template("trainings.md.j2", markdown.escape).render(
            trainings=trainings, study=study, claims=claims_table(study), figures=figures
        )
        (out / "report.md").write_text(text, encoding="utf-8")
        written += [out / "report.md", *(path for figure in figures for path in figure.paths)]
    return written


def study_of(trainings: Trainings) -> Study:
    """The page of the configuration's study; tables and curves alone where it has none."""
    if trainings.study is None:
        figures = (
            curves_figure(trainings.groups, "finite_differences"),
            transform_figure(trainings.groups, "first differences", differences),
        )
        return Study("Training", trainings.title, (), (psnr_table(trainings.groups),), figures)
    name = f"reports.studies.{trainings.study}"
    make: Callable[[Sequence[Group]], Study] = importlib.import_module(name).study
    return make(trainings.groups)


def _html(trainings: Trainings, study: Study) -> str:
    look = Look.of((), ())
    stills = [
        Still(figure.title, figure.remarks, Source(inline_svg(figure.draw(look), figure.stem)))
        for figure in study.figures
    ]
    css = Source((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    return template("trainings.html.j2", escape).render(
        trainings=trainings, study=study, claims=claims_table(study), stills=stills, css=css
    )
