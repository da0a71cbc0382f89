"""The report as LaTeX: `tables.tex` to \\input into a paper, and `report.tex`, a document around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.aligned import Column, Table
from reports.account import Account
from reports.content import Content, Run
from reports.figures import Drawn, Page
from reports.rounding import ABSENT
from reports.templating import Source, template

LINES_PER_PAGE = 36
LONGEST_LINE = 44
"""Characters of words in a table; what is longer is a paragraph."""
PARAGRAPH = r"p{20em}"
"""As wide as such a line."""

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
    """Every table of the runs, those of the studies first."""
    scaling = [table for table in (content.scaling, content.crossovers) if table]
    studies = [table for page in pages for table in page.tables]
    return latex_tables([*studies, *content.comparisons, *scaling, *(section.table for section in content.sections)])


def latex_tables(tables: Sequence[Table]) -> str:
    """Each as a `table*` with a booktabs `tabular` at the text's width; long ones in parts, empty ones left out."""
    parts = [part for table in tables for part in _parts(table)]
    return template("tables.tex.j2", escape, DELIMITERS).render(
        tables=parts, columns=_columns, number=number, heading=heading
    )


def to_latex_report(content: Content, figures: Sequence[Drawn], pages: Sequence[Page]) -> str:
    """A document that inputs `tables.tex` and the figures, beside it."""
    return _document("report.tex.j2", content.title, content.runs, pages, figures, content=content)


def latex_account(account: Account, page: Page, figures: Sequence[Drawn]) -> str:
    """The same of trainings, or of pictures."""
    return _document("frame.tex.j2", account.title, [account], [page], figures)


def _document(
    name: str,
    title: str,
    runs: Sequence[Run | Account],
    pages: Sequence[Page],
    figures: Sequence[Drawn],
    **others: Content,
) -> str:
    given = {"title": title, "runs": runs, "pages": pages, "figures": figures, "source": Source, **others}
    return template(name, escape, DELIMITERS).render(given)


def _columns(table: Table) -> Source:
    """`lrp{20em}`: words, numbers, sentences."""
    return Source(
        "".join(
            "r" if column.numeric else PARAGRAPH if any(map(_breaks, cells)) else "l"
            for column, *cells in zip(table.columns, *table.rows, strict=True)
        )
    )


def _breaks(cell: str) -> bool:
    return len(cell) > LONGEST_LINE


def _parts(table: Table) -> Iterator[Table]:
    """Each fits a page, unless a single row does not."""
    title, rows, lines = table.title, list[tuple[str, ...]](), 0
    for row in table.rows:
        own = max((-(-len(cell) // LONGEST_LINE) for cell in row), default=1)
        if rows and lines + own > LINES_PER_PAGE:
            yield replace(table, title=title, rows=tuple(rows))
            title, rows, lines = f"{table.title} (continued)", [], 0
        rows.append(row)
        lines += own
    if rows:
        yield replace(table, title=title, rows=tuple(rows))


def _escaped(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    if character.isalpha() and ord(character) < 0x100:
        return character
    return f"[U+{ord(character):04X}]"
