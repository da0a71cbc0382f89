"""Small random l1 instances that scale badly or sit on a kink: rows of very different size, duplicates, zeros, ties.

Data of whole numbers and powers of two keep a tie exact in double precision, so that a kink is one, and not near one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from problems.analysis_l1 import AnalysisL1
from problems.analysis_l1 import Settings as AnalysisSettings
from problems.contract import Problem, Structure
from problems.patch_game import PatchGame
from problems.patch_game import Settings as PatchSettings
from problems.synthesis_lasso import Settings as SynthesisSettings
from problems.synthesis_lasso import SynthesisLasso
from problems.tv_game import Settings as GameSettings
from problems.tv_game import TvGame

FAMILIES = ("analysis", "analysis", "analysis_forward", "synthesis", "game", "game_asymmetric", "patches")


def instance(seed: int, largest: int = 4) -> tuple[str, Problem]:
    """(what it is, a single pair); n is at most `largest`, and k at most two more."""
    rng = np.random.default_rng([13, seed])
    family = FAMILIES[seed % len(FAMILIES)]
    make = {"analysis": _analysis, "analysis_forward": _analysis, "synthesis": _synthesis, "patches": _patches}
    kind, problem = make.get(family, _game)(family, rng, largest)
    return f"{family}, {kind}", problem


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, float))


def _structure(template: Problem, matrix: np.ndarray | None) -> Structure:
    """With one x* exactly where the matrix of the data term has full column rank."""
    if matrix is None:
        return template.structure
    structure = template.structure & ~(Structure.IDENTITY_FORWARD | Structure.UNIQUE)
    return structure | Structure.UNIQUE if np.linalg.matrix_rank(matrix) == matrix.shape[1] else structure


def _rows(k: int, n: int, rng: np.random.Generator) -> tuple[str, np.ndarray, bool]:
    """(what they are, W, whether all are whole numbers times powers of two)."""
    whole = bool(rng.random() < 0.5)
    W = rng.integers(-2, 3, (k, n)).astype(float) if whole else rng.normal(size=(k, n)) / n**0.5
    words = ["whole" if whole else "gaussian"]
    if k > 1 and rng.random() < 0.3:
        words.append("duplicates")
        W[rng.integers(1, k)] = W[0] * rng.choice([1.0, -1.0, 2.0, 0.5])
    if rng.random() < 0.2:
        words.append("zero row")
        W[rng.integers(k)] = 0.0
    if rng.random() < 0.7:
        most = rng.choice([3.0, 6.0, 12.0])
        words.append(f"spread 1e{most:.0f}")
        exponents = rng.uniform(-most, most, k)
        W *= 2.0 ** np.round(exponents / np.log10(2.0))[:, None]
    return " ".join(words), W, whole


def _analysis(family: str, rng: np.random.Generator, largest: int) -> tuple[str, Problem]:
    n = int(rng.integers(1, largest + 1))
    k = int(rng.integers(1, n + 3))
    kind, W, whole = _rows(k, n, rng)
    A = None
    if family == "analysis_forward":
        A = np.eye(n) + rng.integers(-1, 2, (n, n)) if whole else rng.normal(size=(n, n)) / n**0.5
        if rng.random() < 0.2:
            A[0] = 0.0
    fidelity = "full" if family == "analysis_forward" and rng.random() < 0.5 else "half"
    y = rng.integers(-3, 4, n).astype(float) if whole else rng.normal(size=n)
    if whole and A is None and rng.random() < 0.8:
        kind += ", tie"
        x_star = rng.integers(-1, 2, n).astype(float)
        z = W @ x_star
        y = x_star + W.T @ np.where(z == 0.0, rng.choice([-1.0, -0.5, 0.5, 1.0], k), np.sign(z))
    x_true = rng.normal(size=n)
    template = AnalysisL1.build(AnalysisSettings(n=n, k=k, fidelity=fidelity))
    held = None if A is None else _tensor(A)
    return kind, replace(
        template, W=_tensor(W), y=_tensor(y)[None], x_true=_tensor(x_true)[None], A=held,
        structure=_structure(template, A),
    )  # fmt: skip


def _synthesis(family: str, rng: np.random.Generator, largest: int) -> tuple[str, Problem]:
    del family
    p, m = int(rng.integers(1, largest + 1)), int(rng.integers(1, largest + 2))
    weight = float(2.0 ** rng.integers(-20, 6))
    whole = bool(rng.random() < 0.5)
    D = rng.integers(-2, 3, (m, p)).astype(float) if whole else rng.normal(size=(m, p)) / m**0.5
    words = ["whole" if whole else "gaussian", f"lambda {weight:.0e}"]
    if p > 1 and rng.random() < 0.3:
        words.append("duplicates")
        D[:, 1] = D[:, 0]
    if rng.random() < 0.5:
        most = rng.choice([2.0, 4.0])
        words.append(f"spread 1e{most:.0f}")
        D *= 2.0 ** np.round(rng.uniform(-most, most, p) / np.log10(2.0))
    y = rng.integers(-3, 4, m).astype(float) if whole else rng.normal(size=m)
    template = SynthesisLasso.build(SynthesisSettings(m=m, p=p, nonzeros=1, weight=weight, pairs=1))
    return " ".join(words), replace(
        template, D=_tensor(D), y=_tensor(y)[None], x_true=_tensor(rng.normal(size=m))[None],
        structure=_structure(template, D),
    )  # fmt: skip


def _game(family: str, rng: np.random.Generator, largest: int) -> tuple[str, Problem]:
    n = int(rng.integers(3, max(largest, 3) + 1))
    symmetric = family == "game"
    spread = float(rng.choice([0.3, 3.0, 12.0]))
    weights = str(rng.choice(["pair", "offset"]))
    settings = GameSettings(
        n=n, penalty="l1", symmetric=symmetric, weights=weights, spread=spread,
        scale=float(10.0 ** rng.uniform(-3, 0)), seed=int(rng.integers(2**31)), pairs=1,
    )  # fmt: skip
    problem = TvGame.build(settings)
    words = [f"{weights} spread e^{spread:.0f}"]
    if symmetric and rng.random() < 0.5:
        words.append("tie")
        whole = 2.0 ** np.round(np.log2(problem.start["a"].numpy()))
        problem = replace(
            problem, start={"a": _tensor(whole)},
            y=_tensor(rng.integers(-2, 3, n) * whole[0])[None],
        )  # fmt: skip
    return " ".join(words), problem


def _patches(family: str, rng: np.random.Generator, largest: int) -> tuple[str, Problem]:
    del family
    side, atoms = (2, int(rng.integers(1, largest))) if largest < 3 or rng.random() < 0.5 else (3, 1)
    untied = bool(rng.random() < 0.3)
    problem = PatchGame.build(
        PatchSettings(
            side=side, patch=2, atoms=atoms, penalty="l1", normalise="never", untied=untied, pairs=1,
            variance=float(rng.choice([0.0, 0.3])), weight=float(10.0 ** rng.uniform(-2, 0)),
            seed=int(rng.integers(2**31)), spread=float(rng.choice([0.1, 0.5])),
        )
    )  # fmt: skip
    exponents = rng.choice([0.0, 2.0, 8.0]) * rng.uniform(-1, 1, atoms)
    start = {**problem.start, "log_lambda": problem.start["log_lambda"] + _tensor(exponents)}
    return f"spread e^{np.ptp(exponents):.0f}", replace(problem, start=start)


def is_unique(problem: Problem) -> bool:
    """Whether the instance says that it has one x*."""
    return Structure.UNIQUE in problem.structure
