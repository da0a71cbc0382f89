"""The tables of an instance on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from bench.aligned import print_table
from bench.record import Record
from reports.instances import group
from reports.tables import main_table

DROPPED_FIRST = ("angle", "KKT residual", "prepare", "device memory", "k", "peak memory", "solve", "max abs error",
                 "gradient")  # fmt: skip
"""Columns that a narrow terminal goes without, in this order; the written reports have them all."""


def terminal_table(records: Iterable[Record], console: Console) -> None:
    """Prints one aligned table per problem instance; failed cells are rows with a word in them."""
    groups = group(records)
    if not groups:
        console.print("no finished cell yet", markup=False)
    for own in groups:
        print_table(main_table(own), console, DROPPED_FIRST)
        console.print()
