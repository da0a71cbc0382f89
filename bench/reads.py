"""Which files and folders Python code reads, so that a plan can say later whether all of them are as they were.

Invariant: where nothing in `fingerprints` has changed, what was built from these files would be built the same again.
Libraries that open files without Python (HDF5) are not seen.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from problems.registry import ROOT

SOURCES = ("problems", "methods", "bench")
EVENTS = frozenset({"open", "os.listdir", "os.scandir"})
NO_INPUT = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *(str(ROOT / folder) for folder in SOURCES),
    *("/proc", "/sys", "/dev"),
)
"""What lies below these is code or the machine, which a run's environment names."""
_heard: list[set[str]] = []


@contextmanager
def listening() -> Iterator[set[str]]:
    """The set of the paths that are read while the block runs."""
    _install()
    paths = set[str]()
    _heard.append(paths)
    try:
        yield paths
    finally:
        _heard.remove(paths)


@cache
def _install() -> None:
    sys.addaudithook(_hear)  # for as long as the process lives


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard and event in EVENTS and isinstance(arguments[0], str | bytes | os.PathLike):
        for paths in _heard:
            paths.add(os.path.abspath(os.fsdecode(arguments[0])))


def fingerprints(paths: Iterable[str]) -> dict[str, str]:
    """Of a file the sha256, of a folder that of its names, of what is absent nothing; code is left out."""
    return {path: _fingerprint(Path(path)) for path in sorted(set(paths)) if not path.startswith(NO_INPUT)}


def are_as_they_were(known: Mapping[str, str]) -> bool:
    """Whether every file and folder still has its fingerprint."""
    return all(_fingerprint(Path(path)) == before for path, before in known.items())


def source_sha256() -> str:
    """Of the suite's own code, whether or not git knows it."""
    files = (file for folder in SOURCES for file in sorted((ROOT / folder).rglob("*.py")))
    listed = (f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.relative_to(ROOT).as_posix()}" for file in files)
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _fingerprint(path: Path) -> str:
    try:
        content = "\n".join(sorted(os.listdir(path))).encode() if path.is_dir() else path.read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(content).hexdigest()
