"""What a worker process does: one role for one cell, a matrix or a run.

A role takes its job as JSON and a folder for arrays, and returns what the worker's result will hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from bench.accuracy import compare
from bench.call import Call, check_solution, converged_of, flat_gradient, iterations_of
from bench.catalogue import STOPPED, Catalogue, ChangedError
from bench.gpu import Clocks
from bench.kept import FIRST_GRADIENT
from bench.memory import peak_of
from bench.quantities.contract import Quantity
from bench.reference import Reference, cached, failed, load
from bench.scaled import relative_distance
from bench.settled import has_settled
from bench.threads import other_pools, set_threads
from bench.timing import Calls, time_calls
from methods.contract import Method, Solution
from problems import registry
from problems.contract import Problem, Theta, input_sha256, kkt_residual, scales
from problems.penalties import L1, SmoothPenalty


class RefusedError(Exception):
    """The method does not run on this problem; the message is its refusal."""


@dataclass(frozen=True)
class Task:
    """One cell as its worker sees it."""

    method_key: str
    method_parameters: dict[str, Any]
    family: str
    problem_parameters: dict[str, Any]
    input_sha256: str
    chunks: list[slice]
    device: str
    dtype: str
    threads: int
    catalogue: Catalogue

    @classmethod
    def of(cls, job: dict[str, Any]) -> Task:
        """From the job's JSON."""
        chunks = [slice(*ends) for ends in job["chunks"]]
        own = {field.name for field in fields(cls)} - {"chunks", "catalogue"}
        return cls(**{name: job[name] for name in own}, chunks=chunks, catalogue=Catalogue(**job["catalogue"]))

    @cached_property
    def original(self) -> Problem:
        """All pairs on the CPU in double precision. Raises ChangedError."""
        problem = _built(self.catalogue, self.family, self.problem_parameters, self.input_sha256)
        set_threads(self.threads)
        return problem

    @cached_property
    def problem(self) -> Problem:
        """All pairs where the method is to work."""
        return self.original.to(self.device, getattr(torch, self.dtype))

    @cached_property
    def method(self) -> Method:
        """With its parameters. Raises RefusedError."""
        method = self.catalogue.method(self.method_key)(**self.method_parameters)
        set_threads(self.threads)  # importing the method may have loaded another pool
        refusal = method.refusal(self.problem.subset(self.chunks[0]))
        if refusal is not None:
            raise RefusedError(refusal)
        return method

    def calls(self) -> Calls:
        """The method on every chunk."""
        return Calls(self.method, self.problem, self.chunks, self.device)


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Every chunk once, for its gradient, its error and its residual; then the clock, unless one is not finite."""
    task = Task.of(job)
    theta, method = task.problem.theta0(), task.method
    started, watch = time.perf_counter(), Clocks(task.device)
    calls = task.calls()
    size = sum(value.numel() for value in theta.values())
    gradients = np.lib.format.open_memmap(folder / "gradients.npy", mode="w+", shape=(len(task.chunks), size))
    iterations, stated, residuals, word = list[float](), list[bool | None](), list[float](), ""
    residual = _residual(task.original)
    for index, chunk in enumerate(task.chunks):
        if index and time.perf_counter() - started > job["clock"]["budget_seconds"]:
            break
        call = calls.at(index)
        solutions = call.solve(theta)
        for prepared, solution in zip(call.prepared, solutions, strict=True):
            check_solution(solution, prepared.problem)
        iterations.append(sum(iterations_of(solution) / len(solutions) for solution in solutions))
        stated += [converged_of(solution) for solution in solutions]
        not_finite = _not_finite(solutions)
        gradients[index] = np.nan if not_finite else call.checked_gradient(theta, solutions)
        if not not_finite and all(solution.u is not None for solution in solutions):
            x, u = (_joined([getattr(solution, name) for solution in solutions]) for name in ("x", "u"))
            residuals += residual(chunk, x, u)
        word = word or not_finite
    came = gradients[: len(iterations)]
    word = word or _beyond(came, iterations, residuals)
    if not word and _has_coordinates(job["references"]):
        _write_parts(came[0], theta, folder / FIRST_GRADIENT)
    timed = job["timing"] and not word
    return {
        "calls": len(iterations),
        "not_finite": word,
        "converged": False not in stated,
        "settled": not residuals or has_settled(float(np.max(residuals)), None if None in stated else True, task.dtype),
        "iterations": sum(count / len(iterations) for count in iterations) if np.isfinite(iterations).all() else None,
        "kkt_residual": max(residuals) if residuals and np.isfinite(residuals).all() else None,
        "accuracy": _accuracy(came, task.chunks[0], job["references"]) if not word and job["references"] else None,
        "device_difference_relative": None if word else _device_difference(task, method, came[0]),
        "timed": time_calls(calls, theta, task.device, **job["clock"]).to_json() if timed else None,
        **_circumstances(task, watch, started),
    }


def time_only(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The clock alone, in a fresh process."""
    del folder
    task = Task.of(job)
    theta, _ = task.problem.theta0(), task.method
    started, watch = time.perf_counter(), Clocks(task.device)
    timed = time_calls(task.calls(), theta, task.device, **job["clock"])
    return {"timed": timed.to_json(), **_circumstances(task, watch, started)}


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The highest memory of one call, in a fresh process."""
    del folder
    task = Task.of(job)
    theta, _ = task.problem.theta0(), task.method
    started, watch = time.perf_counter(), Clocks(task.device)
    call = task.calls().at(0)
    peak = peak_of(lambda: call.gradient(theta, call.solve(theta)), task.device)
    return {**asdict(peak), **_circumstances(task, watch, started)}


def quantities(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The medians over the calls of what else the study measures, as far as the budget goes, one call at least."""
    del folder
    task = Task.of(job)
    theta, method, started = task.problem.theta0(), task.method, time.perf_counter()
    wanted = [registry.load("bench.quantities", name, Quantity)() for name in job["quantities"]]
    calls, found = task.calls(), dict[str, list[float]]()
    for index in range(len(task.chunks)):
        if index and time.perf_counter() - started > job["clock"]["budget_seconds"]:
            break
        call = calls.at(index)
        for prepared, solution in zip(call.prepared, call.solve(theta), strict=True):
            for quantity in wanted:
                for name, value in quantity.of(prepared.problem, method, prepared, theta, solution).items():
                    found.setdefault(name, []).append(value)
    medians = {name: float(np.median(values)) for name, values in found.items()}
    finite = {name: value for name, value in medians.items() if np.isfinite(value)}
    return {"quantities": finite, "not_finite": sorted(medians.keys() - finite)}


