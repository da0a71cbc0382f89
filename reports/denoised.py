"""What `denoise` has found, as tables: on the terminal, and in its report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from rich.console import Console

from bench.aligned import Column, Table, print_table
from bench.denoising.score import NOISY, Denoised, Score, at_an_end, best
from reports.rounding import ABSENT, with_spread
from reports.tables import assignments

FAILED, MISSING, DONE = "failed", "missing", "ok"
"""What became of a score; `missing`: it was asked for, and has not been taken yet."""
AT_AN_END = " (at an end)"


def status(score: Score) -> str:
    """One of the three words."""
    if score.message:
        return FAILED
    return MISSING if score.psnr_db is None else DONE


def word(scores: Sequence[Score]) -> str:
    """That of several, which are as good as the worst."""
    found = {status(score) for score in scores}
    return next(each for each in (FAILED, MISSING, DONE) if each in found or each == DONE)


def tables(denoised: Denoised) -> list[Table]:
    """One of means for each sigma, then one of PSNR by picture for each."""
    chosen = best(denoised.scores)
    sigmas = list(dict.fromkeys(score.sigma for score in chosen))
    by_sigma = {sigma: [score for score in chosen if score.sigma == sigma] for sigma in sigmas}
    means = [_means(sigma, own, denoised.scores) for sigma, own in by_sigma.items()]
    return means + [_each(sigma, own) for sigma, own in by_sigma.items()]


def _means(sigma: float, scores: Sequence[Score], tried: Sequence[Score]) -> Table:
    pictures, seeds = (len({getattr(score, name) for score in scores}) for name in ("picture", "seed"))
    columns = (
        Column("denoiser", numeric=False),
        Column("tuned to", numeric=False),
        Column("PSNR", "dB"),
        Column("over pictures", "± dB"),
        Column("over seeds", "± dB"),
        Column("SSIM"),
        Column("time", "s per picture"),
    )
    rows = []
    for label, own in labelled(scores).items():
        tuned = (assignments(own[0].tuned) or ABSENT) + AT_AN_END * at_an_end(own[0], tried)
        psnr, ssim = [s.psnr_db for s in own if s.psnr_db is not None], [s.ssim for s in own if s.ssim is not None]
        if len(psnr) < len(own):
            rows.append((label, tuned, f"{word(own)} ({len(own) - len(psnr)} of {len(own)})", *[ABSENT] * 4))
            continue
        of_pictures = [statistics.fmean(values) for values in _grouped(own, lambda score: score.picture)]
        of_seeds = [statistics.stdev(values) for values in _grouped(own, lambda s: s.picture) if len(values) > 1]
        rows.append(
            (
                label,
                tuned,
                f"{statistics.fmean(psnr):.2f}",
                f"{statistics.stdev(of_pictures):.2f}" if len(of_pictures) > 1 else ABSENT,
                f"{math.sqrt(statistics.fmean(s * s for s in of_seeds)):.2f}" if of_seeds else ABSENT,
                f"{statistics.fmean(ssim):.3f}",
                ABSENT if own[0].key == NOISY else f"{statistics.fmean(score.seconds for score in own):.2g}",
            )
        )
    counted = f"{pictures} picture{'s' * (pictures > 1)}, {seeds} seed{'s' * (seeds > 1)}"
    notes = [
        "Over pictures: standard deviation of the pictures' PSNR, each a mean over the seeds; over seeds: of one "
        "picture's PSNR, the root mean square over pictures.",
        "Tuned for the highest mean PSNR on these very pictures, as the paper's baselines were (readings.md J.21).",
    ]
    if any(row[1].endswith(AT_AN_END) for row in rows):
        notes.append("At an end: the least or the greatest value that was tried; a further one may be better.")
    return Table(f"sigma = {sigma:g} of 255: means over {counted}", columns, tuple(rows), tuple(notes))


def _each(sigma: float, scores: Sequence[Score]) -> Table:
    labels = list(dict.fromkeys(score.label for score in scores))
    columns = (Column("picture", numeric=False), Column("pixels"), *(Column(label, "dB") for label in labels))
    rows = []
    for picture in dict.fromkeys(score.picture for score in scores):
        own = [score for score in scores if score.picture == picture]
        cells = [_cell([score for score in own if score.label == label]) for label in labels]
        rows.append((picture, f"{own[0].height} x {own[0].width}", *cells))
    return Table(f"sigma = {sigma:g} of 255: PSNR by picture, mean over the seeds", columns, tuple(rows), ())


def _cell(scores: Sequence[Score]) -> str:
    known = [score.psnr_db for score in scores if score.psnr_db is not None]
    if not known or len(known) < len(scores):
        return word(scores) if scores else ABSENT
    return with_spread(statistics.fmean(known), statistics.stdev(known)) if len(known) > 1 else f"{known[0]:.2f}"


def labelled(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """By the denoisers' names, in their order."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.label, []).append(score)
    return found


def _grouped(scores: Sequence[Score], key: Callable[[Score], str]) -> list[list[float]]:
    found: dict[str, list[float]] = {}
    for score in scores:
        if score.psnr_db is not None:
            found.setdefault(key(score), []).append(score.psnr_db)
    return list(found.values())


def print_tables(denoised: Denoised, console: Console) -> None:
    """The means, aligned."""
    for table in tables(denoised):
        if not table.rows or table.columns[0].title != "denoiser":
            continue
        print_table(table, console)
