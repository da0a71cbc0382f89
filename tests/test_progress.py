"""What a run says while it goes: counts, the time left, and how it looks on terminals and in files."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import units
from bench.progress import Lines, LiveTable, drawn, outcome, watcher
from bench.pruning import PRUNED
from bench.record import Status
from bench.tally import BELIEF_SECONDS, Tally
from tests.bench_cells import cell_of, record_of

CELLS = [cell_of(n) for n in range(1, 11)]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ran(tally: Tally, clock: Clock, number: int, seconds: float, status: Status = Status.OK) -> None:
    tally.starting(CELLS[number])
    clock.now += seconds
    tally.finished(CELLS[number], record_of(CELLS[number], status))


def test_without_a_forecast_the_mean_so_far_is_expected() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.planned(CELLS, {})
    assert tally.left_seconds is None
    ran(tally, clock, 0, 2.0)
    ran(tally, clock, 1, 4.0)
    assert tally.left_seconds == pytest.approx(8 * 3.0)
    tally.starting(CELLS[2])
    clock.now += 1.0
    assert tally.left_seconds == pytest.approx(8 * 3.0 - 1.0)
    clock.now += 100.0
    assert tally.left_seconds == pytest.approx(7 * 3.0)


def test_the_forecast_weighs_the_cells_and_the_pace_corrects_it() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.planned(CELLS[:3], {cell.cell_id: seconds for cell, seconds in zip(CELLS, (10.0, 20.0, 30.0), strict=False)})
    assert tally.left_seconds == pytest.approx(60.0)
    ran(tally, clock, 0, 20.0)  # twice as long as foretold
    pace = (20 + BELIEF_SECONDS) / (10 + BELIEF_SECONDS)
    assert tally.left_seconds == pytest.approx(50 * pace)


def test_cells_that_run_at_once_are_done_sooner() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.planned(CELLS[:4], dict.fromkeys((cell.cell_id for cell in CELLS), 10.0))
    tally.starting(CELLS[0])
    tally.starting(CELLS[1])
    assert tally.left_seconds == pytest.approx(40 / 2)
    clock.now += 5.0
    assert [(cell.instance.n, seconds) for cell, seconds in tally.running] == [(1, 5.0), (2, 5.0)]
    tally.finished(CELLS[1], record_of(CELLS[1], Status.OK))
    assert [cell for cell, _ in tally.running] == [CELLS[0]]


def test_what_never_ran_is_counted_and_costs_nothing() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.planned(CELLS[:4], {})
    ran(tally, clock, 0, 6.0, Status.TIMEOUT)
    tally.finished(CELLS[1], record_of(CELLS[1], Status.TIMEOUT, flags=[PRUNED]))
    tally.finished(CELLS[2], record_of(CELLS[2], Status.UNSUPPORTED))
    assert (tally.done, tally.pruned) == (3, 1)
    assert dict(tally.statuses) == {Status.TIMEOUT: 1, Status.UNSUPPORTED: 1}
    assert tally.left_seconds == pytest.approx(6.0)


@given(st.permutations(range(10)), st.lists(st.floats(0, 100), min_size=10, max_size=10), st.integers(1, 4))
def test_every_cell_is_counted_once_and_time_runs_out(order: list[int], seconds: list[float], at_once: int) -> None:
    clock, running = Clock(), list[int]()
    tally = Tally(clock)
    tally.planned(CELLS, {CELLS[place].cell_id: seconds[place] for place in range(5)})
    for place in order:
        if len(running) == at_once:
            clock.now += seconds[place]
            done = running.pop(0)
            tally.finished(CELLS[done], record_of(CELLS[done], Status.OK))
            assert tally.left_seconds is not None
            assert tally.left_seconds >= 0
        tally.starting(CELLS[place])
        running.append(place)
    for done in running:
        tally.finished(CELLS[done], record_of(CELLS[done], Status.OK))
    assert tally.done == tally.total == sum(tally.statuses.values())
    assert tally.left_seconds == 0


def text_of(tally: Tally, width: int, references: tuple[int, int] = (0, 0)) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(drawn(tally, *references, width))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [60, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    clock = Clock()
    long = cell_of(10, method="unrolled_reverse_with_a_name_that_is_longer_than_any_terminal_of_sixty_columns_is_wide")
    cells = [*CELLS[:9], long]
    tally = Tally(clock)
    tally.planned(cells, dict.fromkeys((cell.cell_id for cell in cells), 60.0))
    ran(tally, clock, 0, 60.0)
    ran(tally, clock, 1, 60.0, Status.TIMEOUT)
    tally.finished(CELLS[2], record_of(CELLS[2], flags=[PRUNED]))
    tally.starting(long)
    clock.now += 7.0
    lines = text_of(tally, width)
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("3/10 cells ")
    assert lines[0].endswith(" about 6.9 min left")
    assert lines[1].startswith("unrolled_reverse_with")
    assert lines[1].endswith(" 7 s")
    name = lines[1].removesuffix(" 7 s") + "".join(lines[2:-1])
    assert name.replace(" ", "") == str(long).replace(" ", "")
    assert lines[-1] == "1 ok, 1 timeout, 1 pruned"


def test_of_many_running_cells_a_few_are_named() -> None:
    tally = Tally()
    tally.planned(CELLS, {})
    for cell in CELLS:
        tally.starting(cell)
    lines = text_of(tally, 80)
    assert len(lines) == 1 + 8 + 1 + 1
    assert lines[-2] == "and 2 more"


def test_references_come_first() -> None:
    assert text_of(Tally(), 60) == ["planning"]
    (line,) = text_of(Tally(), 60, (3, 12))
    assert line.startswith("3/12 references ")


def test_a_terminal_gets_the_table_and_keeps_the_failures() -> None:
    file = io.StringIO()
    console = Console(force_terminal=True, file=file, width=100, legacy_windows=False)
    with watcher(console) as watching:
        assert isinstance(watching, LiveTable)
        watching.planned(CELLS[:2], {})
        watching.starting(CELLS[0])
        watching.finished(CELLS[0], record_of(CELLS[0], Status.OK, solve_seconds=1e-3))
        watching.starting(CELLS[1])
        watching.finished(CELLS[1], record_of(CELLS[1], Status.CRASHED, message="killed by SIGSEGV in [solve]"))
    written = file.getvalue()
    assert "0/2" in written or "1/2" in written
    assert f"{CELLS[1]}: crashed, killed by SIGSEGV in [solve]\n" in written
    assert f"{CELLS[0]}: ok" not in written


def test_what_is_no_terminal_gets_lines() -> None:
    file = io.StringIO()
    with watcher(Console(file=file, width=60)) as watching:
        assert isinstance(watching, Lines)
        watching.say("a line of its own")
        watching.references(1, 2)
        watching.references(2, 2)
        watching.planned(CELLS[:2], {})
        for cell, status in zip(CELLS[:2], (Status.OK, Status.TIMEOUT), strict=True):
            watching.starting(cell)
            watching.finished(cell, record_of(cell, status, solve_seconds=1e-3, message="words " * 20))
    said = outcome(record_of(CELLS[0], Status.OK, solve_seconds=1e-3, message="words " * 20))
    assert file.getvalue().splitlines() == [
        "a line of its own",
        "references: 2 pairs",
        f"[1/2] {CELLS[0]}: {said}",
        f"[2/2] {CELLS[1]}: {said.replace('ok', 'timeout', 1)}",
    ]
    assert said.startswith("ok, words")
    assert said.endswith("solve 1.0e-03 s")


def test_lines_say_now_and_then_how_far_the_run_is() -> None:
    file, before = io.StringIO(), threading.active_count()
    with Lines(Console(file=file, width=60), every_seconds=0.05) as watching:
        watching.planned(CELLS[:3], {CELLS[0].cell_id: 1.0, CELLS[1].cell_id: 300.0, CELLS[2].cell_id: 300.0})
        watching.finished(CELLS[0], record_of(CELLS[0], Status.UNSUPPORTED))
        watching.starting(CELLS[1])
        wait_for(lambda: "of 3 done" in file.getvalue())
    assert f"\n1 of 3 done, about 10 min left; running {CELLS[1]} for 0." in file.getvalue()
    assert threading.active_count() == before


def test_several_threads_may_tell() -> None:
    file = io.StringIO()
    cells = [cell_of(n, k) for n in range(1, 11) for k in range(1, 21)]

    def work(own: list[int]) -> None:
        for place in own:
            watching.starting(cells[place])
            watching.finished(cells[place], record_of(cells[place], Status.OK))

    with Lines(Console(file=file, width=200), every_seconds=0.001) as watching:
        watching.planned(cells, {})
        threads = [threading.Thread(target=work, args=(list(range(first, 200, 4)),)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    numbers = [line.split("]")[0] for line in file.getvalue().splitlines() if line.startswith("[")]
    assert numbers == [f"[{number}/200" for number in range(1, 201)]


def test_the_display_leaves_the_processor_alone() -> None:
    """Beside a cell that is timed: a thousandth of a core as measured, where rich's ten drawings a second take ten."""
    console = Console(force_terminal=True, file=io.StringIO(), width=120, legacy_windows=False)
    with LiveTable(console) as watching:
        watching.planned(CELLS, {})
        watching.starting(CELLS[0])
        before, began = time.process_time(), time.monotonic()
        time.sleep(2.5)
        share = (time.process_time() - before) / (time.monotonic() - began)
    assert share < 0.005


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (1.23, "1.2 s"),
        (119.4, "119 s"),
        (120, "2.0 min"),
        (1500, "25 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
        (360000, "100 h"),
    ],
)
def test_durations_read_at_a_glance(seconds: float, words: str) -> None:
    assert units.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0.1 MiB"), (2**20, "1.0 MiB"), (300 * 2**20, "300 MiB"), (1.2 * 2**30, "1.2 GiB")]
)
def test_memory_reads_at_a_glance(count: float, words: str) -> None:
    assert units.memory(count) == words


def test_an_interval_repeats_no_unit_and_no_number() -> None:
    assert units.interval("8.0 min", "12 min", "20 min") == "12 min (8.0 to 20)"
    assert units.interval("27 s", "106 s", "6.0 min") == "106 s (27 s to 6.0 min)"
    assert units.interval("5 s", "5 s", "5 s") == "5 s"
