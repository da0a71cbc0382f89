"""BLORC's Table 4 as printed, what the paper leaves open about it, and what our reference says of its 3e-9.

Short names as in readings.md: J is the journal paper, I the ICASSP paper, whose table has the same twelve numbers.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from bench.record import Record, Status
from reports.instances import Group
from reports.rounding import as_printed, error, plain, scientific, upper_bound

FOLDER = Path(__file__).parents[1] / "results" / "published"

COUNTERPART = {
    "BLORC": "blorc",
    "PyTorch on the closed form": "torch_closed_form",
    "CVXPY (diffcp)": "cvxpy_layer",
}
"""The paper's name of each method, and the key of ours."""

CLEARLY = 10.0
"""Errors differ clearly where they differ by this factor: they are of different signals."""


@dataclass(frozen=True)
class PublishedRow:
    """One row of the paper's Table 4; `error` is of a norm that the paper does not name."""

    method: str
    n: int
    time_milliseconds: float
    error: float
    pairs: int


def published_rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of `results/published/`, by the names of its columns."""
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))


def table_4() -> list[PublishedRow]:
    """BLORC's Table 4."""
    return [
        PublishedRow(
            row["method"], int(row["n"]), float(row["time_ms"]), float(row["error"]), int(row["n_training_pairs"])
        )
        for row in published_rows("blorc_table4_gradients.csv")
    ]


def is_papers_instance(group: Group) -> bool:
    """Whether this is Table 4's problem, denoising with the gradient at W = I, under one reading of the half.

    `||x - y||^2 + ||x||_1` is also `1/2 ||x - y||^2 + ||W x||_1` at W = I/2 (readings.md X.1), so that one counts.
    Signals, noise and number of pairs are free: the paper does not say which signals they are (U.2).
    """
    own = group.parameters
    weights = (1.0, 0.5) if own.get("fidelity", "half") == "half" else (1.0,)
    return (
        group.problem == "analysis_l1"
        and own.get("instance") is None
        and own.get("transform") == "identity"
        and own.get("forward", "identity") == "identity"
        and own.get("scale", 1.0) in weights
    )


def reading_of_the_half(group: Group) -> str:
    """Which of the paper's two lower levels an instance of Table 4 is."""
    if group.parameters.get("fidelity", "half") == "full":
        return "lower level without the half, as in J (1.6b) and Algorithm 4.1"
    if group.parameters.get("scale", 1.0) == 1.0:
        return "lower level with the half, as in J (3.1) and Theorem 3.1"
    return "lower level without the half, J (1.6b), written with the half and W = I/2"


def counterpart(method: str, candidates: list[Record]) -> Record | None:
    """Our record for a row of the paper; of several variants, a finished one nearest to the library's defaults."""
    own = [record for record in candidates if record.method == COUNTERPART[method]]
    return min(own, key=lambda record: (record.status != Status.OK, *_distance_from_defaults(record)), default=None)


def _distance_from_defaults(record: Record) -> tuple[bool, bool, bool, bool, float, int]:
    """CPU and double precision first; then cvxpylayers' own choices: SCS, lsqr, an unset tolerance or the loosest."""
    parameters = record.method_parameters
    tolerance = parameters.get("tolerance")
    return (
        record.device != "cpu",
        record.dtype != "float64",
        parameters.get("solver", "SCS") != "SCS",
        parameters.get("mode", "lsqr") != "lsqr",
        -float("inf") if tolerance is None else -float(tolerance),
        len(parameters),
    )


OPEN_QUESTIONS = {
    "U.1": "The paper does not name the norm of its “error” (maximum, Frobenius, mean, relative), nor the step of the "
    "finite differences it is measured against. We print the relative Frobenius error and the largest absolute error.",
    "U.2": "The paper does not say whether its time includes the ADMM solve, the sign search, the pseudo-inverse or "
    "the set-up of the CVXPY problem, on which hardware, and whether a call is one pair or a batch; nor whether n = 36 "
    "stands for 6 x 6 patches or for one-dimensional signals. We print the gradient "
    "alone and solve + gradient; setting up stands apart, as prepare, in the table of all cells.",
    "U.3": "The paper does not say whether CVXPY ran with diffcp's default tolerances; its errors of 1e-5 would fit.",
    "X.1": "The lower level is printed without a half in J (1.6b), J Algorithm 4.1 and I (2), and with it in J (3.1), "
    "J Theorem 3.1 and I (3). The closed form and its gradients hold only with the half; dropping it is the same as "
    "replacing W by W/2. Each table states its data term.",
    "X.17": "The memory row of the paper's Table 1 charges minimizer methods and unrolling O(N^3) for a stored "
    "Jacobian, which vector-Jacobian products do not need, and counts for BLORC only the gradient of W. We print the "
    "peak that was measured.",
    "X.18": "BLORC is called free of approximation, yet its x* comes from finitely many ADMM steps and a threshold. "
    "The KKT residual of the x* that each gradient was taken at stands in the tables.",
}
"""What readings.md notes about Table 4, by its item."""


