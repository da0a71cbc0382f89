"""No certificate outside its bar, no kink missed and none invented, on small instances that scale badly or sit on one.

The truth is `exact_truth`, in 450 digits; it shares nothing with the reference or the methods.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache

import mpmath
import numpy as np
import pytest
from exact_truth import DIGITS, NotKnown, Truth, truth
from small_instances import instance

from bench.reference import Reference, reference_for
from methods.active_set_adjoint import ActiveSetAdjoint
from methods.blorc import Blorc
from methods.dual_boundary import DualBoundary
from methods.sign_splitting import SignSplitting
from methods.torch_closed_form import TorchClosedForm
from problems.contract import Problem
from problems.tv_game import Settings as GameSettings
from problems.tv_game import TvGame

FEW = [seed for seed in range(223) if seed % 7 < 6 or seed % 28 == 6]
"""Two hundred; of the patch games, whose theta is the longest, every fourth."""
MANY = range(223, 2223)


def off(exact: np.ndarray, values: np.ndarray) -> np.ndarray:
    """|values - exact|, subtracted in many digits."""
    with mpmath.workdps(DIGITS):
        return np.array([float(abs(e - mpmath.mpf(float(v)))) for e, v in zip(exact, values, strict=True)])


def faults(reference: Reference, true: Truth) -> list[str]:
    """What the reference says that is not so, entry by entry; an entry of which it says nothing is no fault."""
    ahead, behind = off(true.ahead, reference.ahead), off(true.behind, reference.behind)
    # The values are rounded to double precision themselves, and the truth is no better than 1e-300.
    bars = 1e-300 + reference.bars + 2.0**-53 * np.maximum(np.abs(reference.ahead), np.abs(reference.behind))
    outside = np.maximum(ahead, behind) > bars
    found = [
        f"entry {entry}: off by {max(ahead[entry], behind[entry]):.1e}, bar {bars[entry]:.1e}"
        for entry in np.flatnonzero((reference.usable | reference.kink) & outside)
    ]
    found += [f"entry {entry}: a kink that is none" for entry in np.flatnonzero(reference.kink & ~true.kink)]
    missed = reference.usable & true.kink & ~outside & (np.abs(true.ahead - true.behind).astype(float) > 2.0 * bars)
    return found + [f"entry {entry}: a kink that was missed" for entry in np.flatnonzero(missed)]


def judged(seeds: Iterable[int], largest: int) -> Counter:
    """How many instances of which kind; every fault is an error."""
    counts, wrong = Counter[str](), []
    for seed in seeds:
        kind, problem = instance(seed, largest)
        reference = reference_for(problem, "coordinates", 0, None)
        try:
            true = truth(problem)
        except NotKnown:
            counts["no truth"] += 1
            continue
        counts["kink"] += bool(true.kink.any())
        counts["dependent"] += true.point.defect > 0
        counts["spread"] += "1e12" in kind or "e^12" in kind
        if not reference.values.size:
            counts["no reference"] += 1
            continue
        counts["certified"] += 1
        wrong += [f"instance {seed} ({kind}): {fault}" for fault in faults(reference, true)[:3]]
    assert not wrong, "\n".join(wrong[:20])
    return counts


def test_the_reference_is_right_or_silent_on_two_hundred_instances():
    counts = judged(FEW, largest=2)
    assert counts["certified"] >= 170  # most of the rest are games that may have several equilibria
    assert min(counts["kink"], counts["dependent"], counts["spread"]) >= 15
    assert counts["no truth"] <= 10


@pytest.mark.parametrize(
    "seed",
    [
        379,  # theta + h d was rounded, to the same side at every step, so that the plateau was level and wrong
        877,  # and x* was subtracted from x*
        475,  # the terms of the loss's gradient in theta cancel
        1289,  # two slopes that are told apart by nothing: the middle is half a gap from either, and a bar
        1240,  # |u_i| = 1 is known to 3e-3 only
        1080,  # a row that touches one side goes to the other, beside its duplicate
        1456,  # a force of 7e-12 is lost beside those of 1e10, and takes x* off the tie
    ],
)
def test_an_instance_that_was_certified_wrongly(seed):
    judged(range(seed, seed + 1), largest=6)


@pytest.mark.parametrize("seed", [2, 3])
def test_rows_of_very_different_size_have_a_tight_bar(seed):
    """Weights of a game from 5e-17 to 4e7: steps as short as these weights, of which x* less x* knows nothing."""
    problem = TvGame.build(
        GameSettings(n=5, penalty="l1", symmetric=True, weights="pair", spread=12.0, scale=1e-3, pairs=1, seed=seed)
    )
    reference, true = reference_for(problem, "coordinates", 0, None), truth(problem)
    assert not faults(reference, true)
    assert reference.usable.all()
    assert reference.bars.max() <= 1e-14


@pytest.mark.slow
def test_the_reference_is_right_or_silent_on_two_thousand_instances():
    counts = judged(MANY, largest=6)
    assert counts["certified"] >= 1600


@cache
def with_derivative(seed: int) -> tuple[str, Problem, np.ndarray | None]:
    """An instance, which all methods are tried on, and its gradient; None where there is none, or none is known."""
    kind, problem = instance(seed, largest=3)
    try:
        true = truth(problem, np.empty(0, int))
        return kind, problem, truth(problem).ahead.astype(float) if true.point.smooth else None
    except NotKnown:
        return kind, problem, None


EXACT = (ActiveSetAdjoint(), Blorc(), TorchClosedForm(), DualBoundary(), SignSplitting())


@pytest.mark.parametrize("seeds", [range(70), pytest.param(range(70, 300), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("method", EXACT, ids=lambda method: type(method).__name__)
def test_an_exact_method_that_has_converged_is_right(method, seeds):
    """Where there is a derivative; what it refuses, or says that it has not solved, is no error."""
    right = 0
    for seed in seeds:
        kind, problem, exact = with_derivative(seed)
        if exact is None or method.refusal(problem) is not None:
            continue
        prepared, theta = method.prepare(problem), problem.theta0()
        solution = method.solve(prepared, theta)
        if not solution.converged:
            continue
        found = method.hypergradient(prepared, theta, solution)
        gradient = np.concatenate([part.numpy().ravel() for part in found.values()])
        # The condition of K0's unit rows is below 1e4 here.
        assert np.linalg.norm(gradient - exact) <= 1e-9 * np.linalg.norm(exact) + 1e-13, f"instance {seed} ({kind})"
        right += 1
    assert right >= 5
