"""Every solver's default step on games of every stiffness: it reaches its tolerance, or says that it did not.

The truth is the players' own derivatives H in numpy. In these games the inverse of H' has row sums 1 and no negative
entry, so that max |x - x*| <= max |H(x)|.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from game_truth import offset_weights

from bench.record import Record, Status, read_journal
from bench.settled import has_settled
from methods._first_order import TO_SETTLE, TO_UNROLL
from methods.approximate_implicit import ApproximateImplicit
from methods.pudle_dec import PudleDec
from methods.solvers.accelerated_gradient import AcceleratedGradient
from methods.solvers.barzilai_borwein import BarzilaiBorwein
from methods.solvers.bregman_pdhg import BregmanPdhg
from methods.solvers.contract import FirstOrder, Solver
from methods.solvers.dual_pgd import DualPgd
from methods.solvers.exact import Exact
from methods.solvers.extragradient import DEFAULT_STEP, Extragradient
from methods.solvers.game_gradient import GameGradient
from methods.solvers.gradient_descent import GradientDescent
from methods.solvers.lbfgs import Lbfgs
from methods.solvers.newton_krylov import NewtonKrylov
from methods.solvers.pdhg import Pdhg
from methods.solvers.scheduled_gradient import ScheduledGradient
from methods.solvers.smooth import Smooth
from methods.unrolled_forward import UnrolledForward
from methods.unrolled_reverse import UnrolledReverse
from problems.conv_filters import ConvFilters
from problems.conv_filters import Settings as Filters
from problems.synthesis_lasso import Settings as Codes
from problems.synthesis_lasso import SynthesisLasso
from problems.tv_game import Settings, TvGame
from tests.in_process import bench

GAMES: dict[str, dict[str, Any]] = {
    "weak": {"alpha": 0.1},
    "nearly uncoupled": {"penalty": "quadratic", "scale": 1e-3},
    "smooth": {},
    "strong": {"penalty": "quadratic", "scale": 1.0},
    "stiff": {"alpha": 2000.0},
    "stiff and linear": {"penalty": "quadratic", "scale": 100.0},
}
SMOOTH: list[Solver] = [
    GameGradient(),
    Extragradient(),
    BarzilaiBorwein(),
    ScheduledGradient(),
    ScheduledGradient(look_ahead=True),
    NewtonKrylov(),
    Smooth(),
]
MINIMISERS: list[Solver] = [GradientDescent(), AcceleratedGradient(), Lbfgs()]
EXACT: list[Solver] = [DualPgd(), Pdhg(), BregmanPdhg(), Exact()]
MOST, MOST_WHERE_STIFF = 1500, 200
"""Steps that a test has time for; a stiff game takes more."""


def named(value: object) -> str:
    return type(value).__name__ if isinstance(value, Solver) else str(value)


def of_few_steps(solver: Solver, most: int = MOST) -> Solver:
    return solver.model_copy(update={"max_steps": most}) if isinstance(solver, FirstOrder) else solver


def own_derivatives(game: TvGame, x: np.ndarray) -> np.ndarray:
    """H(x), from the matrix of all weights."""
    A = offset_weights(game.settings, game.theta0()["a"].numpy())
    z = x[:, None] - x
    u = 2 * z if game.settings.penalty == "quadratic" else np.clip(game.settings.alpha * z, -1, 1)
    return x - game.y[0].numpy() + (A * u).sum(1)


@pytest.mark.parametrize("solver", SMOOTH, ids=named)
@pytest.mark.parametrize("name", GAMES)
def test_the_default_step_reaches_its_tolerance_or_says_that_it_did_not(name: str, solver: Solver) -> None:
    game = TvGame.build(Settings(n=8, pairs=1, **GAMES[name]))
    assert solver.refusal(game) is None
    most = MOST_WHERE_STIFF if name.startswith("stiff") else MOST
    solved = of_few_steps(solver, most).solve(game, game.theta0())
    left = np.abs(own_derivatives(game, solved.x[0].numpy())).max() / np.abs(game.y.numpy()).max()
    tolerance = solver.model_dump()["tolerance"]
    # what the numpy sums round off, where the solver has met its tolerance to the last digit
    assert solved.converged == (left <= tolerance + 1e-14)
    assert solved.converged or name.startswith("stiff")


@pytest.mark.parametrize("solver", [*SMOOTH, *MINIMISERS], ids=named)
@pytest.mark.parametrize("log_weight", [-8.0, -4.0, 2.0])
@pytest.mark.parametrize("penalty", ["corner_rounded", "quadratic"])
def test_the_default_step_on_minimisations(penalty: Any, log_weight: float, solver: Solver) -> None:
    """The truth is the gradient of the cost itself, which is at least as long as the distance to the minimiser."""
    problem = ConvFilters.build(Filters(shape=8, penalty=penalty, log_weight=log_weight, pairs=1))
    assert solver.refusal(problem) is None
    most = MOST_WHERE_STIFF if log_weight > 0 else MOST
    solved = of_few_steps(solver, most).solve(problem, problem.theta0())
    x = solved.x.clone().requires_grad_()
    cost = 0.5 * ((x - problem.y) ** 2).sum() + problem.penalty.value(problem.K(x, problem.theta0())).sum()
    left = float(torch.autograd.grad(cost, x)[0].abs().max() / problem.y.abs().max())
    assert solved.converged == (left <= solver.model_dump()["tolerance"] + 1e-14)
    assert solved.converged or log_weight > 0.0


@pytest.mark.parametrize("solver", EXACT, ids=named)
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 10.0])
def test_the_steps_of_exact_games_are_those_of_both_maps(solver: Solver, scale: float) -> None:
    """M is not K^T: with steps of K alone pdhg took 600 on the weak game, and at scale = 10 it went off to infinity."""
    game = TvGame.build(Settings(graph="grid", n=9, penalty="l1", scale=scale, pairs=1))
    solved = of_few_steps(solver).solve(game, game.theta0())
    # at 10 pdhg needs 6,000 steps for 1e-9, and is on its way
    assert solved.residual <= (1e-10 if scale <= 1 else 1e-2)
    assert solved.converged == (solved.residual <= 1e-10)


def test_the_default_of_the_extra_gradient_is_the_best_step_for_a_spectrum_unknown() -> None:
    """Its rate by the best rate for |h| between m L and L, real or imaginary, for the worst m of either kind."""
    radii, steps = np.logspace(-4, 0, 60), np.linspace(0.02, 0.99, 98)

    def slowest(step: float, m: float, imaginary: bool) -> float:
        r = step * np.linspace(m, 1, 400)
        return float(np.sqrt(1 - r**2 + r**4).max() if imaginary else (1 - r + r**2).max())

    rates = np.log([[[slowest(step, m, kind) for m in radii] for kind in (False, True)] for step in steps])
    kept = (rates / rates.min(axis=0)).min(axis=(1, 2))
    assert steps[kept.argmax()] == pytest.approx(DEFAULT_STEP, abs=0.0101)  # 0.79 on this grid of hundredths
    at = {step: float(kept[np.abs(steps - step).argmin()]) for step in (0.5, DEFAULT_STEP)}
    assert at[DEFAULT_STEP] > 0.6
    assert at[0.5] < 0.26
    angles = np.exp(1j * np.linspace(-np.pi / 2, np.pi / 2, 181))
    for r in np.linspace(0.01, 0.99, 50):  # between the axes it is faster
        assert np.abs(1 - r * angles + (r * angles) ** 2).max() <= max(1 - r + r**2, np.sqrt(1 - r**2 + r**4)) + 1e-15


@pytest.mark.parametrize(
    ("solver", "said"),
    [
        ('{ key = "extragradient", step = 1 }', "method[0].solver.step: input should be less than 1, not 1"),
        ('{ key = "game_gradient", step = 2.0 }', "method[0].solver.step: input should be less than 2, not 2.0"),
    ],
)
def test_a_step_that_stands_still_is_refused_in_one_line(tmp_path: Path, solver: str, said: str) -> None:
    config = tmp_path / "still.toml"
    config.write_text(f'[[problem]]\nfamily = "tv_game"\n[[method]]\nkey = "unrolled_reverse"\nsolver = {solver}\n')
    done = bench("run", config, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


GAMES_OF_THE_RUN = """
[[problem]]
family = "tv_game"
n = 8
pairs = 1
alpha = 0.1
[[problem]]
family = "tv_game"
penalty = "quadratic"
n = 16
scale = [1e-3, 100.0]
pairs = 1
[[method]]
key = "unrolled_reverse"
[[method]]
key = "unrolled_reverse"
solver = { key = "extragradient", step = 0.5 }
[[method]]
key = "unrolled_reverse"
steps = 10
[[method]]
key = "equilibrium"
[[method]]
key = "minimizer"
[measure]
timing = false
memory = false
processes = 1
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], str, str]:
    """The records, what the terminal showed, and the Markdown report."""
    folder = tmp_path_factory.mktemp("weak")
    (folder / "weak.toml").write_text(GAMES_OF_THE_RUN)
    done = bench("run", folder / "weak.toml", "--out", folder / "run")
    assert done.exit_code == 0, done.output
    written = bench("report", folder / "run", "--format", "md", "--out", folder / "report")
    assert written.exit_code == 0, written.output
    return read_journal(folder / "run"), done.output, (folder / "report" / "report.md").read_text()


