"""The report of a folder that `python -m bench learn` wrote, in the formats of runs."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from bench.denoising.score import Learned
from bench.learning.outcome import LEARNED, NOISY
from reports import filters
from reports.account import Account, claims_sentence
from reports.rounding import ABSENT
from reports.studies._learning import (
    ERRORS,
    curves_figure,
    differences,
    gain_db,
    mean_db,
    psnr_table,
    signed,
    transform_figure,
)
from reports.study import Study, StudyFigure, maker
from reports.trainings import Group, Missing, Trainings, read
from reports.trainings_table import (
    MISSING,
    NAMES,
    curves_frame,
    failures,
    table,
    test_names,
    trainings_frame,
)
from reports.write import FORMATS, write_account

if TYPE_CHECKING:
    from reports.plots.theme import Plot

BESIDE = ("finite_differences", "cosine")
"""Of which the first that was tried is drawn beside the curves."""
READ = (
    "Every seed is a line; all trainings of one setting have one colour, and one entry of the legend. Validation: at W "
    "as it is after the epoch; training: each pair at the W that it met in that epoch."
)
NOTES = (
    "A training that failed, or has not ended, is a row with a word in it. A row opens to its message, its settings "
    "and its folder.",
    "Losses are those of the last epoch; PSNR is a mean over held-out test signals.",
)


def write_trainings(folder: Path, out: Path, formats: Set[str] = frozenset(FORMATS)) -> list[Path]:
    """Returns what was written, the reports first. Raises ValueError where no training has ended yet."""
    return write_account(account_of(read(folder)), out, formats)


def account_of(trainings: Trainings) -> Account:
    """What the report says. Raises ValueError where there is no study of the configuration's name."""
    study, groups = study_of(trainings), trainings.groups
    ended, asked = len(trainings.ended), len(trainings.ended) + len(trainings.missing)
    return Account(
        folder=trainings.folder,
        title=trainings.title,
        subtitle=f"{ended} training{'s' * (ended > 1)}{f' of {asked}' if asked > ended else ''} in {_many(groups)}; "
        f"CPU: {dict(trainings.machine)['CPU']}",
        machine=trainings.machine,
        verdicts=(*claims_sentence(study), _best(groups), _finished(trainings)),
        study=study,
        tables=(),
        notes=NOTES,
        cells_heading="All trainings",
        cells=table(trainings),
        failures=failures(trainings),
        plots_heading="Curves",
        plots_note=READ,
        plots=lambda: _plots(groups),
        plotted=frozenset({"learning_curves"}),
        gallery=lambda: (),
        sheets=(),
        frames={"trainings": lambda: trainings_frame(trainings), "curves": lambda: curves_frame(trainings)},
    )


def study_of(trainings: Trainings) -> Study:
    """The page of the configuration's study; tables and curves alone where it has none."""
    if trainings.study is None:
        groups = trainings.groups
        figures = (curves_figure(groups, "finite_differences"), _rows_figure(groups))
        return Study("Training", "No study: what was learned, and how.", (), (psnr_table(groups),), figures)
    return maker(trainings.study)(trainings.groups)


def _rows_figure(groups: Sequence[Group]) -> StudyFigure:
    """Of patches, the rows as filters; of signals, beside first differences."""
    patches = [
        Learned(group.label, str(first.outcome.problem.get("picture") or ""), first.W)
        for group in groups
        if (first := group.first) and first.W is not None and first.outcome.problem.get("signal") == "patches"
    ]
    return filters.figure(patches) if patches else transform_figure(groups, "first differences", differences)


def _plots(groups: Sequence[Group]) -> Sequence[Plot]:
    from reports.trainings_plots import plots  # plotly takes a second to load

    tried = [(name, mean.value) for name in BESIDE for group in groups if (mean := mean_db(group, name))]
    return plots(groups, tried[0] if tried else None)


def _many(groups: Sequence[Group]) -> str:
    return "one setting" if len(groups) == 1 else f"{len(groups)} settings"


def _best(groups: Sequence[Group]) -> str:
    """Against the denoiser that is best of all but the learned W, setting by setting."""
    names = [name for name in test_names(groups) if name not in (LEARNED, NOISY)]
    gains = []
    for group in groups:
        rivals = [(mean.value, name) for name in names if (mean := mean_db(group, name))]
        if rivals and (gain := gain_db(group, max(rivals)[1])):
            gains.append((group, max(rivals)[1], gain))
    if not gains:
        return "Nothing was held against the learned W: no training that has finished has a [test] with denoisers."
    above = sum(gain.value > ERRORS * (gain.error or 0.0) for _, _, gain in gains)
    group, name, gain = max(gains, key=lambda one: one[2].value)
    return (
        f"On held-out signals the learned W is above the best of the other denoisers, by more than two standard "
        f"errors, in {above} of {len(gains)} setting{'s' * (len(gains) > 1)}; its largest gain is {signed(gain)} dB "
        f"over {NAMES.get(name, name)} ({group.label}; seeds: {group.seeds})."
    )


def _finished(trainings: Trainings) -> str:
    failed = [(group, one) for group, one in trainings.ended if one.outcome.status != "finished"]
    total = len(trainings.ended) + len(trainings.missing)
    first = f"{failed[0][0].label}: {_words(failed[0][1].outcome.message)}" if failed else ""
    lost = [f"{len(failed)} failed ({first})"] if failed else []
    lost += _missing(trainings.missing)
    if lost:
        return f"Of {total} trainings {', '.join(lost)}: their claims rest on the others, or are not measured."
    seconds = sum(one.outcome.seconds for _, one in trainings.ended)
    return f"{'The only training' if total == 1 else f'All {total} trainings'} finished, in {seconds:.4g} s of work."


def _missing(missing: Sequence[Missing]) -> list[str]:
    if not missing:
        return []
    (first, *_), count = missing, len(missing)
    return [f"{count} {'is' if count == 1 else 'are'} {MISSING} ({first.label}, seed {first.seed or ABSENT})"]


def _words(message: str) -> str:
    return " ".join(message.split()) or "no message"
