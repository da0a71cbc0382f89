"""The command `learn`: trainings from their configuration to their folder, continued where one was stopped."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, cast

from rich.console import Console

from bench import config
from bench.config import ConfigError
from bench.learning import curves, ranks
from bench.learning.checkpoint import CHECKPOINT
from bench.learning.config import Experiment, resolve
from bench.learning.curves import Point
from bench.learning.folder import STATUS, Folder, Status, changed, continue_from, refuse_another
from bench.learning.judge import Judge
from bench.learning.matrix import Run, expand
from bench.learning.outcome import LEARNED, OUTCOMES, SCHEMA, Outcome, read
from bench.learning.show import Show, point_words, show
from bench.learning.trainer import Position, Training, TrainingError, Watch
from bench.lock import held
from bench.own_files import silent, warn
from bench.progress import print_line
from bench.provenance import copy_config
from bench.threads import cores, set_threads
from bench.whole_file import write_whole

FINE, FAILED = 0, 1
ELSEWHERE = "choose another --out"


def learn(config_path: Path, out: Path, plugins: Sequence[Path], console: Console, progress: Console) -> int:
    """The exit code: 0 all are finished, 1 one is stopped or failed. One rank of as many as torchrun has started.

    What became of each training is printed on `console`, how far it is on `progress`.
    Raises ConfigError and InUseError before anything is written.
    """
    runs = expand(config.read(config_path), config_path)
    _use_threads(runs[0])
    _fits(out, runs)
    known = {outcome.run: outcome for outcome in read(out)}
    experiments = dict[str, Experiment]()
    for run in runs:
        experiment = resolve(run.config, config_path, plugins)
        refuse_another(out / run.name, experiment)
        if run.name not in known or not _is_done(known[run.name], run, experiment, out / run.name):
            experiments[run.name] = experiment
    team = ranks.join(ranks.local_device(runs[0].config.device))
    judge, codes = Judge(), []
    with ExitStack() as closing:
        closing.callback(team.close)
        if runs[0].name and team.rank == 0:  # a single training's folder is held while it trains
            closing.enter_context(held(out))
        asked = closing.enter_context(_Asked())
        for number, run in enumerate(runs, 1):
            if run.name not in experiments:
                codes.append(FINE)
                if team.rank == 0:
                    print_line(console, _done_words(known[run.name]))
                continue
            if run.name and team.rank == 0:
                print_line(progress, f"{number}/{len(runs)} {run.name}")
            _use_threads(run)
            training = Training(experiments.pop(run.name), team)
            ended = _trained(training, config_path, out, run, asked, console, progress)
            codes.append(FINE if ended is Status.FINISHED else FAILED)
            if ended is Status.STOPPED or (ended is Status.FAILED and team.count > 1):  # the others have died of it
                return FAILED
            if team.rank == 0:
                known[run.name] = _outcome(run, training, ended, judge, out)
                written = (known[each.name] for each in runs if each.name in known)
                write_whole(out / OUTCOMES, "".join(f"{outcome.to_line()}\n" for outcome in written))
                if training.experiment.test is not None and ended is Status.FINISHED:
                    print_line(console, _test_words(known[run.name]))
                    if LEARNED in known[run.name].failed_denoisers:
                        codes[-1] = FAILED
    return max(codes)


def check(config_path: Path, plugins: Sequence[Path]) -> None:
    """Says before any rank is started what all of them would. Raises ConfigError."""
    for run in expand(config.read(config_path), config_path):
        resolve(run.config, config_path, plugins)


def _use_threads(run: Run) -> None:
    set_threads(run.config.threads or max(1, cores() // ranks.processes_here()))


def _fits(out: Path, runs: Sequence[Run]) -> None:
    """One training and several make different folders. Raises ConfigError."""
    several = bool(runs[0].name)
    if several and (out / CHECKPOINT).exists():
        raise ConfigError(f"{out}: holds one training, not the {len(runs)} of this: choose another --out")
    if not several and any(outcome.run for outcome in read(out)):
        raise ConfigError(f"{out}: holds several trainings, not the one of this: choose another --out")


def _is_done(outcome: Outcome, run: Run, experiment: Experiment, folder: Path) -> bool:
    """Whether it is of this very training, data and plug-ins, and need not be done again; one that failed is. One whose
    test pairs alone have changed is judged again, from its checkpoint.

    Raises ConfigError where it has no checkpoint, and training anew would take its place.
    """
    if outcome.status != "finished" or outcome.config != _told(run):
        return False
    if outcome.made_of != experiment.made_of and not (folder / CHECKPOINT).exists():
        raise ConfigError(f"{folder}: is finished, and {changed(outcome.made_of, experiment.made_of)}: {ELSEWHERE}")
    return outcome.made_of == experiment.made_of


def _told(run: Run) -> dict[str, Any]:
    test = run.config.test
    told = {**run.config.identity, "test": None if test is None else test.model_dump(mode="json")}
    return cast(dict[str, Any], json.loads(json.dumps(told)))


def _trained(
    training: Training, config_path: Path, out: Path, run: Run, asked: _Asked, console: Console, progress: Console
) -> Status:
    own, settings, team = out / run.name, run.config, training.ranks
    continued = continue_from(own, training, warn if team.rank == 0 else silent)
    if team.rank != 0:
        return Status.FINISHED if training.run(_Follower(asked)) else Status.STOPPED
    with ExitStack() as closing:
        if run.name:
            copy_config(config_path, out)
        folder = closing.enter_context(Folder(own, None if run.name else config_path, training))
        if continued:
            print_line(progress, f"{own}: continues after {_far(training)}")
        shown = show(progress, settings.epochs, training.experiment.training.batch, training.position)
        leader = _Leader(folder, shown, asked, settings.checkpoint_seconds)
        try:
            with shown:
                status = Status.FINISHED if training.run(leader) else Status.STOPPED
        except TrainingError as error:
            if training.position.done < training.experiment.training.batch:  # one without its validation is done again
                folder.save()
            folder.write_failure(error)
            print_line(progress, f"error: {error}")
            return Status.FAILED
        folder.write_status(status)
        words = point_words(folder.last) if folder.last is not None else "no epoch is whole yet"
        print_line(console, f"{status}: {_far(training)}: {words}")
        finished = status is Status.FINISHED
        print_line(console, f"training: {own}" if finished else f"the same command with --out {out} continues")
        return status


def _outcome(run: Run, training: Training, ended: Status, judge: Judge, out: Path) -> Outcome:
    experiment, position = training.experiment, training.position
    last = next(reversed(curves.read(out / run.name)), None)
    message = str(json.loads((out / run.name / STATUS).read_text())["message"])
    finished = ended is Status.FINISHED
    psnr, failed = judge.judged(experiment, training.theta) if finished else ({}, {})
    return Outcome(
        schema=SCHEMA,
        run=run.name,
        settings=run.settings,
        config=_told(run),
        problem={**experiment.training.parameters, **_written_paths(run)},
        made_of=experiment.made_of,
        status="finished" if finished else "failed",
        message=message,
        epochs=position.epoch,
        updates=position.updates,
        gradients=position.gradients,
        seconds=position.seconds,
        training_loss=last.training_loss if last else None,
        validation_loss=last.validation_loss if last else None,
        psnr=psnr,
        measurement=str(experiment.test.pairs.measurement) if experiment.test and finished else "",
        failed_denoisers=failed,
    )


def _written_paths(run: Run) -> dict[str, Any]:
    """As the configuration has them, not where they lie on this machine."""
    return {name: value for name, value in run.config.problem.settings.items() if name in config.PATHS}


def _done_words(outcome: Outcome) -> str:
    """Of a training that this command found finished."""
    name = f"{outcome.run}: " if outcome.run else ""
    return f"{name}finished: {outcome.epochs} epochs, {outcome.updates} updates, {outcome.seconds:.1f} s"


def _test_words(outcome: Outcome) -> str:
    """`test: learned 23.71 dB, noisy 20.05 dB, finite_differences 26.33 dB (PSNR at peak 1, y is noisy)`."""
    said = [f"{name} {one.mean_db:.2f} dB" for name, one in outcome.psnr.items() if one.mean_db is not None]
    said += [f"{name} failed: {why}" for name, why in outcome.failed_denoisers.items()]
    peak = outcome.config["readings"]["psnr_peak"]
    return f"test: {', '.join(said)} (PSNR at peak {peak:g}, y is {outcome.measurement})"


def _far(training: Training) -> str:
    position = training.position
    return f"{position.epoch} epochs, {position.updates} updates, {position.seconds:.1f} s"


class _Asked:
    """Ctrl-C and SIGTERM, which are heard between two updates; a second one interrupts at once."""

    def __init__(self) -> None:
        self.to_stop = False

    def __enter__(self) -> _Asked:
        self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.to_stop:
            raise KeyboardInterrupt
        self.to_stop = True


class _Follower(Watch):
    """Any rank but the first."""

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked

    def stopping(self) -> bool:
        return self._asked.to_stop

    def saving(self) -> bool:
        return False

    def save(self) -> None:
        pass

    def epoch(self, point: Point) -> None:
        pass

    def update(self, position: Position) -> None:
        pass


class _Leader(Watch):
    """The first rank, which writes and says what all have done."""

    def __init__(self, folder: Folder, shown: Show, asked: _Asked, checkpoint_seconds: float) -> None:
        self._folder, self._shown, self._asked = folder, shown, asked
        self._every_seconds, self._saved = checkpoint_seconds, time.monotonic()

    def stopping(self) -> bool:
        return self._asked.to_stop

    def saving(self) -> bool:
        return time.monotonic() - self._saved >= self._every_seconds

    def save(self) -> None:
        self._folder.save()
        self._folder.write_status(Status.RUNNING)
        self._saved = time.monotonic()

    def epoch(self, point: Point) -> None:
        self._folder.append(point)
        self._shown.epoch(point)

    def update(self, position: Position) -> None:
        self._shown.update(position)
