"""The folder of a training: config.toml, environment.json, curves.jsonl, checkpoint.npz, theta.npz, status.json.

The checkpoint alone decides where a training continues; the other files are for the reader.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from bench import environment, output, plugin_store
from bench.config import ConfigError
from bench.learning import checkpoint
from bench.learning.checkpoint import CHECKPOINT, THETA
from bench.learning.config import Experiment
from bench.learning.curves import Curves, Point, read
from bench.learning.trainer import Position, Training
from bench.lock import held
from bench.own_files import Say, read_own, silent, warn
from bench.provenance import copy_config
from bench.whole_file import write_whole

SCHEMA = 1
STATUS = "status.json"
TRACEBACK = "training"
"""What the file of `output/` is called."""


class Status(enum.StrEnum):
    """The word of `status.json`."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


def refuse_another(folder: Path, experiment: Experiment) -> None:
    """Raises ConfigError where the folder's checkpoint is of another configuration, other data or another plug-in."""
    stored = read_own(folder / CHECKPOINT, _checkpoint, silent)
    difference = None if stored is None else _difference(stored[0]["identity"], experiment)
    if difference is not None:
        raise ConfigError(f"{folder}: holds another training: {difference}: choose another --out")


def continue_from(folder: Path, training: Training, say: Say = warn) -> bool:
    """Puts a training where its folder's checkpoint is; says whether there is one. A damaged one counts as none.

    Raises ConfigError.
    """
    refuse_another(folder, training.experiment)
    stored = read_own(folder / CHECKPOINT, _checkpoint, say)
    if stored is None:
        return False
    about, arrays = stored
    training.restore(about["counts"], arrays)
    return True


def _checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    about, arrays = checkpoint.read(path)
    if not isinstance(about["identity"], dict) or about["counts"].keys() != set(Position.COUNTS):
        raise ValueError(f"{path}: it is of no training")
    return about, {"theta": arrays["theta"], **arrays}


MADE_OF = {
    "data_sha256": "the training data",
    "validation_sha256": "the validation data",
    "test_sha256": "the test data",
    "plugin_sha256": "the plug-in",
}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """`the training data changed (1a2b3c4d, now 5e6f7a8b)`: of the hashes in `now`; None where they are the same."""
    for name, what in MADE_OF.items():
        if name in now and before.get(name) != now[name]:
            old, new = (sha256[:8] if sha256 else "not recorded" for sha256 in (before.get(name), now[name]))
            return f"{what} changed ({old}, now {new})"
    return None


def _identity(experiment: Experiment) -> dict[str, Any]:
    return {"schema": SCHEMA, **experiment.config.identity, **experiment.decides}


def _difference(before: Mapping[str, Any], experiment: Experiment) -> str | None:
    now = experiment.decides
    known = {"validation_sha256": now["validation_sha256"], **before}  # checkpoints of before do not have it
    settings = {name: value for name, value in known.items() if name not in MADE_OF}
    asked = {name: value for name, value in _identity(experiment).items() if name not in MADE_OF}
    return checkpoint.first_difference(settings, asked) or changed(known, now)


class Folder:
    """Held by rank 0 of a training while it runs; a second process is refused."""

    def __init__(self, path: Path, config_path: Path | None, training: Training) -> None:
        """One of several trainings has no configuration of its own: None."""
        self._path, self._config_path, self._training = path, config_path, training
        self._last: Point | None = None

    def __enter__(self) -> Self:
        """Raises InUseError."""
        self._closing = ExitStack()
        self._closing.enter_context(held(self._path))
        if self._config_path is not None:
            copy_config(self._config_path, self._path)
        plugin_store.keep(self._training.experiment.catalogue, self._path)
        machine = {**environment.describe(), "command": sys.argv, "ranks": self._training.ranks.count}
        write_whole(self._path / "environment.json", json.dumps(machine, indent=2) + "\n")
        self._curves = self._closing.enter_context(Curves(self._path, self._training.position.epoch))
        self._last = next(reversed(read(self._path)), None)
        self.write_status(Status.RUNNING)
        output.keep(self._path, TRACEBACK, [])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def append(self, point: Point) -> None:
        """One more epoch of the curves."""
        self._curves.append(point)
        self._last = point

    def save(self) -> None:
        """The checkpoint, and theta by itself."""
        self._curves.settle()
        training = self._training
        about = {"identity": _identity(training.experiment), "counts": training.position.counts}
        checkpoint.write(self._path / CHECKPOINT, about, training.arrays)
        counts = {name: training.position.counts[name] for name in ("epoch", "updates")}
        checkpoint.write(self._path / THETA, {**counts, **training.experiment.config.identity}, training.theta)

    @property
    def last(self) -> Point | None:
        """The newest point of the curves."""
        return self._last

    def write_failure(self, error: Exception) -> None:
        """The status, and where the backend raised an exception its traceback."""
        if error.__cause__ is not None:
            output.keep(self._path, TRACEBACK, [("traceback", output.traceback_of(error.__cause__))])
        self.write_status(Status.FAILED, str(error))

    def write_status(self, status: Status, message: str = "") -> None:
        counts = self._training.position.counts
        last = None if self._last is None else json.loads(self._last.to_line())
        written = {"status": status, "message": message, "epochs": self._training.experiment.config.epochs, **counts}
        write_whole(self._path / STATUS, json.dumps({**written, "last_epoch": last}, indent=2) + "\n")
