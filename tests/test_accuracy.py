"""How a gradient is scored where the loss has kinks, and how exact the exact methods are."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import compare
from bench.extended_precision import gradient_in_extended_precision
from bench.record import Record, correctness
from bench.reference import Reference, failed
from methods.active_set_adjoint import ActiveSetAdjoint
from methods.blorc import Blorc
from methods.torch_closed_form import TorchClosedForm
from problems.analysis_l1 import AnalysisL1, Settings


def reference(ahead, behind, directions=None):
    """A kink wherever the two slopes differ."""
    ahead, behind = np.array(ahead), np.array(behind)
    kink = ahead != behind
    return Reference(
        kind="coordinates" if directions is None else f"directions({len(ahead)})",
        directions=directions,
        values=(ahead + behind) / 2,
        bars=np.full(len(ahead), 1e-12),
        usable=~kink,
        kink=kink,
        ahead=ahead,
        behind=behind,
        margin_primal=0.5,
        margin_dual=0.0,
        cosupport_rank_defect=0,
        verdict="kink" if kink.any() else "smooth",
        message="",
    )


@pytest.mark.parametrize(("value", "outside"), [(0.0, 0.0), (-0.25, 0.0), (-1.0, 0.0), (0.5, 0.5), (-1.01, 0.01)])
def test_a_kink_is_scored_against_its_interval(value, outside):
    """PEERS.md: slopes 0 and -1, and libraries that return anything from -1.01 to 0."""
    found = compare(np.array([[value, 3.0]]), 1, [reference([0.0, 3.0], [-1.0, 3.0])])
    assert found.kink_count == 1
    assert found.error_outside_interval == pytest.approx(outside, abs=1e-15)
    assert found.error_relative == 0.0  # the other entry has a derivative, and is right
    assert found.reference_norm == 3.0
    assert found.all_kinks


def test_the_distance_is_relative_to_the_steepest_slope():
    found = compare(np.array([[5.0, 0.0]]), 1, [reference([4.0, 1.0], [2.0, -1.0])])
    assert found.error_outside_interval == pytest.approx(1.0 / 4.0, rel=1e-15)
    assert (found.error_relative, found.reference_norm, found.kink_count) == (None, None, 2)


def test_slopes_of_a_batch_add_side_by_side():
    """|w| and -|w| sum to a smooth function: its slopes add to 0 ahead and to 0 behind, not to [-2, 2]."""
    pairs = [reference([1.0], [-1.0]), reference([-1.0], [1.0])]
    assert compare(np.array([[0.5]]), 2, pairs).error_outside_interval is None
    tilted = [reference([1.0], [-1.0]), reference([2.0], [2.0])]
    assert compare(np.array([[3.5]]), 2, tilted).error_outside_interval == pytest.approx(0.5 / 3.0, rel=1e-15)
    assert compare(np.array([[1.0]]), 2, tilted).error_outside_interval == 0.0


def test_directions_are_scored_too():
    directions = np.array([[1.0, 1.0], [1.0, -1.0]])
    found = compare(np.array([[2.0, 1.0]]), 1, [reference([1.0, 1.0], [0.0, 1.0], directions)])
    assert found.error_outside_interval == pytest.approx(2.0, rel=1e-15)  # 2 + 1 against [0, 1]
    assert found.error_relative == 0.0  # 2 - 1 = 1


def test_kinks_and_smooth_pairs_in_one_cell():
    pairs = [reference([1.0, 2.0], [1.0, 2.0]), reference([0.0, 3.0], [-1.0, 3.0]), failed("coordinates", "no plateau")]
    found = compare(np.array([[1.0, 2.0], [9.0, 3.0], [7.0, 7.0]]), 1, pairs)
    assert (found.error_relative, found.kink_count, found.error_outside_interval) == (0.0, 1, 9.0)
    assert (found.flags, found.all_kinks, found.note) == (("kinks=1", "references_failed=1"), False, "no plateau")
    assert found.reference_kind == "coordinates x 2"


EXACT = [ActiveSetAdjoint(), Blorc(), TorchClosedForm()]


@pytest.mark.parametrize(
    "settings",
    [
        {"transform": "dct", "scale": 0.1, "signal": "patches"},
        {"transform": "finite_difference", "scale": 0.1},
        {"transform": "identity", "scale": 0.3},
        {"transform": "gaussian", "k": 48, "scale": 0.4},
        {"transform": "gaussian", "k": 128, "scale": 0.1, "signal": "gaussian"},
    ],
    ids=lambda settings: settings["transform"] + str(settings.get("k", "")),
)
def test_exact_methods_against_fifty_digits(settings):
    """The figure of the exact solver: a relative error of 1e-13 at n = 64 on generic instances."""
    problem = AnalysisL1.build(Settings(n=64, seed=1, **settings))
    truth = gradient_in_extended_precision(problem).values
    for method in EXACT:
        prepared = method.prepare(problem)
        theta = problem.theta0()
        gradient = method.hypergradient(prepared, theta, method.solve(prepared, theta))["W"].numpy().ravel()
        assert np.linalg.norm(gradient - truth) <= 1e-13 * np.linalg.norm(truth), type(method).__name__


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({}, "unknown"),
        ({"error_relative": 1e-15, "reference_error_relative": 1e-14}, "right"),
        ({"error_relative": 0.5, "reference_error_relative": 0.6}, "unknown"),  # such a reference cannot tell
        ({"error_relative": 1e-6}, "right"),
        ({"error_relative": 1.1e-6}, "inexact"),
        ({"error_relative": 1e-3, "dtype": "float32"}, "right"),
        ({"error_relative": 1e-2}, "inexact"),
        ({"error_relative": 1.1e-2}, "wrong"),
        ({"error_relative": 0.0, "error_outside_interval": 0.5}, "wrong"),
        ({"error_outside_interval": 0.0}, "right"),
        ({"reference_norm": 0.0, "error_max_abs": 3.0}, "wrong"),
        ({"reference_norm": 0.0, "error_max_abs": 1e-14, "reference_error_max_abs": 1e-13}, "right"),
        ({"reference_norm": 1e-14, "reference_error_relative": 30.0, "error_relative": 2.0}, "unknown"),
        ({"flags": ["error_overflow"]}, "wrong"),
    ],
)
def test_the_word_of_accuracy(numbers, word):
    assert correctness({"dtype": "float64"} | numbers) == word


def test_a_record_without_the_word_is_read_with_the_word_of_its_error():
    """As those of runs of before are."""
    (newest, *_) = Path("results/reference_runs/table4-cpu/journal.jsonl").read_text().splitlines()
    fields = json.loads(newest)
    del fields["accuracy"]
    record = Record.from_line(json.dumps(fields))
    assert record.accuracy == correctness(record.model_dump())
    assert Record.from_line(record.to_line()) == record


def test_the_mean_of_a_batch_is_told_by_its_factor():
    """G = R / 100: c = <G, R> / <G, G> = 100."""
    R = np.array([3.0, -4.0])
    found = compare(R[None] / 100.0, 1, [reference(R, R)])
    assert found.best_scalar == pytest.approx(100.0, rel=1e-15)
    assert found.error_relative == pytest.approx(0.99, rel=1e-15)
