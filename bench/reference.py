"""The hypergradient that all others are judged by: finite differences of L, with an error bar of their own.

Nothing here is shared with the methods. L is evaluated at exact, certified solutions (`_exact_lower_level`), and it is
never subtracted from itself: what is computed is the CHANGE of (x*, u) over a step, from the equations that it solves,
so that rounding does not grow as the step shrinks. Where the derivative does not exist, the two one-sided slopes do.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from bench._exact_lower_level import LowerLevel, NoReference, Solved, solve_exactly
from bench._slopes import Slopes, one_sided, two_sided
from problems.contract import Problem, Structure, input_sha256, missing_structure

VERSION = 3
"""Part of the cache's key: raise it whenever a reference could come out otherwise."""

CHUNK = 64
"""Directions at a time."""
MOST_ONE_SIDED = 512
"""Coordinates that a pair without a derivative is given, at 10 to 50 ms each; one of more gets directions instead."""
DIRECTIONS = 16
NEEDS = Structure.MINIMISATION | Structure.AFFINE_F | Structure.L1 | Structure.UNIQUE

Verdict = Literal["smooth", "kink", "failed"]


@dataclass(frozen=True)
class Reference:
    """dL/dtheta of one training pair, in all P coordinates or along r random directions of unit variance.

    Entry by entry, L has a derivative (`usable`), or only the two one-sided slopes that differ (`kink`), or neither was
    found. Slopes are d/dt L(theta + t d) as t falls to 0 (`ahead`) and as t rises to 0 (`behind`).
    """

    kind: str
    """`coordinates` or `directions(r)`."""
    directions: Float[np.ndarray, "r P"] | None
    values: Float[np.ndarray, " r"]
    """The derivative; where there is a kink, the middle of the two slopes."""
    bars: Float[np.ndarray, " r"]
    """Absolute error bar of each value, or of both slopes: spread of the plateau, or rounding if larger."""
    usable: Bool[np.ndarray, " r"]
    kink: Bool[np.ndarray, " r"]
    ahead: Float[np.ndarray, " r"]
    behind: Float[np.ndarray, " r"]
    margin_primal: float
    """min |(Kx*)_i| on the support, relative to the size of Kx*; infinite where the support is empty."""
    margin_dual: float | None
    """min 1 - |u_i| on the cosupport; None where K0 is rank-deficient and u is not unique."""
    cosupport_rank_defect: int
    verdict: Verdict
    """`kink` where some entry is one; `failed` where nothing was found."""
    message: str


def reference_for(problem: Problem, kind: Literal["coordinates"] | int, seed: int, cache: Path | None) -> Reference:
    """The reference of one training pair (batch 1, CPU, double precision).

    Where the sign pattern is the same on both sides of theta, one inverse at theta serves every direction: 1 s for the
    4096 coordinates of n = k = 64. On a kink, or where K0 is rank-deficient, every step has a pattern of its own.

    `kind` is "coordinates" or a number of random directions, which depend on `seed` and the size of theta alone. With a
    `cache` folder the result is kept there under the hash of everything that it depends on.
    """
    return _compute(problem, kind, seed) if cache is None else load(cached(problem, kind, seed, cache))


def cached(problem: Problem, kind: Literal["coordinates"] | int, seed: int, cache: Path) -> Path:
    """The file of a reference, which is computed where it is not there yet."""
    key = hashlib.sha256(f"{VERSION} {input_sha256(problem)} {kind} {seed}".encode()).hexdigest()
    path = cache / f"{key}.npz"
    if not path.exists():
        _save(_compute(problem, kind, seed), seed, path)
    return path


@lru_cache(maxsize=4)
def directions_of(count: int, size: int, seed: int) -> Float[np.ndarray, "count size"]:
    """Random directions of unit variance, which all references of one size share."""
    return np.random.default_rng([seed, size]).standard_normal((count, size))


def failed(kind: Literal["coordinates"] | int, message: str) -> Reference:
    """A reference that knows nothing, and why."""
    name = kind if isinstance(kind, str) else f"directions({kind})"
    none, no = np.empty(0), np.empty(0, bool)
    return Reference(name, None, none, none, no, no, none, none, float("nan"), None, 0, "failed", message)


def _compute(problem: Problem, kind: Literal["coordinates"] | int, seed: int) -> Reference:
    missing = missing_structure(NEEDS, problem)
    if missing is not None:
        return failed(kind, f"no reference for this family: {missing}")
    theta = {name: value.detach() for name, value in problem.theta0().items()}
    try:
        level = LowerLevel.of(problem, theta)
        base = solve_exactly(level)
    except NoReference as failure:
        return failed(kind, str(failure))
    size = sum(value.numel() for value in theta.values())
    one_pattern = Structure.TRANSFORM in problem.structure and not (base.rank_defect or base.touching.any())
    if kind == "coordinates" and size > MOST_ONE_SIDED and not one_pattern:
        kind = DIRECTIONS
    directions = None if isinstance(kind, str) else directions_of(kind, size, seed)
    parts = []
    for start in range(0, size if directions is None else len(directions), CHUNK):
        rows = np.eye(min(CHUNK, size - start), size, start) if directions is None else directions[start:][:CHUNK]
        parts.append((two_sided if one_pattern else one_sided)(problem, theta, level, base, rows))
    slopes = Slopes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Slopes)))
    verdict, message = _judgement(base, slopes)
    return Reference(
        kind=kind if isinstance(kind, str) else f"directions({kind})",
        directions=directions,
        values=(slopes.ahead + slopes.behind) / 2.0,
        **vars(slopes),
        margin_primal=base.margin_primal,
        margin_dual=base.margin_dual,
        cosupport_rank_defect=base.rank_defect,
        verdict=verdict,
        message=message,
    )


def _judgement(base: Solved, slopes: Slopes) -> tuple[Verdict, str]:
    kinks, unknown = int(slopes.kink.sum()), int((~slopes.usable & ~slopes.kink).sum())
    clauses = [f"{kinks} of {len(slopes.kink)} entries have two one-sided slopes"] * (kinks > 0)
    clauses += [f"{unknown} of {len(slopes.kink)} entries have no plateau"] * (unknown > 0)
    clauses += [f"{base.touching.sum()} rows of K touch both sides"] * bool(base.touching.any())
    clauses += [f"{base.rank_defect} dependent rows on the cosupport"] * (base.rank_defect > 0)
    verdict: Verdict = "kink" if kinks else "failed" if unknown == len(slopes.kink) else "smooth"
    return verdict, "; ".join(clauses)


# --- the cache ------------------------------------------------------------------------------------------------------


def _save(reference: Reference, seed: int, path: Path) -> None:
    """Without the directions, which are of the size of theta: what they are drawn from is kept."""
    arrays = {name: value for name, value in vars(reference).items() if isinstance(value, np.ndarray)}
    drawn = arrays.pop("directions", None)
    rest = {name: value for name, value in vars(reference).items() if not isinstance(value, np.ndarray)}
    rest["directions"] = None if drawn is None else [*drawn.shape, seed]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as file:
        np.savez(file, allow_pickle=False, rest=np.frombuffer(json.dumps(rest).encode(), np.uint8), **arrays)
    draft.replace(path)


def load(path: Path) -> Reference:
    """A reference from its file."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    rest = json.loads(arrays.pop("rest").tobytes().decode())
    drawn = rest.pop("directions")
    return Reference(**rest, directions=None if drawn is None else directions_of(*drawn), **arrays)
