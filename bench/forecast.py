"""What cells will take, from the records of earlier runs.

The seconds of one call, of preparing one, and the memory of a call are foretold (`bench.scaling`), and put together as
a cell spends them: a pass over its pairs, warm-ups and timed values in each process, each within its budget, and the
start of the processes. Where the very cell took so long under the same settings before, that stands. The references
are not counted, and another machine's seconds are taken as they are.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import provenance, pruning, units
from bench.cell import Cell
from bench.isolation import GIB, MEMORY_SHARE
from bench.journal import JOURNAL
from bench.lines import SchemaError
from bench.own_files import silent
from bench.process_tree import memory_bytes
from bench.record import Record, Status, read_journal
from bench.scaling import Estimate, Point, Scaling, Source

if TYPE_CHECKING:
    from bench.config import Measure

FINISHED = frozenset({Status.OK, Status.KINK, Status.INACCURATE_SOLVER})
ENDED_AT_ONCE = frozenset({Status.UNSUPPORTED, Status.ERROR, Status.CRASHED, Status.NONFINITE})
"""At once, or after a part of the work at most."""
MEMORY_CALLS = 3
"""Warm-ups, and the call that is watched."""
RUNS = (Path("results") / "reference_runs", Path("results") / "runs")
"""Where earlier runs are."""
START_FACTOR = 3.0
START_SECONDS = {"fork": 0.5, "spawn": 4.0}
"""Of one process, until its method is ready, where no record tells; a third of it to three times as much."""
WORKER_BYTES = 400 * 2**20
"""What a worker holds before its first call, torch loaded: the records count from there, a memory limit does not."""
EFFORT = ("processes", "values", "warmups", "min_seconds", "budget_seconds", "timing", "memory", "start")
"""The settings of `[measure]` on which the seconds of a cell depend."""


@dataclass(frozen=True)
class Prediction:
    """What is expected of one cell."""

    cell: Cell
    seconds: Estimate
    """Of the whole cell; of what it takes until it is stopped, where it does not finish."""
    memory: Estimate | None
    """Of one call, in bytes; None where the method's memory was never measured."""
    failure: Status | None = None
    """`timeout` or `out_of_memory` where a limit will stop it."""
    reason: str = ""
    pruned_by: Cell | None = None
    """The smaller cell whose failure will leave this one out."""

    @property
    def is_known(self) -> bool:
        """Whether any measurement stands behind it."""
        return self.seconds.source is not Source.BOUND

    @property
    def sizes(self) -> str:
        """`n=256, k=512, batch=32`."""
        return f"n={self.cell.instance.n}, k={self.cell.instance.k}, batch={self.cell.batch}"

    @property
    def note(self) -> str:
        """What is to be said of it beside the numbers."""
        return self.reason if self.pruned_by is None else f"would be pruned: {self.reason}"


def earlier_records(folders: Iterable[Path], measure: Measure) -> list[Record]:
    """The records of run folders, and of folders that hold run folders; what is missing or damaged is left out.

    A folder that is met twice counts once. A record keeps its `wall_seconds` only if it was measured with as many
    processes, values and so on as `measure` asks for, or was stopped by a limit: otherwise they are not those of the
    cell to come.
    """
    wanted = _effort(measure.model_dump(mode="json"))
    journals = [
        path.resolve() for folder in folders for path in sorted([*folder.glob(JOURNAL), *folder.glob(f"*/{JOURNAL}")])
    ]
    found = list[Record]()
    for run in dict.fromkeys(path.parent for path in journals):
        environments, records = _environments(run), list[Record]()
        with suppress(OSError, SchemaError):  # a forecast does without
            records = read_journal(run)
        for record in records:
            settings = environments.get(record.environment, {}).get("settings", {})
            stays = _was_stopped(record) or _effort(settings.get("measure", {})) == wanted
            found.append(record if stays else record.model_copy(update={"wall_seconds": None}))
    return found


def _environments(run: Path) -> dict[str, dict[str, Any]]:
    try:
        return provenance.read(run, silent)
    except OSError:  # a forecast does without
        return {}


def _effort(measure: dict[str, Any]) -> list[Any]:
    return [measure.get(name) for name in EFFORT]


def predictions(cells: Sequence[Cell], folders: Iterable[Path], measure: Measure) -> list[Prediction]:
    """What the runs in these folders (`earlier_records`) say of the cells, in the order in which they are to be run."""
    return Forecast(_of_today(cells, earlier_records(folders, measure)), measure).of(cells)


