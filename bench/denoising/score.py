"""What a denoiser made of a noisy picture, as records: `scores.jsonl`, one line each; and their folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from jaxtyping import Float

from bench.lines import Parsed, read_lines
from bench.own_files import read_own
from bench.run_folder import configuration_of
from bench.whole_file import whole
from problems.arrays import read_arrays

SCORES, ASKED, IMAGES, TRANSFORMS = "scores.jsonl", "asked.jsonl", "images", "transforms"
"""Of the run's folder: the records; what the configuration asks for, in its order: the same records without their
results; PNG files: each clean picture by its name, each result by its score's id; and the W that were stacked."""
SCHEMA = 1
"""Of the lines, which do not say so."""
NOISY = "noisy"
"""The key of what no denoiser has touched."""


@dataclass(frozen=True)
class Score:
    """One picture under one noise, and one denoiser with its parameters."""

    id: str
    """A hash of all that decides the result."""
    picture: str
    height: int
    width: int
    sigma: float
    """Of the noise, grey values being 0 to 255."""
    seed: int
    label: str
    key: str
    parameters: dict[str, Any]
    tuned: dict[str, Any]
    """Those of the parameters of which the best are to be chosen."""
    psnr_db: float | None = None
    """Peak 1 for grey values in [0, 1], nothing clipped; None where the denoiser failed, as for SSIM."""
    ssim: float | None = None
    """scikit-image's, a uniform window of 7 x 7 pixels."""
    seconds: float = 0.0
    message: str = ""
    """Of a failure."""
    picture_sha256: str = ""
    """Of the clean picture as it was read, cropped; empty in scores of before."""
    image: str = ""
    """The PNG of the run's folder that shows it; empty for all but the first seed."""

    def to_line(self) -> str:
        """Without the line break."""
        return json.dumps(asdict(self))


_LINE = pydantic.TypeAdapter(Score)


@dataclass(frozen=True)
class Learned:
    """A transform that a training has saved."""

    file: str
    picture: str
    """That it was learned on; empty where its file does not say."""
    W: Float[np.ndarray, "k n"]

    @property
    def name(self) -> str:
        return f"learned on {self.picture}" if self.picture else self.file


@dataclass(frozen=True)
class Denoised:
    """A run of `denoise`, finished or not."""

    title: str
    study: str | None
    folder: Path
    scores: Sequence[Score]
    """Those that its configuration asks for, in its order; one that has not been taken yet has no numbers and no
    message."""
    learned: Sequence[Learned] = ()
    """What the denoisers have stacked, each once."""


def read(folder: Path) -> dict[str, Score]:
    """The scores of a folder by their ids, the newest of each; a torn line, or what else is no score, is left out.

    Raises SchemaError.
    """
    return {score.id: score for score in read_scores(folder / SCORES).values}


def read_scores(path: Path) -> Parsed[Score]:
    """Those of a file, in its order. Raises SchemaError."""
    return read_lines(path, _LINE.validate_json, (SCHEMA,), "its score counts as not taken")


def read_folder(folder: Path) -> Denoised:
    """From the folder alone. Raises ValueError where it does not say what was asked for."""
    path = folder / ASKED
    asked = read_scores(path).values
    if not asked:
        raise ValueError(f"{folder}: holds no {ASKED}: the same denoise command with --out {folder} writes it")
    done = read(folder)
    scores = [replace(done.get(one.id, one), label=one.label, tuned=one.tuned) for one in asked]  # the newest words
    said = configuration_of(folder)
    title = str(said.get("title") or folder.resolve().name)
    return Denoised(title, said.get("study"), folder, scores, _transforms(folder / TRANSFORMS))


def keep_transforms(folder: Path, learned: Sequence[Learned]) -> None:
    """A copy of each W with the run, whose pages show it: its own file may change, or be elsewhere."""
    (folder / TRANSFORMS).mkdir(exist_ok=True)
    for path in (folder / TRANSFORMS).glob("*.npz"):
        path.unlink()
    for number, each in enumerate(learned):
        with whole(folder / TRANSFORMS / f"{number:03}.npz") as file:
            np.savez(file, allow_pickle=False, W=each.W, source=each.file, picture=each.picture)


def _transforms(folder: Path) -> list[Learned]:
    found = (read_own(path, _transform) for path in sorted(folder.glob("*.npz")))
    return [each for each in found if each is not None]


def _transform(path: Path) -> Learned:
    stored = read_arrays(path)
    return Learned(str(stored["source"]), str(stored["picture"]), stored["W"])


def mean_psnr(scores: Iterable[Score]) -> float:
    """Over pictures and seeds; minus infinity where one of them failed."""
    values = [score.psnr_db for score in scores]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else float("-inf")


def best(scores: Sequence[Score]) -> list[Score]:
    """For each label and sigma the scores of the tuned parameters with the highest mean PSNR, in the order given."""
    groups: dict[tuple[str, float], dict[str, list[Score]]] = {}
    for score in scores:
        variants = groups.setdefault((score.label, score.sigma), {})
        variants.setdefault(json.dumps(score.tuned, sort_keys=True), []).append(score)
    chosen = {score.id for variants in groups.values() for score in max(variants.values(), key=mean_psnr)}
    return [score for score in scores if score.id in chosen]


def at_an_end(chosen: Score, scores: Sequence[Score]) -> bool:
    """Whether some tuned number is the least or the greatest that was tried: a further one may be better."""
    tried = [score.tuned for score in scores if (score.label, score.sigma) == (chosen.label, chosen.sigma)]
    for name, value in chosen.tuned.items():
        values = {each[name] for each in tried if isinstance(each[name], int | float)}
        if len(values) > 1 and value in (min(values), max(values)):
            return True
    return False
