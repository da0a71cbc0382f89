"""What goes into a paper: LaTeX that compiles, figures at its widths, data that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pandas as pd
import pytest

from bench.record import read_journal
from reports.style import PAGE_INCHES
from reports.write import write_report
from tests import report_runs

POINTS_PER_INCH = 72.0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        write_report([report_runs.hostile_run(folder / "run")], folder, {"tex", "csv"})
    return folder


def compiled(folder: Path, name: str) -> str:
    """What pdflatex says of a file that it finished; no shell, no file beyond the folder."""
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-3000:]
    return said


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


@needs_latex
def test_the_report_compiles_as_it_is_whatever_the_names(hostile: Path) -> None:
    said = compiled(hostile, "report.tex")
    assert "Output written on report.pdf" in said
    assert "/etc/passwd" not in re.findall(r"\((/[^\s()]+)", said)  # \input{/etc/passwd} is a name here


@needs_latex
def test_the_tables_compile_in_a_paper_of_someone_else(hostile: Path) -> None:
    paper = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{tables}\end{document}"
    (hostile / "paper.tex").write_text(paper)
    assert "Output written on paper.pdf" in compiled(hostile, "paper.tex")


def test_figures_are_pdf_and_svg_no_wider_than_a_page(hostile: Path) -> None:
    stems = {path.stem for path in hostile.glob("error_*.pdf")}
    assert stems
    assert {path.stem for path in hostile.glob("*.svg")} >= stems
    for path in hostile.glob("error_*.svg"):
        width = re.search(r'<svg[^>]* width="([\d.]+)pt"', path.read_text())
        assert width is not None
        assert float(width[1]) <= PAGE_INCHES * POINTS_PER_INCH + 1e-6


def test_no_text_of_the_csv_is_a_formula_and_no_number_is_text(hostile: Path) -> None:
    records = read_journal(hostile / "run")
    with (hostile / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"].removeprefix("'") for row in rows] == [record.method for record in records]
    assert sum(row["method"].startswith("'") for row in rows) == sum(record.method[0] in "=+-@\t" for record in records)
    for row in rows:
        for name, text in row.items():
            if text[:1] in ("=", "+", "-", "@", "\t", "\r"):
                float(text)  # a number may be negative
            assert name not in ("n", "total_seconds") or not text.startswith("'")


def test_the_parquet_holds_the_records_as_they_are(hostile: Path) -> None:
    records = read_journal(hostile / "run")
    frame = pd.read_parquet(hostile / "records.parquet")
    assert list(frame["method"]) == [record.method for record in records]
    known = [(row, record) for row, record in zip(frame["error_relative"], records, strict=True)]
    assert all(row == record.error_relative for row, record in known if record.error_relative is not None)
    assert frame["error_relative"].isna().sum() == sum(record.error_relative is None for record in records)
