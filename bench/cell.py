"""A cell of the matrix: what is measured, and recorded in one line. Imports nothing heavy, as the runner is small."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.config import located
from bench.record import Record, variant_name


@dataclass(frozen=True)
class Instance:
    """One problem with all its pairs, described; what it is built from, and the sizes that follow."""

    family: str
    parameters: dict[str, Any]
    identity: dict[str, Any]
    """The parameters that are not at their default: a family may gain one without renaming every cell."""
    label: str
    n: int
    k: int
    theta_size: int
    pairs: int
    sha256: str
    home: str = ""
    """The folder that paths among the parameters start from."""

    @property
    def located(self) -> dict[str, Any]:
        """The parameters to build it from, wherever the process works."""
        return located(self.parameters, Path(self.home))


@dataclass(frozen=True)
class Cell:
    """One element of the matrix: what is measured, and recorded in one line."""

    instance: Instance
    method: str
    method_parameters: dict[str, Any]
    """Those that the configuration sets."""
    batch: int
    device: str
    dtype: str
    threads: int
    plugin_sha256: str | None = None
    """Of the plug-ins that make it, as `Catalogue.plugin_sha256` has it."""

    def changes(self, record: Record) -> list[str]:
        """What sets a record of this cell apart from what would be measured now: `input`, `plug-in`, both or none."""
        changed = ["input"] if record.input_sha256 != self.instance.sha256 else []
        return changed + (["plug-in"] if record.plugin_sha256 != self.plugin_sha256 else [])

    @property
    def cell_id(self) -> str:
        """The same for the same cell in every run, on every machine: 12 hexadecimal digits."""
        identity = {
            "method": self.method,
            "method_parameters": self.method_parameters,
            "problem": self.instance.family,
            "problem_parameters": self.instance.identity,
            "batch": self.batch,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def variant(self) -> str:
        """The method with the parameters that set it apart."""
        return variant_name(self.method, self.method_parameters)

    @property
    def chunks(self) -> list[slice]:
        """The pairs of each call."""
        return [slice(first, first + self.batch) for first in range(0, self.instance.pairs, self.batch)]

    def to_json(self) -> dict[str, Any]:
        """For another process, or a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, json: dict[str, Any]) -> Self:
        """Back again."""
        return cls(**{**json, "instance": Instance(**json["instance"])})

    def __str__(self) -> str:
        instance = self.instance
        where = (self.batch, self.device, self.dtype, self.threads)
        return describe(self.variant, instance.family, instance.parameters, instance.n, *where)


def describe(
    variant: str, problem: str, parameters: dict[str, Any], n: int, batch: int, device: str, dtype: str, threads: int
) -> str:
    """`blorc on analysis_l1 dct n=64`, with batch, device, dtype and threads where they are not the usual ones."""
    named = parameters.get("instance") or parameters.get("transform") or ""
    words = [variant, "on", problem, str(named), f"n={n}"]
    words += [f"batch={batch}"] * (batch > 1) + [device] * (device != "cpu") + [dtype] * (dtype != "float64")
    words += [f"threads={threads}"] * (threads > 1)
    return " ".join(word for word in words if word)


def reproduce_command(cell_id: str, run: Path) -> str:
    """The command line that measures a recorded cell again."""
    return shlex.join(["python", "-m", "bench", "reproduce", cell_id, str(run)])