def _of_today(cells: Sequence[Cell], records: Iterable[Record]) -> list[Record]:
    """Without those of another version of the cells' plug-ins, which say nothing of this one. Those of these very cells
    at another input are of other cells, and speak of the size alone."""
    inputs = {cell.cell_id: cell.instance.sha256 for cell in cells}
    versions = {(cell.method, cell.instance.family): cell.plugin_sha256 for cell in cells}
    found = list[Record]()
    for record in records:
        if versions.get((record.method, record.problem), record.plugin_sha256) == record.plugin_sha256:
            is_other = record.input_sha256 not in (None, inputs.get(record.cell_id, record.input_sha256))
            named = f"{record.cell_id} of {record.input_sha256}" if is_other else record.cell_id
            found.append(record.model_copy(update={"cell_id": named}))
    return found


def expected_seconds(cells: Sequence[Cell], folders: Iterable[Path], measure: Measure) -> dict[str, float]:
    """By cell_id, of the cells about which anything is known: what `Watcher.planned` takes."""
    known = predictions(cells, folders, measure)
    return {prediction.cell.cell_id: prediction.seconds.value for prediction in known if prediction.is_known}


class Forecast:
    """Predictions for the cells of one configuration, on one machine."""

    def __init__(self, records: Iterable[Record], measure: Measure) -> None:
        """`records` of earlier runs and of this one, the newest last; see `earlier_records`."""
        run = [record for record in records if pruning.PRUNED not in record.flags]
        limit_gib = measure.memory_limit_gib
        self._measure = measure
        self._memory_limit_bytes = MEMORY_SHARE * memory_bytes() if limit_gib is None else limit_gib * GIB
        self._last = {record.cell_id: record for record in run}
        self._workers = 1 + (measure.processes - 1) * measure.timing + measure.memory
        finished = [record for record in run if record.status in FINISHED]
        self._call = _scaling((record, _call_seconds(record)) for record in finished)
        self._prepare = _scaling((record, record.prepare_seconds) for record in finished)
        self._memory = _scaling((record, record.host_peak_bytes) for record in finished)
        self._wall = _scaling((record, record.wall_seconds) for record in finished)
        self._starts = defaultdict[str, list[float]](list)
        for record in finished:
            if record.wall_seconds is not None and record.measured_seconds is not None:
                seconds = (record.wall_seconds - record.measured_seconds) / self._workers
                self._starts[record.method].append(seconds)

    def of(self, cells: Sequence[Cell]) -> list[Prediction]:
        """One for each cell, in the order in which they are to be run, smaller ones of a series first."""
        predictions, failed = list[Prediction](), list[Prediction]()
        for cell in pruning.in_order(cells):
            smaller = [prediction for prediction in failed if pruning.is_larger(cell, prediction.cell)]
            if smaller:
                predictions.append(_pruned(cell, min(smaller, key=lambda known: pruning.sizes(known.cell))))
                continue
            predictions.append(self._of_one(cell))
            if predictions[-1].failure is not None:
                failed.append(predictions[-1])
        return predictions

    def _of_one(self, cell: Cell) -> Prediction:
        place, limit = _place(cell), self._measure.timeout_seconds
        memory = self._memory.estimate(place)
        last = self._last.get(cell.cell_id)
        if last is not None and self._stands(last):
            stopped = self._until_stopped(Source.MEASURED, "measured")
            return Prediction(cell, stopped, memory, last.status, f"{last.status} in an earlier run: {last.message}")
        seconds, one_worker = self._seconds(cell, place, last)
        needed = WORKER_BYTES + (memory.value if memory is not None else 0)
        if needed > self._memory_limit_bytes:
            reason = f"predicted to need {units.memory(needed)} of {units.memory(self._memory_limit_bytes)}"
            return Prediction(cell, seconds, memory, Status.OUT_OF_MEMORY, reason)
        if one_worker > limit:
            stopped = self._until_stopped(seconds.source, seconds.detail)
            reason = f"predicted to take {units.duration(one_worker)} of {units.duration(limit)}"
            return Prediction(cell, stopped, memory, Status.TIMEOUT, reason)
        return Prediction(cell, seconds, memory)

    def _stands(self, last: Record) -> bool:
        """Whether the cell was stopped by limits no smaller than today's: then it will be stopped again."""
        seconds = last.wall_seconds or 0.0
        return last.status is Status.OUT_OF_MEMORY or (
            last.status is Status.TIMEOUT and seconds >= self._measure.timeout_seconds
        )

    def _seconds(self, cell: Cell, place: Point, last: Record | None) -> tuple[Estimate, float]:
        """Of the whole cell, and of its longest worker, which a timeout is about: 0 where that is not known."""
        wall, call, prepare = (known.estimate(place) for known in (self._wall, self._call, self._prepare))
        start_low, start, start_high = self._start_seconds(cell.method)
        if wall is not None and wall.source is Source.MEASURED:
            return wall, 0.0
        if last is not None and last.status in ENDED_AT_ONCE:
            at_once = last.wall_seconds or start
            return Estimate(at_once, at_once, at_once, Source.MEASURED, f"{last.status} in an earlier run"), 0.0
        if call is not None:
            low, value, high = (
                self._spent(cell, seconds, getattr(call, end), getattr(prepare, end) if prepare is not None else 0.0)
                for end, seconds in (("low", start_low), ("value", start), ("high", start_high))
            )
            detail = "its measured call" if call.source is Source.MEASURED else call.detail
            return self._bounded(low[0], value[0], high[0], call.source, detail), value[1]
        if wall is not None:
            return self._bounded(wall.low, wall.value, wall.high, wall.source, wall.detail), 0.0
        return self._bounded(start_low, math.inf, math.inf, Source.BOUND, "bound, never measured"), 0.0

    def _spent(self, cell: Cell, start: float, call: float, prepare: float) -> tuple[float, float]:
        """Seconds of the whole cell and of its first worker, from those of one start, one call and its preparation."""
        measure = self._measure
        pass_ = min(len(cell.chunks) * (call + prepare), measure.budget_seconds + call + prepare)
        value = max(call, measure.min_seconds)
        clock = call + min((measure.warmups + measure.values) * value, measure.budget_seconds + value)
        timed = clock if measure.timing else 0.0
        started = start + prepare
        others = (measure.processes - 1) * (started + timed) if measure.timing else 0.0
        first = started + pass_ + timed
        return first + others + measure.memory * (started + MEMORY_CALLS * call), first

    def _bounded(self, low: float, value: float, high: float, source: Source, detail: str) -> Estimate:
        most = self._workers * self._measure.timeout_seconds
        return Estimate(min(value, most), min(low, most), min(high, most), source, detail)

    def _start_seconds(self, method: str) -> tuple[float, float, float]:
        """Of one process until its method is ready: low, value and high. Most of it is what the method imports."""
        seconds = self._starts.get(method) or [each for known in self._starts.values() for each in known]
        if not seconds:
            assumed = START_SECONDS[self._measure.start]
            return assumed / START_FACTOR, assumed, assumed * START_FACTOR
        return min(seconds), statistics.median(seconds), max(seconds)

    def _until_stopped(self, source: Source, detail: str) -> Estimate:
        seconds = self._measure.timeout_seconds
        return Estimate(seconds, seconds, seconds, source, detail)


