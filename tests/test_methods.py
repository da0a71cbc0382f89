"""Every method on every problem that it accepts. A new file in methods/ or problems/ is tested without an edit here."""

import numpy as np
import pytest
import torch

from bench.reference import reference_for
from methods.contract import Method
from problems.contract import Problem, Structure, theta_size
from problems.registry import keys, load

METHODS = {key: load("methods", key, Method) for key in keys("methods")}
FAMILIES = {key: load("problems", key, Problem) for key in keys("problems")}

# Smooth instances of every kind that a family has; small, so that slow methods take part. A family that is not named
# here is tested with its defaults.
INSTANCES = {
    "analysis_l1": {
        "dct": {"n": 16, "transform": "dct", "scale": 0.2, "pairs": 3, "seed": 1},
        "wide": {"n": 16, "k": 10, "transform": "gaussian", "scale": 0.4, "pairs": 3, "seed": 2},
        "tall": {"n": 16, "k": 24, "transform": "gaussian", "scale": 0.2, "pairs": 3, "seed": 3, "signal": "gaussian"},
        "differences": {"n": 16, "transform": "finite_difference", "scale": 0.1, "pairs": 3, "seed": 4},
        "identity": {"n": 16, "scale": 0.2, "pairs": 3, "seed": 5, "signal": "dct_sparse"},
        "patches": {"n": 16, "signal": "patches", "transform": "dct", "scale": 0.1, "pairs": 3, "seed": 6},
        "blur": {"n": 8, "transform": "dct", "scale": 0.1, "pairs": 3, "seed": 7, "forward": "blur"},
        "full": {"n": 8, "transform": "dct", "scale": 0.3, "pairs": 3, "seed": 8, "fidelity": "full"},
        "mask": {"n": 16, "transform": "dct", "scale": 0.1, "pairs": 3, "seed": 9, "forward": "mask"},
    },
    "conv_filters": {
        "picture": {"shape": (4, 4), "filter_size": 2},
        "l1": {"shape": 12, "penalty": "l1"},
        "dense": {"shape": 12, "forward": "dense", "weights": "outside", "epsilon": 0.1},
        "quadratic": {"shape": 12, "penalty": "quadratic", "log_weight": -1.0},
    },
    "patch_game": {
        "default": {"side": 4, "atoms": 3},
        "l1": {"side": 4, "atoms": 3, "penalty": "l1"},
        "untied": {"side": 4, "atoms": 3, "untied": True, "normalise": "always"},
        "group": {"side": 4, "atoms": 3, "group": 0.02, "symmetric": True},
    },
    "synthesis_lasso": {
        "supervised": {"m": 8, "p": 5, "nonzeros": 2},
        "lasso": {"m": 8, "p": 4, "nonzeros": 2, "loss": "lasso"},
        "least_squares": {"m": 8, "p": 5, "nonzeros": 2, "loss": "least_squares", "forward": "blur"},
        "overcomplete": {"m": 6, "p": 8, "nonzeros": 2},
    },
    "tv_game": {
        "default": {},
        "l1": {"penalty": "l1"},
        "symmetric": {"penalty": "l1", "symmetric": True},
        "grid": {"graph": "grid", "weights": "pair"},
    },
}
COORDINATES = 40
"""Of theta up to which all of them are compared; of more, the slopes along a few directions."""
DIRECTIONS = 3

