"""Sheets of pictures: clean, noisy, and what each denoiser made of it, with its PSNR."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.denoising.score import IMAGES, Denoised, Score, best
from reports.kept_pictures import kept_picture
from reports.study import StudyFigure
from reports.style import PAGE_INCHES, Look, literal

ROWS, COLUMNS = 3, 5
TITLE_INCHES = 0.46
TITLE_WIDTH = 20


def sheets(denoised: Denoised) -> list[StudyFigure]:
    """At most so many pictures a sheet, of one sigma, for the first seed; of those whose files the folder has."""
    chosen = [score for score in best(denoised.scores) if score.seed == denoised.scores[0].seed]
    found = []
    for sigma in dict.fromkeys(score.sigma for score in chosen):
        own = [score for score in chosen if score.sigma == sigma]
        names = [
            name for name in dict.fromkeys(score.picture for score in own) if _clean(denoised.folder, name).exists()
        ]
        for number, some in enumerate(_parts(names), 1):
            rows = [[score for score in own if score.picture == name] for name in some]
            found.append(
                StudyFigure(
                    f"sheet_{sigma:g}_{number}",
                    f"Pictures at sigma = {sigma:g} of 255.",
                    "Clean, noisy, then each denoiser with its PSNR and SSIM, seed "
                    f"{denoised.scores[0].seed}; grey values clipped to [0, 1].",
                    partial(_draw, denoised.folder, rows),
                )
            )
    return found


def _clean(folder: Path, picture: str) -> Path:
    return folder / IMAGES / f"{picture}.png"


def _parts(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + ROWS] for start in range(0, len(names), ROWS)]


def _draw(folder: Path, rows: Sequence[Sequence[Score]], look: Look) -> Figure:
    """Each picture is a block of as many lines as its denoisers need."""
    del look
    cells = len(rows[0]) + 1
    columns = min(COLUMNS, cells)
    lines = -(-cells // columns)
    side = PAGE_INCHES / columns
    shapes = [score.height / score.width for (score, *_) in rows]
    heights = [side * shape + TITLE_INCHES for shape in shapes for _ in range(lines)]
    figure = Figure(figsize=(PAGE_INCHES, sum(heights)), layout="constrained")
    grid = figure.subplots(lines * len(rows), columns, squeeze=False, height_ratios=heights)
    for block, scores in enumerate(rows):
        axes = [axes for line in grid[block * lines : (block + 1) * lines] for axes in line]
        _show(axes[0], _clean(folder, scores[0].picture), f"{scores[0].picture}\nclean")
        for cell, score in zip(axes[1:], scores, strict=False):
            _show(cell, folder / score.image if score.image else None, _words(score))
        for spare in axes[cells:]:
            spare.remove()
    return figure


def _words(score: Score) -> str:
    name = "\n".join(textwrap.wrap(score.label, TITLE_WIDTH)[:2])
    if score.psnr_db is None or score.ssim is None:
        return f"{name}\nfailed"
    return f"{name}\n{score.psnr_db:.2f} dB, {score.ssim:.2f}"


def _show(axes: Axes, path: Path | None, title: str) -> None:
    axes.set_title(literal(title), fontsize=6.5)
    axes.set_axis_off()
    picture = None if path is None else kept_picture(path)
    if picture is not None:
        axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
