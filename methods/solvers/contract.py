"""A lower-level solver: to a certified residual, and, where it is a first-order map, one step at a time.

Invariant of every solver: at a fixed point of `step`, (primal, dual) solves 0 in F(x) + M dg(Kx).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

import pydantic
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from problems.contract import Problem, Structure, Theta, kkt_residual, missing_structure, scales
from problems.registry import load

State = TypeVar("State")


class Point(NamedTuple):
    """A primal-dual pair: x (b, n) and u (b, k)."""

    x: Tensor
    u: Tensor


class Factor(abc.ABC):
    """What a solver factorised last, for the gradient to use again."""

    @abc.abstractmethod
    def adjoint(self, g: Tensor) -> Point:
        """The saddle system (problems/README.md) with a symmetric F_x = H and M = K^T, sample by sample: p, shaped as
        x, and a, shaped as u and zero off the cosupport, with H p + K^T a = g and K0 p = 0. Least-norm a where K0 is
        rank-deficient."""


@dataclass(frozen=True)
class Certificate:
    """Per sample, what proves (x, u), and how far it is from a kink. Read off the double-precision pair."""

    pattern: Int8[Tensor, "b k"]
    """0 on the cosupport, the sign of u elsewhere."""
    numbers: Float[Tensor, "b 4"]
    counts: Int[Tensor, "b 4"]
    """Both are laid out as the engines write them; the properties below name their columns."""

    @property
    def residual(self) -> Float[Tensor, " b"]:
        """Relative KKT residual."""
        return self.numbers[:, 0]

    @property
    def gap(self) -> Float[Tensor, " b"]:
        """Primal less dual objective, relative to 1/2 ||y||^2 + ||K y||_1; zero exactly at a solution."""
        return self.numbers[:, 1]

    @property
    def margin_primal(self) -> Float[Tensor, " b"]:
        """min |(K x)_i| off the cosupport, relative to max |K x|; infinite where nothing is off it, zero where it is no
        more than rounding. The compiled active set takes each row of K relative to its own norm."""
        return self.numbers[:, 2]

    @property
    def margin_dual(self) -> Float[Tensor, " b"]:
        """min 1 - |u_i| on the cosupport, infinite where it is empty; NaN where u is not unique."""
        return self.numbers[:, 3]

    @property
    def cosupport_size(self) -> Int[Tensor, " b"]:
        """Rows on the cosupport."""
        return self.counts[:, 0]

    @property
    def rank_defect(self) -> Int[Tensor, " b"]:
        """How many of them depend on the others."""
        return self.counts[:, 0] - self.counts[:, 1]

    @property
    def iterations(self) -> Int[Tensor, " b"]:
        """Factorisations: Newton steps, and pivots where those did not do."""
        return self.counts[:, 2]


@dataclass(frozen=True)
class Solved:
    """Where a solver stopped. `residual` is the largest relative KKT residual over the batch.

    `factor` and `certificate` are there where the solver ends on them.
    """

    x: Tensor
    u: Tensor
    iterations: int
    residual: float
    converged: bool
    factor: Factor | None = None
    certificate: Certificate | None = None


class Solver(pydantic.BaseModel, abc.ABC):
    """An algorithm for the lower level. Its fields are its parameters; instances are frozen."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    requires: ClassVar[Structure]

    @abc.abstractmethod
    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        """To the solver's tolerance, from scratch or from a nearby point."""

    @abc.abstractmethod
    def refusal(self, problem: Problem) -> str | None:
        """Why this solver cannot run on this problem, with the remedy; None where it can."""


def refuse_unless_met(solver: Solver, problem: Problem) -> str | None:
    """The refusal that follows from `requires` alone."""
    missing = missing_structure(solver.requires, problem)
    return missing and f"solver {key_of(solver)} {missing}"


class Iteration(abc.ABC, Generic[State]):
    """A solver bound to one (problem, theta). Step sizes are detached, factorisations are not."""

    @abc.abstractmethod
    def start(self, warm: Point | None = None) -> State:
        """The first state, a NamedTuple of tensors."""

    @abc.abstractmethod
    def step(self, state: State) -> State:
        """One iteration; differentiable in the state and in theta."""

    @abc.abstractmethod
    def primal(self, state: State) -> Tensor:
        """x, shape (b, n)."""

    @abc.abstractmethod
    def dual(self, state: State) -> Tensor:
        """u, shape (b, k)."""


class FirstOrder(Solver):
    """A solver that is a map, to be repeated or unrolled."""

    stationary: ClassVar[bool]
    """Whether every step is the same map, so that its limit is a fixed point to differentiate."""

    tolerance: Annotated[float, pydantic.Field(gt=0)] = 1e-10
    """Relative KKT residual at which `solve` stops, no less than 100 epsilons of the float type (float32: 1.2e-5)."""
    max_steps: Annotated[int, pydantic.Field(ge=1)] = 200_000

    @abc.abstractmethod
    def bind(self, problem: Problem, theta: Theta) -> Iteration[Any]:
        """The iteration at theta."""

    def refusal(self, problem: Problem) -> str | None:
        return refuse_unless_met(self, problem)

    def solve(self, problem: Problem, theta: Theta, warm: Point | None = None) -> Solved:
        """Repeat `step` until the KKT residual of every sample is within the tolerance, checked ever more rarely."""
        theta = {name: value.detach() for name, value in theta.items()}
        relative_to = scales(problem, theta)
        iteration = self.bind(problem, theta)
        tolerance = max(self.tolerance, 100 * torch.finfo(relative_to.y.dtype).eps)
        state, steps, burst = iteration.start(warm), 0, 10
        while True:
            x, u = iteration.primal(state), iteration.dual(state)
            residual = float(kkt_residual(problem, x, u, theta, relative_to).max())
            if residual <= tolerance or steps >= self.max_steps or residual != residual:
                return Solved(x, u, steps, residual, residual <= tolerance)
            burst = min(burst, self.max_steps - steps)
            for _ in range(burst):
                state = iteration.step(state)
            steps += burst
            burst = max(10, steps // 10)


def key_of(thing: object) -> str:
    """The file's name that a method, solver or problem was loaded by."""
    return type(thing).__module__.rpartition(".")[2].removeprefix("plugin_")


def _from_config(value: Any) -> Any:
    if isinstance(value, Solver):
        return value
    if isinstance(value, str):
        value = {"key": value}
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        raise ValueError('a solver is written "admm" or { key = "admm", rho = 1.0 }')
    parameters = {name: entry for name, entry in value.items() if name != "key"}
    return load("methods.solvers", value["key"], Solver)(**parameters)


def _to_config(solver: Solver) -> dict[str, Any]:
    return {"key": key_of(solver), **solver.model_dump(exclude_unset=True)}


AnySolver = Annotated[Solver, pydantic.BeforeValidator(_from_config), pydantic.PlainSerializer(_to_config)]
"""A field for any solver, written in a config as its key or as a table with the key and its parameters."""

AnyFirstOrderOrNone = Annotated[
    FirstOrder | None,
    pydantic.BeforeValidator(lambda value: None if value is None else _from_config(value)),
    pydantic.PlainSerializer(lambda solver: None if solver is None else _to_config(solver)),
]
"""The same for solvers that are maps, where it may be left to the problem."""