def _pruned(cell: Cell, cause: Prediction) -> Prediction:
    nothing = replace(cause.seconds, value=0.0, low=0.0, high=0.0)
    return Prediction(cell, nothing, None, cause.failure, f"{cause.sizes} is {cause.reason}", cause.cell)


def _was_stopped(record: Record) -> bool:
    return record.status in pruning.CAUSES


def _call_seconds(record: Record) -> float | None:
    """Of one call; where none was timed, the mean over the pass, what lies between its calls included."""
    if record.total_seconds is not None or record.measured_seconds is None:
        return record.total_seconds
    is_whole = not any(flag.startswith("pairs=") for flag in record.flags)
    return record.measured_seconds / (record.pairs // record.batch) if is_whole else None


def _scaling(values: Iterable[tuple[Record, float | None]]) -> Scaling:
    return Scaling(replace(_seen(record), value=float(value)) for record, value in values if value)


def _place(cell: Cell) -> Point:
    instance = cell.instance
    sizes = (instance.n, instance.k, cell.batch)
    method, settings = (cell.method, cell.method_parameters), (instance.family, instance.parameters)
    return _point(cell.cell_id, method, settings, (cell.device, cell.dtype, cell.threads), sizes)


def _seen(record: Record) -> Point:
    sizes = (record.n, record.k, record.batch)
    method, settings = (record.method, record.method_parameters), (record.problem, record.problem_parameters)
    return _point(record.cell_id, method, settings, (record.device, record.dtype, record.threads), sizes)


def _point(
    cell_id: str,
    method: tuple[str, dict[str, Any]],
    problem: tuple[str, dict[str, Any]],
    where: tuple[str, str, int],
    sizes: tuple[int, int, int],
) -> Point:
    family, settings = problem[0], pruning.without_sizes(problem[1])
    key, kind = method[0], where[0].partition(":")[0]
    variant, series = (
        json.dumps(parts, sort_keys=True) for parts in (method, [method, family, settings, kind, *where[1:]])
    )
    return Point(cell_id, f"{key} on {kind}", variant, series, sizes)
