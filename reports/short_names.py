"""Long names made short: cut off, or, in a list, told apart by the clauses in which they differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

CLAUSES = re.compile(r"(?<=[,;:]) ")


def cut(text: str, most: int) -> str:
    """In so many characters, with an ellipsis for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def told_apart(names: Sequence[str]) -> list[str]:
    """Each name without the clauses that all have; unchanged where that leaves nothing, or the same twice."""
    if len(names) < 2:
        return list(names)
    clauses = [CLAUSES.split(name) for name in names]
    common = set.intersection(*({_bare(clause) for clause in own} for own in clauses))
    short = [_bare(" ".join(clause for clause in own if _bare(clause) not in common)) for own in clauses]
    return short if all(short) and len(set(short)) == len(set(names)) else list(names)


def numbered(names: Sequence[str]) -> list[str]:
    """Each name, with its place where another is the same."""
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, 1)]


def _bare(clause: str) -> str:
    return clause.rstrip(",;:")
