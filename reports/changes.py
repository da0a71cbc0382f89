"""What changed from one run to another, cell by cell, as `bench compare` finds it; the command line hands it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Changed:
    """One cell that both runs hold."""

    cell_id: str
    method: str
    text: tuple[str, ...]
    """As long as the headings."""
    numbers: tuple[float | None, ...]
    """Behind the text, None for words."""
    words: Mapping[str, str]
    """The change of time, of accuracy, of memory: `slower`, `no change`, ..."""
    tone: str
    """`bad` where something got worse, `good` where something got better and nothing worse, else empty."""
    interval: tuple[float | None, float, float | None] | None
    """Of B's time over A's: low end, ratio, high end; no ends with too few processes, None without times."""


@dataclass(frozen=True)
class Changes:
    """Two runs: what they are and what sets them apart, the news in one line, how it was judged, the cells."""

    title: str
    header: tuple[str, ...]
    headline: str
    notes: tuple[str, ...]
    headings: tuple[str, ...]
    numeric: frozenset[str]
    rows: tuple[Changed, ...]