def said_of_the_error(groups: list[Group]) -> list[str]:
    """What our reference says of the error that the paper prints for BLORC, one sentence per size and instance."""
    rows = [row for row in table_4() if COUNTERPART[row.method] == "blorc"]
    instances = [group for group in groups if is_papers_instance(group)]
    if not instances:
        printed = " and ".join(f"{as_printed(row.error)} (n = {row.n})" for row in rows)
        return [f"Not measured: this report holds no instance at W = I to hold against the paper's {printed}."]
    return [_sentence(group, row) for group in instances for row in rows]


def _sentence(group: Group, row: PublishedRow) -> str:
    where = f"n = {row.n}, {reading_of_the_half(group)} ({group.heading})"
    printed = f"the paper prints {as_printed(row.error)}"
    ours = counterpart(row.method, [record for record in group.records if record.n == row.n])
    if ours is None:
        return f"{where}: {printed}; not measured in this run."
    if ours.status != Status.OK:
        return f"{where}: {printed}; not measured, our blorc ended with {ours.status}."
    if has_zero_gradient(ours):
        return (
            f"{where}: {printed}; our reference cannot tell the gradients of this instance from zero, so there is no "
            f"relative error (our largest absolute error is {scientific(ours.error_max_abs)}) and the number cannot be "
            "judged here."
        )
    bar = ours.reference_error_relative
    if ours.error_relative is None or bar is None:
        return f"{where}: {printed}; our blorc has no reference in this run."
    measured = (
        f"our reference ({ours.reference_kind or 'kind not recorded'}), whose own relative error is "
        f"{upper_bound(bar)}, puts our blorc at a relative Frobenius error of {error(ours.error_relative, bar)}"
        f" and a largest absolute error of {error(ours.error_max_abs, ours.reference_error_max_abs)}"
    )
    readings = {
        "a relative error": (ours.error_relative, bar),
        "an absolute error": (ours.error_max_abs, ours.reference_error_max_abs),
    }
    clauses = [
        f"{'R' if first else 'r'}ead as {name}, {_clause(max(value, own), own, row.error)}"
        for first, (name, (value, own)) in zip((True, False), readings.items(), strict=True)
        if value is not None and own is not None
    ]
    return f"{where}: {printed}; {measured}. {'; '.join(clauses)}.{_conclusion(clauses)}"


def has_zero_gradient(record: Record) -> bool:
    """Whether the reference cannot tell the gradient from zero, so that a relative error means nothing."""
    return record.reference_norm == 0 or (record.reference_error_relative or 0.0) >= 1


SMALLER, LARGER = "our error is smaller", "our error is larger"


def _clause(ours: float, bar: float, printed: float) -> str:
    """How our error, at its bar where it is below it, compares with the printed number, were that of the same norm."""
    if bar * CLEARLY > printed:
        return "the printed number is too near our reference's own bar to be judged"
    if ours * CLEARLY <= printed:
        return f"{SMALLER} by a factor of {plain(printed / ours, 2)} or more"
    if ours <= printed * CLEARLY:
        return "the two are of one size"
    return f"{LARGER} by a factor of {plain(ours / printed, 2)}"


def _conclusion(clauses: list[str]) -> str:
    judged = "; ".join(clauses)
    if LARGER in judged:
        return " Where ours is larger, look at its solver."
    if SMALLER in judged:
        return (
            " Where ours is smaller, the printed number is likely the error of the paper's finite differences "
            "(readings.md U.1 derives 1e-9 to 1e-8 for central differences in double precision), not the formula's."
        )
    return ""
