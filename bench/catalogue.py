"""The methods and problems that a run can name: the shipped files, and those of third parties."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bench import plugins
from bench.config import ConfigError
from bench.plugins import Sources
from problems.registry import keys, load, nearest, only_subclass

if TYPE_CHECKING:  # their contracts load torch, which a runner does without
    from methods.contract import Method
    from problems.contract import Problem


T = TypeVar("T")


class NoSuchKeyError(ValueError):
    """Nothing of that name; the message names the nearest key."""


class PluginError(ValueError):
    """A third party's file that cannot join; the message names the file and the remedy."""


class ChangedError(ConfigError):
    """What a row is made of is no longer what it was when the run was planned; one line."""


STOPPED = "what is measured is kept, and the same command goes on with it as it is now"


@dataclass(frozen=True)
class Catalogue:
    """Plug-ins by key, which is their file's stem, as absolute paths."""

    plugin_methods: dict[str, str] = field(default_factory=dict)
    plugin_problems: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Sources] = field(default_factory=dict)
    """Of each plug-in by its key: its files as they were when it joined."""

    @classmethod
    def of(cls, files: Iterable[Path]) -> Self:
        """Imports each file to see whether it is a method or a problem. Raises PluginError."""
        shipped = {*keys("methods"), *keys("problems")}
        found: dict[str, dict[str, str]] = {"methods": {}, "problems": {}}
        read: dict[str, Sources] = {}
        for path in dict.fromkeys(file.resolve() for file in files):
            if path.stem in shipped:
                raise PluginError(f"plug-in {path}: '{path.stem}' is the key of a shipped file: rename yours")
            if path.stem in found["methods"] or path.stem in found["problems"]:
                raise PluginError(f"plug-in {path}: another plug-in is called '{path.stem}' too: rename one")
            try:
                read[path.stem] = plugins.sources(path)
            except FileNotFoundError as error:
                raise PluginError(str(error)) from error
            found[_kind(path)][path.stem] = str(path)
        return cls(found["methods"], found["problems"], read)

    @property
    def methods(self) -> list[str]:
        """The keys of all methods."""
        return [*keys("methods"), *self.plugin_methods]

    @property
    def problems(self) -> list[str]:
        """The keys of all problem families."""
        return [*keys("problems"), *self.plugin_problems]

    def method(self, key: str) -> type[Method]:
        """The method of that key. Raises NoSuchKeyError and ChangedError."""
        from methods.contract import Method

        if key not in self.methods:
            raise NoSuchKeyError(f"there is no method '{key}': {nearest(key, self.methods)}")
        if key in self.plugin_methods:
            return _class_of(self._unchanged(key, self.plugin_methods[key]), Method)
        return load("methods", key, Method)

    def problem(self, key: str) -> type[Problem]:
        """The family of that key. Raises NoSuchKeyError and ChangedError."""
        from problems.contract import Problem

        if key not in self.problems:
            raise NoSuchKeyError(f"there is no problem family '{key}': {nearest(key, self.problems)}")
        if key in self.plugin_problems:
            return _class_of(self._unchanged(key, self.plugin_problems[key]), Problem)
        return load("problems", key, Problem)

    def plugin_sha256(self, method: str, problem: str) -> str | None:
        """Of the plug-ins that make a cell: that of the method's files or of the family's; of both, the hash of the
        two, the method's first. None where neither is a plug-in."""
        used = [
            plugins.sources_sha256(self.sources[key])
            for key, known in ((method, self.plugin_methods), (problem, self.plugin_problems))
            if key in known
        ]
        return joint_sha256(used)

    def _unchanged(self, key: str, path: str) -> Path:
        changed = plugins.changed_files(self.sources[key], plugins.sources(Path(path)))
        if changed:
            raise ChangedError(f"plug-in {path}: {', '.join(changed)} changed while the run was under way: {STOPPED}")
        return Path(path)

    def to_json(self) -> dict[str, Any]:
        """What the worker processes need to find the same files: `Catalogue(**json)`."""
        return asdict(self)


def joint_sha256(used: list[str]) -> str | None:
    """Of one plug-in its own; of a method's and a family's, in this order, the hash of the two."""
    if len(used) < 2:
        return used[0] if used else None
    return hashlib.sha256("\n".join(used).encode()).hexdigest()


@cache
def _class_of(path: Path, base: type[T]) -> type[T]:
    return only_subclass(plugins.load(path), base)


def _kind(path: Path) -> str:
    from methods.contract import Method
    from problems.contract import Problem

    reasons = []
    for kind, base in (("methods", Method), ("problems", Problem)):
        try:
            _class_of(path, base)
            return kind
        except TypeError as error:
            reasons.append(str(error))
        except Exception as error:  # whatever a third party's import raises
            raise PluginError(f"plug-in {path}: {type(error).__name__} on import: {error}") from error
    raise PluginError(f"plug-in {path}: {'; '.join(reason.partition(' must ')[2] for reason in reasons)}")
