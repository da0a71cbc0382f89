"""Training pairs with each pair's last solution, from which its next one starts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.call import Call, check_gradient, check_solution, converged_of
from bench.learning.ranks import Ranks
from methods.contract import Method, Solution
from problems.contract import Problem, Theta

Numbers = Tensor
"""Of pairs, int64."""


class Pairs:
    """A problem of M pairs, x* of each as last solved, and u where the next solve starts from it: M (n + k) numbers.

    A batch is a view of the problem, gathered by the pairs' numbers: nothing is built anew.
    """

    def __init__(self, problem: Problem, method: Method, warm: bool) -> None:
        self.problem, self._method, self._warm = problem, method, warm
        like = next(iter(problem.theta0().values()))
        self.x: Float[Tensor, "M ..."] = like.new_zeros((problem.batch, *problem.x_shape))
        self.u: Float[Tensor, "M ..."] = like.new_zeros((problem.batch if warm else 0, *problem.u_shape))
        self.seen: Bool[Tensor, " M"] = torch.zeros(problem.batch, dtype=torch.bool, device=like.device)
        """Whether u is there: not before a pair's first visit, not cold, not after a method without certificates."""
        self.unconverged = 0
        """Calls whose solver stopped before its tolerance."""
        self.errors: Float[Tensor, " M"] | None = None
        """Of each pair as last solved: the mean square over the entries of `reconstruct`, at the theta that it met,
        minus x_true. NaN before the first solve; None for a family that states no x_true in that space."""
        self._x_true = comparable(problem)
        if self._x_true is not None:
            self.errors = like.new_full((problem.batch,), torch.nan)
        self._fresh: list[Numbers] = []

    def gradient(self, theta: Theta, numbers: Numbers) -> tuple[Tensor, Theta]:
        """The loss and the hypergradient, each summed over these pairs.

        Raises BadSolutionError and BadGradientError where the backend returns what the contract does not allow.
        """
        if len(numbers) == 0:
            zero = {name: torch.zeros_like(value) for name, value in theta.items()}
            return next(iter(zero.values())).new_zeros(()), zero
        part = self.problem.subset(numbers)
        call = Call.prepare(self._method, part)
        solutions = self._solved(call, part, theta, numbers)
        gradient = call.gradient(theta, solutions)
        check_gradient(gradient, theta)
        return part.loss(_whole([solution.x for solution in solutions]), theta), gradient

    def solve(self, theta: Theta, numbers: Numbers) -> None:
        """Brings x and u of these pairs up to theta."""
        if len(numbers):
            part = self.problem.subset(numbers)
            self._solved(Call.prepare(self._method, part), part, theta, numbers)

    def _solved(self, call: Call, part: Problem, theta: Theta, numbers: Numbers) -> list[Solution]:
        warm = self._warm and bool(self.seen.index_select(0, numbers).all())
        solutions = call.solve(theta, self._starts(numbers, len(call.prepared)) if warm else None)
        for prepared, solution in zip(call.prepared, solutions, strict=True):
            check_solution(solution, prepared.problem)
        self.unconverged += sum(converged_of(solution) is False for solution in solutions)
        x = _whole([solution.x for solution in solutions])
        self.x.index_copy_(0, numbers, x)
        if self.errors is not None and self._x_true is not None:
            difference = part.reconstruct(x, theta).detach() - self._x_true.index_select(0, numbers)
            self.errors.index_copy_(0, numbers, difference.square().flatten(1).mean(1))
        certificates = [solution.u for solution in solutions if solution.u is not None]
        if self._warm and len(certificates) == len(solutions):
            self.u.index_copy_(0, numbers, _whole(certificates))
            self.seen.index_fill_(0, numbers, True)
        self._fresh.append(numbers)
        return solutions

    def _starts(self, numbers: Numbers, parts: int) -> list[Solution]:
        x, u = self.x.index_select(0, numbers), self.u.index_select(0, numbers)
        if parts == 1:
            return [Solution(x, u, 0)]
        return [Solution(x[pair : pair + 1], u[pair : pair + 1], 0) for pair in range(parts)]

    def exchange(self, ranks: Ranks) -> None:
        """Gives every rank what each has solved since the last exchange; no pair may have been solved by two."""
        fresh, self._fresh = self._fresh, []
        if ranks.count == 1:
            return
        mine = torch.zeros_like(self.seen)
        for numbers in fresh:
            mine[numbers] = True
        anyone = ranks.sum(mine.to(self.x.dtype)) > 0
        for held in (held for name, held in self.arrays.items() if name != "seen"):
            rows = mine.reshape(-1, *[1] * (held.ndim - 1))
            held[anyone] = ranks.sum(torch.where(rows, held, torch.zeros_like(held)))[anyone]
        self.seen |= ranks.sum((mine & self.seen).to(self.x.dtype)) > 0

    @property
    def arrays(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, by name; `restore` takes the same."""
        errors = {} if self.errors is None else {"errors": self.errors}
        return {"x": self.x, **errors, **({"u": self.u, "seen": self.seen} if self._warm else {})}

    def restore(self, arrays: dict[str, Tensor]) -> None:
        for name, held in self.arrays.items():
            if name != "errors" or name in arrays:  # which checkpoints of before do not have: one epoch has no PSNR
                held.copy_(arrays[name])


def comparable(problem: Problem) -> Tensor | None:
    """x_true, where what `reconstruct` gives is of its shape; else there is nothing to compare."""
    x_true = problem.tensors().get("x_true")
    if x_true is None:
        return None
    one, theta = problem.subset(slice(0, 1)), problem.theta0()
    with torch.no_grad():
        made = one.reconstruct(next(iter(theta.values())).new_zeros((1, *problem.x_shape)), theta)
    return x_true if made.shape == x_true[:1].shape else None


def _whole(parts: list[Tensor]) -> Tensor:
    return parts[0].detach() if len(parts) == 1 else torch.cat(parts).detach()


def psnr_db(squared_errors: Float[Tensor, " M"], peak: float, average: str) -> float:
    """10 log10(peak^2 / error): the mean over the signals, or of the signals' mean error."""
    errors = squared_errors.mean(0, keepdim=True) if average == "errors" else squared_errors
    return float((10 * (peak**2 / errors).log10()).mean())
