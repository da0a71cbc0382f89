"""Lists in a configuration are axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from bench.config import ConfigError


def axes(values: Any, file: str, path: str) -> Iterator[Any]:
    """The elements of the cross product over every list in a value, a list's own elements being taken as they are.

    Raises ConfigError, which says `path`, for a list without an element.
    """
    if isinstance(values, list):
        if not values:
            raise ConfigError(f"{file}: {path}: an empty list leaves no cell: give one value at least")
        for value in values:
            yield from axes(value, file, path) if isinstance(value, dict) else (value,)
    elif isinstance(values, dict):
        expanded = (list(axes(value, file, f"{path}.{name}".removeprefix("."))) for name, value in values.items())
        for chosen in itertools.product(*expanded):
            yield dict(zip(values, chosen, strict=True))
    else:
        yield values
