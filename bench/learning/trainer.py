"""The loop: epochs of shuffled batches, one step of the learner for each (BLORC, Algorithm 4.1).

Invariant: what comes after an update depends on the configuration, `Position` and the pairs' last solutions alone.
Those are what a checkpoint holds, so that a training that is killed and continued ends at the same theta, bit for bit.
"""

from __future__ import annotations

import abc
import math
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.learning.config import Experiment
from bench.learning.curves import Point
from bench.learning.pairs import Numbers, Pairs, psnr_db
from bench.learning.ranks import Ranks
from bench.learning.vector import Layout
from bench.output import said
from methods.learners.contract import State, Vector


class TrainingError(RuntimeError):
    """Training cannot go on; one line. Everything up to the update before is kept."""


@dataclass
class Position:
    """How far a training is: `done` pairs into the epoch after `epoch` whole ones. The counts are those of `Point`."""

    theta: Vector
    state: State
    epoch: int = 0
    done: int = 0
    updates: int = 0
    gradients: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    """Summed over the pairs of this epoch so far."""
    unconverged: int = 0
    rate: float = 0.0

    COUNTS: ClassVar = ("epoch", "done", "updates", "gradients", "seconds", "loss", "unconverged", "rate")

    @property
    def counts(self) -> dict[str, Any]:
        """All but the arrays, as JSON."""
        return {name: getattr(self, name) for name in self.COUNTS}


class Watch(abc.ABC):
    """Told what happens, on every rank; says what is wanted, and one rank's wish is all ranks'."""

    @abc.abstractmethod
    def stopping(self) -> bool:
        """Whether this rank was asked to stop."""

    @abc.abstractmethod
    def saving(self) -> bool:
        """Whether a checkpoint is due."""

    @abc.abstractmethod
    def save(self) -> None:
        """Between two updates; all ranks hold the same."""

    @abc.abstractmethod
    def epoch(self, point: Point) -> None:
        """One more epoch is done."""

    @abc.abstractmethod
    def update(self, position: Position) -> None:
        """One more update is done."""


