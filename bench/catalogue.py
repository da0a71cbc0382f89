"""The methods and problems that a run can name: the shipped files, and those of third parties."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from problems.registry import keys, load, load_file, nearest

if TYPE_CHECKING:  # their contracts load torch, which a runner does without
    from methods.contract import Method
    from problems.contract import Problem


class NoSuchKeyError(ValueError):
    """Nothing of that name; the message names the nearest key."""


class PluginError(ValueError):
    """A third party's file that cannot join; the message names the file and the remedy."""


@dataclass(frozen=True)
class Catalogue:
    """Plug-ins by key, which is their file's stem, as absolute paths."""

    plugin_methods: dict[str, str] = field(default_factory=dict)
    plugin_problems: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[Path]) -> Self:
        """Imports each file to see whether it is a method or a problem. Raises PluginError."""
        shipped = {*keys("methods"), *keys("problems")}
        found: dict[str, dict[str, str]] = {"methods": {}, "problems": {}}
        for path in dict.fromkeys(file.resolve() for file in files):
            if path.stem in shipped:
                raise PluginError(f"plug-in {path}: '{path.stem}' is the key of a shipped file: rename yours")
            if path.stem in found["methods"] or path.stem in found["problems"]:
                raise PluginError(f"plug-in {path}: another plug-in is called '{path.stem}' too: rename one")
            found[_kind(path)][path.stem] = str(path)
        return cls(found["methods"], found["problems"])

    @property
    def methods(self) -> list[str]:
        """The keys of all methods."""
        return [*keys("methods"), *self.plugin_methods]

    @property
    def problems(self) -> list[str]:
        """The keys of all problem families."""
        return [*keys("problems"), *self.plugin_problems]

    def method(self, key: str) -> type[Method]:
        """The method of that key. Raises NoSuchKeyError."""
        from methods.contract import Method

        if key not in self.methods:
            raise NoSuchKeyError(f"there is no method '{key}': {nearest(key, self.methods)}")
        if key in self.plugin_methods:
            return load_file(Path(self.plugin_methods[key]), Method)
        return load("methods", key, Method)

    def problem(self, key: str) -> type[Problem]:
        """The family of that key. Raises NoSuchKeyError."""
        from problems.contract import Problem

        if key not in self.problems:
            raise NoSuchKeyError(f"there is no problem family '{key}': {nearest(key, self.problems)}")
        if key in self.plugin_problems:
            return load_file(Path(self.plugin_problems[key]), Problem)
        return load("problems", key, Problem)

    def to_json(self) -> dict[str, Any]:
        """What the worker processes need to find the same files: `Catalogue(**json)`."""
        return asdict(self)


def _kind(path: Path) -> str:
    from methods.contract import Method
    from problems.contract import Problem

    reasons = []
    for kind, base in (("methods", Method), ("problems", Problem)):
        try:
            load_file(path, base)
            return kind
        except FileNotFoundError as error:
            raise PluginError(str(error)) from error
        except TypeError as error:
            reasons.append(str(error))
        except Exception as error:  # whatever a third party's import raises
            raise PluginError(f"plug-in {path}: {type(error).__name__} on import: {error}") from error
    raise PluginError(f"plug-in {path}: {'; '.join(reason.partition(' must ')[2] for reason in reasons)}")
