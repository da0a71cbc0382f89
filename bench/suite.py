"""Timings as a `pyperf.BenchmarkSuite`, so that `pyperf stats`, `compare_to`, `check` and `hist` work on every run."""

from __future__ import annotations

import io
from pathlib import Path

import pyperf

from bench.cell import Cell
from bench.samples import Timed, Value
from bench.whole_file import make_folder, write_whole

PHASES = ("solve", "gradient", "total")


MOST_DEVIATION, FARTHEST = 0.1, 0.5


def is_unstable(suite: pyperf.BenchmarkSuite) -> bool:
    """Whether `pyperf check` would warn of a phase's spread: its standard deviation is a tenth of its mean or more, or
    its smallest or largest value is half of the mean away from it.
    """
    for benchmark in suite.get_benchmarks():
        values, mean = benchmark.get_values(), benchmark.mean()
        if benchmark.get_name().endswith(" prepare") or len(values) < 2:  # each process prepares once
            continue
        if benchmark.stdev() >= MOST_DEVIATION * mean or max(abs(value - mean) for value in values) >= FARTHEST * mean:
            return True
    return False


def timings_file(run: Path, cell_id: str) -> Path:
    """In the run's folder."""
    return run / "pyperf" / f"{cell_id}.json"


def write_suite(path: Path, cell: Cell, processes: list[Timed]) -> pyperf.BenchmarkSuite:
    """One benchmark per phase, named `<cell_id> <phase>`, with one pyperf run per worker process."""
    benchmarks = [_benchmark(cell, phase, processes) for phase in PHASES]
    prepare = [
        pyperf.Run([process.prepare_seconds], metadata=_metadata(cell, "prepare"), collect_metadata=False)
        for process in processes
    ]
    make_folder(path.parent)
    suite = pyperf.BenchmarkSuite([*benchmarks, pyperf.Benchmark(prepare)])
    written = io.StringIO()
    suite.dump(written)
    write_whole(path, written.getvalue())
    return suite


def _benchmark(cell: Cell, phase: str, processes: list[Timed]) -> pyperf.Benchmark:
    def seconds(value: Value) -> float:
        return getattr(value, f"{phase}_seconds")

    runs = [
        pyperf.Run(
            [seconds(value) for value in process.values],
            warmups=[(1, seconds(value)) for value in process.warmups],
            metadata=_metadata(cell, phase),
            collect_metadata=False,
        )
        for process in processes
    ]
    return pyperf.Benchmark(runs)


def _metadata(cell: Cell, phase: str) -> dict[str, str | int]:
    return {
        "name": f"{cell.cell_id} {phase}",
        "unit": "second",
        "loops": 1,
        "method": cell.variant,
        "problem": cell.instance.family,
        "n": cell.instance.n,
        "batch": cell.batch,
        "device": cell.device,
        "dtype": cell.dtype,
    }
