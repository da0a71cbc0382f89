"""The hypergradient that all others are judged by: finite differences of L, with an error bar of their own.

Nothing here is shared with the methods. L is evaluated at exact, certified solutions (`_exact_lower_level`), and it is
never subtracted from itself: what is computed is the CHANGE of (x*, u) over a step, from the equations that it solves,
so that rounding does not grow as the step shrinks. Where the derivative does not exist, the two one-sided slopes do.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from bench._central_differences import central, central_sweep, path_of_smooth, path_on_pattern
from bench._exact_lower_level import solve_exactly, why_not_unique
from bench._existence import derivative_exists
from bench._lower_level import LowerLevel, NoReference
from bench._slopes import Directions, Entries, Slopes, one_sided, one_sided_sweep, two_sided, two_sided_sweep
from bench._sweep import Sweep
from bench.own_files import read_own
from bench.system_errors import in_one_line
from bench.whole_file import make_folder, whole
from problems.arrays import read_arrays
from problems.contract import Problem, Structure, Theta, input_sha256, missing_structure
from problems.penalties import SmoothPenalty
from problems.registry import ROOT

SOURCES = (
    Path(__file__),
    *sorted(Path(__file__).parent.glob("_[a-z]*.py")),
    *sorted((ROOT / "problems").rglob("*.py")),
)
"""What a reference is computed by: part of the cache's key, so that none of an earlier version is taken."""

CHUNK = 64
"""Directions at a time."""
MOST_ONE_SIDED = 512
"""Coordinates that a pair is given where each costs 10 to 50 ms; one of more gets directions instead."""
DIRECTIONS = 16
ENTRIES = ("values", "bars", "usable", "kink", "ahead", "behind")
"""The arrays of a reference, each with one number for each entry."""

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
    """min |(Kx*)_i| on the support, each in units of its row's length, relative to the largest; infinite where the
    support is empty."""
    margin_dual: float | None
    """min 1 - |u_i| on the cosupport; None where K0 is rank-deficient and u is not unique."""
    cosupport_rank_defect: int
    verdict: Verdict
    """`kink` where some entry is one; `failed` where nothing was found."""
    message: str
    swept: int | None = None
    """The entry with a derivative whose bar is the largest; None where no entry has one."""
    sweep: Sweep | None = None
    """The differences that its value was read off."""


def reference_for(problem: Problem, kind: Literal["coordinates"] | int, seed: int, folder: Path | None) -> Reference:
    """The reference of one training pair (batch 1, CPU, double precision).

    Where theta is W itself and the sign pattern holds on both sides of it, one inverse serves every direction: 1 s for
    the 4096 coordinates of n = k = 64. Other families and smooth penalties are solved anew at every step, 20 to 30
    times per direction. Where K0 or M0 is rank-deficient, that is done along the directions for which `_existence`
    finds a derivative; along the others, and on a kink, every step finds a pattern of its own from either side.

    `kind` is "coordinates" or a number of random directions, which depend on `seed` and the size of theta alone. With a
    `folder` the result is kept there under the hash of everything that it depends on.
    """
    return _compute(problem, kind, seed) if folder is None else load(cached(problem, kind, seed, [folder])[0])


def cached(
    problem: Problem, kind: Literal["coordinates"] | int, seed: int, folders: Sequence[Path]
) -> tuple[Path, list[str]]:
    """The file of a reference, which is computed where it is in none of the folders yet, and kept in the first that can
    be written; and one line for each folder that cannot, and each file that is damaged. Raises OSError where none can.
    """
    parts = f"{sources_sha256(type(problem))} {input_sha256(problem)} {kind} {seed}"
    paths = [folder / f"{hashlib.sha256(parts.encode()).hexdigest()}.npz" for folder in folders]
    said: list[str] = []
    for path in paths:
        with suppress(OSError):  # one that cannot be read is not there
            if read_own(path, load, said.append) is not None:
                return path, said
    reference = _compute(problem, kind, seed)
    for path in paths:
        try:
            _save(reference, seed, path)
        except OSError as error:
            said.append(f"{in_one_line(error)} (no reference can be kept in {path.parent})")
            failure = error
        else:
            return path, said
    raise failure


@cache
def sources_sha256(family: type[Problem]) -> str:
    """Of the modules of the reference and of the problems, and of the file that the family is from."""
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in (*SOURCES, Path(inspect.getfile(family)))]
    return hashlib.sha256(b"".join(digests)).hexdigest()


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
    missing = missing_structure(_needs(problem), problem)
    if missing is not None:
        return failed(kind, f"no reference for this instance: it {missing}")
    theta = {name: value.detach() for name, value in problem.theta0().items()}
    size = sum(value.numel() for value in theta.values())
    try:
        base = (_smooth if isinstance(problem.penalty, SmoothPenalty) else _l1)(problem, theta)
        if kind == "coordinates" and size > MOST_ONE_SIDED and not base.all_at_once:
            kind = DIRECTIONS
        directions = None if isinstance(kind, str) else directions_of(kind, size, seed)
        parts = []
        for start in range(0, size if directions is None else len(directions), CHUNK):
            rows = np.eye(min(CHUNK, size - start), size, start) if directions is None else directions[start:][:CHUNK]
            parts.append(base.slopes(rows))
        slopes = Slopes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Slopes)))
        swept = int(np.argmax(np.where(slopes.usable, slopes.bars, -1.0))) if slopes.usable.any() else None
        sweep = None if swept is None else base.sweep(_direction(directions, size, swept))
    except NoReference as failure:
        return failed(kind, str(failure))
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
        swept=swept,
        sweep=sweep,
    )


