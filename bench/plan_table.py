"""What `plan` prints: the cells with what is expected of each, and the sum of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from bench import pruning, units
from bench.aligned import Column, Table
from bench.cell import Cell
from bench.forecast import Prediction
from bench.record import Status

MOST_LINES = 60
LEFT_OUT = "Seconds are those of the machines that measured them; references are not counted."


def plan_table(predictions: Sequence[Prediction], every_cell: bool = False) -> Table:
    """One line per cell; from 61 cells on one per series, unless every cell is asked for."""
    grouped = len(predictions) > MOST_LINES and not every_cell
    names = _names([prediction.cell for prediction in predictions])
    groups: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        key = pruning.series(prediction.cell) if grouped else prediction.cell.cell_id
        groups[key].append(prediction)
    rows = []
    for group in groups.values():
        first = group[0]
        one = len(group) == 1
        name = names[first.cell.cell_id] if one else _series_name([prediction.cell for prediction in group])
        rows.append((name, _times(group), _memory(group), _sources(group), _notes(group)))
    columns = (
        Column("series" if grouped else "cell", numeric=False),
        Column("predicted time"),
        Column("memory"),
        Column("from", numeric=False),
        Column("note", numeric=False),
    )
    return Table("", columns, tuple(rows))


def plan_summary(predictions: Sequence[Prediction]) -> str:
    """`142 cells: about 12 min (8 to 20), 3 timeouts, 5 pruned; largest memory 1.2 GiB; 14 cells without any earlier
    measurement: at most 56 min more.` And what that leaves out."""
    known = [prediction for prediction in predictions if prediction.is_known]
    unknown = [prediction for prediction in predictions if not prediction.is_known]
    words = _cells(predictions)
    if known:
        words += f": about {_seconds(_total(known))}"
    failures = Counter(prediction.failure for prediction in known if prediction.pruned_by is None)
    timeouts, out_of_memory = failures[Status.TIMEOUT], failures[Status.OUT_OF_MEMORY]
    words += f", {timeouts} timeout{'s' * (timeouts > 1)}" if timeouts else ""
    words += f", {out_of_memory} out of memory" if out_of_memory else ""
    pruned = sum(prediction.pruned_by is not None for prediction in predictions)
    clauses = [words + (f", {pruned} pruned" if pruned else "")]
    memory = [prediction.memory.value for prediction in predictions if prediction.memory is not None]
    clauses += [f"largest memory {units.memory(max(memory))}"] if memory else []
    if unknown:
        most = units.duration(_total(unknown)[2])
        clauses.append(f"{_cells(unknown)} without any earlier measurement: at most {most}{' more' * bool(known)}")
    return f"{'; '.join(clauses)}. {LEFT_OUT}"


def _cells(predictions: Sequence[Prediction]) -> str:
    return f"{len(predictions)} cell{'s' * (len(predictions) != 1)}"


def _total(predictions: Sequence[Prediction]) -> tuple[float, float, float]:
    """Low, value and high. The errors of one method's cells go together, so that they do not cancel in a sum."""
    seconds = [prediction.seconds for prediction in predictions]
    low, value, high = (sum(getattr(each, end) for each in seconds) for end in ("low", "value", "high"))
    return low, value, high


def _seconds(total: tuple[float, float, float]) -> str:
    low, value, high = map(units.duration, total)
    return units.interval(low, value, high)


def _times(group: Sequence[Prediction]) -> str:
    run = [prediction for prediction in group if prediction.pruned_by is None]
    if not run:
        return "-"
    if not any(prediction.is_known for prediction in run):
        return f"at most {units.duration(_total(run)[2])}"
    return _seconds(_total(run))


def _memory(group: Sequence[Prediction]) -> str:
    """The largest."""
    known = [prediction.memory for prediction in group if prediction.memory is not None]
    if not known:
        return "-"
    largest = max(known, key=lambda estimate: estimate.value)
    low, value, high = map(units.memory, (largest.low, largest.value, largest.high))
    return units.interval(low, value, high)


def _sources(group: Sequence[Prediction]) -> str:
    details = [prediction.seconds.detail for prediction in group if prediction.pruned_by is None]
    return ", ".join(dict.fromkeys(details))


def _notes(group: Sequence[Prediction]) -> str:
    if len(group) == 1:
        return group[0].note
    stopped = [prediction for prediction in group if prediction.failure and prediction.pruned_by is None]
    if not stopped:
        return ""
    pruned = sum(prediction.pruned_by is not None for prediction in group)
    first = f"{stopped[0].sizes} is {stopped[0].reason}"
    return f"{len(stopped)} would be stopped, {pruned} pruned; the first, {first}"


def _names(cells: Sequence[Cell]) -> dict[str, str]:
    """Cells by their usual names; several of one name, with the settings in which they differ."""
    shared: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        shared[str(cell)].append(cell)
    names = dict[str, str]()
    for name, alike in shared.items():
        settings = [
            {**cell.instance.parameters, "k": cell.instance.k, "name": cell.instance.label, "threads": cell.threads}
            for cell in alike
        ]
        known = dict.fromkeys(key for values in settings for key in values)
        apart = [key for key in known if any(values.get(key) != settings[0].get(key) for values in settings)]
        for cell, values in zip(alike, settings, strict=True):
            names[cell.cell_id] = " ".join([name, *(f"{key}={values[key]}" for key in apart if key in values)])
    return names


def _series_name(cells: Sequence[Cell]) -> str:
    """The first one's name with the sizes of all."""
    sizes = {
        "n": sorted({cell.instance.n for cell in cells}),
        "k": sorted({cell.instance.k for cell in cells}),
        "batch": sorted({cell.batch for cell in cells}),
    }
    words = [word for word in str(cells[0]).split(" ") if word.partition("=")[0] not in sizes]
    words += [f"{name}={_span(values)}" for name, values in sizes.items() if name == "n" or len(values) > 1]
    return f"{' '.join(words)} ({len(cells)} cells)"


def _span(values: Sequence[int]) -> str:
    return ",".join(map(str, values)) if len(values) <= 5 else f"{values[0]}..{values[-1]}"
