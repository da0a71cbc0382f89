"""Dashes of lines that share a colour, the same as in the paper figures."""

from __future__ import annotations

from collections.abc import Iterable

from reports.style import DASHES, Look, dashes_of

WORDS = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "2px,7px", "4px,2px")
"""Of `reports.style.DASHES`, in plotly's words."""


def dashes(look: Look, lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By line, given as its name and its method."""
    words = dict(zip(DASHES, WORDS, strict=True))
    return {name: words[dash] for name, dash in dashes_of(look, lines).items()}
