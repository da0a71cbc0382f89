"""A run's configuration: TOML in, frozen models out, every mistake one line that names the file and the key.

`load` answers for the document itself; what its tables mean for a given method or problem is settled by `plan.expand`.
"""

from __future__ import annotations

import datetime
import difflib
import inspect
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args

import pydantic

from problems import registry

Count = Annotated[int, pydantic.Field(ge=1)]
Seconds = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


def device_name(text: str) -> str:
    """The name of a device, as torch spells it. Raises ValueError."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise ValueError(f"there is no device '{text}': write cpu, cuda, or cuda:1 for the second GPU")
    return text


PATHS = ("folder", "files")
"""Settings, of families and of denoisers, that are paths."""


def _absolute(text: str) -> str:
    if not Path(text).is_absolute():
        raise ValueError(f"'{text}' is not absolute: leave it out, and paths start from the configuration's own folder")
    return text


RelativeTo = Annotated[str, pydantic.AfterValidator(_absolute)] | None
"""The folder that a configuration's relative paths start from; left out, its own. A run's copy of one names it."""


def home_of(relative_to: object, file: Path) -> Path:
    """The folder that relative paths of that configuration start from; what is no path is refused elsewhere."""
    return Path(relative_to) if isinstance(relative_to, str) else file.resolve().parent


def located(settings: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """With their paths absolute, to build from; records have the settings as they were written."""

    def from_home(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [*map(from_home, value)]
        return str(home / value) if isinstance(value, str) else value  # what is no path is refused elsewhere

    return {name: from_home(value) if name in PATHS else value for name, value in settings.items()}


Device = Annotated[str, pydantic.AfterValidator(device_name)]
Dtype = Literal["float64", "float32"]

ONE_OR_MORE = pydantic.BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value])


class ConfigError(ValueError):
    """One line: file, key path, what is wrong, what would be right."""


class Table(pydantic.BaseModel):
    """A table of the document whose keys are all known."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Entry(pydantic.BaseModel):
    """A table of the document that also holds the settings of a family or the fields of a method, lists being axes."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to the family or to the method."""
        return dict(self.model_extra or {})


class ProblemEntry(Entry):
    """`[[problem]]`."""

    family: str = "analysis_l1"
    name: str | None = None
    batch: Annotated[tuple[Count, ...], ONE_OR_MORE, pydantic.Field(min_length=1)] = (1,)
    """How many of the pairs share one call."""

    @property
    def label(self) -> str:
        """What `problems = [...]` of a method calls it."""
        return self.name or self.family


class MethodEntry(Entry):
    """`[[method]]`."""

    key: str
    problems: Annotated[tuple[str, ...], pydantic.Field(min_length=1)] | None = None
    """Labels of the problems that this method is restricted to."""


class Measure(Table):
    """`[measure]`."""

    processes: Count = 3
    values: Count = 5
    """Timed values per process."""
    warmups: Annotated[int, pydantic.Field(ge=0)] = 1
    min_seconds: Seconds = 0.02
    """Length of one timed value."""
    budget_seconds: Seconds = 60.0
    """A process that has worked so long on the pass over the pairs, or on the timed values, stops there with what it
    has, one call at least, and the row says how far it came: `pairs=12/100`, `values=2/5`."""
    timeout_seconds: Seconds = 120.0
    """For each worker process; one that takes longer is killed, and the row says so."""
    memory_limit_gib: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | None = None
    """Of resident memory, for each worker process and all that it has started together; left out, 80 % of the machine's
    (or of what the control group grants). One that holds more is killed, and the row says so."""
    threads: Annotated[tuple[Count, ...], ONE_OR_MORE, pydantic.Field(min_length=1)] = (1,)
    memory: bool = True
    timing: bool = True
    quantities: Annotated[tuple[str, ...], ONE_OR_MORE] = ()
    """What else to measure of each cell: names of files of `bench/quantities/`."""
    keep_gradients: bool = True
    """Whether the run's folder keeps what the report's pictures of gradients and references need: see bench/kept.py."""
    device: Annotated[tuple[Device, ...], ONE_OR_MORE, pydantic.Field(min_length=1)] = ("cpu",)
    dtype: Annotated[tuple[Dtype, ...], ONE_OR_MORE, pydantic.Field(min_length=1)] = ("float64",)
    start: Literal["fork", "spawn"] = "fork"
    preload: tuple[str, ...] = ()
    """Modules that every forked worker finds loaded, such as one that takes seconds to import."""
    warm: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | None = None
    """Where it is set, each timed solve starts from the same pairs' solution at another theta, so far away relative to
    theta's norm, in a random direction; the row says so: `warm=0.001`. Left out, every solve starts from scratch."""


class ReferenceEntry(Table):
    """`[reference]`."""

    enabled: bool = True
    coordinate_pairs: Annotated[int, pydantic.Field(ge=0)] = 3
    """So many pairs get every coordinate, the others random directions."""
    directions: Count = 16


class Config(Table):
    """The whole document."""

    title: str = ""
    study: str | None = None
    """The file of `reports/studies/` that makes a page of the records."""
    relative_to: RelativeTo = None
    plugins: tuple[str, ...] = ()
    """Third parties' files."""
    problem: Annotated[tuple[ProblemEntry, ...], pydantic.Field(min_length=1)]
    method: Annotated[tuple[MethodEntry, ...], pydantic.Field(min_length=1)]
    measure: Measure = Measure()
    reference: ReferenceEntry = ReferenceEntry()


def load(path: Path) -> Config:
    """The configuration of a file. Raises ConfigError."""
    return parse(read(path), str(path))


