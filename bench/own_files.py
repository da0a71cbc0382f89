"""Files of the suite's own that a loss of power, a full disk or another program has spoilt: as if they were not there.

That is said, in one line, and costs what the file would have saved or shown, and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Say = Callable[[str], None]


@cache
def warn(line: str) -> None:
    """On standard error, once."""
    print(f"warning: {line}", file=sys.stderr)


def silent(line: str) -> None:
    """For a reader that does without."""
    del line


def read_own(path: Path, read: Callable[[Path], T], say: Say = warn) -> T | None:
    """None where there is no such file, or a damaged one, for which `read` raises ValueError, KeyError or TypeError."""
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        say(f"{path}: damaged, and taken as if it were not there")
        return None


def read_object(path: Path, say: Say = warn) -> dict[str, Any] | None:
    """A JSON object, of which the same holds."""
    return read_own(path, _object, say)


def _object(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a {type(found).__name__} and no object")
    return found
