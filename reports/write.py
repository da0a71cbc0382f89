"""The way in: a report of one or more run folders, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from bench.record import to_frame
from reports.content import Content, read_content
from reports.terminal import terminal_table

__all__ = ["FORMATS", "terminal_table", "write_report"]

FORMATS = frozenset({"md", "tex", "csv"})


def write_report(runs: Sequence[Path], out: Path, formats: Set[str] = FORMATS) -> list[Path]:
    """Writes `report.md`, `report.tex` with `tables.tex`, and `records.csv`, as asked, and the figures.

    Returns the files written, the reports before their figures. Raises ValueError for a format that it does not have, a
    folder that is no run, or one without a finished cell; nothing is written then.
    """
    unknown = sorted(formats - FORMATS)
    if unknown:
        raise ValueError(f"no report format {', '.join(unknown)}: choose among {', '.join(sorted(FORMATS))}")
    content = read_content(runs)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if "csv" in formats:
        written.append(_write_csv(content, runs, out / "records.csv"))
    if formats & {"md", "tex"}:
        written += _write_documents(content, out, formats)
    return written


def _write_csv(content: Content, runs: Sequence[Path], path: Path) -> Path:
    """One row per record, every field unrounded, the run folder first."""
    import pandas as pd

    frames = []
    for folder, run in zip(runs, content.runs, strict=True):
        frame = to_frame(run.records)
        frame.insert(0, "run", str(folder))
        frames.append(frame)
    pd.concat(frames).to_csv(path, index=False)
    return path


def _write_documents(content: Content, out: Path, formats: Set[str]) -> list[Path]:
    # Drawing costs seconds of imports, which a terminal table need not pay.
    from reports.figures import draw_all, draw_studies
    from reports.latex import to_latex_report, to_latex_tables
    from reports.markdown import to_markdown

    suffixes = ("png", "pdf") if "tex" in formats else ("png",)
    pages = draw_studies(content.runs, out, suffixes)
    figures = draw_all(content.groups, out, suffixes)
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
