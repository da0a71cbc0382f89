"""The report of a folder that `python -m bench denoise` wrote, in the formats of runs."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from bench.denoising.score import NOISY, Denoised, best, mean_psnr, read_folder
from reports import filters
from reports.account import Account, Exhibit, claims_sentence
from reports.content import machine_of
from reports.denoised import FAILED, MISSING, labelled, status, tables
from reports.denoised_figure import sheets
from reports.denoised_table import failures, scores_frame, table
from reports.study import Study, maker
from reports.write import FORMATS, write_account

if TYPE_CHECKING:
    from reports.plots.theme import Plot

NOTES = (
    "PSNR with peak 1 for grey values in [0, 1], SSIM with a uniform window of 7 x 7 pixels, both by scikit-image on "
    "the whole picture, nothing clipped. Noise is drawn from the seed and the clean picture's hash. Pictures are "
    "clipped to [0, 1].",
    "A score that failed, or has not been taken, is a row with a word in it. Chosen: of what is tuned, the values with "
    "the highest mean PSNR on these very pictures; all other tables, plots and pictures are of these.",
)


def write_denoised(folder: Path, out: Path, formats: Set[str] = frozenset(FORMATS)) -> list[Path]:
    """Returns what was written, the reports first. Raises ValueError where the folder does not say what was asked."""
    return write_account(account_of(read_folder(folder)), out, formats)


def account_of(denoised: Denoised) -> Account:
    """What the report says. Raises ValueError where there is no study of the configuration's name."""
    study, machine = study_of(denoised), machine_of(denoised.folder)
    pictures, seeds = (len({getattr(score, name) for score in denoised.scores}) for name in ("picture", "seed"))
    return Account(
        folder=denoised.folder,
        title=denoised.title,
        subtitle=f"{len(denoised.scores)} scores: {pictures} picture{'s' * (pictures > 1)}, {seeds} "
        f"seed{'s' * (seeds > 1)}; CPU: {dict(machine)['CPU']}",
        machine=machine,
        verdicts=(*claims_sentence(study), *_best(denoised), _done(denoised)),
        study=study,
        tables=tuple(tables(denoised)),
        notes=NOTES,
        cells_heading="All scores",
        cells=table(denoised),
        failures=failures(denoised),
        plots_heading="Denoisers",
        plots_note="Each denoiser as tuned at its sigma. One that failed has no point, but a row in the table.",
        plots=lambda: _plots(denoised),
        plotted=frozenset(),
        gallery=lambda: _gallery(denoised),
        sheets=tuple(sheets(denoised)),
        frames={"scores": lambda: scores_frame(denoised)},
    )


def study_of(denoised: Denoised) -> Study:
    """The page of the configuration's study; the learned filters alone where it has none."""
    if denoised.study is None:
        figures = (filters.figure(denoised.learned),) if denoised.learned else ()
        return Study("Denoising", denoised.title, (), (), figures)
    return maker(denoised.study)(denoised)


def _plots(denoised: Denoised) -> Sequence[Plot]:
    from reports.denoised_plots import plots

    return plots(denoised)


def _gallery(denoised: Denoised) -> Sequence[Exhibit]:
    from reports.denoised_gallery import gallery

    return gallery(denoised)


def _best(denoised: Denoised) -> list[str]:
    """A sentence for each sigma."""
    chosen, said = best(denoised.scores), []
    for sigma in dict.fromkeys(score.sigma for score in chosen):
        own = labelled([score for score in chosen if score.sigma == sigma and score.key != NOISY])
        means = sorted(((mean_psnr(scores), label) for label, scores in own.items()), reverse=True)
        whole = [(mean, label) for mean, label in means if mean > float("-inf")]
        if not whole:
            said.append(f"At sigma = {sigma:g} no denoiser did all pictures, so that there is no best one.")
            continue
        (mean, label), rest = whole[0], whole[1:]
        ahead = f", {mean - rest[0][0]:.2f} dB above {rest[0][1]}, the next" if rest else ""
        said.append(f"At sigma = {sigma:g} {label} has the highest mean PSNR: {mean:.2f} dB{ahead}.")
    return said


def _done(denoised: Denoised) -> str:
    total = len(denoised.scores)
    counts = {name: sum(status(score) == name for score in denoised.scores) for name in (FAILED, MISSING)}
    lost = [f"{count} {'have' if count > 1 else 'has'} {_verb(name)}" for name, count in counts.items() if count]
    return f"Of {total} scores {' and '.join(lost)}." if lost else f"All {total} scores are there."


def _verb(name: str) -> str:
    return "failed" if name == FAILED else "not been taken yet"
