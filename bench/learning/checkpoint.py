"""The state of a training on disk: arrays and one line of JSON in one file, whole or absent; nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.whole_file import whole
from problems.arrays import read_arrays

CHECKPOINT, THETA = "checkpoint.npz", "theta.npz"
ABOUT = "about"
"""The member that holds the JSON."""


def write(path: Path, about: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """In place of the one before, on the disk when this returns."""
    members: dict[str, Any] = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
    with whole(path) as file:
        np.savez(file, allow_pickle=False, **members, **{ABOUT: np.array(json.dumps(about))})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` was given, on the CPU. Raises OSError, and ValueError or KeyError where it is damaged."""
    arrays = read_arrays(path)
    about = json.loads(str(arrays.pop(ABOUT)))
    if not isinstance(about, dict):
        raise ValueError(f"{path}: its {ABOUT} is no object")
    return about, {name: torch.from_numpy(array) for name, array in arrays.items()}


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