def read(path: Path) -> dict[str, Any]:
    """The document of a file, with or without a byte order mark. Raises ConfigError, and OSError where it is none."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder: name the TOML file itself") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not TOML: it is not UTF-8 text: save it as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML that can be read: it is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ValueError:  # Python reads no more than 4300 digits
        raise ConfigError(f"{path}: not TOML: an integer has more digits than can be stored") from None
    _refuse_unstorable(document, str(path), [])
    return document


SMALLEST, LARGEST = -(2**63), 2**63 - 1
"""The integers that a table of records can hold, and the seeds that numpy and torch can take."""


def _refuse_unstorable(value: Any, file: str, keys: list[str | int]) -> None:
    """What could be used and not be stored. Raises ConfigError."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            _refuse_unstorable(entry, file, [*keys, key])
    elif isinstance(value, int) and not SMALLEST <= value <= LARGEST:
        wanted = f"input should be an integer from {SMALLEST} to {LARGEST}"
        raise ConfigError(f"{file}: {_join('', keys)}: {wanted}, not {_shortened(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{file}: {_join('', keys)}: input should be a finite number, not {value}")
    elif isinstance(value, datetime.date | datetime.time):
        raise ConfigError(f"{file}: {_join('', keys)}: a setting is no date or time: write it as text")


def _shortened(value: int) -> str:
    """An integer in one line: hexadecimal ones may have millions of digits."""
    return str(value) if abs(value) < 10**40 else f"one of {value.bit_length()} bits"


def parse(document: dict[str, Any], file: str) -> Config:
    """The configuration of a document, wherever it is from. Raises ConfigError."""
    for name in ("problem", "method"):
        if not isinstance(document.get(name), list):
            wrong = f"a table must be written [[{name}]]" if name in document else f"missing: add a table [[{name}]]"
            raise ConfigError(f"{file}: {name}: {wrong}")
    config = validated(Config, document, file, "")
    _check_names(config, file)
    return config


NOT_OF_CELLS = ("learn_", "denoise_")
"""How the names of studies start whose pages are made of trainings and of pictures."""


def _check_names(config: Config, file: str) -> None:
    named = [("measure.quantities", name, "bench.quantities") for name in config.measure.quantities]
    named += [("study", config.study, "reports.studies")] if config.study is not None else []
    for key, name, package in named:
        known = [one for one in registry.keys(package) if not one.startswith(NOT_OF_CELLS)]
        if name not in known:
            raise ConfigError(f"{file}: {key}: there is no '{name}': {registry.nearest(name, known)}")


EXTRA = "extra_forbidden"
Model = type[pydantic.BaseModel]
T = TypeVar("T", bound=pydantic.BaseModel)


def validated(model: type[T], values: dict[str, Any], file: str, path: str, beside: Model | None = None) -> T:
    """The model of these values. Raises ConfigError, whose key path starts with `path`.

    `beside` is the model whose keys the same table may hold, for the suggestions.
    """
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        keys, wrong = _first_mistake(error, model, values, beside)
        location = _join(path, keys)
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{file}: {location}: {wrong}{more}" if location else f"{file}: {wrong}{more}") from None


def _first_mistake(
    error: pydantic.ValidationError, model: Model, values: Any, beside: Model | None
) -> tuple[list[str | int], str]:
    mistakes = error.errors(include_url=False)
    unknown = [_UnknownKey.of(list(one["loc"]), model, values, beside) for one in mistakes if one["type"] == EXTRA]
    first = mistakes[0]
    if first["type"] == EXTRA:
        # The likeliest slip: where `family` itself is misspelt, none of that family's keys is known.
        told = max(unknown, key=lambda one: one.closeness)
        return told.keys, f"unknown key: {registry.nearest(str(told.keys[-1]), told.known)}"
    keys, given = list(first["loc"]), first.get("input")
    cause = first.get("ctx", {}).get("error")
    if first["type"] == "missing":
        return keys, "missing: it has no default"
    if cause is not None:
        named = ["key"] if isinstance(cause, registry.UnknownKey) and isinstance(given, dict) else []
        return keys + named, " ".join(str(cause).split())
    wrong = first["msg"][0].lower() + first["msg"][1:]
    if isinstance(given, list):
        return keys, f"{wrong}, not a list: lists are for the settings of [[problem]] and [[method]]"
    return keys, f"{wrong}, not {given!r}"


@dataclass(frozen=True)
class _UnknownKey:
    """A key that its table does not have, and those that it has."""

    keys: list[str | int]
    known: list[str]

    @classmethod
    def of(cls, keys: list[str | int], model: Model, values: Any, beside: Model | None) -> _UnknownKey:
        known = _known_keys(model, values, keys[:-1])
        return cls(keys, known + (list(beside.model_fields) if beside is not None and len(keys) == 1 else []))

    @property
    def closeness(self) -> float:
        """Of the nearest known key: near 1 for one that is misspelt."""
        word = str(self.keys[-1])
        return max((difflib.SequenceMatcher(None, word, other).ratio() for other in self.known), default=0.0)


def _known_keys(model: Model, values: Any, keys: list[str | int]) -> list[str]:
    """The fields of the table that `keys` lead to; a solver's are those of the solver that the table names."""
    if not keys:
        return list(model.model_fields)
    from methods.solvers.contract import Solver

    for key in keys:
        annotation, values = model.model_fields[str(key)].annotation, values[key]
        kinds: tuple[Any, ...] = (annotation, *get_args(annotation))  # a field may be left out: Solver | None
        kind: Any = next(kind for kind in kinds if inspect.isclass(kind) and kind is not NoneType)
        model = registry.load("methods.solvers", values["key"], Solver) if issubclass(kind, Solver) else kind
    return list(model.model_fields)


def _join(path: str, keys: list[str | int]) -> str:
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}"
    return path.removeprefix(".")