def test_no_row_that_has_not_settled_is_plain_ok(ran: tuple[list[Record], str, str]) -> None:
    records, shown, report = ran
    assert len(records) == 15
    for record in records:
        assert record.error_relative is not None
        flags = [flag for flag in record.flags if flag.startswith("unsettled=")]
        if record.method_parameters.get("steps") == 10:  # asked for: measured, and said
            assert (record.status, len(flags)) == (Status.OK, 1)
            assert record.error_relative > 1e-8
            assert flags[0] in shown.replace("\n", "")
            assert flags[0] in report
        elif record.problem_parameters["scale"] == 100.0 and record.method == "unrolled_reverse":
            assert record.status == Status.INACCURATE_SOLVER
            assert f"KKT residual {record.kkt_residual:.0e}" in record.message
        else:
            assert (record.status, flags) == (Status.OK, [])
            assert record.error_relative <= 1e-8


def test_what_a_number_of_steps_says_of_itself() -> None:
    game, minimisation = TvGame.build(Settings(n=8, pairs=1)), ConvFilters.build(Filters(shape=8, pairs=1))
    stiff = ConvFilters.build(Filters(shape=8, log_weight=2.0, pairs=1))
    for method, problem, said in (
        (UnrolledReverse(), game, True),
        (UnrolledForward(), game, True),
        (ApproximateImplicit(), minimisation, True),
        (UnrolledReverse(), stiff, False),
        (ApproximateImplicit(), stiff, False),
        (UnrolledReverse(steps=500), stiff, None),
        (UnrolledForward(steps=5), game, None),
        (ApproximateImplicit(steps=5), minimisation, None),
        (PudleDec(), SynthesisLasso.build(Codes(pairs=1)), None),
    ):
        assert method.solve(method.prepare(problem), problem.theta0()).converged is said


