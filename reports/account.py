"""What a report says of trainings, or of denoised pictures, whatever the format; content.py is that of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.aligned import Table
from reports.content import Failure
from reports.study import Study, StudyFigure, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from reports.page_table import PageTable
    from reports.plots.theme import Plot


@dataclass(frozen=True)
class Picture:
    """One of an exhibit."""

    title: str
    words: str
    """Its numbers; where there is no picture, why."""
    data: str
    """A PNG as `data:` address; empty where there is none."""
    width: int
    height: int


@dataclass(frozen=True)
class Exhibit:
    """Pictures to be seen side by side."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Account:
    """One folder. What only some formats need, and costs time, is made when it is asked for."""

    folder: Path
    title: str
    subtitle: str
    machine: tuple[tuple[str, str], ...]
    verdicts: tuple[str, ...]
    """Sentences from the numbers."""
    study: Study
    tables: tuple[Table, ...]
    """Besides the study's."""
    notes: tuple[str, ...]
    """How to read the numbers."""
    cells_heading: str
    cells: PageTable
    """Every training, or every score."""
    failures: tuple[Failure, ...]
    """What has failed, and what has not been done yet."""
    plots_heading: str
    plots_note: str
    """How to read all of them."""
    plots: Callable[[], Sequence[Plot]]
    """For the page."""
    plotted: frozenset[str]
    """Stems of the study's figures that the page has as plots, and leaves out."""
    gallery: Callable[[], Sequence[Exhibit]]
    """For the page."""
    sheets: tuple[StudyFigure, ...]
    """For paper: the same pictures."""
    frames: Mapping[str, Callable[[], pd.DataFrame]]
    """By the names of their files: every number, unrounded."""


def claims_sentence(study: Study) -> tuple[str, ...]:
    """`Of 9 published claims 6 are reproduced, 3 are not testable.`; none where nothing is claimed."""
    if not study.claims:
        return ()
    counts = Counter(claim.verdict for claim in study.claims)
    said = [f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {word}" for word in Verdict if counts[word]]
    total = len(study.claims)
    return (f"Of {total} published claim{'s' * (total > 1)} {', '.join(said)}.",)
