"""Instances of every family, made in every way, and their hashes, which `python -m tests.every_instance` prints."""

from __future__ import annotations

import json
from typing import Any

from problems import hard
from problems.contract import Problem, input_sha256
from problems.registry import keys, load

DEFAULTS: dict[str, tuple[str, dict[str, Any]]] = {family: (family, {}) for family in keys("problems")}

ANALYSIS = [
    *({"signal": signal, "n": 36, "transform": "dct"} for signal in ("piecewise_constant", "dct_sparse", "gaussian")),
    *({"n": 24, "transform": transform} for transform in ("finite_difference", "dct", "gaussian")),
    *(
        {"signal": "patches", "n": 36, "transform": transform}
        for transform in ("identity", "finite_difference", "dct", "gaussian")
    ),
    *({"n": 45, "forward": forward} for forward in ("mask", "blur", "fourier", "gaussian")),
    {"n": 20, "k": 50, "transform": "dct", "scale": 0.3, "fidelity": "full"},
    {"n": 40, "jumps": 5, "jumps_between_samples": True, "lowest": 0.0, "ripple": 0.0},
    {"signal": "patches", "n": 64, "picture": "camera", "stride": 7},
    {"signal": "patches", "n": 64, "picture": "stripes_diagonal", "stride": 7},
]
CONVOLUTION = [
    *({"shape": 48, "signal": signal} for signal in ("piecewise_constant", "dct_sparse", "gaussian")),
    *(
        {"shape": (12, 15), "forward": forward}
        for forward in ("mask", "blur", "fourier_random", "fourier_radial", "dense")
    ),
    *({"shape": 48, "forward": forward} for forward in ("mask", "blur", "fourier_random", "fourier_radial", "dense")),
    {"shape": (32, 32), "forward": "fourier_radial", "spokes": 7},
    {"shape": (16, 16), "forward": "blur", "blur_deviation": 1.7},
    {"filters": "random", "filter_size": 5, "count": 7, "weights": "outside", "penalty": "log_sum"},
    {"filter_size": 5, "penalty": "l1"},
    {"penalty": "student_t", "log_weight": -2.3},
    {"penalty": "quadratic"},
]
SYNTHESIS = [
    *({"m": 24, "p": 12, "noise": 0.1, "forward": f} for f in ("identity", "mask", "blur", "fourier", "gaussian")),
    *({"loss": loss} for loss in ("lasso", "least_squares")),
    {"m": 20, "p": 40, "tau": 0.3},
]
GAMES = [
    *(
        {"graph": graph, "n": 16, "reach": 2, "weights": weights, "symmetric": symmetric, "iterations": 3}
        for graph in ("ring", "grid")
        for weights in ("offset", "pair", "bilateral", "non_local")
        for symmetric in (False, True)
    ),
    *(
        {"graph": "grid", "n": 16, "reach": 1.5, "weights": weights, "penalty": "l1", "seed": seed}
        for weights in ("offset", "pair")
        for seed in range(4)
    ),
    {"penalty": "quadratic"},
    {"learn_alpha": True, "spread": 1.0},
    {"graph": "grid", "n": 25, "picture": "patches"},
    {"n": 11, "instance": "continuum"},
]
PATCHES = [
    {"variance": 0.0, "untied": True},
    {"normalise": "always", "untied": True},
    {"normalise": "never"},
    {"group": 0.02},
    {"group": 0.02, "symmetric": True, "normalise": "always"},
    {"group": 0.02, "refreshes": 2},
    {"group": 0.05, "refreshes": 1, "symmetric": True, "normalise": "always"},
    {"group": 0.05, "refreshes": 1, "untied": True, "variance": 0.0, "normalise": "always"},
    {"group": 0.02, "iterations": 4},
    {"iterations": 3, "refreshes": 0, "atoms": 12},
    {"atoms": 12, "spread": 0.3},
    {"penalty": "l1"},
]
CHOSEN = {
    "analysis_l1": ANALYSIS + [{"n": 1 if name == "one_sample" else 16, "instance": name} for name in hard.INSTANCES],
    "conv_filters": CONVOLUTION,
    "synthesis_lasso": SYNTHESIS,
    "tv_game": GAMES,
    "patch_game": PATCHES,
}
EVERY: dict[str, tuple[str, dict[str, Any]]] = DEFAULTS | {
    f"{family} {settings}": (family, settings) for family, several in CHOSEN.items() for settings in several
}


def build(name: str, **changed: Any) -> Problem:
    """The instance of that name; with `changed` settings, another."""
    family, settings = EVERY[name]
    problem = load("problems", family, Problem)
    return problem.build(problem.settings_type(**(settings | changed)))


def digest(problem: Problem) -> str:
    """What must be the same everywhere: every number, and what the methods are told of the structure."""
    return f"{input_sha256(problem)} {sorted(str(flag.name) for flag in problem.structure)}"


def digests() -> dict[str, str]:
    """Of every default as it is, and of the others with three pairs, where they can have them."""
    pairs = {
        name: {} if name in DEFAULTS or "instance" in given else {"pairs": 3} for name, (_, given) in EVERY.items()
    }
    return {name: digest(build(name, **changed)) for name, changed in pairs.items()}


if __name__ == "__main__":
    print(json.dumps(digests(), indent=0))
