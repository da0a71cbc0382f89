"""A run in at most 40 lines of Markdown, for a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.record import Record
from reports.account import Account
from reports.cells import has_result, memory, relative_error, time
from reports.changes import Changes
from reports.content import Content
from reports.instances import Group
from reports.markdown import escape
from reports.scaling import peak_bytes
from reports.short_names import cut, told_apart
from reports.templating import template
from reports.verdicts import contests, is_exact, seconds, verdicts

MOST_LINES = 40
MOST_CONTESTS, MOST_FAILURES, MOST_COMPARISONS, MOST_CLAIMS = 6, 4, 4, 12
LONGEST_TEXT = 200
"""A message may be a page long; the report holds it whole."""


def to_summary(content: Content, changes: Sequence[Changes] = ()) -> str:
    """The three verdicts, the fastest and the most accurate of the first instances and sizes, the failures, the news.

    What is cut is counted.
    """
    rows = [row for group in content.groups for row in _rows(group)]
    headings = list(dict.fromkeys(heading for heading, *_ in rows[:MOST_CONTESTS]))
    failed = [record for record in content.records if not has_result(record)]
    short = dict(zip(headings, told_apart(headings), strict=True))
    return template("summary.md.j2", escape).render(
        content=content,
        verdicts=verdicts(content.groups),
        rows=[(short[heading], *rest) for heading, *rest in rows[:MOST_CONTESTS]],
        more_rows=len(rows) - MOST_CONTESTS,
        failed=failed[:MOST_FAILURES],
        more_failed=len(failed) - MOST_FAILURES,
        cut=partial(cut, most=LONGEST_TEXT),
        changes=changes[:MOST_COMPARISONS],
        more_changes=len(changes) - MOST_COMPARISONS,
    )


def account_summary(account: Account) -> str:
    """The same of trainings, or of pictures: the claims with their verdicts in place of contests."""
    claims, failures = account.study.claims, account.failures
    return template("account_summary.md.j2", escape).render(
        account=account,
        claims=claims[:MOST_CLAIMS],
        more_claims=len(claims) - MOST_CLAIMS,
        failures=failures[:MOST_FAILURES],
        more_failures=len(failures) - MOST_FAILURES,
        cut=partial(cut, most=LONGEST_TEXT),
    )


def _rows(group: Group) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for contest in contests([group], has_result):
        exact = [record for record in contest.cells if is_exact(record)]
        timed = [record for record in exact or contest.cells if seconds(record)]
        errors = [record for record in contest.cells if record.error_relative is not None]
        fastest = min(timed, key=lambda record: seconds(record) or 0.0, default=None)
        accurate = min(errors, key=lambda record: record.error_relative or 0.0, default=None)
        found.append((group.heading, str(contest.n), str(contest.k), *_fast(group, fastest), *_best(group, accurate)))
    return found


def _fast(group: Group, record: Record | None) -> tuple[str, str, str]:
    if record is None:
        return "none with a timing to rank", "-", "-"
    return group.label(record), time(record, "total"), memory(peak_bytes(record))


def _best(group: Group, record: Record | None) -> tuple[str, str]:
    return ("no reference", "-") if record is None else (group.label(record), relative_error(record))
