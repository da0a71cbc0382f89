"""On what ground a record stands: the machine, the packages, the code and the settings, told apart by a short name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import config
from bench.own_files import Say, read_object, warn
from bench.whole_file import copy_whole, make_folder, write_whole

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
    "source_sha256",
    "settings",
)
"""What decides whether two records may stand side by side without a word; the load and the like come and go."""


def copy_config(config_path: Path, folder: Path) -> None:
    """To the file of that name which every folder has, unless it is this very file.

    Where it holds relative paths, the copy begins with the folder that they start from.
    """
    copied = folder / "config.toml"
    if config_path.resolve() == copied.resolve():
        return
    document = config.read(config_path)
    if "relative_to" in document or not _has_relative_paths(document):
        copy_whole(config_path, copied)
        return
    home = json.dumps(str(config.home_of(None, config_path)), ensure_ascii=False)
    write_whole(copied, f"relative_to = {home}\n{config_path.read_text(encoding='utf-8-sig')}")


def _has_relative_paths(value: Any) -> bool:
    """Wherever they stand: `plugins` at the top, the others in tables, and in lists of them."""
    if isinstance(value, list):
        return any(map(_has_relative_paths, value))
    if not isinstance(value, dict):
        return False
    named = [value[name] for name in (*config.PATHS, "plugins") if name in value]
    return any(map(_is_relative, named)) or any(map(_has_relative_paths, value.values()))


def _is_relative(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_relative, value))
    return isinstance(value, str) and not Path(value).is_absolute()


def name_of(environment: Mapping[str, Any]) -> str:
    """12 hexadecimal digits, the same on the same ground."""
    ground = {key: environment.get(key) for key in GROUND}
    return hashlib.sha256(json.dumps(ground, sort_keys=True).encode()).hexdigest()[:12]


def write(run: Path, environment: Mapping[str, Any]) -> str:
    """Into `environment.json`, and where its rows will find it; its name."""
    name, text = name_of(environment), json.dumps(environment, indent=2) + "\n"
    make_folder(run / FOLDER)
    for path in (run / FOLDER / f"{name}.json", run / NEWEST):
        write_whole(path, text)
    return name


def read(run: Path, say: Say = warn) -> dict[str, dict[str, Any]]:
    """The environments of a run folder, by name, without those whose files are damaged, which is said."""
    found = {path.stem: read_object(path, say) for path in sorted((run / FOLDER).glob("*.json"))}
    return {name: environment for name, environment in found.items() if environment is not None}


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
