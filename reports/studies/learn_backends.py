"""One training driven by every backend: what the cost of a gradient method is in what it buys."""

from __future__ import annotations

from collections.abc import Sequence

from bench.aligned import Column, Table
from reports.rounding import ABSENT, plain, scientific
from reports.studies._learning import curves_figure, losses, psnr_table
from reports.study import Claim, Study, Verdict
from reports.trainings import Group, Training

SOURCE = "BLORC, journal, Theorems 3.1 and 3.2"
THE_GRADIENT = "active_set_adjoint"
"""The backend whose solutions and adjoints are certified in every call."""
SAME = 1e-3
"""Relative difference of the losses at every epoch below which two trainings count as the same."""


def study(groups: Sequence[Group]) -> Study:
    """The page."""
    return Study(
        title="One training, every backend",
        question=(
            "The same pairs, the same shuffles, the same steps from the same W: how long does each gradient method "
            "take to the same loss, and is it the same loss?"
        ),
        claims=(_same_path(groups),),
        tables=(_cost(groups), psnr_table(groups)),
        figures=(curves_figure(groups, "finite_differences"),),
    )


def _key(group: Group) -> str:
    return str(group.trainings[0].outcome.config.get("backend", {}).get("key"))


def _first(groups: Sequence[Group], key: str) -> Training | None:
    return next((group.first for group in groups if _key(group) == key and group.first), None)


def _difference(training: Training, truth: Training) -> float | None:
    """The largest relative difference of the losses over the epochs that both have."""
    pairs = zip(losses(training), losses(truth), strict=False)
    return max((abs(ours - theirs) / theirs for (_, ours), (_, theirs) in pairs), default=None)


def _same_path(groups: Sequence[Group]) -> Claim:
    """Reproduced where the losses of the closed form are those of the certified gradients at every epoch."""
    published = "the closed form is the gradient, so that training with it follows the same path as with any exact one"
    blorc, truth = _first(groups, "blorc"), _first(groups, THE_GRADIENT)
    difference = _difference(blorc, truth) if blorc and truth else None
    if difference is None:
        why = f"it needs a finished training with blorc and one with {THE_GRADIENT}"
        return Claim(SOURCE, published, ABSENT, Verdict.NOT_MEASURED, why)
    ours = f"training losses of blorc and {THE_GRADIENT} differ by {scientific(difference)} at most, relatively"
    verdict = Verdict.REPRODUCED if difference <= SAME else Verdict.NOT_REPRODUCED
    return Claim(SOURCE, published, ours, verdict, f"reproduced asks for {SAME:g} or less at every epoch")


def _cost(groups: Sequence[Group]) -> Table:
    truth = _first(groups, THE_GRADIENT)
    ends = [losses(group.first)[-1][1] for group in groups if group.first and losses(group.first)]
    goal = 1.05 * min(ends) if ends else 0.0
    fastest = min((one.outcome.seconds for group in groups for one in group.finished), default=0.0)
    return Table(
        "What each backend takes",
        (
            Column("backend", numeric=False),
            Column("time of an epoch", "ms"),
            Column("times the fastest"),
            Column("time to 1.05 of the lowest training loss", "s"),
            Column("losses differ from the certified by at most"),
            Column("calls not converged, last epoch"),
            Column("status", numeric=False),
        ),
        tuple(_cost_row(group, truth, goal, fastest) for group in groups),
        (
            f"Differences are relative, over all epochs, from {THE_GRADIENT}. Times hold the solver, the gradient and "
            "the validation.",
        ),
    )


def _cost_row(group: Group, truth: Training | None, goal: float, fastest: float) -> tuple[str, ...]:
    own = group.first
    if own is None:
        return (group.label, *[ABSENT] * 5, f"failed: {group.reason}")
    reached = next((seconds for seconds, loss in losses(own) if loss <= goal), None)
    difference = _difference(own, truth) if truth else None
    return (
        group.label,
        plain(1e3 * own.outcome.seconds / max(1, own.outcome.epochs)),
        plain(own.outcome.seconds / fastest, 2) if fastest else ABSENT,
        plain(reached) if reached is not None else "not reached",
        scientific(difference),
        str(own.points[-1].unconverged) if own.points else ABSENT,
        "finished",
    )
