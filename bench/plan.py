"""From a configuration to its cells: the cross product of its axes, each element checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import reads
from bench.axes import axes
from bench.catalogue import Catalogue, NoSuchKeyError, PluginError
from bench.cell import Cell, Instance
from bench.config import Config, ConfigError, MethodEntry, ProblemEntry, home_of, located, parse, validated
from bench.measure import record_of
from bench.record import Status
from problems.contract import Problem, input_sha256, theta_size
from problems.registry import nearest


def matrix(job: dict[str, Any]) -> dict[str, Any]:
    """The plan of a run as JSON, for the runner, which loads no torch: `{cells, config, catalogue, reads,
    absent}`.

    The job names the `document` and the `file` it is from, `plugins`, `devices` (None for those of the document) and
    `only`. What is wrong with them comes back as one line, `{refused}`; `absent` are devices that are not here.
    """
    try:
        settings = parse(job["document"], job["file"])
        catalogue = Catalogue.of(plugin_files(settings, Path(job["file"]), map(Path, job["plugins"])))
        settings = with_plugins(settings, catalogue)
        with reads.listening() as read:
            cells = expand(settings, catalogue, job["file"], job["devices"])
        cells = select(cells, job["only"]) if job["only"] else cells
    except PluginError as error:
        return {"refused": f"{job['file']}: {error}"}
    except ConfigError as error:
        return {"refused": str(error)}
    families = {cell.instance.family for cell in cells}
    return {
        "cells": [cell.to_json() for cell in cells],
        "config": settings.model_dump(mode="json"),
        "catalogue": catalogue.to_json(),
        "reads": None if families & catalogue.plugin_problems.keys() else reads.fingerprints(read),
        "absent": [name for name in sorted({cell.device for cell in cells}) if not _is_present(name)],
    }


def _is_present(device: str) -> bool:
    index = int(device.partition(":")[2] or 0)
    return device == "cpu" or index < torch.cuda.device_count()


def expand(config: Config, catalogue: Catalogue, file: str, devices: Sequence[str] | None = None) -> list[Cell]:
    """All cells, problems first, methods innermost, each once. `devices` stands in for those of `[measure]`.

    Builds every problem once, to know its sizes and that it can be built. Raises ConfigError.
    """
    _check_labels(config, file)
    measure, home = config.measure, home_of(config.relative_to, Path(file))
    methods = [(entry, _variants(entry, catalogue, file, at)) for at, entry in enumerate(config.method)]
    cells: dict[str, Cell] = {}
    for at, problem in enumerate(config.problem):
        for instance in _instances(problem, catalogue, file, f"problem[{at}]", home):
            settings = (problem.batch, devices or measure.device, measure.dtype, measure.threads)
            for batch, device, dtype, threads in itertools.product(*settings):
                for entry, variants in methods:
                    if entry.problems is not None and problem.label not in entry.problems:
                        continue
                    for parameters in variants:
                        plugin = catalogue.plugin_sha256(entry.key, instance.family)
                        cell = Cell(instance, entry.key, parameters, batch, device, dtype, threads, plugin)
                        _check_recordable(cell, file)
                        cells.setdefault(cell.cell_id, cell)
    if not cells:
        raise ConfigError(f"{file}: the matrix is empty: no method is left for any problem")
    return list(cells.values())


def _check_recordable(cell: Cell, file: str) -> None:
    """A plug-in's own defaults may hold what no journal can: numbers that are not finite, a seed that is none."""
    try:
        record_of(cell, Status.OK, "").to_line()
    except (ValueError, TypeError, OverflowError) as error:  # of pydantic and of json
        text = " ".join(str(error).split())
        raise ConfigError(f"{file}: {cell.method} on {cell.instance.label} cannot be recorded: {text}") from None


def select(cells: list[Cell], only: str) -> list[Cell]:
    """The cells that meet `key=value,...`; a key given twice allows both values. Raises ConfigError."""
    wanted: dict[str, set[str]] = {}
    for clause in only.split(","):
        key, equals, value = clause.partition("=")
        if not equals:
            raise ConfigError(f"--only {only}: '{clause}' is not key=value")
        wanted.setdefault(key.strip(), set()).add(value.strip())
    properties = [_properties(cell) for cell in cells]
    for key, values in wanted.items():
        there_are = sorted({text for known in properties for text in known.get(key, ())})
        if not there_are:
            known_keys = sorted({name for known in properties for name in known})
            raise ConfigError(f"--only {only}: no cell has a '{key}': {nearest(key, known_keys)}")
        for value in sorted(values - set(there_are)):
            raise ConfigError(f"--only {only}: no cell has {key} = {value}: {nearest(value, there_are)}")
    return [
        cell
        for cell, known in zip(cells, properties, strict=True)
        if all(values & known.get(key, set()) for key, values in wanted.items())
    ]


