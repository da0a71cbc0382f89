"""The memory row of BLORC's Table 1, whose orders assume a stored Jacobian (readings.md X.17), and measured peaks."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from bench.record import Record, variant_name
from reports import growth_figure
from reports.cells import MEBIBYTE
from reports.growth import GRADIENT_TIME, PEAK_MEMORY, RULE, Axis, Cost, Curve, Position, curves, growth_table, judge
from reports.orders import Order
from reports.published import published_rows
from reports.rounding import plain
from reports.study import Claim, Study, StudyFigure, Verdict, not_measured
from reports.style import Look

SOURCE = "BLORC (journal), Table 1"
BYTES = {"float64": 8, "float32": 4}

N = Axis("N", "N (samples of a signal)", lambda record: record.n)
T = Axis("T", "T (unrolled iterations)", lambda record: record.method_parameters.get("steps"))
AXES = (N, T)

MINIMIZER, UNROLLED, BLORC = "minimizer using KKT/IFT", "unrolled methods", "BLORC"
CLAIMED = (
    ("smoothed_implicit[hessian=dense]", MINIMIZER, (N,)),
    ("smoothed_implicit[hessian=cg]", MINIMIZER, (N,)),
    ("unrolled_reverse", UNROLLED, (N, T)),
    ("blorc", BLORC, (N,)),
    ("active_set_adjoint", BLORC, (N,)),
)
"""The label of our cells, the row of the table, and the sizes that its order names."""
STORED = ("smoothed_implicit[hessian=dense]", "smoothed_implicit[hessian=cg]", "unrolled_reverse")
"""Whose order holds N^3."""
CAUSE = "vector-Jacobian products never hold the N x N x N Jacobian that the order assumes (readings.md X.17)"


def study(records: Sequence[Record]) -> Study:
    """A claim per method and size, and one on the tensor itself."""
    found = curves(records, label, AXES)
    claims = [
        _claim(name, row, axis, next((c for c in found if (c.label, c.axis) == (name, axis)), None))
        for name, row, axes in CLAIMED
        for axis in axes
    ]
    return Study(
        title="BLORC's Table 1: memory",
        question=(
            "Does the gradient of the minimizer approach and of unrolling need O(N^3) numbers, and BLORC's O(N^2), "
            "where theta is an N x N transform? Denoising of one signal, W a scaled DCT. The minimizer approach is "
            "smoothed_implicit, BLORC's own sections 2.1 and 2.2; unrolled_reverse keeps every iterate, or with "
            f"checkpoints each c-th. {RULE} Orders set methods apart here: only an interval that holds one confirms it."
        ),
        claims=(*claims, _tensor(records)),
        tables=(growth_table("Exponents of memory and time", found, (PEAK_MEMORY, GRADIENT_TIME)),),
        figures=(
            _figure(found, PEAK_MEMORY, "peak", "Peak memory of one call against N and T."),
            _figure(found, GRADIENT_TIME, "time", "Time of the gradient against N and T."),
        ),
    )


def label(record: Record) -> str:
    """The variant without its solver, its smoothing length, and T, which is an axis."""
    own = {
        name: value for name, value in record.method_parameters.items() if name not in ("solver", "steps", "epsilon")
    }
    return variant_name(record.method, own)


def _figure(found: Sequence[Curve], cost: Cost, stem: str, title: str) -> StudyFigure:
    def draw(look: Look) -> Figure:
        return growth_figure.draw(found, cost, AXES, look)

    return StudyFigure(f"table1_memory_{stem}", title, growth_figure.READING, draw)


def _claim(name: str, row: str, axis: Axis, curve: Curve | None) -> Claim:
    text = _orders()[row]
    printed = Order.parse(text).exponent(axis.letter)
    found = judge(curve, PEAK_MEMORY, printed)
    published = f"{name} ({row}), memory against {axis.letter}: {text}; p = {printed}"
    lacks_tensor = found.position is Position.BELOW and row != BLORC and axis is N
    why = f"{found.why}: {CAUSE}" if lacks_tensor else found.why
    return Claim(SOURCE, published, found.ours, _verdict(found.position), why)


def _verdict(position: Position | None) -> Verdict:
    if position is None:
        return Verdict.NOT_MEASURED
    return Verdict.REPRODUCED if position is Position.HOLDS else Verdict.NOT_REPRODUCED


def _tensor(records: Sequence[Record]) -> Claim:
    """Peaks beside N^3 numbers: a smaller one shows that they were not held."""
    published = f"{MINIMIZER} and {UNROLLED} hold N^3 numbers"
    peaks = {name: _largest(records, name) for name in STORED}
    there = {name: record for name, record in peaks.items() if record is not None}
    if len(there) < len(peaks):
        lost = ", ".join(name for name, record in peaks.items() if record is None)
        return not_measured(SOURCE, published, f"no peak of {lost}")
    shares = {name: (record.host_peak_bytes or 0) / _tensor_bytes(record) for name, record in there.items()}
    ours = "; ".join(
        f"{name}: {plain((record.host_peak_bytes or 0) / MEBIBYTE)} MiB at N = {record.n}, where N^3 numbers are "
        f"{plain(_tensor_bytes(record) / MEBIBYTE, 4)} MiB"
        for name, record in there.items()
    )
    if all(share >= 1 for share in shares.values()):
        return Claim(SOURCE, published, ours, Verdict.REPRODUCED, "no peak is below N^3 numbers at its largest N")
    below = ", ".join(name for name, share in shares.items() if share < 1)
    why = f"a peak below N^3 numbers at the largest N ({below}) cannot have held them: {CAUSE}"
    return Claim(SOURCE, published, ours, Verdict.NOT_REPRODUCED, why)


def _largest(records: Sequence[Record], name: str) -> Record | None:
    """Of the largest N that has a peak."""
    measured = [record for record in records if label(record) == name and record.host_peak_bytes]
    return max(measured, key=lambda record: record.n, default=None)


def _tensor_bytes(record: Record) -> int:
    return BYTES[record.dtype] * record.n**3


def _orders() -> dict[str, str]:
    return {row["method"]: row["memory_order"] for row in published_rows("blorc_table1_memory.csv")}
