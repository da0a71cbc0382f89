"""Runs for the tests of the page, made up: hostile, one cell, all failed, 5,000 cells."""

from __future__ import annotations

from pathlib import Path

from bench.record import Record
from tests.test_reports import ENVIRONMENT, HOSTILE, TOTAL_VARIATION, failed, full_run, made_up, timed, write_run

MARKUP = '"><img src=x onerror="document.title=1"></script><!--<script>document.title=2</script>'
FORMULA = '=HYPERLINK("http://example.invalid","@x")'
METHODS = ("blorc", "active_set_adjoint", "torch_closed_form", "unrolled_reverse", "cvxpy_layer")
SCALES = (0.02, 0.05, 0.1, 0.2, 0.5)
SIZES = (16, 24, 36, 64, 100)


def hostile_run(folder: Path) -> Path:
    """Names, messages, titles and parameters that try to be HTML, LaTeX, Markdown or a spreadsheet's formula."""
    names = (HOSTILE, MARKUP, FORMULA, "+1+1", "-2", "@sum", "\tx", "$\\href{x}{y}$", "🦀 日本")
    records = [made_up(name, method_parameters={"a": name}) for name in names]
    records += [failed("error", name, 64, message=name, flags=[name], reproduce=name) for name in names]
    environment = {**ENVIRONMENT, "cpu": MARKUP, "command": FORMULA}
    written = write_run(folder, records, environment)
    (written / "config.toml").write_text(f"title = {MARKUP!r}\n".replace("\\", ""))
    return written


def one_cell_run(folder: Path) -> Path:
    """A single cell."""
    return write_run(folder, [made_up()], ENVIRONMENT)


def failed_run(folder: Path) -> Path:
    """Every kind of failure and no result."""
    statuses = ("unsupported", "timeout", "out_of_memory", "crashed", "error", "nonfinite", "inaccurate_solver")
    records = [failed(word, f"ends_{word}", 36, message=f"it ended: {word}") for word in statuses]
    return write_run(folder, records, ENVIRONMENT)


def rich_run(folder: Path) -> Path:
    """Two instances, sweeps, published values, failures."""
    records = [record for record in full_run() if record.problem_parameters.get("scale") in (1.0, 0.1)]
    return write_run(folder, records, ENVIRONMENT)


def large_run(folder: Path) -> Path:
    """5,000 cells: five instances, five sizes, five methods at forty values of a parameter; every tenth cell failed."""
    records: list[Record] = []
    for scale in SCALES:
        for n in SIZES:
            for place, method in enumerate(METHODS):
                for step in range(1, 41):
                    common = {"n": n, "problem_parameters": {**TOTAL_VARIATION, "scale": scale}}
                    knob = {"method_parameters": {"steps": step}}
                    if len(records) % 10 == 9:
                        records.append(failed("timeout", method, **common, **knob, message="killed after 120 s"))
                    else:
                        speed = timed((1 + place) * step * n / 36)
                        records.append(made_up(method, **common, **knob, **speed, error_relative=10.0 ** (-step / 4)))
    return write_run(folder, records, ENVIRONMENT)
