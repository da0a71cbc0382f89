"""The report as LaTeX: `tables.tex` to \\input into a paper, and `report.tex`, a document around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports.content import Content
from reports.figures import Drawn, Page
from reports.rounding import ABSENT
from reports.tables import Column, Table
from reports.templating import Source, template

ROWS_PER_PAGE = 36

SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "“": "``",
    "”": "''",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}

POWER = re.compile(r"(\d+(?:\.\d+)?)e(-?\d+)")

DELIMITERS = {
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; a character beyond Latin-1's letters is named by its code point."""
    escaped = "".join(_escaped(character) for character in " ".join(text.split()))
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped  # no argument of the line break before it


def number(text: str) -> Source:
    """A number of a table: `<= 3e-12` with its sign and its power of ten."""
    if text == ABSENT:
        return Source("--")
    rest = text.removeprefix("<= ")
    body = POWER.sub(r"$\1 \\times 10^{\2}$", rest) if POWER.fullmatch(rest) else escape(rest)
    return Source(body if rest == text else rf"$\le$ {body}")


def heading(column: Column) -> Source:
    """A column's title over its unit."""
    lines = [escape(column.title), *([f"({escape(column.unit)})"] if column.unit else [])]
    return Source(r"\shortstack{" + r" \\ ".join(lines) + "}")


def to_latex_tables(content: Content, pages: Sequence[Page] = ()) -> str:
    """Every table as a `table*` with a booktabs `tabular` at the text's width; long ones in parts."""
    scaling = [table for table in (content.scaling, content.crossovers) if table]
    studies = [table for page in pages for table in (page.claims, *page.study.tables)]
    tables = [*studies, *content.comparisons, *scaling, *(section.table for section in content.sections)]
    parts = [part for table in tables for part in _parts(table)]
    return template("tables.tex.j2", escape, DELIMITERS).render(tables=parts, number=number, heading=heading)


def to_latex_report(content: Content, figures: Sequence[Drawn], pages: Sequence[Page]) -> str:
    """A document that inputs `tables.tex` and the figures, beside it."""
    return template("report.tex.j2", escape, DELIMITERS).render(
        content=content, figures=figures, pages=pages, source=Source
    )


def _parts(table: Table) -> Iterator[Table]:
    for start in range(0, len(table.rows), ROWS_PER_PAGE):
        title = f"{table.title} (continued)" if start else table.title
        yield replace(table, title=title, rows=table.rows[start : start + ROWS_PER_PAGE])


def _escaped(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    if character.isalpha() and ord(character) < 0x100:
        return character
    return f"[U+{ord(character):04X}]"
