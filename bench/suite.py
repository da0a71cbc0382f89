"""Timings as a `pyperf.BenchmarkSuite`, so that `pyperf stats`, `compare_to`, `check` and `hist` work on every run."""

from __future__ import annotations

from pathlib import Path

import pyperf

from bench.cell import Cell
from bench.timing import Timed, Value

PHASES = ("solve", "gradient", "total")


def write_suite(path: Path, cell: Cell, processes: list[Timed]) -> None:
    """One benchmark per phase, named `<cell_id> <phase>`, with one pyperf run per worker process."""
    benchmarks = [_benchmark(cell, phase, processes) for phase in PHASES]
    prepare = [
        pyperf.Run([process.prepare_seconds], metadata=_metadata(cell, "prepare"), collect_metadata=False)
        for process in processes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pyperf.BenchmarkSuite([*benchmarks, pyperf.Benchmark(prepare)]).dump(str(path), replace=True)


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
