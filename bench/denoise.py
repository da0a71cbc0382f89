"""The command `denoise`: every denoiser of a configuration on every noisy picture, continued where it was stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console

from bench import config, environment, output
from bench.denoising.config import Candidate, DenoiseConfig, Experiment, parse, resolve
from bench.denoising.score import (
    ASKED,
    IMAGES,
    NOISY,
    SCORES,
    Denoised,
    Learned,
    Score,
    keep_transforms,
    read_folder,
    read_scores,
)
from bench.lines import Lines, repair
from bench.lock import held
from bench.progress import print_line
from bench.provenance import copy_config
from bench.threads import cores, set_threads
from bench.whole_file import whole, write_whole
from methods.denoisers.patch_transform import PatchTransform, picture_of, transform_of
from problems._portable import normal

W_SHA256 = "W_sha256"
"""The parameter of a denoiser that says what its files hold."""
GREY = 255.0
"""What sigma is given in proportion to; grey values here are in [0, 1]."""

Picture = Float[np.ndarray, "height width"]


def denoise(config_path: Path, out: Path, pictures: str | None, progress: Console) -> Denoised:
    """All scores, those that the folder has already taken from there. Raises ConfigError and InUseError.

    A denoiser that fails is a score with its message, and is tried again by the next call.
    """
    settings = parse(config.read(config_path), config_path)
    set_threads(settings.threads or cores())
    experiment = resolve(settings, config_path, pictures)
    tasks = list(_tasks(experiment))
    with ExitStack() as closing:
        closing.enter_context(held(out))
        (out / IMAGES).mkdir(exist_ok=True)
        copy_config(config_path, out)
        write_whole(out / "environment.json", json.dumps(environment.describe(), indent=2) + "\n")
        write_whole(out / ASKED, "".join(f"{task.score.to_line()}\n" for task in tasks))
        keep_transforms(out, _learned(experiment))
        taken = read_scores(out / SCORES)
        done = {score.id: score for score in taken.values}
        left = [task for task in tasks if task.score.id not in done or done[task.score.id].message]
        for line in _changed([task.score for task in left], done):
            print_line(progress, line)
        if len(left) < len(tasks):
            print_line(progress, f"{out}: continues: {len(tasks) - len(left)} of {len(tasks)} scores are there already")
        repair(out / SCORES, taken)
        lines = closing.enter_context(Lines(out / SCORES))
        for name, clean in experiment.pictures.items():
            _save_image(clean, out / IMAGES / f"{name}.png")
        for number, task in enumerate(left, len(tasks) - len(left) + 1):
            score = task.done(out)
            lines.append(score.to_line())
            lines.sync()
            print_line(progress, f"[{number}/{len(tasks)}] {_words(score)}")
    return read_folder(out)


@dataclass(frozen=True)
class _Task:
    """A score that is to be had, with what it takes."""

    score: Score
    clean: Picture
    candidate: Candidate | None
    is_shown: bool

    def done(self, out: Path) -> Score:
        """With its numbers, or the message of what went wrong."""
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity

        sigma, started = self.score.sigma / GREY, time.perf_counter()
        x = self.clean + sigma * noise(self.clean, self.score.seed)
        try:
            if self.candidate is not None:
                x = self.candidate.denoiser.denoise(x, sigma)
            if not np.isfinite(x).all():
                raise ArithmeticError("the picture has values that are not finite")
        except Exception as error:  # one that fails costs one score
            output.keep(out, self.score.id, [(self.score.key, output.traceback_of(error))])
            return replace(self.score, message=output.said(error))
        output.keep(out, self.score.id, [])
        seconds = time.perf_counter() - started
        image = f"{IMAGES}/{self.score.id}.png" if self.is_shown else ""
        if image:
            _save_image(x, out / image)
        psnr = float(peak_signal_noise_ratio(self.clean, x, data_range=1.0))
        ssim = float(structural_similarity(self.clean, x, data_range=1.0))
        return replace(self.score, psnr_db=psnr, ssim=ssim, seconds=seconds, image=image)


def _tasks(experiment: Experiment) -> Iterator[_Task]:
    given: DenoiseConfig = experiment.config
    for sigma in given.sigma:
        for name, clean in experiment.pictures.items():
            for seed in given.seeds:
                for candidate in (None, *experiment.candidates):
                    score = _asked(name, clean, sigma, seed, candidate)
                    yield _Task(score, clean, candidate, is_shown=seed == given.seeds[0])


def _asked(name: str, clean: Picture, sigma: float, seed: int, candidate: Candidate | None) -> Score:
    key = NOISY if candidate is None else candidate.key
    parameters: dict[str, Any] = {} if candidate is None else candidate.parameters
    decides = [name, _sha256(clean), sigma, seed, key, parameters]
    return Score(
        id=hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16],
        picture=name,
        height=clean.shape[0],
        width=clean.shape[1],
        sigma=sigma,
        seed=seed,
        label="noisy input" if candidate is None else candidate.label,
        key=key,
        parameters=parameters,
        tuned={} if candidate is None else candidate.tuned,
        picture_sha256=_sha256(clean),
    )


def _changed(wanted: Sequence[Score], done: Mapping[str, Score]) -> list[str]:
    """A line for each picture and each learned transform that is another than the folder's scores were made with."""
    before = {_question(score): score for score in done.values()}
    counts = Counter[str]()
    for score in wanted:
        old = before.get(_question(score))
        if old is not None and old.id != score.id:
            is_transform = old.parameters.get(W_SHA256) != score.parameters.get(W_SHA256)
            if old.picture_sha256 != score.picture_sha256:
                counts[f"the picture {score.picture} changed"] += 1
            if is_transform:
                counts[f"the learned transform of {score.label} changed ({', '.join(score.parameters['files'])})"] += 1
    return [f"{what}: {many} {'score is' if many == 1 else 'scores are'} made again" for what, many in counts.items()]


def _question(score: Score) -> str:
    """What a score answers, whatever the picture's and the transform's content."""
    parameters = {name: value for name, value in score.parameters.items() if name != W_SHA256}
    return json.dumps([score.picture, score.sigma, score.seed, score.key, parameters], sort_keys=True)


def noise(clean: Picture, seed: int) -> Picture:
    """Of standard deviation 1; it depends on the picture and on the seed alone, not on which others there are."""
    words = np.frombuffer(bytes.fromhex(_sha256(clean)), dtype=np.uint32)
    return normal(np.random.default_rng([seed, *words.tolist()]), clean.shape)


def _sha256(picture: Picture) -> str:
    return hashlib.sha256(f"{picture.shape}".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def _learned(experiment: Experiment) -> list[Learned]:
    denoisers = [candidate.denoiser for candidate in experiment.candidates]
    files = [file for each in denoisers if isinstance(each, PatchTransform) for file in each.files]
    return [Learned(file, picture_of(Path(file)), transform_of(Path(file))) for file in dict.fromkeys(files)]


def _save_image(picture: Picture, path: Path) -> None:
    from PIL import Image
    from skimage.util import img_as_ubyte

    with whole(path) as file:
        Image.fromarray(img_as_ubyte(np.clip(picture, 0.0, 1.0))).save(file, format="PNG")


def _words(score: Score) -> str:
    tuned = "".join(f", {name} = {value}" for name, value in score.tuned.items())
    what = f"{score.picture}, sigma {score.sigma:g}, seed {score.seed}, {score.label}{tuned}"
    if score.psnr_db is None or score.ssim is None:
        return f"{what}: failed: {score.message}"
    return f"{what}: {score.psnr_db:.2f} dB, SSIM {score.ssim:.3f}, {score.seconds:.1f} s"
