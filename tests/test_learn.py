"""Upper-level learning: its steps against outside truths, and what a training survives."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import analysis_l1_truth
import learn_processes
import numpy as np
import pytest
import torch
from bench_plugins import write_method
from typer.testing import CliRunner, Result

from bench.cli import app
from bench.learning import checkpoint, curves, folder
from bench.learning.config import Experiment, parse, resolve
from bench.learning.curves import Point
from bench.learning.matrix import expand
from bench.learning.pairs import psnr_db
from bench.learning.ranks import Alone
from bench.learning.trainer import Position, Training, Watch
from bench.threads import set_threads
from methods.learners._schedules import Constant, Cosine, Step
from methods.learners.adam import Adam
from methods.learners.contract import Learner
from methods.learners.lbfgs import Lbfgs
from methods.learners.momentum import Momentum
from problems.analysis_l1 import AnalysisL1

ROOT = Path(__file__).parents[1]
SMALL: dict[str, Any] = {
    "epochs": 4,
    "batch": 5,
    "validation_pairs": 4,
    "threads": 1,
    "problem": {"n": 8, "pairs": 12, "scale": 0.3, "ripple": 0.0},
    "learner": {"key": "gradient_descent", "rate": 1e-3},
}
LEARNERS = {
    "gradient_descent": {"rate": 1e-3},
    "momentum": {"rate": 1e-4},
    "adam": {"rate": 5e-3},
    "lbfgs": {"pairs": 3},
}


def document(**changes: Any) -> dict[str, Any]:
    """SMALL with these tables updated and these keys replaced."""
    merged = dict(SMALL)
    for key, value in changes.items():
        merged[key] = {**SMALL.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


def write(path: Path, given: dict[str, Any]) -> Path:
    def line(name: str, value: Any) -> str:
        return f"{name} = {json.dumps(value)}\n"

    top = "".join(line(name, value) for name, value in given.items() if not isinstance(value, dict))
    tables = ((name, value) for name, value in given.items() if isinstance(value, dict))
    path.write_text(top + "".join(f"[{name}]\n" + "".join(map(line, table, table.values())) for name, table in tables))
    return path


def experiment(given: dict[str, Any], file: Path = Path("test.toml")) -> Experiment:
    return resolve(parse(given, file), file, [])


def command(config: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["learn", str(config), "--out", str(out), *more])


class Silent(Watch):
    """Keeps the points; asks to stop after so many updates."""

    def __init__(self, stop_after: int = -1) -> None:
        self.points: list[Point] = []
        self._left = stop_after

    def stopping(self) -> bool:
        return self._left == 1

    def saving(self) -> bool:
        return False

    def save(self) -> None:
        pass

    def epoch(self, point: Point) -> None:
        self.points.append(point)

    def update(self, position: Position) -> None:
        del position
        self._left -= 1


def trained(given: dict[str, Any]) -> tuple[Training, list[Point]]:
    set_threads(given["threads"])  # as the command does: sums of two threads round differently
    training, watch = Training(experiment(given), Alone()), Silent()
    assert training.run(watch)
    return training, watch.points


def timeless(points: list[Point]) -> list[dict[str, Any]]:
    return [{name: value for name, value in vars(point).items() if name != "seconds"} for point in points]


def theta_of(run: Path) -> np.ndarray:
    with np.load(run / "theta.npz", allow_pickle=False) as stored:
        return stored["W"]


# --- the steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fidelity", ["half", "full"])
@pytest.mark.parametrize("loss_factor", [0.5, 1.0])
@pytest.mark.parametrize("batch_reduction", ["sum", "mean"])
def test_one_update_of_algorithm_4_1_under_each_reading(
    fidelity: str, loss_factor: float, batch_reduction: str
) -> None:
    readings = {"loss_factor": loss_factor, "batch_reduction": batch_reduction}
    given = document(epochs=1, batch=12, readings=readings, problem={"fidelity": fidelity}, learner={"rate": 0.01})
    training, (point,) = trained(given)
    problem = training.experiment.training
    assert isinstance(problem, AnalysisL1)
    W = problem.W.numpy()
    truths = [analysis_l1_truth.solve(problem, W, pair) for pair in range(12)]
    gradient = 2 * loss_factor * sum(truth.gradient for truth in truths) / (1 if batch_reduction == "sum" else 12)
    # Both solve linear systems of at most 16 unknowns to rounding.
    np.testing.assert_allclose(training.theta["W"].numpy(), W - 0.01 * gradient, rtol=0, atol=1e-13)
    loss = loss_factor * np.mean(
        [np.sum((truth.x - x) ** 2) for truth, x in zip(truths, problem.x_true.numpy(), strict=True)]
    )
    assert point.training_loss == pytest.approx(loss, rel=1e-12)


def test_momentum_and_adam_are_those_of_torch() -> None:
    torch.manual_seed(0)
    target, start = torch.randn(2, 7, dtype=torch.float64)

    def gradient(theta: torch.Tensor) -> torch.Tensor:
        return torch.tanh(3 * (theta - target))

    ours: list[tuple[Learner, Any]] = [
        (Momentum(rate=0.05, momentum=0.8), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8)),
        (Adam(rate=0.05), lambda p: torch.optim.Adam(p, lr=0.05)),
    ]
    for learner, theirs in ours:
        theta, state = start, learner.start(start)
        parameter = torch.nn.Parameter(start.clone())
        optimiser = theirs([parameter])
        for _ in range(50):
            theta, state = learner.step(theta, lambda at: (at.sum(), gradient(at)), state, learner.rate)
            parameter.grad = gradient(parameter.detach())
            optimiser.step()
        # The same formulas, their sums in another order: 50 steps of a few roundings of numbers near 1.
        torch.testing.assert_close(theta, parameter.detach(), rtol=0, atol=1e-13)


def test_lbfgs_finds_the_minimum_of_rosenbrock() -> None:
    def objective(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at = theta.clone().requires_grad_()
        with torch.enable_grad():
            loss = 100 * (at[1] - at[0] ** 2) ** 2 + (1 - at[0]) ** 2
        (g,) = torch.autograd.grad(loss, at)
        return loss.detach(), g

    learner, theta = Lbfgs(), torch.tensor([-1.2, 1.0], dtype=torch.float64)
    state = learner.start(theta)
    for _ in range(60):
        theta, state = learner.step(theta, objective, state, 1.0)
    # Gradient descent is at a distance of 1 after as many steps; a quasi-Newton method ends at rounding.
    torch.testing.assert_close(theta, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-8)


def test_lbfgs_stays_where_no_step_decreases_the_loss() -> None:
    """At a kink that is a minimum the gradient of one side promises a decrease that is not there."""
    learner, theta = Lbfgs(halvings=5), torch.zeros(1, dtype=torch.float64)
    moved, _ = learner.step(theta, lambda at: (at.abs().sum(), torch.ones_like(at)), learner.start(theta), 1.0)
    assert torch.equal(moved, theta)


def test_schedules() -> None:
    assert [Constant().factor(epoch, 0.5, 10) for epoch in (0, 9)] == [1.0, 1.0]
    cosine = Cosine(last=0.2)
    assert cosine.factor(0, 0.0, 8) == 1.0
    assert cosine.factor(4, 0.0, 8) == pytest.approx(0.6)
    assert cosine.factor(7, 1.0, 8) == pytest.approx(0.2)
    assert [Step().factor(epoch, 0.9, 300) for epoch in (79, 80, 160)] == [1.0, 0.35, 0.35**2]


def test_psnr_is_an_average_over_signals_or_over_errors() -> None:
    errors = torch.tensor([1e-2, 1e-4], dtype=torch.float64)  # 20 and 40 dB at peak 1
    assert psnr_db(errors, 1.0, "signals") == pytest.approx(30.0)
    assert psnr_db(errors, 1.0, "errors") == pytest.approx(10 * math.log10(2 / (1e-2 + 1e-4)))
    assert psnr_db(errors, 255.0, "signals") == pytest.approx(30.0 + 20 * math.log10(255))


# --- the curves -------------------------------------------------------------------------------------------------------


def test_the_training_loss_falls_in_every_epoch_of_a_small_step() -> None:
    """The loss is piecewise smooth, with jumps of its gradient only: a step far below 1 / curvature cannot raise it."""
    _, points = trained(document(epochs=30, batch=12, learner={"rate": 2e-4}))
    losses = [point.training_loss for point in points]
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.95 * losses[0]


def test_the_validation_loss_and_psnr_are_those_of_an_independent_solver() -> None:
    training, points = trained(document())
    problem = training.experiment.validation
    assert isinstance(problem, AnalysisL1)
    truths = [analysis_l1_truth.solve(problem, training.theta["W"].numpy(), pair) for pair in range(4)]
    errors = np.array([np.mean((truth.x - x) ** 2) for truth, x in zip(truths, problem.x_true.numpy(), strict=True)])
    assert points[-1].validation_loss == pytest.approx(8 * errors.mean(), rel=1e-11)  # loss_factor 1, n = 8
    assert points[-1].validation_psnr_db == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-11)
    larger = AnalysisL1.build(problem.settings.model_copy(update={"pairs": 16}))
    assert torch.equal(problem.y, larger.y[12:])  # drawn after those for training, by the same seed


def test_every_exact_backend_learns_the_same() -> None:
    """Those that take a batch and those that are called for every pair, in their own ways of solving and summing."""
    exact, _ = trained(document())
    for key in ("blorc", "torch_closed_form", "dual_boundary"):
        other, _ = trained(document(backend={"key": key}))
        # 12 updates whose gradients differ by rounding; W is near 1.
        torch.testing.assert_close(other.theta["W"], exact.theta["W"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "backend"),
    [
        ({"family": "conv_filters", "shape": [6, 6], "penalty": "corner_rounded"}, {"key": "minimizer"}),
        ({"family": "synthesis_lasso", "m": 10, "p": 12}, {"key": "active_set_adjoint"}),
        ({"family": "tv_game"}, {"key": "equilibrium"}),
    ],
)
def test_other_families_are_learned_too(problem: dict[str, Any], backend: dict[str, Any]) -> None:
    given = {**SMALL, "epochs": 2, "batch": 3, "validation_pairs": 2, "problem": {**problem, "pairs": 3}}
    training, points = trained({**given, "backend": backend, "learner": {"key": "gradient_descent", "rate": 1e-5}})
    start, end = training.experiment.training.theta0(), training.theta
    assert all(not torch.equal(start[name], end[name]) for name in start)
    assert points[1].training_loss < points[0].training_loss
    assert points[-1].training_psnr_db is not None


# --- stopped and continued --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", LEARNERS)
def test_a_stopped_training_ends_at_the_same_theta_bit_for_bit(tmp_path: Path, key: str) -> None:
    given = document(learner={**LEARNERS[key], "key": key}, schedule={"key": "cosine"})
    if key != "gradient_descent":
        given["learner"] = {"key": key, **LEARNERS[key]}
    whole, points = trained(given)
    pieces: list[Point] = []
    for _ in range(40):  # two updates a time, of the three of an epoch
        training, watch = Training(experiment(given), Alone()), Silent(stop_after=2)
        if (tmp_path / "checkpoint.npz").exists():
            training.restore(*checkpoint.read(tmp_path / "checkpoint.npz"))
        finished = training.run(watch)
        checkpoint.write(tmp_path / "checkpoint.npz", training.position.counts, training.arrays)
        pieces += watch.points
        if finished:
            break
    assert torch.equal(training.theta["W"], whole.theta["W"])
    assert timeless(pieces) == timeless(points)


def killed_and_continued(tmp_path: Path, kills: int, seed: int) -> None:
    """`learn` in processes that start from one which has everything loaded, killed at random moments."""
    given = document(epochs=100 * kills, checkpoint_seconds=0.01, learner={"key": "adam", "rate": 1e-3})
    config = write(tmp_path / "learn.toml", given)
    moments = random.Random(seed)
    for _ in range(kills):
        process = learn_processes.start(config, tmp_path / "run")
        before, patience = checkpoint_time(tmp_path / "run"), time.monotonic() + 60
        while checkpoint_time(tmp_path / "run") == before and process.is_alive():  # it trains by then
            assert time.monotonic() < patience
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it had ended before it was killed: make the training longer"
    with open(tmp_path / "run" / "curves.jsonl", "ab") as file:
        file.write(b'{"epoch": 3, "upda')
    process = learn_processes.start(config, tmp_path / "run")
    process.join()
    assert process.exitcode == 0
    whole, points = trained(given)
    assert np.array_equal(theta_of(tmp_path / "run"), whole.theta["W"].numpy())
    assert timeless(curves.read(tmp_path / "run")) == timeless(points)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"


def checkpoint_time(run: Path) -> int:
    path = run / "checkpoint.npz"
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_at_random_moments_it_ends_at_the_same_theta(tmp_path: Path) -> None:
    killed_and_continued(tmp_path, kills=3, seed=0)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_at_the_same_theta(tmp_path: Path) -> None:
    killed_and_continued(tmp_path, kills=20, seed=1)


def test_sigterm_stops_it_between_two_updates(tmp_path: Path) -> None:
    """The backend sends it in the fifth gradient; what the command says continues, and ends at the same theta."""
    at_the_fifth = "calls.append(1); len(calls) == 5 and os.kill(os.getpid(), signal.SIGTERM)"
    plugin = write_method(tmp_path, "signals", in_gradient=at_the_fifth)
    plugin.write_text("calls = []\n" + plugin.read_text())
    # The plug-in's formula is for multiples of the identity: a rate so small that theta stays one to rounding.
    given = document(plugins=["signals.py"], backend={"key": "signals"}, learner={"rate": 1e-300})
    config = write(tmp_path / "learn.toml", given)
    stopped = command(config, tmp_path / "run")
    assert stopped.exit_code == 1
    assert "stopped: 1 epochs, 5 updates" in stopped.output
    assert f"the same command with --out {tmp_path / 'run'} continues" in stopped.output
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "stopped"
    done = command(config, tmp_path / "run")
    assert done.exit_code == 0
    assert "continues after 1 epochs, 5 updates" in done.output
    assert [point.epoch for point in curves.read(tmp_path / "run")] == [1, 2, 3, 4]
    again = command(config, tmp_path / "run")
    assert (again.exit_code, "finished: 4 epochs, 12 updates" in again.output) == (0, True)


def test_a_gradient_that_is_not_finite_ends_it_in_one_line(tmp_path: Path) -> None:
    plugin = write_method(
        tmp_path, "spoils", returned="W * (np.nan if len(calls) > 7 else 1)", in_gradient="calls.append(1)"
    )
    plugin.write_text("calls = []\n" + plugin.read_text())
    given = document(plugins=["spoils.py"], backend={"key": "spoils"}, learner={"rate": 1e-300})
    done = command(write(tmp_path / "learn.toml", given), tmp_path / "run")
    assert done.exit_code == 1
    line = (
        "epoch 3, update 8: the gradient by spoils is not finite, where the largest entry of theta is 0.3: "
        "where that is far too large lower learner.rate, else look at the backend"
    )
    assert done.output == f"error: {line}\n"
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["status"], status["message"], status["updates"]) == ("failed", line, 7)
    assert len(curves.read(tmp_path / "run")) == 2
    assert np.isfinite(theta_of(tmp_path / "run")).all()


def test_a_backend_that_raises_ends_it_in_one_line(tmp_path: Path) -> None:
    write_method(tmp_path, "raises", in_gradient="raise KeyError('two\\nlines')")
    given = document(plugins=["raises.py"], backend={"key": "raises"})
    done = command(write(tmp_path / "learn.toml", given), tmp_path / "run")
    assert (done.exit_code, done.output) == (
        1,
        "error: epoch 1, update 1: raises failed: KeyError: 'two\\nlines'\n",
    )
    kept = (tmp_path / "run" / "output" / "training.txt").read_text()
    assert re.search(r'raises\.py", line \d+, in hypergradient', kept)


def test_a_backend_that_fails_in_the_validation_ends_it_in_one_line(tmp_path: Path) -> None:
    at_the_fourth = "calls.append(1); assert len(calls) < 4, 'no more'"
    plugin = write_method(tmp_path, "fails", in_solve=at_the_fourth)
    plugin.write_text("calls = []\n" + plugin.read_text())
    given = document(plugins=["fails.py"], backend={"key": "fails"}, learner={"rate": 1e-300})
    done = command(write(tmp_path / "learn.toml", given), tmp_path / "run")
    line = "error: epoch 1, validation: fails failed: AssertionError: no more\n"
    assert (done.exit_code, done.output) == (1, line)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_two_ranks_learn_what_one_does(tmp_path: Path) -> None:
    eleven = {"pairs": 11}  # in batches of 5, 5 and 1, of which one rank has nothing
    given = document(epochs=10, learner={"key": "lbfgs", "rate": 1.0}, problem=eleven)
    config = write(tmp_path / "learn.toml", given)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "test"} for rank in range(2)]
    ranks = [learn_processes.start(config, tmp_path / "run", {**shared, **each}) for each in own]  # as torchrun does
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    alone, points = trained(given)
    # Sums in another order, 1e-16 each, which 40 updates of a quasi-Newton method may magnify.
    np.testing.assert_allclose(theta_of(tmp_path / "run"), alone.theta["W"].numpy(), rtol=0, atol=1e-10)
    for ours, theirs in zip(curves.read(tmp_path / "run"), points, strict=True):
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-9)
        assert ours.training_psnr_db == pytest.approx(theirs.training_psnr_db, rel=1e-9)
    stored = checkpoint.read(tmp_path / "run" / "checkpoint.npz")
    assert stored is not None
    # Both ranks' solutions are in the checkpoint, which one rank can continue.
    torch.testing.assert_close(stored[1]["training.x"], alone.training.x, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_the_option_ranks_starts_them_under_torchrun(tmp_path: Path) -> None:
    config = write(tmp_path / "learn.toml", document())
    call = [sys.executable, "-m", "bench", "learn", str(config), "--out", str(tmp_path / "run"), "--ranks", "2"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    alone, _ = trained(document())
    np.testing.assert_allclose(theta_of(tmp_path / "run"), alone.theta["W"].numpy(), rtol=0, atol=1e-12)
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["ranks"] == 2


# --- bad input --------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 3}, "epoch: unknown key: did you mean 'epochs'?"),
    ({"epochs": 0}, "epochs: input should be greater than or equal to 1, not 0"),
    ({"batch": 13}, "batch: 13 is more than problem.pairs = 12: use 12 or less"),
    ({"device": "gpu"}, "device: there is no device 'gpu': write cpu, cuda, or cuda:1 for the second GPU"),
    ({"learner": {"key": "adan"}}, "learner.key: methods.learners has no 'adan': did you mean 'adam'?"),
    ({"learner": {"rat": 1}}, "learner.rat: unknown key: did you mean 'rate'?"),
    ({"schedule": {"key": "cosin"}}, "schedule.key: there is no 'cosin': did you mean 'cosine'?"),
    (
        {"readings": {"batch_reduction": "average"}},
        "readings.batch_reduction: input should be 'sum' or 'mean', not 'average'",
    ),
    ({"backend": {"key": "blork"}}, "backend.key: there is no method 'blork': did you mean 'blorc'?"),
    ({"backend": {"key": "blorc", "gama": 1}}, "backend.gama: unknown key: did you mean 'gamma'?"),
    (
        {"problem": {"family": "analysis"}},
        "problem.family: there is no problem family 'analysis': did you mean 'analysis_l1'?",
    ),
    (
        {"backend": {"key": "blorc"}, "problem": {"fidelity": "full"}},
        "backend: blorc cannot run on analysis_l1: needs identity_forward: set forward = 'identity' and "
        "fidelity = 'half' (without the half, scale W by 1/2)",
    ),
]


@pytest.mark.parametrize(("changes", "line"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    config = write(tmp_path / "learn.toml", document(**changes))
    done = command(config, tmp_path / "run")
    assert (done.exit_code, done.output) == (2, f"error: {config}: {line}\n")
    assert not (tmp_path / "run").exists()


def test_a_folder_continues_its_own_training_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert command(write(tmp_path / "a.toml", document(epochs=1)), out).exit_code == 0
    before = (out / "checkpoint.npz").read_bytes()
    for changes, difference in (
        ({"learner": {"rate": 2e-3}}, "learner.rate was 0.001 and is now 0.002"),
        ({"epochs": 2}, "epochs was 1 and is now 2"),
        ({"problem": {"n": 8, "seed": 1}}, "problem.seed was left out and is now 1"),
    ):
        done = command(write(tmp_path / "b.toml", document(**{"epochs": 1, **changes})), out)
        line = f"error: {out}: holds another training: {difference}: choose another --out\n"
        assert (done.exit_code, done.output) == (2, line)
    assert (out / "checkpoint.npz").read_bytes() == before
    (out / "checkpoint.npz").write_bytes(before[:1000])
    (out / "outcomes.jsonl").unlink()  # as if it had been killed before it was done: a finished one is left alone
    done = command(tmp_path / "a.toml", out)
    assert done.exit_code == 0
    assert f"warning: {out / 'checkpoint.npz'}: damaged, and taken as if it were not there" in done.stderr
    (out / "before.npz").write_bytes(before)
    first, again = (checkpoint.read(out / name)[1]["theta"] for name in ("before.npz", "checkpoint.npz"))
    assert torch.equal(again, first)


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    config = write(tmp_path / "learn.toml", document())
    training = Training(experiment(document()), Alone())
    with folder.Folder(tmp_path / "run", config, training):
        done = command(config, tmp_path / "run")
    assert (done.exit_code, "is writing into it: wait for it, or choose another --out" in done.output) == (2, True)
    assert command(config, tmp_path / "run").exit_code == 0


def test_the_shipped_configurations_are_those_of_the_paper() -> None:
    configs = ROOT / "bench" / "configs"
    for path in sorted(configs.glob("learn_*.toml")):
        assert expand(tomllib.loads(path.read_text()), path)
    for path in (configs / "learn_1d.toml", configs / "learn_1d_adam.toml"):
        given = tomllib.loads(path.read_text())
        config = parse(given, path)
        pairs = given["problem"].pop("pairs")
        assert (pairs, config.batch, config.epochs, given["problem"]["n"]) == (4000, 100, 750, 64), path  # J.12
        assert experiment({**given, "problem": {**given["problem"], "pairs": 100}}, path).training.batch == 100
