"""One call of a method on some of the pairs: what is timed, and what is judged for its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float

from methods.contract import Method, Prepared, Solution
from problems.contract import Problem, Theta


class BadGradientError(TypeError):
    """A gradient whose keys, shapes or dtype are not those of theta."""


class BadSolutionError(TypeError):
    """A solution that is not what the contract says."""


@dataclass(frozen=True)
class Call:
    """A method prepared on a chunk of pairs; looped over single pairs, and summed, where it takes no batch."""

    method: Method
    prepared: tuple[Prepared, ...]

    @classmethod
    def prepare(cls, method: Method, chunk: Problem) -> Self:
        """The method's own `prepare`, once per part."""
        whole = method.batched or chunk.batch == 1
        parts = [chunk] if whole else [chunk.subset(slice(pair, pair + 1)) for pair in range(chunk.batch)]
        return cls(method, tuple(method.prepare(part) for part in parts))

    def solve(self, theta: Theta, starts: list[Solution] | None = None) -> list[Solution]:
        """One solution per part, each from scratch or from its start."""
        if starts is None:
            return [self.method.solve(prepared, theta) for prepared in self.prepared]
        pairs = zip(self.prepared, starts, strict=True)
        return [self.method.solve(prepared, theta, start) for prepared, start in pairs]

    def parts(self, theta: Theta, solutions: list[Solution]) -> list[Theta]:
        """dL/dtheta of each part."""
        pairs = zip(self.prepared, solutions, strict=True)
        return [self.method.hypergradient(prepared, theta, solution) for prepared, solution in pairs]

    def gradient(self, theta: Theta, solutions: list[Solution]) -> Theta:
        """dL/dtheta, summed over the chunk."""
        return _summed(self.parts(theta, solutions))

    def checked_gradient(self, theta: Theta, solutions: list[Solution]) -> Float[np.ndarray, " size"]:
        """Its coordinates in theta's order, in double precision. Raises BadGradientError."""
        parts = self.parts(theta, solutions)
        for part in parts:
            check_gradient(part, theta)
        return flat_gradient(_summed(parts), theta)


def _summed(parts: list[Theta]) -> Theta:
    if len(parts) == 1:
        return parts[0]
    return {name: sum((part[name] for part in parts[1:]), parts[0][name]) for name in parts[0]}


def flat_gradient(gradient: Theta, theta: Theta) -> Float[np.ndarray, " size"]:
    """Its coordinates in theta's order, in double precision. Raises BadGradientError."""
    check_gradient(gradient, theta)
    return torch.cat([gradient[name].detach().cpu().double().reshape(-1) for name in theta]).numpy()


def check_gradient(gradient: Theta, theta: Theta) -> None:
    """Raises BadGradientError for anything but a dense tensor of theta's shape, dtype and device for each name."""
    if not isinstance(gradient, dict) or gradient.keys() != theta.keys():
        given = sorted(map(str, gradient)) if isinstance(gradient, dict) else type(gradient).__name__
        raise BadGradientError(f"the gradient must be a dict with theta's keys {sorted(theta)}, it has {given}")
    for name, value in theta.items():
        part = gradient[name]
        if not isinstance(part, torch.Tensor):
            raise BadGradientError(f"the gradient of {name} must be a tensor, it is {type(part).__name__}")
        if part.shape != value.shape:
            raise BadGradientError(
                f"the gradient of {name} must have shape {tuple(value.shape)}, it has {tuple(part.shape)}"
            )
        if part.dtype != value.dtype:
            raise BadGradientError(f"the gradient of {name} must be of {value.dtype}, it is of {part.dtype}")
        _check_place(f"the gradient of {name}", part, value.device, BadGradientError)


def check_solution(solution: Solution, problem: Problem) -> None:
    """Raises BadSolutionError where x or u is not a dense real tensor of the problem's shape, on its device."""
    if not isinstance(solution, Solution):
        raise BadSolutionError(f"solve must return a Solution, it returned {type(solution).__name__}")
    device = next(iter(problem.theta0().values())).device
    for name, value, shape in (("x", solution.x, problem.x_shape), ("u", solution.u, problem.u_shape)):
        if value is None and name == "u":
            continue
        if not isinstance(value, torch.Tensor):
            raise BadSolutionError(f"the solution's {name} must be a tensor, it is {type(value).__name__}")
        if value.shape != (problem.batch, *shape):
            wanted = (problem.batch, *shape)
            raise BadSolutionError(f"the solution's {name} must have shape {wanted}, it has {tuple(value.shape)}")
        if not value.dtype.is_floating_point:
            raise BadSolutionError(f"the solution's {name} must be of a real floating dtype, it is of {value.dtype}")
        _check_place(f"the solution's {name}", value, device, BadSolutionError)


def _check_place(what: str, value: torch.Tensor, device: torch.device, error: type[TypeError]) -> None:
    if value.layout is not torch.strided:
        raise error(f"{what} must be dense, it is {value.layout}")
    if value.device.type != device.type:
        raise error(f"{what} must be on {device.type}, it is on {value.device.type}")


def iterations_of(solution: Solution) -> float:
    """A number, of Python's, numpy's or torch's, that is not negative; it may be infinite or NaN.

    Raises BadSolutionError.
    """
    given: Any = solution.iterations
    try:
        count = -1.0 if isinstance(given, str | bytes) else float(given)
    except OverflowError:  # an integer beyond the largest double
        count = math.inf
    except Exception:  # no number at all, or several
        count = -1.0
    if count < 0:
        raise BadSolutionError(f"iterations must be a number that is not negative, not {_shown(given)}")
    return count


def converged_of(solution: Solution) -> bool | None:
    """A bool of Python's, numpy's or torch's, or an array of them, one per sample; None where the method states no
    tolerance. Raises BadSolutionError."""
    given: Any = solution.converged
    if given is None:
        return None
    if isinstance(given, torch.Tensor) and given.dtype == torch.bool:
        return bool(given.all())
    if isinstance(given, bool | np.bool_) or (isinstance(given, np.ndarray) and given.dtype == np.bool_):
        return bool(np.all(given))
    raise BadSolutionError(f"converged must be True or False, or None without a tolerance, not {_shown(given)}")


def _shown(value: Any) -> str:
    """A value that a method returned, in a few words: its own text may fail, or be long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"a {type(value).__name__}"
