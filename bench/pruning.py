"""Which cells need not be run, since a smaller one of their series did not get through.

A series is the cells that differ in size alone: they agree in method, method_parameters, problem, label, device, dtype,
threads, and in every setting of the problem that is no integer and no list of integers. Integers (n, k, m, p, filters,
shape = [h, w]) set sizes, and what size they make is in n, k and theta_size already; `seed` is the one that must agree.
`pairs` may differ: a worker past its budget stops after the call it is in, so that a timeout speaks of its calls.

A cell is larger than another when it is no smaller in n, k, theta_size and batch, and larger in one of them.

Invariant: whatever is larger than a cell that is pruned is pruned too, by the same records: "larger" is transitive, and
the cause is always a cell that was run. So no pruned row prunes: once its cause is measured again and gets through,
nothing holds its series back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from bench.cell import Cell
from bench.record import Record, Status

PRUNED = "pruned"
"""The flag of a row that was not run; its status is that of its cause."""

CAUSES = {Status.TIMEOUT: "timed out", Status.OUT_OF_MEMORY: "ran out of memory"}
"""What a larger cell would run into as well. A crash, an error or a gradient that is not finite may have any reason."""

Sizes = tuple[int, int, int, int]


def pruned_by(cell: Cell, settled: Iterable[tuple[Cell, Record]]) -> Record | None:
    """The smallest cell of its series, already settled, that shows this one to be out of reach; None to run it.

    `settled` are the cells whose row stands. One that is to be measured again must not be among them: its new row
    decides about the larger cells, which therefore come after it (`in_order`).
    """
    failed = [(other, record) for other, record in settled if record.status in CAUSES and PRUNED not in record.flags]
    smaller = [(sizes(other), record) for other, record in failed if is_larger(cell, other)]
    return min(smaller, key=lambda found: found[0])[1] if smaller else None


def pruned_record_message(cell: Cell, cause: Record) -> str:
    """`not run: n=256 of this series timed out: not finished after 120 s`, naming the sizes that differ."""
    instance = cell.instance
    grown = {"n": instance.n > cause.n, "k": instance.k > cause.k, "batch": cell.batch > cause.batch}
    named = [f"{name}={getattr(cause, name)}" for name, has_grown in grown.items() if has_grown]
    named = named or [f"theta_size={cause.theta_size}"]
    said = f": {cause.message}" if cause.message else ""
    return f"not run: {', '.join(named)} of this series {CAUSES[cause.status]}{said}"


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """The cells in the plan's order, but within a series the smaller ones first, on the places the series had."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, cell in enumerate(cells):
        places[series(cell)].append(place)
    ordered = list(cells)
    for taken in places.values():
        # the order of tuples extends "larger", and sorting is stable
        for place, cell in zip(taken, sorted((cells[place] for place in taken), key=sizes), strict=True):
            ordered[place] = cell
    return ordered


def series(cell: Cell) -> str:
    """What the cells of one series share, as text."""
    instance = cell.instance
    shared = [cell.method, cell.method_parameters, instance.family, without_sizes(instance.parameters), instance.label]
    return json.dumps([*shared, cell.device, cell.dtype, cell.threads], sort_keys=True)


def without_sizes(parameters: dict[str, Any]) -> dict[str, Any]:
    """The problem's settings without those that set its size."""
    return {name: value for name, value in parameters.items() if name == "seed" or not _is_size(value)}


def sizes(cell: Cell) -> Sizes:
    """In n, k, theta_size and batch; a smaller cell's come first."""
    return cell.instance.n, cell.instance.k, cell.instance.theta_size, cell.batch


def is_larger(cell: Cell, other: Cell) -> bool:
    """Whether it is of the same series, no smaller in any size, and larger in one."""
    pairs = list(zip(sizes(cell), sizes(other), strict=True))
    grown = all(here >= there for here, there in pairs) and any(here > there for here, there in pairs)
    return grown and series(cell) == series(other)


def _is_size(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_size(entry) for entry in value)
    return isinstance(value, int) and not isinstance(value, bool)
