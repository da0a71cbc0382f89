"""Table 4.1 of the review: the cost of the minimizer approach and of unrolling against N, R and T.

The table counts products and numbers; a run measures seconds and bytes. What it counts becomes a time by the review's
own count of what a product costs (section 4.2.4), and an exponent by fixing all sizes but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import Record, variant_name
from reports import growth_figure
from reports.growth import GRADIENT_TIME, PEAK_MEMORY, RULE, Axis, Cost, Curve, Position, curves, growth_table, judge
from reports.orders import Order
from reports.published import published_rows
from reports.study import Claim, Study, StudyFigure, Verdict

SOURCE = "Crockett & Fessler, Table 4.1"
SOURCE_OF_TIMES = f"{SOURCE} and section 4.2.4"
PRODUCT = ("Hessian-vector product of the running example", "total")

N = Axis("N", "N (unknowns)", lambda record: record.n)
R = Axis("R", "R (learned parameters)", lambda record: record.theta_size)
T = Axis("T", "T (unrolled iterations)", lambda record: record.method_parameters.get("steps"))
AXES = (N, R, T)


@dataclass(frozen=True)
class Approach:
    """A row of the table, the label of our cells for it, and who applies the inverse Hessian."""

    label: str
    row: str
    inverse: tuple[str, str] | None = None
    """The row of section 4.2.4 that says what a Hessian-inverse-vector product costs."""
    has_steps: bool = False

    @property
    def axes(self) -> tuple[Axis, ...]:
        return AXES if self.has_steps else (N, R)


APPROACHES = (
    Approach("minimizer[adjoint=dense]", "minimizer", ("explicit Hessian inverse", "operations")),
    Approach("minimizer[adjoint=cg]", "minimizer", ("conjugate gradient", "iterations to full convergence")),
    Approach("unrolled_reverse", "unrolled reverse", has_steps=True),
    Approach("unrolled_forward", "unrolled forward", has_steps=True),
)

UNCOUNTED = "N^2 + N*R"
"""One copy of H and of J, which the table does not count in the minimizer's memory and which a peak does."""

SHARED = "with so few filters the shifted copies of a picture, which all of them share, count beside their products"
CAUSES = {
    ("minimizer[adjoint=dense]", "time", "N", Position.BELOW): "at these sizes overhead still counts beside N^3",
    ("minimizer[adjoint=dense]", "memory", "N", Position.BELOW): "at these sizes other numbers still count beside N^2",
    ("minimizer[adjoint=cg]", "time", "N", Position.BELOW): (
        "conjugate gradients stop long before N products, and a product is a few convolutions, not N^2 multiplications"
    ),
    ("minimizer[adjoint=cg]", "time", "R", Position.ABOVE): (
        "more filters make H worse conditioned, which costs conjugate gradients more products"
    ),
    ("minimizer[adjoint=cg]", "memory", "N", Position.BELOW): "H is never laid out",
    ("unrolled_reverse", "time", "R", Position.BELOW): SHARED,
    ("unrolled_forward", "time", "R", Position.BELOW): SHARED,
    ("unrolled_reverse", "memory", "R", Position.ABOVE): (
        "automatic differentiation keeps the responses of every filter at every iteration; the recursion (B.2) needs "
        "the iterates alone"
    ),
    ("unrolled_forward", "memory", "R", Position.ABOVE): (
        "all R tangents are propagated at once, each with the responses of all filters: N R^2 numbers"
    ),
}
"""Known reasons for where an exponent may lie, by label, cost, axis and side; printed only where it does lie there."""


