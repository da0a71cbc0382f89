"""The clock: how long solve and gradient take, each phase timed apart, in one worker process.

Invariant: only the method's own call lies between two readings of the clock, with the garbage collector off and the
device idle at both. Preparing a chunk, choosing it, and summing up stay outside.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable

import torch

from bench.call import Call
from bench.samples import Timed, Value
from methods.contract import Method
from problems.contract import Problem, Theta

GRADIENT_LOOP_SECONDS = 1e-3
MOST_REPEATS = 100
MOST_PREPARED = 128


class Calls:
    """The calls of a cell, chunk after chunk and round again, prepared when first needed and kept while few.

    The first chunk is prepared at once, under the clock.
    """

    def __init__(self, method: Method, problem: Problem, chunks: list[slice], device: str) -> None:
        first, prepared = problem.subset(chunks[0]), list[Call]()
        self.prepare_seconds = seconds_of(lambda: prepared.append(Call.prepare(method, first)), device)
        self._method, self._problem, self._chunks = method, problem, chunks
        self._kept, self._next = {0: prepared[0]}, 0

    def at(self, index: int) -> Call:
        """The call on one chunk."""
        if index in self._kept:
            return self._kept[index]
        call = Call.prepare(self._method, self._problem.subset(self._chunks[index]))
        if len(self._kept) < MOST_PREPARED:
            self._kept[index] = call
        return call

    def following(self) -> Call:
        """The call on the chunk after the one that this returned before."""
        call = self.at(self._next)
        self._next = (self._next + 1) % len(self._chunks)
        return call


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of one piece of work, the device idle before and after."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        _synchronise(device)
        started = time.perf_counter()
        work()
        _synchronise(device)
        return time.perf_counter() - started
    finally:
        if was_enabled:
            gc.enable()


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def time_calls(
    calls: Calls,
    theta: Theta,
    device: str,
    warmups: int,
    values: int,
    min_seconds: float,
    budget_seconds: float,
    warm: float | None,
) -> Timed:
    """Warm-ups, then values, each at least `min_seconds` of timed work; each goes on where the last one stopped.

    Past the budget no other warm-up, and no other value after the first, is begun. With `warm`, a relative distance,
    each solve starts from the solution at a theta so far away; to find that one is not timed.
    """
    ends = time.perf_counter() + budget_seconds
    nearby = None if warm is None else moved(theta, warm)
    repeats = _gradient_repeats(calls.at(0), theta, device)

    def value() -> Value:
        solve = gradient = 0.0
        count = 0
        while count == 0 or solve + gradient < min_seconds:
            spent_on_solve, spent_on_gradient = _time_one(calls.following(), theta, nearby, repeats, device)
            solve, gradient, count = solve + spent_on_solve, gradient + spent_on_gradient, count + 1
        return Value(solve / count, gradient / (count * repeats), count)

    def within_budget(most: int, least: int) -> tuple[Value, ...]:
        taken: list[Value] = []
        while len(taken) < most and (len(taken) < least or time.perf_counter() < ends):
            taken.append(value())
        return tuple(taken)

    before = within_budget(warmups, 0)
    return Timed(calls.prepare_seconds, repeats, before, within_budget(values, 1))


def moved(theta: Theta, distance: float) -> Theta:
    """theta plus a step of `distance` times its norm, part by part, in a random direction, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    steps = {name: torch.randn(value.shape, generator=generator, dtype=torch.float64) for name, value in theta.items()}
    return {
        name: value.detach() + (distance * value.norm() / steps[name].norm()).to(value) * steps[name].to(value)
        for name, value in theta.items()
    }


def _time_one(call: Call, theta: Theta, nearby: Theta | None, repeats: int, device: str) -> tuple[float, float]:
    """Seconds of one solve, from the solution at `nearby` where there is one, and of `repeats` gradients on it."""
    solutions, starts = [], None if nearby is None else call.solve(nearby)
    solve = seconds_of(lambda: solutions.append(call.solve(theta, starts)), device)

    def gradients() -> None:
        for _ in range(repeats):
            call.gradient(theta, solutions[0])

    return solve, seconds_of(gradients, device)


def _gradient_repeats(call: Call, theta: Theta, device: str) -> int:
    """So many gradients last about a millisecond; a first short one, which may compile or allocate, does not count."""
    solutions = call.solve(theta)
    seconds = seconds_of(lambda: call.gradient(theta, solutions), device)
    if seconds < 100 * GRADIENT_LOOP_SECONDS:
        seconds = min(seconds_of(lambda: call.gradient(theta, solutions), device) for _ in range(2))
    return max(1, min(MOST_REPEATS, math.ceil(GRADIENT_LOOP_SECONDS / seconds)))
