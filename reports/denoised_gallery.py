"""The pictures themselves, on the page: clean, noisy, and what each denoiser made of it, with its PSNR and SSIM."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from bench.denoising.score import IMAGES, Denoised, Score, best
from reports.account import Exhibit, Picture
from reports.denoised import status
from reports.kept_pictures import kept_picture

MOST_PIXELS = 192
"""Along a side: of a larger picture the middle is shown, pixel by pixel, for a smaller one would hide the noise."""


def gallery(denoised: Denoised) -> list[Exhibit]:
    """One for each picture and sigma, for the first seed."""
    chosen = [score for score in best(denoised.scores) if score.seed == denoised.scores[0].seed]
    pairs = dict.fromkeys((score.picture, score.sigma) for score in chosen)
    return [
        _exhibit(denoised.folder, [score for score in chosen if (score.picture, score.sigma) == pair]) for pair in pairs
    ]


def _exhibit(folder: Path, scores: Sequence[Score]) -> Exhibit:
    first = scores[0]
    part = ""
    if max(first.height, first.width) > MOST_PIXELS:
        size = f"{first.height} x {first.width}"
        part = f" Of {size} pixels the middle, {MOST_PIXELS} along a side; the numbers are of the whole picture."
    return Exhibit(
        f"{first.picture}, sigma = {first.sigma:g} of 255",
        f"Seed {first.seed}; PSNR in dB, SSIM; grey values clipped to [0, 1].{part}",
        (
            _picture(folder / IMAGES / f"{first.picture}.png", "clean", ""),
            *(_picture(folder / score.image if score.image else None, score.label, _words(score)) for score in scores),
        ),
    )


def _words(score: Score) -> str:
    if score.psnr_db is None or score.ssim is None:
        return status(score)
    return f"{score.psnr_db:.2f} dB, {score.ssim:.3f}"


def _picture(path: Path | None, title: str, words: str) -> Picture:
    if path is None:
        return Picture(title, words, "", 0, 0)
    whole = kept_picture(path)
    if whole is None:
        return Picture(title, f"{words} (its file cannot be read)".strip(), "", 0, 0)
    width, height = (min(length, MOST_PIXELS) for length in whole.size)
    left, top = ((length - kept) // 2 for length, kept in zip(whole.size, (width, height), strict=True))
    written = BytesIO()
    whole.crop((left, top, left + width, top + height)).save(written, format="PNG", optimize=True)
    data = base64.b64encode(written.getvalue()).decode("ascii")
    return Picture(title, words, f"data:image/png;base64,{data}", width, height)
