"""Files of JSON lines, one record each: appended to, read back, and repaired where they are torn or damaged.

A process that is killed while it writes leaves a last line without its end; a bad disk leaves lines that are none.
Neither takes another line with it. A record of a schema that this suite does not read is no damage: it is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from bench.own_files import Say, warn
from bench.whole_file import naming, whole

T = TypeVar("T")


class SchemaError(ValueError):
    """A file of another version of the suite; one line."""


def foreign_schema(found: Any, known: Collection[int]) -> str:
    """What is wrong with a version that is not among the known ones; empty for one that is, or that is none at all."""
    if not isinstance(found, int) or found in known:
        return ""
    reads = " and ".join(map(str, sorted(known)))
    return f"it has schema {found}, and this suite reads schema {reads}: use the version of the suite that wrote it"


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """The lines of a file, told apart."""

    values: list[T] = field(default_factory=list)
    good_lines: list[bytes] = field(default_factory=list)
    """Of the values, in the same order, as they were written."""
    damaged_lines: list[bytes] = field(default_factory=list)
    """Whole lines that are no records."""
    damage: list[str] = field(default_factory=list)
    """One clause for each of them, and for a torn last line."""
    foreign: list[str] = field(default_factory=list)
    """One clause for each line of a schema that is not read."""


def parse(text: bytes, of: Callable[[str], T], known: Collection[int], lost: str) -> Parsed[T]:
    """`of` makes a value of a line, and raises ValueError, TypeError or KeyError for one that is none. `known` are the
    schemas that are read; `lost` says what becomes of a line that is left out."""
    parsed: Parsed[T] = Parsed()
    *lines, torn = text.split(b"\n")
    for number, line in enumerate(lines, start=1):
        foreign = foreign_schema(_schema(line), known)
        if foreign:
            parsed.foreign.append(f"line {number}: {foreign}")
            continue
        try:
            parsed.values.append(of(line.decode()))
            parsed.good_lines.append(line + b"\n")
        except (ValueError, TypeError, KeyError):  # pydantic's ValidationError and UnicodeDecodeError are ValueErrors
            parsed.damaged_lines.append(line + b"\n")
            parsed.damage.append(f"line {number} is no record: left out, {lost}")
    if torn:
        parsed.damage.append(f"line {len(lines) + 1} is torn, as a run was killed while it wrote: left out")
    return parsed


def _schema(line: bytes) -> Any:
    with suppress(ValueError, AttributeError, RecursionError):
        return json.loads(line).get("schema")
    return None


def accepted(path: Path, parsed: Parsed[T]) -> Parsed[T]:
    """The same. Raises SchemaError where a line has a schema that is not read."""
    if parsed.foreign:
        raise SchemaError(f"{path}: {parsed.foreign[0]}")
    return parsed


def read_lines(path: Path, of: Callable[[str], T], known: Collection[int], lost: str, say: Say = warn) -> Parsed[T]:
    """Those of a file; none where there is no file. Says what is damaged. Raises SchemaError and OSError."""
    parsed = accepted(path, parse(path.read_bytes() if path.exists() else b"", of, known, lost))
    for line in parsed.damage:
        say(f"{path}: {line}")
    return parsed


def repair(path: Path, parsed: Parsed[T]) -> None:
    """Moves what is damaged into a file beside it, so that what is appended stands on a line of its own."""
    if parsed.damaged_lines:
        with naming(path), open(path.with_suffix(".damaged"), "ab") as kept:
            kept.writelines(parsed.damaged_lines)
            kept.flush()
            os.fsync(kept.fileno())
    if parsed.damage:
        with whole(path) as file:
            file.writelines(parsed.good_lines)


class Lines:
    """A file that is appended to. A line that the disk has no room for leaves no part of itself behind."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def append(self, line: str) -> None:
        """Seen by readers at once; on the disk after `sync`. Without its line break. Raises OSError."""
        with naming(self._path):
            before, left = os.fstat(self._file.fileno()).st_size, line.encode() + b"\n"
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                with suppress(OSError):
                    self._file.truncate(before)
                raise

    def sync(self) -> None:
        """Raises OSError."""
        with naming(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