def _properties(cell: Cell) -> dict[str, set[str]]:
    """What `--only` can ask for, each with the spellings that mean it."""
    instance = cell.instance
    values: dict[str, Any] = {
        **instance.parameters,
        **cell.method_parameters,
        "cell_id": cell.cell_id,
        "problem": instance.family,
        "name": instance.label,
        "n": instance.n,
        "k": instance.k,
        "method": cell.method,
        "batch": cell.batch,
        "device": cell.device,
        "dtype": cell.dtype,
        "threads": cell.threads,
    }
    return {name: _spellings(value) for name, value in values.items()}


def _spellings(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {str(value["key"])}
    return {str(value), f"{value:g}"} if isinstance(value, float) else {str(value)}


def _check_labels(config: Config, file: str) -> None:
    labels = list(dict.fromkeys(problem.label for problem in config.problem))
    for at, method in enumerate(config.method):
        for label in method.problems or ():
            if label not in labels:
                suggestion = nearest(label, labels)
                raise ConfigError(f"{file}: method[{at}].problems: no problem is called '{label}': {suggestion}")


def _variants(entry: MethodEntry, catalogue: Catalogue, file: str, at: int) -> list[dict[str, Any]]:
    path = f"method[{at}]"
    try:
        method = catalogue.method(entry.key)
    except NoSuchKeyError as error:
        raise ConfigError(f"{file}: {path}.key: {error}") from None
    chosen = (validated(method, settings, file, path, MethodEntry) for settings in axes(entry.settings, file, path))
    return [instance.model_dump(mode="json", exclude_unset=True) for instance in chosen]


def _instances(entry: ProblemEntry, catalogue: Catalogue, file: str, path: str, home: Path) -> Iterator[Instance]:
    try:
        family = catalogue.problem(entry.family)
    except NoSuchKeyError as error:
        raise ConfigError(f"{file}: {path}.family: {error}") from None
    for values in axes(entry.settings, file, path):
        settings = validated(family.settings_type, values, file, path, ProblemEntry)
        try:
            problem = family.build(family.settings_type.model_validate(located(values, home)))
        except Exception as error:  # of a third party's family, too
            text = " ".join(str(error).split())
            raise ConfigError(f"{file}: {path}: {entry.family} cannot be built: {text}") from None
        _check_finite(problem, file, path)
        pairs = problem.batch
        for batch in entry.batch:
            if pairs % batch:
                divisors = ", ".join(str(count) for count in range(1, pairs + 1) if pairs % count == 0)
                raise ConfigError(f"{file}: {path}.batch: {batch} does not divide pairs = {pairs}: use {divisors}")
        yield Instance(
            family=entry.family,
            parameters=settings.model_dump(mode="json", exclude_none=True),
            identity=settings.model_dump(mode="json", exclude_defaults=True),
            label=entry.label,
            n=math.prod(problem.x_shape),
            k=math.prod(problem.u_shape),
            theta_size=theta_size(problem),
            pairs=pairs,
            sha256=input_sha256(problem),
            home=str(home),
        )


def _check_finite(problem: Problem, file: str, path: str) -> None:
    """Settings may be finite and what is built from them not. Raises ConfigError."""
    for name, tensor in {**problem.tensors(), **problem.theta0()}.items():
        if tensor.dtype.is_floating_point and not bool(tensor.isfinite().all()):
            raise ConfigError(f"{file}: {path}: {name} has entries that are not finite: choose smaller settings")


def with_plugins(config: Config, catalogue: Catalogue) -> Config:
    """The configuration with a table, at its defaults, for each plug-in that none of its tables names."""
    methods = {entry.key for entry in config.method}
    families = {entry.family for entry in config.problem}
    return config.model_copy(
        update={
            "method": (
                *config.method,
                *(MethodEntry(key=key) for key in catalogue.plugin_methods if key not in methods),
            ),
            "problem": (
                *config.problem,
                *(ProblemEntry(family=key) for key in catalogue.plugin_problems if key not in families),
            ),
        }
    )


def plugin_files(config: Config, config_path: Path, extra: Iterable[Path]) -> list[Path]:
    """The plug-ins of the configuration and those of the command line."""
    home = home_of(config.relative_to, config_path)
    return [*(home / file for file in config.plugins), *extra]
