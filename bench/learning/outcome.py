"""What became of each training of a folder: `outcomes.jsonl`, one line per training that has ended.

Format, version 1. Keys are the fields of `Outcome`; losses are those of the last epoch in `curves.jsonl`; PSNR is in
dB, over held-out test pairs, null where it is infinite. The file is always written as a whole; fields of a later suite
that has the same `schema` are kept.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, Self

import pydantic

from bench.lines import read_lines

OUTCOMES = "outcomes.jsonl"
SCHEMA = 1
LEARNED, NOISY = "learned", "noisy"
"""Names in `Outcome.psnr` besides the denoisers': what x* at the learned theta stands for, and y."""


class Psnr(pydantic.BaseModel):
    """Of one way to denoise the test pairs."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    mean_db: float | None
    """Over the signals, each with its own PSNR, or of their mean error: `psnr_average`."""
    deviation_db: float | None
    """Standard deviation of the signals' own PSNR."""
    gain_db: float | None
    """By which `learned` is above it, a mean over the signals' own."""
    gain_deviation_db: float | None
    """Standard deviation, over the signals, of that gain."""

    @pydantic.field_validator("*")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        return value if value is None or math.isfinite(value) else None


class Outcome(pydantic.BaseModel):
    """One training."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    schema_version: int = pydantic.Field(default=SCHEMA, alias="schema")
    run: str
    """Its folder, below the one of `outcomes.jsonl`; empty for a configuration without axes."""
    settings: dict[str, Any]
    """By which it differs from the others of its configuration, by their paths, such as `problem.noise`; `variant`."""
    config: dict[str, Any]
    """All that decides theta and the test: the configuration with its defaults, how it runs left out."""
    problem: dict[str, Any]
    """The family's settings, defaults included."""
    made_of: dict[str, str | None] = {}
    """`data_sha256`, `validation_sha256`, `test_sha256` of the pairs and `plugin_sha256` of third parties' files, null
    where there are none; empty in outcomes of before."""
    status: Literal["finished", "failed"]
    message: str = ""
    epochs: int = 0
    updates: int = 0
    gradients: int = 0
    seconds: float = 0.0
    """Of work on the training, its validation included."""
    training_loss: float | None = None
    validation_loss: float | None = None
    psnr: dict[str, Psnr] = {}
    """`learned`, each denoiser of `[test]`, and `noisy` where y is x_true plus noise: all in the space of x_true."""
    measurement: str = ""
    """What y of the test pairs is: `noisy`, `blurred and noisy`, `measured`, ... (problems/contract.py)."""
    failed_denoisers: dict[str, str] = {}
    """What those said that have no PSNR, `learned` among them where the backend failed on the test pairs."""

    def to_line(self) -> str:
        """Without the line break."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), allow_nan=False)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Raises pydantic.ValidationError."""
        return cls.model_validate_json(line)


def read(folder: Path) -> list[Outcome]:
    """Those of a folder, in the order of its configuration; a line that is none is left out and said.

    Raises SchemaError.
    """
    return read_lines(folder / OUTCOMES, Outcome.from_line, (SCHEMA,), "its training counts as not ended").values
