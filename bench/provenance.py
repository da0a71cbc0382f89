"""On what ground a record stands: the machine, the packages, the code and the settings, told apart by a short name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.whole_file import copy_whole, write_whole

FOLDER = "environments"
NEWEST = "environment.json"
GROUND = (
    "host",
    "cpu",
    "cores",
    "memory_bytes",
    "os",
    "python",
    "packages",
    "gpus",
    "cuda",
    "git_sha",
    "git_changes_sha256",
    "settings",
)
"""What decides whether two records may stand side by side without a word; the load and the like come and go."""


def copy_config(config_path: Path, folder: Path) -> None:
    """To the file of that name which every folder has, unless it is this very file."""
    copied = folder / "config.toml"
    if config_path.resolve() != copied.resolve():
        copy_whole(config_path, copied)


def name_of(environment: Mapping[str, Any]) -> str:
    """12 hexadecimal digits, the same on the same ground."""
    ground = {key: environment.get(key) for key in GROUND}
    return hashlib.sha256(json.dumps(ground, sort_keys=True).encode()).hexdigest()[:12]


def write(run: Path, environment: Mapping[str, Any]) -> str:
    """Into `environment.json`, and where its rows will find it; its name."""
    name, text = name_of(environment), json.dumps(environment, indent=2) + "\n"
    (run / FOLDER).mkdir(exist_ok=True)
    for path in (run / FOLDER / f"{name}.json", run / NEWEST):
        write_whole(path, text)
    return name


def read(run: Path) -> dict[str, dict[str, Any]]:
    """The environments of a run folder, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((run / FOLDER).glob("*.json"))}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`packages.torch 2.12.0, now 2.13.0`: one clause for each part of the ground that is another."""
    return [
        f"{key} {_short(old)}, now {_short(new)}"
        for key, old, new in _pairs({key: before.get(key) for key in GROUND}, {key: now.get(key) for key in GROUND})
        if old != new
    ]


def _pairs(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _pairs(old, new, f"{path}{key}.")
        else:
            yield f"{path}{key}", old, new


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
