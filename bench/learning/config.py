"""The configuration of `learn`: TOML in, what it names found and built, every mistake one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import torch

from bench.catalogue import Catalogue, NoSuchKeyError, PluginError
from bench.config import (
    ONE_OR_MORE,
    ConfigError,
    Count,
    Device,
    Dtype,
    Entry,
    RelativeTo,
    Seconds,
    Table,
    home_of,
    located,
    validated,
)
from bench.learning.held_out import HeldOut, Seen, held_out
from bench.learning.pairs import comparable
from bench.learning.ranks import local_device
from methods.contract import Method
from methods.learners._schedules import SCHEDULES, Schedule
from methods.learners.contract import Learner, learner_class
from problems.contract import Problem, input_sha256
from problems.registry import UnknownKey, keys, nearest

HOW_IT_RUNS = frozenset({"title", "study", "relative_to", "plugins", "threads", "checkpoint_seconds", "test"})
"""Keys that a run may be continued under another value of."""

STUDIES = "learn_"
"""How the names of studies of trainings start; the others are of cells."""

Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class ProblemTable(Entry):
    """`[problem]`: a family and its settings, `pairs` of which are for training."""

    family: str = "analysis_l1"


class Backend(Entry):
    """`[backend]`: a method and its parameters."""

    key: str = "active_set_adjoint"


class LearnerTable(Entry):
    """`[learner]`."""

    key: str = "gradient_descent"


class ScheduleTable(Entry):
    """`[schedule]`."""

    key: str = "constant"


class Readings(Table):
    """`[readings]`: what BLORC's paper says in more than one way. The defaults are Algorithm 4.1 as printed.

    Three more stand where they belong: the half of the lower level is `fidelity` of `[problem]` (X.1), gamma is `gamma`
    of the backend `blorc` (X.10), the seeds, of which the paper names none, are `seed` (shuffles) and `seed` of
    `[problem]`.
    """

    loss_factor: Positive = 1.0
    """Of ||x* - x_t||^2: 1 gives Algorithm 4.1's 2 (x* - x_t), 0.5 Corollary 3.3's x* - x_t (X.2, X.6)."""
    batch_reduction: Literal["sum", "mean"] = "sum"
    """Algorithm 4.1 accumulates and does not divide; the text averages (X.3)."""
    psnr_peak: Positive = 1.0
    """The signals' peak (J.12); the paper gives no formula (X.15)."""
    psnr_average: Literal["signals", "errors"] = "signals"
    """The mean of the signals' PSNR, or the PSNR of their mean squared error (U.8)."""


class TestTable(Table):
    """`[test]`: held-out pairs for the learned theta and for denoisers fitted to (at most 1000) training pairs."""

    __test__ = False  # for pytest, which collects by name

    pairs: Count = 20
    """As many as the paper has (J.14)."""
    seed_shift: Count = 1000
    """Added to `seed` of `[problem]` for these pairs, so that they are none of those for training or validation. Where
    the seed decides more than the pairs, such as a random A, they are drawn after those for validation instead."""
    denoisers: Annotated[tuple[str, ...], ONE_OR_MORE] = ()
    """Names of files of `methods/denoisers/` for signals."""


class LearnConfig(Table):
    """The whole document of one training; `bench/learning/matrix.py` makes several of one with axes."""

    title: str = ""
    study: str | None = None
    """The file of `reports/studies/` whose page `report` makes: one that starts with `learn_`."""
    relative_to: RelativeTo = None
    plugins: tuple[str, ...] = ()
    """Third parties' files."""
    epochs: Count = 750
    batch: Count = 100
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    """Of the shuffles: epoch e is shuffled by numpy's default generator seeded with (seed, e)."""
    validation_pairs: Annotated[int, pydantic.Field(ge=0)] = 400
    """Drawn after those for training, by the same settings."""
    warm: bool = True
    """Whether a pair's lower level starts from its solution of the epoch before."""
    device: Device = "cpu"
    dtype: Dtype = "float64"
    threads: Count | None = None
    """Of each rank; left out, the machine's cores shared out."""
    checkpoint_seconds: Seconds = 30.0
    problem: ProblemTable = ProblemTable()
    backend: Backend = Backend()
    learner: LearnerTable = LearnerTable()
    schedule: ScheduleTable = ScheduleTable()
    readings: Readings = Readings()
    test: TestTable | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides theta, as JSON."""
        return self.model_dump(mode="json", exclude=set(HOW_IT_RUNS))


@dataclass(frozen=True)
class Experiment:
    """A configuration with everything that it names."""

    config: LearnConfig
    training: Problem
    validation: Problem | None
    method: Method
    learner: Learner
    schedule: Schedule
    test: HeldOut | None
    catalogue: Catalogue

    @property
    def plugin_sha256(self) -> str | None:
        """Of the third parties' files that it runs; None where there is none."""
        return self.catalogue.plugin_sha256(self.config.backend.key, self.config.problem.family)

    @property
    def decides(self) -> dict[str, str | None]:
        """What decides theta beside the configuration: hashes of the data and of the plug-ins."""
        validation = None if self.validation is None else input_sha256(self.validation)
        data = {"data_sha256": input_sha256(self.training), "validation_sha256": validation}
        return {**data, "plugin_sha256": self.plugin_sha256}

    @property
    def made_of(self) -> dict[str, str | None]:
        """All that an outcome is made of beside the configuration."""
        return {**self.decides, "test_sha256": None if self.test is None else input_sha256(self.test.pairs)}


