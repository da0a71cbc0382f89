"""A study: what a paper states, what a run says of it, and the tables and figures that show it.

A study is one file of `reports/studies/`, named by `study = "..."` in a configuration, with a function
`study(records) -> Study`. It reads records alone: a cell that failed is a row with a word in it there as everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record
from reports.rounding import ABSENT
from reports.style import Look


class Verdict(StrEnum):
    """What became of a published claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable"
    NOT_MEASURED = "not measured"
    """In this run: the cells that it rests on failed or are missing."""


@dataclass(frozen=True)
class Claim:
    """A published statement, beside what the records of this run say."""

    source: str
    """Paper and place: `Crockett & Fessler, Table 4.1`."""
    published: str
    """The statement, in our words, with its numbers."""
    ours: str
    """The numbers of this run, rounded to their uncertainty, with their unit."""
    verdict: Verdict
    why: str = ""
    """What the verdict rests on: the rule that was applied to the numbers; for `not ...` the cause."""


@dataclass(frozen=True)
class StudyFigure:
    """A figure to draw: the files' name without suffix, a title, how to read it, and who draws it."""

    stem: str
    title: str
    remarks: str
    draw: Callable[[Look], Figure]


@dataclass(frozen=True)
class Study:
    """One page."""

    title: str
    question: str
    """One or two sentences: what is asked, and on which instances."""
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...] = ()
    figures: tuple[StudyFigure, ...] = ()


def judged(source: str, published: str, ours: str, holds: bool, why: str) -> Claim:
    """Reproduced or not, by a rule that `why` states."""
    return Claim(source, published, ours, Verdict.REPRODUCED if holds else Verdict.NOT_REPRODUCED, why)


def not_measured(source: str, published: str, why: str) -> Claim:
    """A claim without its cells."""
    return Claim(source, published, ABSENT, Verdict.NOT_MEASURED, why)


COLUMNS = ("source", "published", "this run", "verdict", "what decides")


def claims_table(study: Study) -> Table:
    """What is published beside ours, a row each."""
    columns = tuple(Column(title, numeric=False) for title in COLUMNS)
    rows = tuple(
        (claim.source, claim.published, claim.ours, str(claim.verdict), claim.why or ABSENT) for claim in study.claims
    )
    return Table(f"{study.title}: what is published, and this run", columns, rows, ())


def read_study(name: str, records: Sequence[Record]) -> Study:
    """The page of a study. Raises ValueError where there is no study of that name."""
    make: Callable[[Sequence[Record]], Study] = maker(name)
    return make(records)


def maker(name: str) -> Callable[[Any], Study]:
    """The function of a study's file. Raises ValueError where there is no study of that name."""
    folder = Path(__file__).parent / "studies"
    known = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if name not in known:
        raise ValueError(f"there is no study '{name}': choose among {', '.join(known) or 'none'}")
    make: Callable[[Any], Study] = importlib.import_module(f"reports.studies.{name}").study
    return make
