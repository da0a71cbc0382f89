"""Table 2 of Lecouat, Ponce and Mairal: gradient against extra-gradient, here as convergence at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.aligned import Column, Table
from bench.record import Record
from reports.error_axis import at_or_below_bar, has_error
from reports.instances import Group, group
from reports.published import published_rows
from reports.rounding import ABSENT, error, scientific
from reports.studies._curves import Line, Panel, draw, largest_bar
from reports.study import Claim, Study, StudyFigure, judged, not_measured
from reports.style import Look

SOURCE = "Lecouat, Ponce & Mairal, Table 2"
METRIC = "Theirs is the PSNR of test pictures after training, ours the distance to the equilibrium's own hypergradient."

GRADIENT, LONG, EXTRA = "gradient, step 1/L", "gradient, step 1.9/L", "extra-gradient, step 1/L"
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


@dataclass(frozen=True)
class Duel:
    """Two records of one game to be told apart by their hypergradients' errors."""

    game: Game
    at: int
    """Steps of each, or pseudo-gradients."""
    challenger: Record
    other: Record

    @property
    def factor(self) -> float:
        """The challenger's error by the other's: below 1 where it is nearer."""
        assert self.challenger.error_relative is not None
        assert self.other.error_relative is not None
        return self.challenger.error_relative / self.other.error_relative

    @property
    def decided(self) -> bool:
        """Whether the reference can tell one of the errors from zero."""
        return not (at_or_below_bar(self.challenger) and at_or_below_bar(self.other))


def study(records: Sequence[Record]) -> Study:
    """The page."""
    games = sorted(map(_game, group(records)), key=lambda game: (not game.symmetric, game.name))
    psnr = _published()
    claims = []
    for symmetric in (True, False):
        kind = "symmetric" if symmetric else "asymmetric"
        own = [game for game in games if game.symmetric == symmetric]
        extra, short, longer = (
            psnr[kind, key] for key in (("extra-gradient", 24), ("gradient descent", 24), ("gradient descent", 48))
        )
        claims += [
            _claim(
                kind,
                f"24 extra-gradient steps are {_decibels(extra - longer)} above 48 gradient steps, which cost the same",
                _duels(own, lambda game, cost: (game.at_cost(EXTRA, cost), game.gradient(cost))),
                "pseudo-gradients each",
            ),
            _claim(
                kind,
                f"24 extra-gradient steps are {_decibels(extra - short)} above 24 gradient steps, which cost half",
                _duels(own, lambda game, steps: (game.by_steps[EXTRA].get(steps), game.gradient(steps))),
                "steps each",
            ),
            _claim(
                kind,
                f"48 gradient steps are {_decibels(short - longer)} below 24: more of them do not help",
                _duels(
                    own,
                    lambda game, steps: (game.gradient(steps), game.gradient(2 * steps)),
                ),
                "steps against twice as many",
            ),
        ]
    return Study(
        title="Gradient against extra-gradient",
        question=(
            "A gradient step costs one pseudo-gradient H, an extra-gradient step two. At equal numbers of them, which "
            "unrolled iteration is nearer to the equilibrium and to its hypergradient? Pixel games with the Moreau "
            "envelope of |z|, symmetric and asymmetric weights, reverse-mode unrolling."
        ),
        claims=tuple(claims),
        tables=(_table(games),),
        figures=(
            _figure(games, "gradient", "hypergradient", _gradient_error, with_bar=True),
            _figure(games, "solution", "equilibrium x", _solution_error, with_bar=False),
        ),
    )


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
        ("extragradient", 1.0): EXTRA,
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


def _duels(games: Sequence[Game], pair_at: Callable[[Game, int], tuple[Record | None, Record | None]]) -> list[Duel]:
    found = []
    for game in games:
        for at in sorted({*game.costs, *(steps for own in game.by_steps.values() for steps in own)}):
            challenger, other = pair_at(game, at)
            if challenger is not None and other is not None:
                found.append(Duel(game, at, challenger, other))
    return found


def _claim(kind: str, published: str, duels: Sequence[Duel], unit: str) -> Claim:
    """Reproduced where the first of each pair has the smaller error, at each number and on each game of the kind."""
    published = f"{kind} weights: {published}"
    if not duels:
        return not_measured(SOURCE, published, f"this run has no such pair of {kind} games")
    for duel in duels:
        for record in (duel.challenger, duel.other):
            if not has_error(record):
                why = f"{duel.game.name}: {record.variant} is {record.status} {record.message}".strip()
                return not_measured(SOURCE, published, why)
    decided = [duel for duel in duels if duel.decided]
    if not decided:
        why = "all errors are at or below the reference's bar"
        return not_measured(SOURCE, published, why)
    nearer = sum(duel.factor < 1 for duel in decided)
    words = []
    for name in dict.fromkeys(duel.game.name for duel in decided):
        own = [duel for duel in decided if duel.game.name == name]
        factors = ", ".join(scientific(duel.factor) for duel in own)
        words.append(f"{name}: {factors} at {', '.join(str(duel.at) for duel in own)} {unit}")
    return judged(
        SOURCE,
        published,
        f"error of the first by that of the second: {'; '.join(words)}",
        nearer == len(decided),
        f"the first is nearer to the exact hypergradient in {nearer} of {len(decided)} comparisons; reproduced asks "
        f"for all, the gradient with the better of its two steps. {METRIC}",
    )


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