# Where a method's defaults trade accuracy for speed, the settings at which it owes the exact gradient.
AT = {
    "cvxpy_layer": {"mode": "dense", "tolerance": 1e-12},  # the defaults' 1e-4 gave errors up to 0.56 here
    "diffcp_direct": {"mode": "dense", "tolerance": 1e-12},
    "qp_layer": dict.fromkeys(("eps", "eps_backward", "rho_backward", "mu_backward"), 1e-12),
    "pudle_ae_ls": {"steps": 2000},  # its error is O(T rho^T), 1e-4 at the default of 200
    "unrolled_forward": {"steps": 800},
    "unrolled_reverse": {"steps": 800},
    "smoothed_implicit": {"epsilon": 1e-10},  # the bias is epsilon over the smallest margin, here 1e-3
}
# Steps to unroll, in place of those 800, after which less than 1e-10 is left: of a family, and of what is slower there.
STEPS = {"analysis_l1": 200, "conv_filters": 200, "patch_game": 100, "synthesis_lasso": 300, "tv_game": 300}
SLOWER = {
    ("conv_filters", "dense"): 600,  # M is not K^T, and extragradient is what is unrolled: 300 left 1e-6
    ("patch_game", "untied"): 300,  # 150 left 2e-7
    ("tv_game", "grid"): 800,  # 400 left 6e-8
}
# On a family: there a step costs 50 times more, as F is not linear, and 100 of the default's 500 leave 1e-15.
AT_FAMILY = {("approximate_implicit", "patch_game"): {"steps": 100}}
EXACT = 1e-8
TOLERANCE = {
    "smoothed_implicit": 1e-6,  # that bias
    "finite_differences": 1e-6,  # rounding of L over a step of 1e-6, and curvature
    "qpth": 1e-5,  # the library cuts multipliers and slacks off at 1e-8
}
# PUDLE's gradients that leave something out on purpose (Theorem 3.3; their docstrings), and where it shows.
BIASED = {
    *(("pudle_dec", "synthesis_lasso", name) for name in ("supervised", "least_squares", "overcomplete")),
    ("pudle_ae_ls", "synthesis_lasso", "lasso"),
}
# Where a library gives less than it does elsewhere: filters have more rows than K has rank, and its dual is singular.
LESS = {("dqp", "conv_filters", "l1"): 1e-4}


def configured(key, family, name):
    at = AT_FAMILY.get((key, family), AT.get(key, {}))
    if key.startswith("unrolled"):
        at = {"steps": SLOWER.get((family, name), STEPS.get(family, at["steps"]))}
    return METHODS[key](**at)


def built(family, name):
    """Two pairs, which are enough to tell a method that takes the first alone; three of analysis_l1 by itself."""
    of = FAMILIES[family]
    problem = of.build(of.settings_type(**INSTANCES.get(family, {}).get(name, {})))
    return problem if family == "analysis_l1" else problem.subset(slice(0, 2))


def pairs_of(problem):
    return [problem.subset(slice(i, i + 1)) for i in range(problem.batch)]


def first_accepted(method):
    """The first instance of all that the method runs on, after its family and its name."""
    problems = (
        (family, name, built(family, name)) for family in FAMILIES for name in INSTANCES.get(family, ["default"])
    )
    return next(found for found in problems if method.refusal(found[2]) is None)


@pytest.fixture(scope="module")
def truth():
    cache = {}

    def of(family, name):
        if (family, name) not in cache:
            problem = built(family, name)
            kind = (
                "coordinates"
                if Structure.TRANSFORM in problem.structure or theta_size(problem) <= COORDINATES
                else DIRECTIONS
            )
            references = [reference_for(pair, kind, 0, None) for pair in pairs_of(problem)]
            assert all(reference.verdict == "smooth" for reference in references), [r.message for r in references]
            # What is compared to 1e-8 is known to a tenth of that.
            assert all(np.linalg.norm(r.bars) <= 0.1 * EXACT * np.linalg.norm(r.values) for r in references)
            cache[family, name] = references
        return cache[family, name]

    return of


def gradient_of(method, problem):
    if (refusal := method.refusal(problem)) is not None:
        pytest.skip(refusal)
    prepared, theta = method.prepare(problem), problem.theta0()
    return method.hypergradient(prepared, theta, method.solve(prepared, theta))


def flat(gradient):
    return torch.cat([value.reshape(-1) for value in gradient.values()]).numpy()


