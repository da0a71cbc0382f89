"""Records grouped by problem instance, and an instance stated in words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.record import Record

MOST_INPUTS = 3
SIZES = frozenset({"n", "k", "side"})

SIGNALS = {
    "piecewise_constant": "piecewise-constant signals",
    "dct_sparse": "signals sparse in the DCT",
    "gaussian": "Gaussian signals",
    "patches": "picture patches",
}
TRANSFORMS = {
    "identity": "I",
    "finite_difference": "finite differences",
    "dct": "DCT",
    "gaussian": "Gaussian matrix",
}
FORWARDS = {"identity": "A = I", "gaussian": "A a Gaussian matrix"}
FILTERS = {"dct": "DCT filters", "random": "random filters"}


@dataclass(frozen=True)
class Group:
    """The records of one run that answer one question: same instance but for its size, same number of pairs a call."""

    run: str
    problem: str
    parameters: dict[str, Any]
    pairs: int
    batch: int
    seed: int
    records: tuple[Record, ...]
    inputs: str = ""
    """`input 1a2b3c4d`, where the report has another input under the same words."""
    apart: str | None = None
    """The input itself, where the run has another group of the same words."""

    @property
    def title(self) -> str:
        """The instance in words."""
        return f"{self._words}, {self.calls}"

    @property
    def _words(self) -> str:
        told = f", {self.inputs}" if self.inputs else ""
        return f"{_describe(self.problem, self.parameters)}; seed {self.seed}{told}"

    @property
    def instance(self) -> str:
        """The instance in words, after the run's name where the report has several, whatever its pairs."""
        return f"{self.run}: {self._words}" if self.run else self._words

    @property
    def heading(self) -> str:
        """The title, after the run's name where the report has several."""
        return f"{self.run}: {self.title}" if self.run else self.title

    @property
    def calls(self) -> str:
        """How many pairs there are, and how many share a call."""
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        return f"{pairs}, one per call" if self.batch == 1 else f"{pairs}, {self.batch} per call"

    @property
    def sizes(self) -> list[int]:
        return sorted({record.n for record in self.records})

    def label(self, record: Record) -> str:
        """The variant, with device, precision and threads where the group has several."""
        words = {"device": record.device, "dtype": record.dtype, "threads": f"{record.threads} threads"}
        extra = [words[field] for field in self._several]
        return " on ".join([record.variant, ", ".join(extra)]) if extra else record.variant

    @cached_property
    def _several(self) -> list[str]:
        """The fields that tell its records apart."""
        fields = ("device", "dtype", "threads")
        return [field for field in fields if len({getattr(record, field) for record in self.records}) > 1]


def group(records: Iterable[Record], run: str = "", beside: Iterable[Record] = ()) -> list[Group]:
    """Groups in order of first appearance; within one, by n, k, then in journal order by method.

    Records of two inputs (`input_sha256`) never share a group where the same words describe both. `beside` are the
    records of the report's other runs: a group of which they have another input says which is its own.
    """
    own = list(records)
    here, anywhere = _inputs(own), _inputs([*own, *beside])
    found: dict[str, list[Record]] = {}
    order: dict[str, int] = {}
    for record in own:
        order.setdefault(record.variant, len(order))
        apart = record.input_sha256 if len(here[_exactly(record)]) > 1 else None
        words = [record.problem, _instance(record), record.pairs, record.batch, record.seed, apart]
        found.setdefault(json.dumps(words, sort_keys=True), []).append(record)
    return [
        Group(
            run=run,
            problem=members[0].problem,
            parameters=_instance(members[0]),
            pairs=members[0].pairs,
            batch=members[0].batch,
            seed=members[0].seed,
            records=tuple(sorted(members, key=lambda record: (record.n, record.k, order[record.variant]))),
            inputs=_told([record for record in members if len(anywhere[_exactly(record)]) > 1]),
            apart=members[0].input_sha256 if len(here[_exactly(members[0])]) > 1 else None,
        )
        for members in found.values()
    ]


