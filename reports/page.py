"""The report as one HTML file that needs no network: a verdict, a picture, a table, then the rest."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plotly.io import to_json
from plotly.offline import get_plotlyjs

from bench.aligned import Table
from reports.account import Account
from reports.changes import Changes
from reports.content import Content, Run
from reports.page_table import PageTable, cell_table, change_table
from reports.plots import look_of, plots
from reports.plots._changes import plot as change_plot
from reports.plots.theme import Plot
from reports.short_names import told_apart
from reports.study import Study, StudyFigure, claims_table, read_study
from reports.style import Look, use_house_style
from reports.svg import inline_svg
from reports.templating import TEMPLATES, Source, template
from reports.verdicts import verdicts

FALLBACK_ROWS = 50
"""Rows that stand in the page itself, for a reader without scripts."""


@dataclass(frozen=True)
class Still:
    """A study's figure, drawn."""

    title: str
    remarks: str
    svg: Source


@dataclass(frozen=True)
class StudyPage:
    """A study with its figures drawn."""

    study: Study
    claims: Table
    stills: tuple[Still, ...]


@dataclass(frozen=True)
class Top:
    """What every page starts with, and whose machines it ends with."""

    title: str
    subtitle: str
    verdicts: Sequence[str]
    runs: Sequence[Run | Account]


class ChangePage:
    """Two runs' comparison, with its picture and its table."""

    def __init__(self, changes: Changes, number: int, look: Look) -> None:
        self.said = changes
        self.plot = change_plot(changes, f"ratios-{number}", look)
        self.table = change_table(changes, f"changes-{number}")


def to_html(content: Content, changes: Sequence[Changes] = ()) -> str:
    """The whole page of runs; 4.8 MB of it is plotly's library."""
    views, pages = plots(content), _study_pages(content)
    cells = cell_table(content)
    changed = [ChangePage(each, number, look_of(content)) for number, each in enumerate(changes)]
    return _page(
        "report.html.j2",
        Top(content.title, _subtitle(content), verdicts(content.groups), content.runs),
        _sections(content, pages, views, bool(changes)),
        pages,
        views,
        [each.plot for each in changed if each.plot],
        [cells, *(each.table for each in changed)],
        content=content,
        changes=changed,
        cells=cells,
    )


def account_html(account: Account) -> str:
    """The whole page of trainings, or of pictures: the same frame."""
    use_house_style()
    shown = [figure for figure in account.study.figures if figure.stem not in account.plotted]
    pages = [StudyPage(account.study, claims_table(account.study), _stills(shown, Look.of((), ())))]
    views, gallery = account.plots(), account.gallery()
    there = {
        ("plots", account.plots_heading.lower()): bool(views),
        ("means", "means"): bool(account.tables),
        ("pictures", "pictures"): bool(gallery),
        ("cells", account.cells_heading.lower()): True,
        ("machine", "machine"): True,
    }
    sections = [("study-1", account.study.title), *(section for section, is_there in there.items() if is_there)]
    top = Top(account.title, account.subtitle, account.verdicts, (account,))
    return _page("account.html.j2", top, sections, pages, views, [], [account.cells], account=account, gallery=gallery)


def _page(
    name: str,
    top: Top,
    sections: Sequence[tuple[str, str]],
    pages: Sequence[StudyPage],
    views: Sequence[Plot],
    more_views: Sequence[Plot],
    tables: Sequence[PageTable],
    **own: Any,
) -> str:
    return template(name, escape).render(
        title=top.title,
        subtitle=top.subtitle,
        verdicts=top.verdicts,
        runs=top.runs,
        sections=sections,
        pages=pages,
        plots=views,
        tables=tables,
        told_apart=told_apart,
        choices=lambda words: list(dict.fromkeys(words)),
        fallback_rows=FALLBACK_ROWS,
        json=embedded,
        plot_data=_plot_data([*views, *more_views]),
        plotly=Source(get_plotlyjs()),
        css=_own("report.css"),
        js=_own("report.js"),
        **own,
    )


def escape(text: str) -> str:
    """Text in an element or in a quoted attribute."""
    return html.escape(text)


def embedded(value: Any) -> Source:
    """JSON in a script element, which neither `</script>` nor `<!--` can end."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Source(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _plot_data(views: Sequence[Plot]) -> str:
    """JSON, gzip, base64: the figures of thousands of cells repeat themselves tenfold."""
    figures = (
        f"{json.dumps(view.stem)}:[{','.join(to_json(figure, validate=False) for figure in view.figures.values())}]"
        for view in views
    )
    packed = gzip.compress(f"{{{','.join(figures)}}}".encode(), mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _own(name: str) -> Source:
    return Source((TEMPLATES / name).read_text(encoding="utf-8"))


def _study_pages(content: Content) -> list[StudyPage]:
    use_house_style()
    pages = []
    for run in content.runs:
        if run.study is not None:
            study = read_study(run.study, run.records)
            pages.append(StudyPage(study, claims_table(study), _stills(study.figures, look_of(content))))
    return pages


def _stills(figures: Sequence[StudyFigure], look: Look) -> tuple[Still, ...]:
    return tuple(
        Still(figure.title, figure.remarks, Source(inline_svg(figure.draw(look), figure.stem))) for figure in figures
    )


def _subtitle(content: Content) -> str:
    count = len(content.records)
    cells = "1 cell" if count == 1 else f"{count} cells"
    machines = dict.fromkeys(dict(run.machine)["CPU"] for run in content.runs)
    return f"{cells}; CPU: {', '.join(machines)}"


def _sections(
    content: Content, pages: Sequence[StudyPage], views: Sequence[Plot], changes: bool
) -> list[tuple[str, str]]:
    studies = [(f"study-{number}", page.study.title) for number, page in enumerate(pages, 1)]
    there = {
        ("picture", "picture"): bool(views),
        ("changes", "what changed"): changes,
        ("table4", "Table 4"): bool(content.comparisons),
        ("cells", "all cells"): True,
        ("more", "more pictures"): len(views) > 1 or content.scaling is not None,
        ("machine", "machine"): True,
    }
    return [*studies, *(section for section, is_there in there.items() if is_there)]
