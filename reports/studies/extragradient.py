"""Table 2 of Lecouat, Ponce and Mairal: gradient against extra-gradient, here as convergence at equal cost.

Their numbers are decibels after training, ours distances of untrained games: none of their claims is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record
from reports.error_axis import at_or_below_bar, has_error
from reports.instances import Group, group
from reports.published import published_rows
from reports.rounding import ABSENT, error, scientific
from reports.studies._curves import Line, Panel, draw, largest_bar
from reports.study import Claim, Study, StudyFigure, Verdict
from reports.style import Look

SOURCE = "Lecouat, Ponce & Mairal, Table 2"
METRIC = (
    "Theirs is the PSNR of test pictures after training, with steps and smoothing learned. No game is trained here, "
    "and a distance to the equilibrium, which the tables show, says nothing of decibels."
)

GRADIENT, LONG, EXTRA = "gradient, step 1/L", "gradient, step 1.9/L", "extra-gradient, step 0.8/L"
SOLVERS = (GRADIENT, LONG, EXTRA)
COST = {GRADIENT: 1, LONG: 1, EXTRA: 2}
"""Pseudo-gradients per step."""

Reading = Callable[[Record], float | None]


@dataclass(frozen=True)
class Game:
    """One instance: the records of each solver by their number of steps."""

    name: str
    symmetric: bool
    by_steps: dict[str, dict[int, Record]]

    def at_cost(self, solver: str, evaluations: int) -> Record | None:
        """The record of so many pseudo-gradients."""
        return self.by_steps[solver].get(evaluations // COST[solver])

    def gradient(self, steps: int) -> Record | None:
        """The nearer of the two step sizes after so many steps; one that failed, where one did: it might be that."""
        own = [record for solver in (GRADIENT, LONG) if (record := self.by_steps[solver].get(steps)) is not None]
        failed = next((record for record in own if not has_error(record)), None)
        return failed or min(own, key=lambda record: record.error_relative or 0.0, default=None)

    @property
    def costs(self) -> list[int]:
        """Every number of pseudo-gradients that some solver was given."""
        return sorted({steps * COST[solver] for solver in SOLVERS for steps in self.by_steps[solver]})


Records = tuple[Record | None, Record | None]


@dataclass(frozen=True)
class Comparison:
    """Two iterations that are held against each other on every game."""

    title: str
    """The first of them, and the second."""
    unit: str
    """What both are given the same number of."""
    pair_at: Callable[[Game, int], Records]


COMPARISONS = (
    Comparison(
        "extra-gradient by gradient, equal cost",
        "pseudo-gradients",
        lambda game, cost: (game.at_cost(EXTRA, cost), game.gradient(cost)),
    ),
    Comparison(
        "extra-gradient by gradient, equal steps",
        "steps",
        lambda game, steps: (game.by_steps[EXTRA].get(steps), game.gradient(steps)),
    ),
    Comparison(
        "gradient by gradient with twice as many steps",
        "steps",
        lambda game, steps: (game.gradient(steps), game.gradient(2 * steps)),
    ),
)


def study(records: Sequence[Record]) -> Study:
    """The page."""
    games = sorted(map(_game, group(records)), key=lambda game: (not game.symmetric, game.name))
    return Study(
        title="Gradient against extra-gradient",
        question=(
            "A gradient step costs one pseudo-gradient H, an extra-gradient step two. At equal numbers of them, which "
            "unrolled iteration is nearer to the equilibrium and to its hypergradient? Pixel games with the Moreau "
            "envelope of |z|, symmetric and asymmetric weights, reverse-mode unrolling. It is a description: the "
            "paper's claims are about trained games."
        ),
        claims=tuple(_claims()),
        tables=(_factors(games), _table(games)),
        figures=(
            _figure(games, "gradient", "hypergradient", _gradient_error, with_bar=True),
            _figure(games, "solution", "equilibrium x", _solution_error, with_bar=False),
        ),
    )


def _claims() -> Iterator[Claim]:
    psnr = _published()
    for kind in ("symmetric", "asymmetric"):
        extra, short, longer = (
            psnr[kind, key] for key in (("extra-gradient", 24), ("gradient descent", 24), ("gradient descent", 48))
        )
        for published in (
            f"24 extra-gradient steps are {_decibels(extra - longer)} above 48 gradient steps, which cost the same",
            f"24 extra-gradient steps are {_decibels(extra - short)} above 24 gradient steps, which cost half",
            f"48 gradient steps are {_decibels(short - longer)} below 24: more of them do not help",
        ):
            yield Claim(SOURCE, f"{kind} weights: {published}", ABSENT, Verdict.NOT_TESTABLE, METRIC)


def _game(own: Group) -> Game:
    by_steps: dict[str, dict[int, Record]] = {solver: {} for solver in SOLVERS}
    for record in own.records:
        solver = _solver(record)
        if solver is not None:
            by_steps[solver][int(record.method_parameters["steps"])] = record
    settings = own.parameters
    graph = str(settings.get("graph", "ring"))
    neighbours = ", 8 neighbours" if graph == "grid" and settings.get("reach", 1.0) > 1 else ""
    symmetric = bool(settings.get("symmetric", False))
    weights = "symmetric" if symmetric else f"asymmetric, ratio {settings.get('ratio', 3.0):g}"
    return Game(f"{graph} of {own.sizes[0]}{neighbours}, {weights}", symmetric, by_steps)


def _solver(record: Record) -> str | None:
    """None for a method that unrolls neither, and for a step that is none of the three."""
    solver = record.method_parameters.get("solver")
    if record.method != "unrolled_reverse" or not isinstance(solver, dict):
        return None
    named = {
        ("game_gradient", 1.0): GRADIENT,
        ("game_gradient", 1.9): LONG,
        ("extragradient", 0.8): EXTRA,
    }
    return named.get((str(solver.get("key")), float(solver.get("step", 1.0))))


def _published() -> dict[tuple[str, tuple[str, int]], float]:
    """PSNR in dB by (weights, (optimizer, iterations))."""
    return {
        (row["weights"], (row["optimizer"], int(row["iterations"]))): float(row["psnr_db"])
        for row in published_rows("lecouat_table2_gd_vs_extragradient.csv")
    }


def _decibels(difference: float) -> str:
    return f"{difference:.2f} dB"


def _factors(games: Sequence[Game]) -> Table:
    """A row per game and comparison."""
    rows = []
    for game in games:
        counts = sorted({*game.costs, *(steps for own in game.by_steps.values() for steps in own)})
        for comparison in COMPARISONS:
            pairs = [(at, *comparison.pair_at(game, at)) for at in counts]
            met = [(at, first, second) for at, first, second in pairs if first is not None and second is not None]
            if met:
                numbers = ", ".join(str(at) for at, *_ in met)
                factors = ", ".join(_factor(first, second) for _, first, second in met)
                rows.append((game.name, comparison.title, f"{numbers} {comparison.unit}", factors))
    return Table(
        "Error of the first hypergradient by that of the second",
        (
            Column("game", numeric=False),
            Column("first by second", numeric=False),
            Column("at", numeric=False),
            Column("error by error", numeric=False),
        ),
        tuple(rows),
        (
            "Below 1 the first is nearer to the exact hypergradient. The gradient is the nearer of its two steps.",
            "A word: a cell that has no error, or `bar`: the reference cannot tell either error from zero.",
        ),
    )


def _factor(first: Record, second: Record) -> str:
    for record in (first, second):
        if not has_error(record):
            return str(record.status)
    if at_or_below_bar(first) and at_or_below_bar(second):
        return "bar"
    assert first.error_relative is not None
    return scientific(first.error_relative / second.error_relative) if second.error_relative else "bar"


def _gradient_error(record: Record) -> float | None:
    return record.error_relative if has_error(record) else None


def _bar(game: Game) -> float | None:
    """The reference's, the same for all records of a game."""
    return largest_bar(record for own in game.by_steps.values() for record in own.values())