def reference(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The files of the references of some pairs, which are computed where they are not in the cache."""
    del folder
    parameters, sha256 = job["problem_parameters"], job["input_sha256"]
    problem = _built(Catalogue(**job["catalogue"]), job["family"], parameters, sha256)
    pairs = [(problem.subset(slice(pair, pair + 1)), kind) for pair, kind in job["pairs"]]
    folders = [Path(folder) for folder in job["folders"]]
    found = [cached(pair, kind, job["seed"], folders) for pair, kind in pairs]
    return {"files": [str(path) for path, _ in found], "said": [line for _, said in found for line in said]}


def plan(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The cells of a configuration, and the machine that they are to run on; or the one line that refuses it."""
    del folder
    from bench import environment
    from bench.plan import matrix

    planned = matrix(job)
    return planned if "refused" in planned else {**planned, "machine": environment.describe()}


def tabulate(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The journal of a run folder as `records.parquet`."""
    del folder
    from bench.journal import write_parquet

    write_parquet(Path(job["run"]))
    return {}


ROLES: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    "measure": measure,
    "time": time_only,
    "memory": memory,
    "quantities": quantities,
    "reference": reference,
    "plan": plan,
    "tabulate": tabulate,
}


def _built(catalogue: Catalogue, key: str, parameters: dict[str, Any], sha256: str) -> Problem:
    """The instance of the plan, built as there. Raises ChangedError where what it is built from has changed since."""
    set_threads(1)  # a third party's sums may round by their number
    family = catalogue.problem(key)
    problem = family.build(family.settings_type(**parameters))
    now = input_sha256(problem)
    if now != sha256:
        words = f"the input of {key} changed while the run was under way ({sha256[:8]}, now {now[:8]})"
        raise ChangedError(f"{words}: {STOPPED}")
    return problem


def _circumstances(task: Task, watch: Clocks, started: float) -> dict[str, Any]:
    """What else the runner wants to know of every worker that measured."""
    return {
        "measured_seconds": time.perf_counter() - started,
        "other_pools": other_pools(task.threads),
        "throttled": watch.throttled(),
    }


def _accuracy(
    gradients: Float[np.ndarray, "calls size"], first: slice, located: list[dict[str, Any]]
) -> dict[str, Any]:
    batch = first.stop - first.start
    return asdict(compare(gradients, batch, [_reference(entry) for entry in located[: len(gradients) * batch]]))


def _reference(entry: dict[str, Any]) -> Reference:
    """One whose file has gone, or is damaged, since it was made is no fault of the method."""
    if "failure" in entry:
        return failed(entry["kind"], entry["failure"])
    try:
        return load(Path(entry["file"]))
    except (OSError, ValueError, KeyError, TypeError):
        return failed(entry["kind"], f"reference: {entry['file']} cannot be read")


def _has_coordinates(located: list[dict[str, Any]] | None) -> bool:
    """Whether the first call is one pair with a slope in every coordinate; calls on several have directions."""
    if not located or located[0]["kind"] != "coordinates":
        return False
    first = _reference(located[0])  # which has directions all the same where coordinates would have taken too long
    return first.verdict != "failed" and first.kind == "coordinates"


def _write_parts(gradient: Float[np.ndarray, " size"], theta: Theta, path: Path) -> None:
    """`dL_dW` for each part W of theta, in its shape."""
    ends = np.cumsum([value.numel() for value in theta.values()])[:-1]
    pieces = zip(theta.items(), np.split(gradient, ends), strict=True)
    arrays = {f"dL_d{name}": piece.reshape(tuple(value.shape)) for (name, value), piece in pieces}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _device_difference(task: Task, method: Method, gradient: Float[np.ndarray, " size"]) -> float | None:
    """Of the first call, from the same method's on the CPU; None for a cell of the CPU."""
    if task.device == "cpu":
        return None
    problem = task.original.to("cpu", getattr(torch, task.dtype)).subset(task.chunks[0])
    theta = problem.theta0()
    call = Call.prepare(method, problem)
    own = flat_gradient(call.gradient(theta, call.solve(theta)), theta)
    return relative_distance(gradient, own)


def _not_finite(solutions: list[Solution]) -> str:
    """What of a lower level's solution is not finite, as a sentence; empty where all is."""
    for name in ("x", "u"):
        values = [value for solution in solutions if (value := getattr(solution, name)) is not None]
        if not all(bool(torch.isfinite(value).all()) for value in values):
            return f"the solution's {name} has entries that are not finite"
    return ""


def _beyond(gradients: Float[np.ndarray, "calls size"], iterations: list[float], residuals: list[float]) -> str:
    """What else is not finite."""
    if not np.isfinite(gradients).all():
        return "the gradient has entries that are not finite"
    if not np.isfinite(iterations).all():
        return "the solution's count of iterations is not finite"
    if not np.isfinite(residuals).all():
        return "the residual of the lower level is not finite at the solution"
    return ""


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.detach().cpu().double() for part in parts])


def _residual(original: Problem) -> Callable[[slice, torch.Tensor, torch.Tensor], list[float]]:
    """The relative KKT residuals of some pairs, their scales computed once for all; none for a penalty without one."""
    if not isinstance(original.penalty, L1 | SmoothPenalty):
        return lambda chunk, x, u: []
    theta: Theta = original.theta0()
    relative_to = scales(original, theta)

    def residuals(chunk: slice, x: torch.Tensor, u: torch.Tensor) -> list[float]:
        sizes = type(relative_to)(relative_to.y[chunk], relative_to.Ky[chunk])
        return kkt_residual(original.subset(chunk), x, u, theta, sizes).tolist()

    return residuals
