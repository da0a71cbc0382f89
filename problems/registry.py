"""Find things by the name of their file, and import a file only when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
SUPPORT = frozenset(
    {"arrays", "contract", "registry", "penalties", "signals", "images", "operators", "image_operators", "hard"}
)


class UnknownKey(ValueError):
    """No file of that name. The message names the nearest one."""


def nearest(word: str, candidates: list[str]) -> str:
    """`, did you mean 'x'?` for the nearest candidate, or the list of all of them."""
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"choose one of: {', '.join(candidates)}"


def keys(package: str) -> list[str]:
    """The keys of a package such as `problems`, `methods` or `methods.solvers`: its file names."""
    folder = ROOT.joinpath(*package.split("."))
    names = (path.stem for path in folder.glob("*.py"))
    return sorted(name for name in names if not name.startswith("_") and name not in SUPPORT)


@cache
def load(package: str, key: str, base: type[T]) -> type[T]:
    """The one concrete subclass of `base` that `package/key.py` defines.

    Raises UnknownKey where there is no such file, and TypeError where the file does not define exactly one.
    """
    known = keys(package)
    if key not in known:
        raise UnknownKey(f"{package} has no '{key}': {nearest(key, known)}")
    return only_subclass(importlib.import_module(f"{package}.{key}"), base)


def only_subclass(module: ModuleType, base: type[T]) -> type[T]:
    """The one concrete subclass of `base` that a module defines. Raises TypeError."""
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__file__} must define exactly one concrete {base.__name__}, it defines {len(found)}")
    return found[0]