def _solution_error(record: Record) -> float | None:
    return record.quantities.get("solution_error_relative")


def _table(games: Sequence[Game]) -> Table:
    rows = []
    for game in games:
        for cost in game.costs:
            cells = [game.at_cost(solver, cost) for solver in SOLVERS]
            if any(cell is not None for cell in cells):
                rows.append((game.name, str(cost), *map(_gradient_cell, cells), *map(_solution_cell, cells)))
    return Table(
        "Relative errors at equal numbers of pseudo-gradients",
        (
            Column("game", numeric=False),
            Column("H evaluated"),
            *(Column(f"hypergradient: {solver}") for solver in SOLVERS),
            *(Column(f"x: {solver}") for solver in SOLVERS),
        ),
        tuple(rows),
        (
            "L bounds the pseudo-gradient's Lipschitz constant. The backward pass costs as many products as the "
            "forward one, by each solver, so that equal H is equal cost for the gradient too.",
        ),
    )


def _gradient_cell(record: Record | None) -> str:
    if record is None:
        return ABSENT
    if not has_error(record):
        return str(record.status)
    return error(record.error_relative, record.reference_error_relative)


def _solution_cell(record: Record | None) -> str:
    return ABSENT if record is None else scientific(_solution_error(record))


def _figure(games: Sequence[Game], stem: str, what: str, read: Reading, with_bar: bool) -> StudyFigure:
    panels = [
        Panel(
            game.name,
            "pseudo-gradients H evaluated",
            f"relative error of the {what}",
            tuple(_line(game, place, solver, read) for place, solver in enumerate(SOLVERS)),
            counts=True,
            bar=_bar(game) if with_bar else None,
        )
        for game in games
    ]

    def drawn(look: Look) -> Figure:
        del look
        return draw(panels)

    return StudyFigure(
        f"extragradient_{stem}",
        f"Error of the {what} against the pseudo-gradients evaluated.",
        "Lower is better at equal cost; an extra-gradient step counts twice.",
        drawn,
    )


def _line(game: Game, place: int, solver: str, read: Reading) -> Line:
    points = tuple(
        (float(steps * COST[solver]), value)
        for steps, record in sorted(game.by_steps[solver].items())
        if (value := read(record))
    )
    return Line(solver, points, place, place)