def test_an_adjoint_of_the_default_length_that_falls_short_says_so() -> None:
    """x settles by Nesterov's momentum, p by plain steps does not."""
    stiff = ConvFilters.build(Filters(shape=8, log_weight=2.0, pairs=1))
    for method in (
        ApproximateImplicit(solver="accelerated_gradient", adjoint="fixed_point"),
        ApproximateImplicit(solver="accelerated_gradient", adjoint="fixed_point", adjoint_steps=500),
    ):
        solution = method.solve(method.prepare(stiff), stiff.theta0())
        if method.adjoint_steps is None:
            with pytest.raises(RuntimeError, match=r"fixed_point left a residual of .* set adjoint_steps"):
                method.hypergradient(method.prepare(stiff), stiff.theta0(), solution)
        else:
            method.hypergradient(method.prepare(stiff), stiff.theta0(), solution)


def test_where_a_residual_counts_as_settled() -> None:
    assert has_settled(9e-9, True, "float64")
    assert not has_settled(2e-8, True, "float64")
    assert not has_settled(2e-12, None, "float64")
    assert has_settled(9e-13, None, "float64")
    assert has_settled(1e-4, None, "float32")
    assert not has_settled(float("nan"), True, "float64")
    assert {solver.tolerance for solver in TO_SETTLE} == {1e-12}
    assert all(isinstance(solver, FirstOrder) for solver in TO_UNROLL)
    assert torch.finfo(torch.float32).eps * 1000 < 1.2e-4
