"""Two thousand malformed configurations, mutants of the shipped ones: each refused in one line that names the key."""

from __future__ import annotations

import copy
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from bench import plan
from bench.cli import app

CONFIGS = Path(__file__).parents[1] / "bench" / "configs"
MUTANTS = 2000
THROUGH_THE_COMMAND = 12
FILE = "mutant.toml"

Path_ = tuple[str | int, ...]


def small_documents() -> list[dict[str, Any]]:
    """The shipped configurations, one problem and one method at a time, without sizes that take long to build."""
    found = []
    for path in sorted(CONFIGS.glob("*.toml")):
        document = tomllib.loads(path.read_text())
        if "method" not in document:  # of `learn`, see test_learn.py
            continue
        rest = {name: table for name, table in document.items() if name not in ("problem", "method")}
        small = [problem for problem in document["problem"] if problem.get("n") in (8, 16, 36)]
        problems = [problem for problem in small if "instance" not in problem]  # which settles the rest itself
        for index, method in enumerate(document["method"]):
            own = {name: value for name, value in method.items() if name != "problems"}
            problem = {**(problems or [{"n": 8}])[index % max(len(problems), 1)], "pairs": 1}
            problem.pop("batch", None)
            found.append({**rest, "problem": [problem], "method": [own]})
    return found


def places(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every key of the tables, with its value."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield (*path, name), entry
            yield from places(entry, (*path, name))
    elif isinstance(value, list) and path in (("problem",), ("method",)):
        yield from places(value[0], (*path, 0))


def wrong_values(value: Any) -> list[Any]:
    """What no key with such a value allows."""
    if isinstance(value, bool):
        return ["maybe", 7, {"a": 1}]
    if isinstance(value, int | float):
        return ["many", float("nan"), -1e9, {"a": 1}, [], [["x"]], [value, "many"]]
    if isinstance(value, str):
        return [17, {"a": 1}, [], True, f"{value}zzz"]
    if isinstance(value, list):
        return [[], [{"a": 1}], {"a": 1}]
    return [17, "text", []]


ANYTHING_GOES = {
    "title": (str,),
    "name": (str,),
    "instance": (str,),
    "scale": (float,),
    "preload": (list,),
    "quantities": (list,),
}
"""Keys for which a wrong value of the same type may be right: any text, a transform turned round, none of a list."""


def mutant(document: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """A malformed copy, and the key that its refusal must name."""
    changed = copy.deepcopy(document)
    path, value = rng.choice([place for place in places(changed) if place[0] != ("title",)])
    table = changed
    for key in path[:-1]:
        table = table[key]  # type: ignore[index]
    name = str(path[-1])
    if path in (("problem",), ("method",)):
        table[name] = rng.choice([[], {}, 3, "x", None, [3], [[]]])
    elif rng.random() < 0.4:
        del table[name]
        misspelt = name[:-1] + rng.choice("qzj") + name[-1]
        table[misspelt] = value
        return changed, name if name == "key" else misspelt  # the one key without a default is missing
    else:
        same_type = ANYTHING_GOES.get(name, ())
        table[name] = rng.choice([wrong for wrong in wrong_values(value) if not isinstance(wrong, same_type)])
    return changed, name


def refusal_of(document: dict[str, Any]) -> str:
    job = {"document": document, "file": FILE, "plugins": [], "devices": None, "only": ""}
    return plan.matrix(job).get("refused", "")


def test_every_mutant_is_refused_in_one_line_that_names_the_key() -> None:
    rng, documents = random.Random(0), small_documents()
    assert not any(refusal_of(document) for document in documents)
    survivors = []
    for _ in range(MUTANTS):
        changed, key = mutant(rng.choice(documents), rng)
        refused = refusal_of(changed)
        if not (refused.startswith(f"{FILE}: ") and key in refused and "\n" not in refused and len(refused) < 600):
            survivors.append((key, changed, refused))
    assert not survivors, f"{len(survivors)} of {MUTANTS}, the first: {survivors[0]}"


def test_the_command_says_that_line_and_leaves_with_2(tmp_path: Path) -> None:
    rng, documents = random.Random(1), small_documents()
    texts = [toml(mutant(rng.choice(documents), rng)[0]) for _ in range(THROUGH_THE_COMMAND)]
    whole = (CONFIGS / "smoke.toml").read_text()
    texts += [whole[: len(whole) // 2 + 3], whole.replace("]]", "]"), "\0", "[[problem]]\n"]
    for text in texts:
        (tmp_path / FILE).write_text(text)
        done = CliRunner().invoke(app, ["run", str(tmp_path / FILE), "--out", str(tmp_path / "run")])
        assert done.exit_code == 2, (text, done.output)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {tmp_path / FILE}: ")
        assert "Traceback" not in done.output
        assert not (tmp_path / "run").exists()


def toml(document: dict[str, Any]) -> str:
    """Its TOML: the standard library only reads."""
    lines = [f"{name} = {written(value)}" for name, value in document.items()]
    return "\n".join(lines) + "\n"


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {written(entry)}" for name, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, bool) or value is None:
        return "true" if value else "false"  # TOML has no null
    return f'"{value}"' if isinstance(value, str) else repr(value)
