"""From a configuration of `learn` to its trainings: variants, and lists that are axes.

A list in `[problem]`, `[backend]`, `[learner]`, `[schedule]` or `[readings]`, or of `epochs`, `batch`, `seed` or
`warm`, is an axis; the trainings are the cross product. `[[variant]]` tables, each with a `name`, are laid over the
rest one after the other, for settings that go together, such as a learner with its rate and its schedule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.axes import axes
from bench.config import ConfigError
from bench.learning.config import LearnConfig, parse

TABLES = ("problem", "backend", "learner", "schedule", "readings")
AXES = (*TABLES, "epochs", "batch", "seed", "warm")
UNSAFE = re.compile(r"[^A-Za-z0-9_.=,+-]+")


@dataclass(frozen=True)
class Run:
    """One training."""

    name: str
    """Of its folder below the configuration's; empty where there is one training only."""
    settings: dict[str, Any]
    """What sets it apart, by path."""
    config: LearnConfig


def expand(document: dict[str, Any], file: Path) -> list[Run]:
    """In the order of the configuration. Raises ConfigError."""
    runs: dict[str, Run] = {}
    for variant, given in _variants(document, str(file)):
        swept = [path for path, value in _leaves(given) if isinstance(value, list) and path.split(".")[0] in AXES]
        on_axes = {key: given[key] for key in AXES if key in given}
        for chosen in axes(on_axes, str(file), ""):
            merged = {**given, **chosen}
            settings = {"variant": variant} if variant is not None else {}
            settings |= {path: value for path, value in _leaves(merged) if any(_is_below(path, one) for one in swept)}
            name = UNSAFE.sub("_", ",".join(f"{path}={value}" for path, value in settings.items()))
            if name in runs:
                raise ConfigError(f"{file}: two trainings are called '{name}': give each value, and each name, once")
            runs[name] = Run(name, settings, parse(merged, file))
    return list(runs.values())


def _variants(document: dict[str, Any], file: str) -> Iterator[tuple[str | None, dict[str, Any]]]:
    rest = {key: value for key, value in document.items() if key != "variant"}
    variants = document.get("variant")
    if variants is None:
        yield None, rest
        return
    if not isinstance(variants, list) or not variants or not all(isinstance(one, dict) for one in variants):
        raise ConfigError(f"{file}: variant: a table must be written [[variant]]")
    for number, variant in enumerate(variants):
        name = variant.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{file}: variant[{number}].name: missing: it has no default")
        yield name, _laid_over(rest, {key: value for key, value in variant.items() if key != "name"})


def _laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Key by key, tables too; a list takes the place of what was there."""
    merged = dict(under)
    for key, value in over.items():
        before = under.get(key)
        merged[key] = _laid_over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _leaves(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        inner = f"{path}.{key}" if path else key
        yield from _leaves(value, inner) if isinstance(value, dict) else [(inner, value)]


def _is_below(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}.")