def _inputs(records: Iterable[Record]) -> dict[str, set[str | None]]:
    """The inputs of each instance."""
    found: dict[str, set[str | None]] = {}
    for record in records:
        found.setdefault(_exactly(record), set()).add(record.input_sha256)
    return found


def _exactly(record: Record) -> str:
    """The instance with its size."""
    return json.dumps([record.problem, record.problem_parameters, record.pairs], sort_keys=True)


def _told(records: Iterable[Record]) -> str:
    """`inputs 1a2b3c4d, 5e6f7a8b and 3 more`, in order of size; empty where there are none."""
    in_order = sorted(records, key=lambda record: (record.n, record.k))
    shas = [(sha256 or "unknown")[:8] for sha256 in dict.fromkeys(record.input_sha256 for record in in_order)]
    more = f" and {len(shas) - MOST_INPUTS} more" if len(shas) > MOST_INPUTS else ""
    return f"input{'s' * (len(shas) > 1)} {', '.join(shas[:MOST_INPUTS])}{more}" if shas else ""


def _instance(record: Record) -> dict[str, Any]:
    """What sets the instance apart beside its size, its number of pairs and its seed, which are fields of their own."""
    left_out = SIZES | {"pairs", "seed"}
    return {name: value for name, value in record.problem_parameters.items() if name not in left_out}


def _describe(problem: str, parameters: dict[str, Any]) -> str:
    rest = dict(parameters)
    if (instance := rest.pop("instance", None)) is not None:  # it settles all the rest but its margin
        margin = f", margin {_written(rest['margin'])}" if "margin" in rest else ""
        return f"{problem}: hard instance {instance}{margin}"
    clauses = []
    if "signal" in rest:
        signal = str(rest.pop("signal"))
        clauses.append(SIGNALS.get(signal, signal))
        ripple = rest.pop("ripple", 0.0)
        if ripple and signal != "patches":  # pictures have none
            clauses[-1] += f" with a ripple of {_written(ripple)}"
    if {"filters", "shape", "filter_size", "log_weight"} <= rest.keys():
        clauses += _filters(rest)
    if "transform" in rest:
        transform = str(rest.pop("transform"))
        scale = rest.pop("scale", 1.0)
        weight = "" if scale == 1.0 else f"{_written(scale)} x "
        clauses.append(f"W = {weight}{TRANSFORMS.get(transform, transform)}")
    forward = rest.pop("forward", None)
    if "fidelity" in rest:
        half = {"half": "1/2 ", "full": ""}.get(str(rest.pop("fidelity")), "? ")
        inside = "x - y" if forward == "identity" else "Ax - y"
        clauses.append(f"data term {half}||{inside}||^2")
    if forward not in (None, "identity"):
        clauses.append(FORWARDS.get(forward, f"A = {forward}"))
    if "noise" in rest:
        clauses.append(f"noise {_written(rest.pop('noise'))}")
    clauses += [f"{name} = {value}" for name, value in rest.items()]
    return f"{problem}: {', '.join(clauses)}" if clauses else problem


def _filters(rest: dict[str, Any]) -> list[str]:
    """What conv_filters says of its pictures and its filters, taken out of `rest`."""
    shape, taps, kind = rest.pop("shape"), rest.pop("filter_size"), rest.pop("filters")
    pictures = isinstance(shape, list)
    if pictures:
        rest.pop("ripple", None)  # one-dimensional signals alone have one
    what = f"pictures of {_times(shape)}" if pictures else f"signals of {shape} samples"
    sides = [taps, taps] if pictures and not isinstance(taps, list) else taps
    return [what, f"{FILTERS.get(kind, kind)} of {_times(sides)} taps, log weight {_written(rest.pop('log_weight'))}"]


def _times(sides: Any) -> str:
    return " x ".join(map(str, sides)) if isinstance(sides, list) else str(sides)


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