def study(records: Sequence[Record]) -> Study:
    """A claim per approach, cost and axis."""
    found = curves(records, label, AXES)
    claims = [
        _claim(approach, cost, axis, next((c for c in found if (c.label, c.axis) == (approach.label, axis)), None))
        for approach in APPROACHES
        for cost in (GRADIENT_TIME, PEAK_MEMORY)
        for axis in approach.axes
    ]
    return Study(
        title="The review's Table 4.1: what a gradient costs",
        question=(
            "How do time and memory of the minimizer approach, of reverse and of forward unrolling grow with the N "
            "unknowns, the R parameters and the T iterations? Denoising of pictures with learned 3 x 3 filters; "
            "nothing but one size changes along a curve. The time is that of the gradient once x* is there, as the "
            f"table counts it. {RULE} O() is a bound: an interval that lies below it confirms it."
        ),
        claims=tuple(claims),
        tables=(growth_table("Exponents of time and memory", found, (GRADIENT_TIME, PEAK_MEMORY)),),
        figures=(
            _figure(found, GRADIENT_TIME, "time_of_the_gradient", "Time of the gradient against N, R and T."),
            _figure(found, PEAK_MEMORY, "peak_memory", "Peak memory of one call against N, R and T."),
        ),
    )


def label(record: Record) -> str:
    """The variant without the unrolled solver and without T, which is an axis."""
    own = {name: value for name, value in record.method_parameters.items() if name not in ("solver", "steps")}
    return variant_name(record.method, own)


def _figure(found: Sequence[Curve], cost: Cost, stem: str, title: str) -> StudyFigure:
    return StudyFigure(
        f"review_table_4_1_{stem}",
        title,
        growth_figure.READING,
        lambda look: growth_figure.draw(found, cost, AXES, look),
    )


def _claim(approach: Approach, cost: Cost, axis: Axis, curve: Curve | None) -> Claim:
    kind = "time" if cost is GRADIENT_TIME else "memory"
    order, words = _time(approach) if kind == "time" else _memory(approach)
    printed = order.exponent(axis.letter)
    found = judge(curve, cost, printed)
    published = f"{approach.label}, {kind} against {axis.letter}: {words}; p = {printed}"
    cause = CAUSES.get((approach.label, kind, axis.letter, found.position)) if found.position else None
    why = f"{found.why}: {cause}" if cause else found.why
    return Claim(SOURCE_OF_TIMES if kind == "time" else SOURCE, published, found.ours, _verdict(found.position), why)


def _verdict(position: Position | None) -> Verdict:
    if position is None:
        return Verdict.NOT_MEASURED
    return Verdict.NOT_REPRODUCED if position is Position.ABOVE else Verdict.REPRODUCED


def _time(approach: Approach) -> tuple[Order, str]:
    """Products times what one costs, and the other multiplications."""
    counts = {quantity: order for (row, quantity), order in _table().items() if row == approach.row}
    costs = _costs()
    product, inverse = costs[PRODUCT], costs[approach.inverse] if approach.inverse else "0"
    inverse_order = Order.parse(inverse)
    if approach.inverse and "iterations" in approach.inverse[1]:  # each of them a product
        inverse_order, inverse = inverse_order * Order.parse(product), f"{inverse} products of {product}"
    terms = (
        (counts["Hessian-vector products"], "Hessian-vector products", Order.parse(product), product),
        (counts["Hessian-inverse-vector products"], "Hessian-inverse-vector product", inverse_order, inverse),
        (counts["other multiplications"], "other multiplications", Order.parse("1"), ""),
    )
    total, words = Order(()), []
    for count, what, each, said in terms:
        total += Order.parse(count) * each
        if count != "0":
            words.append(f"{count} {what}{f' ({said})' if said else ''}")
    return total, ", ".join(words)


def _memory(approach: Approach) -> tuple[Order, str]:
    printed = _table()[(approach.row, "memory")]
    if printed != "0":
        return Order.parse(printed), printed
    return Order.parse(UNCOUNTED), f"{printed} beyond one copy of x, A, gamma, H and J, which is {UNCOUNTED} at most"


def _table() -> dict[tuple[str, str], str]:
    rows = published_rows("review_table4_1_complexity.csv")
    return {(row["approach"], row["quantity"]): row["order"] for row in rows}


def _costs() -> dict[tuple[str, str], str]:
    rows = published_rows("review_text_complexity.csv")
    return {(row["method"], row["quantity"]): row["order"] for row in rows}