def error_of(gradient, references):
    """Of a batch's gradient, whose references add up."""
    directions = references[0].directions
    found = flat(gradient) if directions is None else directions @ flat(gradient)
    expected = sum(reference.values for reference in references)
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def compatible():
    for family in FAMILIES:
        for name in INSTANCES.get(family, ["default"]):
            problem = built(family, name)
            for key in METHODS:
                yield pytest.param(
                    key, family, name, configured(key, family, name).refusal(problem), id=f"{key}-{family}-{name}"
                )


@pytest.mark.parametrize(("key", "family", "name", "refusal"), list(compatible()))
def test_hypergradient_against_the_reference(key, family, name, refusal, truth):
    method, problem = configured(key, family, name), built(family, name)
    if refusal is not None:
        assert ":" in refusal, f"a refusal names the requirement and the remedy, not '{refusal}'"
        pytest.skip(refusal)
    references = truth(family, name)
    for part, judges in (
        [(problem, references)] if method.batched else zip(pairs_of(problem), ([r] for r in references), strict=True)
    ):
        gradient = gradient_of(method, part)
        for entry, value in problem.theta0().items():
            assert (gradient[entry].dtype, gradient[entry].shape) == (torch.float64, value.shape)
        error = error_of(gradient, judges)
        if (key, family, name) in BIASED:
            assert 1e-2 <= error <= 10  # PUDLE's figure 3 has relative errors of this order
        else:
            assert error <= LESS.get((key, family, name), TOLERANCE.get(key, EXACT))


@pytest.mark.parametrize("key", [key for key, method in METHODS.items() if method.batched])
def test_batch_is_the_sum_of_singles(key):
    """A batch mean where a sum is due would show as a factor of three (PEERS.md, qpth)."""
    family, name, problem = first_accepted(METHODS[key]())
    method = configured(key, family, name)
    whole = flat(gradient_of(method, problem))
    singles = sum(flat(gradient_of(method, pair)) for pair in pairs_of(problem))
    # Iterative methods stop where the worst sample has converged, so the rest are solved a little further in a batch.
    assert np.linalg.norm(whole - singles) <= TOLERANCE.get(key, EXACT) * np.linalg.norm(singles)


@pytest.mark.parametrize("key", METHODS)
def test_hypergradient_is_repeatable_and_leaves_its_inputs_alone(key):
    method = METHODS[key]()
    problem = first_accepted(method)[2].subset(slice(0, 1))
    theta = problem.theta0()
    prepared = method.prepare(problem)
    before = {**problem.tensors(), **theta}
    copies = {name: tensor.clone() for name, tensor in before.items()}
    solution = method.solve(prepared, theta)
    first, second = (method.hypergradient(prepared, theta, solution) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in theta)
    assert all(torch.equal(tensor, copies[name]) for name, tensor in before.items())
    assert not any(value.requires_grad for value in first.values())


@pytest.mark.parametrize("key", METHODS)
def test_what_lacks_a_requirement_is_refused(key):
    """A masked problem has no unique solution; every shipped method says so instead of returning a number."""
    problem = built("analysis_l1", "mask")
    refusal = METHODS[key]().refusal(problem)
    assert refusal is not None
    assert Structure.UNIQUE not in problem.structure


@pytest.mark.parametrize("key", METHODS)
def test_float32(key, truth):
    """Single precision is accepted and stays single, or is refused with a reason; its error is that of its epsilon."""
    double, method = built("analysis_l1", "dct").subset(slice(0, 1)), METHODS[key]()
    if (refusal := method.refusal(double)) is not None:
        pytest.skip(refusal)
    problem = double.to("cpu", torch.float32)
    if (refusal := method.refusal(problem)) is not None:
        assert "float" in refusal
        return
    gradient = gradient_of(method, problem)["W"]
    assert gradient.dtype == torch.float32
    error = error_of({"W": gradient}, truth("analysis_l1", "dct")[:1])
    # Differences divide the rounding of L, 6e-8, by the step of 1e-6: single precision has nothing left there.
    assert error <= (1e-3 if key != "finite_differences" else np.inf)