def _direction(directions: Directions | None, size: int, entry: int) -> Entries:
    return np.eye(1, size, entry)[0] if directions is None else directions[entry]


def _needs(problem: Problem) -> Structure:
    """What the reference takes for granted; that x* is unique it proves itself for an l1 minimisation."""
    if isinstance(problem.penalty, SmoothPenalty):
        return Structure.UNIQUE
    proved = Structure.MINIMISATION in problem.structure
    return Structure.L1 | Structure.AFFINE_F | (Structure(0) if proved else Structure.UNIQUE)


@dataclass(frozen=True)
class _Base:
    """The solution at theta: how far it is from a kink, and how slopes are found from there."""

    slopes: Callable[[Directions], Slopes]
    sweep: Callable[[Entries], Sweep]
    """Of one direction, by the route that `slopes` takes for it."""
    all_at_once: bool
    """Whether thousands of directions cost little more than one."""
    margin_primal: float = float("inf")
    margin_dual: float | None = None
    rank_defect: int = 0
    touching: int = 0


def _smooth(problem: Problem, theta: Theta) -> _Base:
    """Raises NoReference."""
    path = path_of_smooth(problem, theta)
    return _Base(
        lambda rows: central(problem, theta, path, rows),
        lambda row: central_sweep(problem, theta, path, row),
        all_at_once=False,
    )


def _l1(problem: Problem, theta: Theta) -> _Base:
    """Raises NoReference."""
    level = LowerLevel.of(problem, theta)
    solved = solve_exactly(level)
    if Structure.UNIQUE not in problem.structure and (reason := why_not_unique(level, solved)) is not None:
        raise NoReference(reason)
    touching = int(solved.touching.sum())
    all_at_once = Structure.TRANSFORM in problem.structure and not (solved.rank_defect or touching)

    def by_existence(rows: Directions) -> Slopes:
        """Central differences wherever there may be a derivative, one-sided ones for the rest."""
        path = path_on_pattern(problem, theta, level, solved)
        exists = derivative_exists(problem, theta, level, solved, rows) & (touching == 0)
        slopes = central(problem, theta, path, rows[exists])
        rest = ~exists
        rest[exists] = ~slopes.usable
        one = one_sided(problem, theta, level, solved, rows[rest])
        return Slopes(*(_merged(getattr(slopes, field.name)[slopes.usable], getattr(one, field.name), rest)
                        for field in fields(Slopes)))  # fmt: skip

    def at_once(rows: Directions) -> Slopes:
        return two_sided(problem, theta, level, solved, rows)

    def sweep(row: Entries) -> Sweep:
        if all_at_once:
            return two_sided_sweep(problem, level, solved, row)
        path = path_on_pattern(problem, theta, level, solved)
        if touching == 0 and derivative_exists(problem, theta, level, solved, row[None])[0]:
            found = central_sweep(problem, theta, path, row)
            if found.plateau is not None:
                return found
        return one_sided_sweep(problem, theta, level, solved, row)

    return _Base(
        at_once if all_at_once else by_existence,
        sweep,
        all_at_once,
        solved.margin_primal,
        solved.margin_dual,
        solved.rank_defect,
        touching,
    )


def _merged(found: np.ndarray, others: np.ndarray, where_others: Bool[np.ndarray, " r"]) -> np.ndarray:
    merged = np.empty(len(where_others), found.dtype)
    merged[~where_others], merged[where_others] = found, others
    return merged


def _judgement(base: _Base, slopes: Slopes) -> tuple[Verdict, str]:
    kinks, unknown = int(slopes.kink.sum()), int((~slopes.usable & ~slopes.kink).sum())
    clauses = [f"{kinks} of {len(slopes.kink)} entries have two one-sided slopes"] * (kinks > 0)
    clauses += [f"{unknown} of {len(slopes.kink)} entries have no plateau"] * (unknown > 0)
    clauses += [f"{base.touching} rows of K touch both sides"] * (base.touching > 0)
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
    rest["sweep"] = None if reference.sweep is None else reference.sweep.to_json()
    make_folder(path.parent)
    with whole(path) as file:
        np.savez(file, allow_pickle=False, rest=np.frombuffer(json.dumps(rest).encode(), np.uint8), **arrays)


def load(path: Path) -> Reference:
    """A reference from its file. Raises OSError, and ValueError, KeyError or TypeError where it is damaged."""
    arrays: dict[str, Any] = dict(read_arrays(path))
    rest = json.loads(arrays.pop("rest").tobytes().decode())
    drawn, sweep = rest.pop("directions"), rest.pop("sweep")
    directions = None if drawn is None else directions_of(*drawn)
    found = Reference(**rest, directions=directions, sweep=None if sweep is None else Sweep.from_json(sweep), **arrays)
    lengths = {getattr(found, name).shape for name in ENTRIES}
    entries = len(found.values)
    if lengths != {(entries,)} or (directions is not None and entries not in (0, len(directions))):
        raise ValueError(f"{path}: its arrays do not belong together")
    return found