@dataclass
class Training:
    """One rank of a training."""

    experiment: Experiment
    ranks: Ranks
    position: Position = field(init=False)
    training: Pairs = field(init=False)
    validation: Pairs | None = field(init=False)

    def __post_init__(self) -> None:
        given, self._since = self.experiment, 0.0
        self._failure: TrainingError | None = None
        theta0 = given.training.theta0()
        self._layout = Layout.of(theta0)
        theta = self._layout.join(theta0)
        self.position = Position(theta, given.learner.start(theta))
        self.training = Pairs(given.training, given.method, given.config.warm)
        self.validation = Pairs(given.validation, given.method, given.config.warm) if given.validation else None

    @property
    def theta(self) -> dict[str, Tensor]:
        """By its names."""
        return self._layout.split(self.position.theta)

    @property
    def arrays(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the counts, by name; `restore` takes the same."""
        named = {"theta": self.position.theta}
        named |= {f"learner.{name}": value for name, value in self.position.state.items()}
        for prefix, pairs in (("training", self.training), ("validation", self.validation)):
            named |= {} if pairs is None else {f"{prefix}.{name}": held for name, held in pairs.arrays.items()}
        return named

    def restore(self, counts: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """To where a training of the same configuration was."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): held for name, held in arrays.items() if name.startswith(prefix)}

        before = self.position
        state = {name: held.to(before.state[name].device) for name, held in under("learner.").items()}
        self.position = Position(arrays["theta"].to(before.theta.device), state, **counts)
        self.training.restore(under("training."))
        if self.validation is not None:
            self.validation.restore(under("validation."))

    @property
    def is_finished(self) -> bool:
        return self.position.epoch == self.experiment.config.epochs

    def run(self, watch: Watch) -> bool:
        """Up to the last epoch, which it says; False where a rank was asked to stop. Raises TrainingError."""
        config, position, pairs = self.experiment.config, self.position, self.experiment.training.batch
        self._since = time.perf_counter() - position.seconds
        while not self.is_finished:
            order = torch.from_numpy(np.random.default_rng([config.seed, position.epoch]).permutation(pairs))
            left = order[position.done :].to(position.theta.device)
            for batch in torch.split(left, config.batch):
                stop, save = self._update(batch, watch)
                if position.done == pairs:
                    watch.epoch(self._end_of_epoch())
                position.seconds = time.perf_counter() - self._since
                watch.update(position)
                if stop or save or self.is_finished:
                    self._gather()
                    watch.save()
                if stop and not self.is_finished:
                    return False
        return True

    def _update(self, batch: Numbers, watch: Watch) -> tuple[bool, bool]:
        """One step of the learner on this batch, and whether to stop and to save after it."""
        given, position = self.experiment, self.position
        mine = self.ranks.share(batch)
        reduced = 1.0 if given.config.readings.batch_reduction == "sum" else 1.0 / len(batch)
        scale = 2.0 * given.config.readings.loss_factor * reduced  # the family's loss has the half
        losses: list[float] = []
        wishes = [0.0, 0.0]

        def objective(theta: Vector) -> tuple[Tensor, Vector]:
            told = torch.cat([*self._mine(theta, mine), theta.new_tensor([watch.stopping(), watch.saving()])])
            told = self.ranks.sum(told)
            if self._failure is not None:
                raise self._failure
            g, (loss, *wished) = told[:-3], told[-3:].tolist()
            finite = math.isfinite(loss) and bool(g.isfinite().all())
            if not losses and not finite:  # a line search may try what it then rejects
                raise self._not_finite("gradient" if math.isfinite(loss) else "loss", theta)
            losses.append(loss)
            wishes[:] = map(max, wishes, wished)
            return told[-3] * scale, g * scale

        part = position.done / given.training.batch
        position.rate = given.learner.rate * given.schedule.factor(position.epoch, part, given.config.epochs)
        theta, state = given.learner.step(position.theta, objective, position.state, position.rate)
        if not theta.isfinite().all():
            raise TrainingError(f"{self._place()}: theta is no longer finite: lower learner.rate")
        position.theta, position.state = theta, state
        position.done += len(batch)
        position.updates += 1
        position.gradients += len(losses)
        position.loss += losses[0]
        return wishes[0] > 0, wishes[1] > 0

    def _mine(self, theta: Vector, numbers: Numbers) -> tuple[Vector, Tensor]:
        """The gradient and the loss of this rank's share; NaN where its backend fails, for all ranks to see."""
        try:
            loss, gradient = self.training.gradient(self._layout.split(theta), numbers)
            return self._layout.join(gradient), loss.detach().reshape(1).to(theta.dtype)
        except (Exception, SystemExit) as error:  # of a third party's backend, too
            self._failure = self._failed(error, self._place())
            return torch.full_like(theta, torch.nan), theta.new_full((1,), torch.nan)

    def _failed(self, error: BaseException, place: str) -> TrainingError:
        failure = TrainingError(f"{place}: {self.experiment.config.backend.key} failed: {said(error)}")
        failure.__cause__ = error  # for its traceback
        return failure

    def _not_finite(self, what: str, theta: Vector) -> TrainingError:
        """A step too long and a backend at fault look the same but for theta."""
        key, largest = self.experiment.config.backend.key, float(theta.abs().max())
        return TrainingError(
            f"{self._place()}: the {what} by {key} is not finite, where the largest entry of theta is {largest:.3g}: "
            "where that is far too large lower learner.rate, else look at the backend"
        )

    def _place(self) -> str:
        return f"epoch {self.position.epoch + 1}, update {self.position.updates + 1}"

    def _gather(self) -> None:
        """What each rank has of the epoch so far, to all."""
        self.training.exchange(self.ranks)
        unconverged, self.training.unconverged = self.training.unconverged, 0
        self.position.unconverged += int(self.ranks.sum(self.position.theta.new_tensor([unconverged])))

    def _end_of_epoch(self) -> Point:
        self._gather()
        position = self.position
        factor = 2.0 * self.experiment.config.readings.loss_factor
        validation_loss = self._validation_loss(factor)
        point = Point(
            epoch=position.epoch + 1,
            updates=position.updates,
            gradients=position.gradients,
            seconds=time.perf_counter() - self._since,
            training_loss=factor * position.loss / self.experiment.training.batch,
            training_psnr_db=self._psnr_db(self.training),
            validation_loss=validation_loss,
            validation_psnr_db=self._psnr_db(self.validation),
            rate=position.rate,
            unconverged=position.unconverged,
        )
        position.epoch, position.done, position.loss, position.unconverged = position.epoch + 1, 0, 0.0, 0
        return point

    def _validation_loss(self, factor: float) -> float | None:
        """Mean over the pairs, whose lower levels are solved by batches as those for training are."""
        pairs = self.validation
        if pairs is None:
            return None
        numbers = torch.arange(pairs.problem.batch, device=self.position.theta.device)
        for batch in torch.split(self.ranks.share(numbers), self.experiment.config.batch):
            try:
                pairs.solve(self.theta, batch)
            except (Exception, SystemExit) as error:  # of a third party's backend, too
                raise self._failed(error, f"epoch {self.position.epoch + 1}, validation") from error
        pairs.exchange(self.ranks)
        return factor * float(pairs.problem.loss(pairs.x, self.theta)) / pairs.problem.batch

    def _psnr_db(self, pairs: Pairs | None) -> float | None:
        errors, readings = pairs.errors if pairs is not None else None, self.experiment.config.readings
        if errors is None or bool(errors.isnan().any()):
            return None
        return psnr_db(errors, readings.psnr_peak, readings.psnr_average)
