"""Cells and records made by hand, for the tests of what plans, prunes, foretells and shows them."""

from __future__ import annotations

from typing import Any

from bench.cell import Cell, Instance
from bench.record import Record, Status


def cell_of(
    n: int = 16, k: int | None = None, batch: int = 1, method: str = "blorc", pairs: int = 32, **settings: Any
) -> Cell:
    """One of the family analysis_l1, as the plan would describe it."""
    rows = n if k is None else k
    parameters = {"signal": "gaussian", "n": n, "k": rows, "pairs": pairs, "seed": 0, "scale": 0.2, **settings}
    instance = Instance("analysis_l1", parameters, parameters, "analysis_l1", n, rows, n * rows, pairs, "0" * 64)
    return Cell(instance, method, {}, batch, "cpu", "float64", 1)


def record_of(cell: Cell, status: Status = Status.TIMEOUT, **others: Any) -> Record:
    """What the journal would hold of it."""
    instance = cell.instance
    return Record(
        cell_id=cell.cell_id,
        method=cell.method,
        method_parameters=cell.method_parameters,
        problem=instance.family,
        problem_parameters=instance.parameters,
        n=instance.n,
        k=instance.k,
        theta_size=instance.theta_size,
        pairs=instance.pairs,
        batch=cell.batch,
        device=cell.device,
        dtype=cell.dtype,
        threads=cell.threads,
        seed=instance.parameters["seed"],
        status=status,
        **others,
    )
