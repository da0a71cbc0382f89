"""Pruning: which cells a failure leaves out, in which order cells run, and what the row says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cell import Cell
from bench.pruning import PRUNED, in_order, is_larger, pruned_by, pruned_record_message
from bench.record import Status
from tests.bench_cells import cell_of, record_of


def is_pruned(cell: Cell, *failed: Cell, status: Status = Status.TIMEOUT) -> bool:
    return pruned_by(cell, [(other, record_of(other, status)) for other in failed]) is not None


@pytest.mark.parametrize("larger", [{"n": 17}, {"k": 17}, {"batch": 2}, {"n": 32, "pairs": 8}])
def test_a_larger_size_is_pruned(larger: dict[str, Any]) -> None:
    assert is_pruned(cell_of(**{"n": 16, "k": 16, **larger}), cell_of(k=16))
    assert not is_pruned(cell_of(k=16), cell_of(**{"n": 16, "k": 16, **larger}))


@pytest.mark.parametrize(
    "other", [{"n": 15, "k": 64}, {"n": 64, "seed": 1}, {"n": 64, "scale": 0.3}, {"n": 64, "method": "dqp"}]
)
def test_another_series_or_a_size_smaller_in_one_way_is_not(other: dict[str, Any]) -> None:
    assert not is_pruned(cell_of(**other), cell_of())


@pytest.mark.parametrize("name", ["device", "dtype", "threads"])
def test_where_it_runs_sets_series_apart(name: str) -> None:
    elsewhere = {"device": "cuda", "dtype": "float32", "threads": 2}[name]
    assert not is_pruned(replace(cell_of(64), **{name: elsewhere}), cell_of())


def test_settings_of_families_to_come_set_sizes() -> None:
    """conv_filters and tv_game have shape = [h, w], conv_filters a number of filters; a flag is no size."""
    small = cell_of(64, shape=[8, 8], filters=4, circular=True)
    assert is_pruned(cell_of(256, shape=[16, 16], filters=8, circular=True), small)
    assert not is_pruned(cell_of(256, shape=[16, 16], filters=4, circular=False), small)


@pytest.mark.parametrize("status", Status)
def test_only_time_and_memory_prune(status: Status) -> None:
    assert is_pruned(cell_of(64), cell_of(), status=status) == (status in {"timeout", "out_of_memory"})


def test_the_cause_is_the_smallest_that_was_run() -> None:
    cells = [cell_of(64), cell_of(32), cell_of(16)]
    failed = [(cell, record_of(cell)) for cell in cells]
    failed[2] = (cells[2], record_of(cells[2], flags=[PRUNED]))
    cause = pruned_by(cell_of(128), failed)
    assert cause is not None
    assert cause.n == 32


def test_the_message_says_what_failed_and_how() -> None:
    cause = record_of(cell_of(64, 128), message="not finished after 120 s")
    message = pruned_record_message(cell_of(256, 128, batch=2), cause)
    assert message == "not run: n=64, batch=1 of this series timed out: not finished after 120 s"
    message = pruned_record_message(cell_of(128, 128), record_of(cell_of(64, 64), Status.OUT_OF_MEMORY))
    assert message == "not run: n=64, k=64 of this series ran out of memory"


SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
CELLS = st.lists(
    st.builds(
        lambda sizes, method, pairs: cell_of(*sizes, method=method, pairs=pairs),
        SIZES,
        st.sampled_from(["blorc", "dqp"]),
        st.sampled_from([6, 12]),
    ),
    max_size=12,
)


@given(CELLS, CELLS)
def test_what_is_larger_than_a_pruned_cell_is_pruned(cells: list[Cell], failed: list[Cell]) -> None:
    for cell, larger in itertools.permutations(cells, 2):
        if is_larger(larger, cell) and is_pruned(cell, *failed):
            assert is_pruned(larger, *failed)


@given(CELLS)
def test_the_order_is_the_plans_with_the_smaller_first(cells: list[Cell]) -> None:
    ordered = in_order(cells)
    assert sorted(ordered, key=id) == sorted(cells, key=id)
    assert [cell.method for cell in ordered] == [cell.method for cell in cells]
    for earlier, later in itertools.combinations(ordered, 2):
        assert not is_larger(earlier, later)
    places = {id(cell): place for place, cell in enumerate(cells)}
    for earlier, later in itertools.combinations(ordered, 2):
        sizes = [(cell.method, cell.instance.n, cell.instance.k, cell.batch) for cell in (earlier, later)]
        if sizes[0] == sizes[1]:
            assert places[id(earlier)] < places[id(later)]


def test_a_plan_that_is_in_order_stays() -> None:
    cells = [cell_of(n, method=method) for n in (8, 16, 32) for method in ("blorc", "dqp")]
    assert in_order(cells) == cells
