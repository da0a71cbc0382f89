"""What there is, what each needs, and why a pair is refused: the tables of `python -m bench list`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence

from bench.aligned import Column, Table
from bench.catalogue import Catalogue
from methods.contract import Method
from problems.contract import Problem, Structure


def methods_table(catalogue: Catalogue) -> Table:
    """Every method with what it requires of a problem."""
    rows = []
    for key in catalogue.methods:
        method = catalogue.method(key)
        devices, batched = ", ".join(sorted(method.devices)), "yes" if method.batched else "looped"
        rows.append((key, _words(method.requires), devices, batched, _first_line(method)))
    return _table("Methods", ("method", "needs", "devices", "batched", "what it computes"), rows)


def problems_table(catalogue: Catalogue) -> Table:
    """Every family with the structure of its default instance, and its settings."""
    rows = []
    for key, problem in _default_problems(catalogue):
        settings = ", ".join(type(problem).settings_type.model_fields)
        rows.append((key, _words(problem.structure), settings, _first_line(type(problem))))
    return _table("Problems", ("problem", "has", "settings", "what is differentiated"), rows)


def pairs_table(catalogue: Catalogue) -> Table:
    """Every method on every family's default instance: `yes`, or the refusal."""
    rows = [
        (key, family, _answer(catalogue.method(key)(), problem))
        for family, problem in _default_problems(catalogue)
        for key in catalogue.methods
    ]
    return _table("Pairs, each with its default settings", ("method", "problem", "runs"), rows)


def _table(title: str, headings: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    return Table(title, tuple(Column(heading, numeric=False) for heading in headings), tuple(rows))


def _answer(method: Method, problem: Problem) -> str:
    refusal = method.refusal(problem)
    return "yes" if refusal is None else f"no: {refusal}"


def _default_problems(catalogue: Catalogue) -> Iterator[tuple[str, Problem]]:
    for key in catalogue.problems:
        family = catalogue.problem(key)
        yield key, family.build(family.settings_type())


def _words(structure: Structure) -> str:
    return ", ".join(str(flag.name).lower() for flag in structure) or "-"


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]
