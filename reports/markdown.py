"""The report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.account import Account
from reports.content import Content
from reports.figures import Drawn, Page
from reports.templating import template

SPECIAL = re.compile(
    r"[\\`*{}\[\]|~$&#]"
    r"|<(?=[A-Za-z/!?])"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    r"|!(?=\[)"
)
"""Characters that could start markup; an underscore inside a word, or a `<=`, cannot."""


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table or out of it, on one line."""
    return SPECIAL.sub(lambda match: f"\\{match[0]}", " ".join(text.split()))


def to_markdown(content: Content, figures: Sequence[Drawn], pages: Sequence[Page]) -> str:
    """The whole report; figures are linked by file name, beside it."""
    return template("report.md.j2", escape).render(content=content, figures=figures, pages=pages)


def markdown_account(account: Account, page: Page, sheets: Sequence[Drawn]) -> str:
    """The whole report of trainings, or of pictures."""
    return template("account.md.j2", escape).render(account=account, page=page, figures=sheets)
