"""The way in: a report of one or more run folders, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from bench.whole_file import make_folder, write_whole
from reports.changes import Changes
from reports.content import Content, read_content
from reports.terminal import terminal_table

if TYPE_CHECKING:
    from reports.account import Account
    from reports.figures import Drawn

__all__ = ["FORMATS", "terminal_table", "write_account", "write_report"]

FORMATS = ("html", "md", "tex", "csv", "pr")


def write_report(
    runs: Sequence[Path], out: Path, formats: Set[str] = frozenset(FORMATS), changes: Sequence[Changes] = ()
) -> list[Path]:
    """Writes what is asked for, and the figures of `md` and `tex`.

    html: `report.html`, one file; md: `report.md`; tex: `report.tex` and `tables.tex`, figures as PDF and SVG; csv:
    `records.csv` and `records.parquet`; pr: `summary.md`, of at most 40 lines. `changes` are what the runs' comparisons
    found, for html and pr. Returns the files written, the reports before their figures. Raises ValueError for a format
    that it does not have, a folder that is no run, or one without a finished cell; nothing is written then.
    """
    _require_known(formats)
    content = read_content(runs)
    make_folder(out)
    written = []
    if "html" in formats:
        written.append(_write_html(content, changes, out / "report.html"))
    if "pr" in formats:
        written.append(_write_summary(content, changes, out / "summary.md"))
    if "csv" in formats:
        written += _write_records(content, out)
    if formats & {"md", "tex"}:
        written += _write_documents(content, out, formats)
    return written


def write_account(account: Account, out: Path, formats: Set[str] = frozenset(FORMATS)) -> list[Path]:
    """The same formats of trainings, or of pictures; csv: a CSV and a Parquet file for each of the account's frames.

    Raises ValueError for a format that it does not have; nothing is written then.
    """
    _require_known(formats)
    make_folder(out)
    written = []
    if "html" in formats:
        from reports.page import account_html

        written.append(_written(out / "report.html", account_html(account)))
    if "pr" in formats:
        from reports.summary import account_summary

        written.append(_written(out / "summary.md", account_summary(account)))
    if "csv" in formats:
        from reports.frames import write_frame

        written += [path for stem, frame in account.frames.items() for path in write_frame(frame(), out, stem)]
    if formats & {"md", "tex"}:
        written += _write_account_documents(account, out, formats)
    return written


def _require_known(formats: Set[str]) -> None:
    unknown = sorted(formats - set(FORMATS))
    if unknown:
        raise ValueError(f"no report format {', '.join(unknown)}: choose among {', '.join(FORMATS)}")


# Imported where they are needed: they cost seconds, which a terminal table need not pay.


def _write_html(content: Content, changes: Sequence[Changes], path: Path) -> Path:
    from reports.page import to_html

    return _written(path, to_html(content, changes))


def _write_summary(content: Content, changes: Sequence[Changes], path: Path) -> Path:
    from reports.summary import to_summary

    return _written(path, to_summary(content, changes))


def _write_records(content: Content, out: Path) -> list[Path]:
    from reports.frames import records_frame, write_frame

    return write_frame(records_frame(content), out, "records")


def _write_documents(content: Content, out: Path, formats: Set[str]) -> list[Path]:
    from reports.figures import draw_all, draw_studies
    from reports.latex import to_latex_report, to_latex_tables
    from reports.markdown import to_markdown

    suffixes = _suffixes(formats)
    pages = draw_studies(content.runs, out, suffixes)
    figures = draw_all(content, out, suffixes)
    texts: dict[str, str] = {}
    if "md" in formats:
        texts["report.md"] = to_markdown(content, figures, pages)
    if "tex" in formats:
        texts["report.tex"] = to_latex_report(content, figures, pages)
        texts["tables.tex"] = to_latex_tables(content, pages)
    drawn = [*(figure for page in pages for figure in page.figures), *figures]
    return [*(_written(out / name, text) for name, text in texts.items()), *_paths(drawn)]


def _write_account_documents(account: Account, out: Path, formats: Set[str]) -> list[Path]:
    from reports.figures import draw_study, save_all
    from reports.latex import latex_account, latex_tables
    from reports.markdown import markdown_account
    from reports.style import Look, use_house_style

    use_house_style()
    suffixes, look = _suffixes(formats), Look.of((), ())
    page = draw_study(account.study, look, out, suffixes)
    sheets = save_all(account.sheets, look, out, suffixes)
    texts: dict[str, str] = {}
    if "md" in formats:
        texts["report.md"] = markdown_account(account, page, sheets)
    if "tex" in formats:
        texts["report.tex"] = latex_account(account, page, sheets)
        texts["tables.tex"] = latex_tables([*page.tables, *account.tables])
    return [*(_written(out / name, text) for name, text in texts.items()), *_paths([*page.figures, *sheets])]


def _suffixes(formats: Set[str]) -> tuple[str, ...]:
    return ("png", "pdf", "svg") if "tex" in formats else ("png",)


def _paths(drawn: Sequence[Drawn]) -> list[Path]:
    return [path for figure in drawn for path in figure.paths]


def _written(path: Path, text: str) -> Path:
    write_whole(path, text)
    return path
