"""The state of a training on disk: arrays and one line of JSON in one file, whole or absent; nothing is pickled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.config import ConfigError
from bench.whole_file import whole

CHECKPOINT, THETA = "checkpoint.npz", "theta.npz"
ABOUT = "about"
"""The member that holds the JSON."""


def write(path: Path, about: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """In place of the one before, on the disk when this returns."""
    members: dict[str, Any] = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
    with whole(path) as file:
        np.savez(file, allow_pickle=False, **members, **{ABOUT: np.array(json.dumps(about))})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What `write` was given, on the CPU; None where there is no file. Raises ConfigError."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            members = dict(file)
        about = json.loads(str(members.pop(ABOUT)))
        return about, {name: torch.from_numpy(array) for name, array in members.items()}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read: {reason}: remove it to start anew") from None


def first_difference(before: Any, now: Any, path: str = "") -> str | None:
    """`learner.rate was 0.1 and is now 0.2`; None where there is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            inner = first_difference(before.get(key), now.get(key), f"{path}.{key}" if path else key)
            if inner is not None:
                return inner
        return None
    return None if before == now else f"{path} was {_word(before)} and is now {_word(now)}"


def _word(value: Any) -> str:
    return "left out" if value is None else json.dumps(value)
