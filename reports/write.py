"""The way in: a report of one or more run folders, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from reports.changes import Changes
from reports.content import Content, read_content
from reports.terminal import terminal_table

__all__ = ["FORMATS", "terminal_table", "write_report"]

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
    unknown = sorted(formats - set(FORMATS))
    if unknown:
        raise ValueError(f"no report format {', '.join(unknown)}: choose among {', '.join(FORMATS)}")
    content = read_content(runs)
    out.mkdir(parents=True, exist_ok=True)
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


# Imported where they are needed: they cost seconds, which a terminal table need not pay.


def _write_html(content: Content, changes: Sequence[Changes], path: Path) -> Path:
    from reports.page import to_html

    path.write_text(to_html(content, changes), encoding="utf-8")
    return path


def _write_summary(content: Content, changes: Sequence[Changes], path: Path) -> Path:
    from reports.summary import to_summary

    path.write_text(to_summary(content, changes), encoding="utf-8")
    return path


def _write_records(content: Content, out: Path) -> list[Path]:
    from reports.frames import write_csv, write_parquet

    return [write_csv(content, out / "records.csv"), write_parquet(content, out / "records.parquet")]


def _write_documents(content: Content, out: Path, formats: Set[str]) -> list[Path]:
    from reports.figures import draw_all, draw_studies
    from reports.latex import to_latex_report, to_latex_tables
    from reports.markdown import to_markdown

    suffixes = ("png", "pdf", "svg") if "tex" in formats else ("png",)
    pages = draw_studies(content.runs, out, suffixes)
    figures = draw_all(content, out, suffixes)
    texts: dict[str, str] = {}
    if "md" in formats:
        texts["report.md"] = to_markdown(content, figures, pages)
    if "tex" in formats:
        texts["report.tex"] = to_latex_report(content, figures, pages)
        texts["tables.tex"] = to_latex_tables(content, pages)
    for name, text in texts.items():
        (out / name).write_text(text)
    drawn = [*(figure for page in pages for figure in page.figures), *figures]
    return [out / name for name in texts] + [path for figure in drawn for path in figure.paths]
