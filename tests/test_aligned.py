"""Tables on terminals of any width and encoding: no number is cropped, and every one that is printed was recorded."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_reports import made_up

from bench.aligned import Column, Table, fold, print_table
from bench.plain_text import ERRORS, spelled
from bench.record import Record
from reports.rounding import angle_bar
from reports.terminal import terminal_table

ROOT = Path(__file__).parents[1]
WIDTHS = (60, 80, 100, 200)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")


def printed(table: Table, width: int, encoding: str = "utf-8", dropped_first: tuple[str, ...] = ()) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    print_table(table, Console(file=file, width=width, color_system=None), dropped_first)
    file.seek(0)
    return file.read()


# --- any table --------------------------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:.4g}")
bounds = numbers.map(lambda text: f"<= {text}")
spreads = st.tuples(numbers, numbers).map(" ± ".join)
words = st.text("abcdefgh_[]=,/ 0123456789", min_size=1, max_size=60)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    numeric = [False, *draw(st.lists(st.booleans(), min_size=1, max_size=8))]
    rows = draw(st.lists(st.tuples(*((numbers | bounds | spreads) if one else words for one in numeric)), max_size=4))
    columns = tuple(Column(f"column {place}", numeric=one) for place, one in enumerate(numeric))
    return Table("title", columns, tuple(rows))


@given(table=tables(), width=st.sampled_from(WIDTHS))
def test_every_number_of_a_table_is_printed_whole(table: Table, width: int) -> None:
    text = printed(table, width)
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            assert not column.numeric or re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", text), (cell, text)


@given(table=tables(), width=st.sampled_from(WIDTHS))
def test_no_line_is_longer_than_the_terminal_unless_two_columns_are(table: Table, width: int) -> None:
    longest = max((len(cell) for row in table.rows for cell in row[1:]), default=0)
    if longest <= width - 30:
        assert max(map(len, printed(table, width).splitlines())) <= width


def test_columns_go_in_order_and_a_note_says_which() -> None:
    columns = (Column("method", numeric=False), *(Column(name) for name in ("least", "less", "most")))
    table = Table("", columns, (("a_method_of_a_long_name[steps=100]", *["1.2345e-10 ± 0.0001e-10"] * 3),))
    assert "Left out" not in printed(table, 200, dropped_first=("least", "less"))
    narrow = printed(table, 80, dropped_first=("least", "less"))
    assert "Left out for the terminal's width: least." in narrow
    assert narrow.count("1.2345e-10 ± 0.0001e-10") == 2


@given(text=words, width=st.integers(30, 60))
def test_a_folded_text_is_the_text_in_lines_of_that_width(text: str, width: int) -> None:
    lines = fold(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    longest = max(map(len, re.split(r"[\s,\[\]_=/]", text)))
    assert all(len(line.rstrip("_=/,[] ")) <= max(width, longest) for line in lines)


def test_a_name_folds_behind_its_punctuation_and_a_number_stays_whole() -> None:
    assert fold("unrolled_reverse[solver=dual_pgd,steps=1000]", 28) == [
        "unrolled_reverse[",
        "solver=dual_pgd,steps=1000]",
    ]
    assert fold("error 1.25e-13, allowed 3.0e-12", 16) == ["error 1.25e-13,", "allowed 3.0e-12"]


# --- the table of a run -----------------------------------------------------------------------------------------------

positive = st.floats(1e-300, 1e300)
median_and_mad = st.tuples(st.floats(1e-9, 1e6), st.floats(0, 1)).map(lambda both: (both[0], both[0] * both[1]))
PHASES = ("prepare", "solve", "gradient", "total")


@st.composite
def measured(draw: st.DrawFn) -> dict[str, Any]:
    times = {phase: draw(median_and_mad) for phase in PHASES}
    return {
        **{f"{phase}_seconds": median for phase, (median, _) in times.items()},
        **{f"{phase}_mad_seconds": mad for phase, (_, mad) in times.items()},
        "n": draw(st.integers(1, 10**6)),
        "host_peak_bytes": draw(st.none() | st.integers(0, 2**45)),
        "error_relative": draw(st.none() | positive),
        "error_max_abs": draw(positive),
        "reference_error_relative": draw(st.none() | st.floats(1e-16, 1.0)),
        "reference_error_max_abs": draw(positive),
        "error_angle_degrees": draw(st.floats(0, 180)),
        "kkt_residual": draw(positive),
        "method_parameters": draw(st.fixed_dictionaries({}, optional={"steps": st.integers(0, 10**9)})),
    }


def recorded(record: Record) -> list[Decimal]:
    """Every number of the record in the units of the tables."""
    found: list[Decimal] = []

    def gather(value: Any) -> None:
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                gather(each)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(Decimal(value))
        elif isinstance(value, str):
            found.extend(map(Decimal, NUMBER.findall(value)))

    gather(vars(record))
    return [
        value * unit for value in found for unit in (Decimal(1), Decimal(1000), 1 / Decimal(2**20), Decimal(180) / 3)
    ]


def is_rounded_from(text: str, values: list[Decimal]) -> bool:
    """Within one unit of the last digit that counts: bounds and spreads are rounded up, 12345 is printed as 12300."""
    number = Decimal(text)
    exponent = (number if "." in text or "e" in text else number.normalize()).as_tuple().exponent
    return any(abs(value - number) <= Decimal(1).scaleb(int(exponent)) for value in values)


@settings(max_examples=50)
@given(fields=measured(), width=st.sampled_from(WIDTHS), encoding=st.sampled_from(["utf-8", "ascii"]))
def test_every_printed_number_is_in_the_record(fields: dict[str, Any], width: int, encoding: str) -> None:
    record = made_up("unrolled_reverse", fields.pop("n"), **fields)
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    terminal_table([record], Console(file=file, width=width, color_system=None))
    file.seek(0)
    rows = file.read().partition("Times and memory")[0]
    bar = angle_bar(record.reference_error_relative)
    values = recorded(record) + ([] if bar is None else [Decimal(bar)])
    for number in NUMBER.findall(rows):
        assert is_rounded_from(number, values), (number, rows)
    assert "reverse" in rows


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "1.2 ± 0.1 … ≤ ö"), ("latin-1", "1.2 ± 0.1 ... <= ö"), ("ascii", "1.2 +- 0.1 ... <= o")],
)
def test_signs_are_spelled_where_there_are_none(encoding: str, expected: str) -> None:
    assert spelled("1.2 ± 0.1 … ≤ ö", encoding) == expected


@given(st.text())
def test_every_text_can_be_spelled(text: str) -> None:
    assert text.encode("ascii", ERRORS).decode("ascii") == text or not text.isascii()


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(
        called, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def test_a_terminal_without_unicode_gets_the_table() -> None:
    run = "results/reference_runs/exact-cpu"
    done = bench("compare", run, run, PYTHONIOENCODING="ascii", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "active_set_adjoint" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_pipe_has_the_columns_that_it_says() -> None:
    wide, narrow = (bench("list", "problems", COLUMNS=columns).stdout for columns in ("250", "70"))
    assert max(map(len, narrow.splitlines())) <= 70 < max(map(len, wide.splitlines())) <= 250
    assert "synthesis_lasso" in narrow
