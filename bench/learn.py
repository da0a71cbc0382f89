"""The command `learn`: a training from its configuration to its folder, continued where one was stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import config
from bench.learning import ranks
from bench.learning.config import parse, resolve
from bench.learning.curves import Point
from bench.learning.folder import Folder, Outcome, continue_from
from bench.learning.show import Show, point_words, show
from bench.learning.trainer import Position, Training, TrainingError, Watch
from bench.threads import set_threads

FINE, FAILED = 0, 1


def learn(config_path: Path, out: Path, plugins: Sequence[Path], console: Console) -> int:
    """The exit code: 0 finished, 1 stopped or failed, with a checkpoint. One rank of as many as torchrun has started.

    Raises ConfigError and InUseError before anything is written.
    """
    settings = parse(config.read(config_path), config_path)
    set_threads(settings.threads or max(1, (os.cpu_count() or 1) // ranks.processes_here()))
    experiment = resolve(settings, config_path, plugins)
    team = ranks.join(ranks.local_device(settings.device))
    training = Training(experiment, team)
    continued = continue_from(out, training)
    with ExitStack() as closing:
        closing.callback(team.close)
        asked = closing.enter_context(_Asked())
        if team.rank != 0:
            return _finished(training, _Follower(asked))
        folder = closing.enter_context(Folder(out, config_path, training))
        if continued:
            _print(console, f"{out}: continues after {_far(training)}")
        shown = show(console, settings.epochs, experiment.training.batch, training.position)
        leader = _Leader(folder, shown, asked, settings.checkpoint_seconds)
        try:
            with shown:
                code = _finished(training, leader)
        except TrainingError as error:
            if training.position.done < experiment.training.batch:  # an epoch without its validation is done again
                folder.save()
            folder.write_status(Outcome.FAILED, str(error))
            _print(console, f"error: {error}")
            return FAILED
        folder.write_status(Outcome.FINISHED if code == FINE else Outcome.STOPPED)
        words = point_words(folder.last) if folder.last is not None else "no epoch is whole yet"
        _print(console, f"{'finished' if code == FINE else 'stopped'}: {_far(training)}: {words}")
        _print(console, f"training: {out}" if code == FINE else f"the same command with --out {out} continues")
        return code


def check(config_path: Path, plugins: Sequence[Path]) -> None:
    """Says before any rank is started what all of them would. Raises ConfigError."""
    resolve(parse(config.read(config_path), config_path), config_path, plugins)


def _finished(training: Training, watch: Watch) -> int:
    return FINE if training.run(watch) else FAILED


def _far(training: Training) -> str:
    position = training.position
    return f"{position.epoch} epochs, {position.updates} updates, {position.seconds:.1f} s"


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


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
        self._folder.write_status(Outcome.RUNNING)
        self._saved = time.monotonic()

    def epoch(self, point: Point) -> None:
        self._folder.append(point)
        self._shown.epoch(point)

    def update(self, position: Position) -> None:
        self._shown.update(position)