def parse(document: dict[str, Any], file: Path) -> LearnConfig:
    """Raises ConfigError."""
    config = validated(LearnConfig, document, str(file), "")
    studies = [name for name in keys("reports.studies") if name.startswith(STUDIES)]
    if config.study is not None and config.study not in studies:
        suggestion = nearest(config.study, studies)
        raise ConfigError(f"{file}: study: there is no '{config.study}' for trainings: {suggestion}")
    return config


def resolve(config: LearnConfig, file: Path, plugins: Sequence[Path]) -> Experiment:
    """With the data, on the device. Raises ConfigError."""
    device = local_device(config.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{file}: device: there is no {device} here: {torch.cuda.device_count()} GPUs were found")
    try:
        catalogue = Catalogue.of([*(home_of(config.relative_to, file) / name for name in config.plugins), *plugins])
    except PluginError as error:
        raise ConfigError(f"{file}: {error}") from None
    training, validation = _problems(config, catalogue, str(file), device)
    method = _method(config, catalogue, str(file))
    if (refusal := method.refusal(training.subset(slice(0, config.batch)))) is not None:
        raise ConfigError(f"{file}: backend: {config.backend.key} cannot run on {config.problem.family}: {refusal}")
    learner, schedule = _learner(config, str(file)), _schedule(config, str(file))
    test = _test(config, catalogue, (training, validation), method, file)
    return Experiment(config, training, validation, method, learner, schedule, test, catalogue)


def _problems(
    config: LearnConfig, catalogue: Catalogue, file: str, device: torch.device
) -> tuple[Problem, Problem | None]:
    """Built as one: a pair depends on the seed and on its number alone, and operators on neither."""
    try:
        family = catalogue.problem(config.problem.family)
    except NoSuchKeyError as error:
        raise ConfigError(f"{file}: problem.family: {error}") from None
    validated(family.settings_type, config.problem.settings, file, "problem", ProblemTable)
    settings: Any = _settings(config, family, Path(file))
    pairs = settings.pairs
    if config.batch > pairs:
        raise ConfigError(f"{file}: batch: {config.batch} is more than problem.pairs = {pairs}: use {pairs} or less")
    try:
        built = family.build(settings.model_copy(update={"pairs": pairs + config.validation_pairs}))
    except Exception as error:  # of a third party's family, too
        text = " ".join(str(error).split())
        raise ConfigError(f"{file}: problem: {config.problem.family} cannot be built: {text}") from None
    if built.batch != pairs + config.validation_pairs:
        wrong = f"{config.problem.family} has {built.batch} pairs of these settings, not {pairs} for training and"
        raise ConfigError(f"{file}: problem: {wrong} {config.validation_pairs} for validation")
    built = built.to(device, getattr(torch, config.dtype))
    try:
        comparable(built)
    except Exception as error:  # of a third party's family, too
        text = " ".join(str(error).split())
        raise ConfigError(f"{file}: problem: {config.problem.family} cannot reconstruct: {text}") from None
    validation = built.subset(slice(pairs, None)) if config.validation_pairs else None
    return built.subset(slice(0, pairs)), validation


def _settings(config: LearnConfig, family: type[Problem], file: Path) -> Any:
    return family.settings_type.model_validate(located(config.problem.settings, home_of(config.relative_to, file)))


def _test(
    config: LearnConfig, catalogue: Catalogue, built: tuple[Problem, Problem | None], method: Method, file: Path
) -> HeldOut | None:
    if config.test is None:
        return None
    family = catalogue.problem(config.problem.family)
    settings = _settings(config, family, file)
    seen = Seen(config.problem.family, family, settings, tuple(part for part in built if part is not None))
    given = config.test
    return held_out(seen, method, given.pairs, given.seed_shift, given.denoisers, config.batch, file)


def _method(config: LearnConfig, catalogue: Catalogue, file: str) -> Method:
    try:
        method = catalogue.method(config.backend.key)
    except NoSuchKeyError as error:
        raise ConfigError(f"{file}: backend.key: {error}") from None
    return validated(method, config.backend.settings, file, "backend", Backend)


def _learner(config: LearnConfig, file: str) -> Learner:
    try:
        learner = learner_class(config.learner.key)
    except UnknownKey as error:
        raise ConfigError(f"{file}: learner.key: {error}") from None
    return validated(learner, config.learner.settings, file, "learner", LearnerTable)


def _schedule(config: LearnConfig, file: str) -> Schedule:
    key = config.schedule.key
    if key not in SCHEDULES:
        raise ConfigError(f"{file}: schedule.key: there is no '{key}': {nearest(key, list(SCHEDULES))}")
    return validated(SCHEDULES[key], config.schedule.settings, file, "schedule", ScheduleTable)
