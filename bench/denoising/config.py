"""The configuration of `denoise`: TOML in, pictures and denoisers out, every mistake one line."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from jaxtyping import Float

from bench.config import (
    ONE_OR_MORE,
    PATHS,
    ConfigError,
    Count,
    Entry,
    RelativeTo,
    Table,
    home_of,
    located,
    validated,
)
from methods.denoisers.contract import PictureDenoiser
from problems import images
from problems.registry import UnknownKey, keys, load, nearest

PACKAGE = "methods.denoisers"
STUDIES = "denoise_"
"""How the files of `reports/studies/` start that read scores."""
SMALLEST = 8
"""Pixels along a side: SSIM's window has 7."""

Sigma = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, pydantic.Field(ge=0)]


class Pictures(Table):
    """`[pictures]`: which, and how much of each."""

    folder: str | None = None
    """Of pictures (problems/images.py); left out, those that scikit-image ships. `--folder` takes its place."""
    names: Annotated[tuple[str, ...], pydantic.Field(min_length=1)] | None = None
    """File names in the folder, or names of `problems/images.py`; left out, all."""
    limit: Count | None = None
    """So many of them, the first ones."""
    crop: Annotated[int, pydantic.Field(ge=SMALLEST)] | None = None
    """The square of so many pixels in the middle of each; left out, all of it."""


class DenoiserEntry(Entry):
    """`[[denoiser]]`: a file of `methods/denoisers/` and its parameters."""

    key: str
    label: str | None = None
    """Its name in the tables; left out, the key."""
    tune: dict[str, Annotated[tuple[Any, ...], pydantic.Field(min_length=1)]] = pydantic.Field(default_factory=dict)
    """Values of parameters, of which the best are chosen at each sigma: those of the highest mean PSNR on these very
    pictures, as the paper's baselines were (readings.md J.21). Every one is recorded."""


class DenoiseConfig(Table):
    """The whole document."""

    title: str = ""
    study: str | None = None
    """The file of `reports/studies/` that judges the scores."""
    relative_to: RelativeTo = None
    threads: Count | None = None
    sigma: Annotated[tuple[Sigma, ...], ONE_OR_MORE, pydantic.Field(min_length=1)] = (25.5, 38.25)
    """Of the noise, grey values being 0 to 255."""
    seeds: Annotated[tuple[Seed, ...], ONE_OR_MORE, pydantic.Field(min_length=1)] = (0,)
    """Of the noise."""
    pictures: Pictures = Pictures()
    denoiser: Annotated[tuple[DenoiserEntry, ...], pydantic.Field(min_length=1)]


@dataclass(frozen=True)
class Candidate:
    """A denoiser with one choice of what is tuned."""

    label: str
    key: str
    denoiser: PictureDenoiser
    tuned: dict[str, Any]
    written: dict[str, Any]
    """Its paths as the configuration has them."""

    @property
    def parameters(self) -> dict[str, Any]:
        return {**self.denoiser.model_dump(mode="json"), **self.written}


@dataclass(frozen=True)
class Experiment:
    """A configuration with everything that it names."""

    config: DenoiseConfig
    pictures: dict[str, Float[np.ndarray, "height width"]]
    candidates: tuple[Candidate, ...]


def parse(document: dict[str, Any], file: Path) -> DenoiseConfig:
    """Raises ConfigError."""
    if not isinstance(document.get("denoiser"), list):
        wrong = "a table must be written [[denoiser]]" if "denoiser" in document else "missing: add [[denoiser]]"
        raise ConfigError(f"{file}: denoiser: {wrong}")
    config = validated(DenoiseConfig, document, str(file), "")
    if config.study is not None and config.study not in (known := _studies()):
        raise ConfigError(f"{file}: study: there is no '{config.study}': {nearest(config.study, known)}")
    return config


def _studies() -> list[str]:
    return [key for key in keys("reports.studies") if key.startswith(STUDIES)]


def resolve(config: DenoiseConfig, file: Path, folder: str | None) -> Experiment:
    """With the pictures read, those of `folder` where it is given. Raises ConfigError."""
    home = home_of(config.relative_to, file)
    candidates = [each for index, entry in enumerate(config.denoiser) for each in _candidates(entry, index, file, home)]
    labels = [entry.label or entry.key for entry in config.denoiser]
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise ConfigError(f"{file}: denoiser[{index}].label: '{label}' is another's: give each its own label")
    where = folder or located(config.pictures.model_dump(include={"folder"}), home)["folder"]
    return Experiment(config, _pictures(config.pictures, str(file), where), tuple(candidates))


def _candidates(entry: DenoiserEntry, index: int, file: Path, home: Path) -> list[Candidate]:
    place = f"denoiser[{index}]"
    try:
        kind = load(PACKAGE, entry.key, PictureDenoiser)
    except (UnknownKey, TypeError):
        pictures = [key for key in keys(PACKAGE) if _is_for_pictures(key)]
        raise ConfigError(f"{file}: {place}.key: no '{entry.key}': {nearest(entry.key, pictures)}") from None
    for name in entry.tune:
        if name in entry.settings:
            raise ConfigError(f"{file}: {place}.tune.{name}: {name} is set beside it, too: leave one of them out")
    found = []
    for values in itertools.product(*entry.tune.values()):
        tuned = dict(zip(entry.tune, values, strict=True))
        given = {**entry.settings, **tuned}
        denoiser = validated(kind, located(given, home), str(file), place, DenoiserEntry)
        written = {name: given[name] for name in PATHS if name in given}
        found.append(Candidate(entry.label or entry.key, entry.key, denoiser, tuned, written))
    return found


def _is_for_pictures(key: str) -> bool:
    try:
        load(PACKAGE, key, PictureDenoiser)
    except TypeError:
        return False
    return True


def _pictures(given: Pictures, file: str, where: str | None) -> dict[str, Float[np.ndarray, "height width"]]:
    try:
        names = given.names or images.names(where)
        found = {name: images.picture(name, where) for name in names[: given.limit]}
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file}: pictures: {' '.join(str(error).split())}") from None
    for name, picture in found.items():
        least = given.crop or SMALLEST
        if min(picture.shape) < least:
            size = f"{picture.shape[0]} x {picture.shape[1]} pixels"
            raise ConfigError(f"{file}: pictures: {name} has {size}, {least} x {least} are needed")
    return {name: _middle(picture, given.crop) for name, picture in found.items()}


def _middle(picture: Float[np.ndarray, "height width"], side: int | None) -> Float[np.ndarray, "height width"]:
    if side is None:
        return picture
    row, column = ((length - side) // 2 for length in picture.shape)
    return picture[row : row + side, column : column + side].copy()
