"""Whatever a method returns, raises or prints is a row with a word, and the other rows are what they are without it.

The instance is W = 0.2 I, n = 8, one pair; the healthy method is right to rounding.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench import output
from bench.cli import app
from bench.record import OUTPUT_CHARACTERS, OUTPUT_LINES, Record, Status, read_journal
from reports.error_axis import error_axis
from tests.bench_cells import cell_of, record_of
from tests.bench_plugins import write_config, write_method

ROOT = Path(__file__).parents[1]
SAYS_NOTHING = "class Mute(Exception):\n            __str__ = lambda self: 1 / 0\n        raise Mute"
RECURSES = "f = lambda: f(); f()"
MANY_WARNINGS = "[__import__('sys').stderr.write('warning\\n') for _ in range(10**5)]"
PRINTS = "print('by Python'); os.system('echo by another program'); os.write(1, b'by C\\n')"

RETURNED: dict[str, tuple[dict[str, str], str, str, str]] = {
    # how the method is spoilt; the status, the word for its accuracy, and the message
    "huge": ({"returned": "torch.full_like(W, 1e200)"}, "ok", "wrong", "$"),
    "largest": ({"returned": "torch.full_like(W, 1.7e308)"}, "ok", "wrong", "$"),
    "smallest": ({"returned": "torch.full_like(W, 1e-320)"}, "ok", "wrong", "$"),
    "zero": ({"returned": "0 * W"}, "ok", "wrong", "$"),
    "twice": ({"returned": "2 * W"}, "ok", "wrong", "$"),
    "nearly": ({"returned": "(1 + 1e-4) * W"}, "ok", "inexact", "$"),
    "grows": ({"returned": "W.requires_grad_()"}, "ok", "right", "$"),
    "nan_in_x": ({"solved": "Solution(x * np.nan, u, 1)"}, "nonfinite", "unknown", "the solution's x has entries"),
    "inf_in_u": ({"solved": "Solution(x, u * np.inf, 1)"}, "nonfinite", "unknown", "the solution's u has entries"),
    "inf_in_gradient": ({"returned": "W * np.inf"}, "nonfinite", "unknown", "the gradient has entries that are not"),
    "x_beyond": ({"solved": "Solution(x.sign() * 1.7e308, u, 1)"}, "ok", "wrong", "$"),
    "no_certificate": (
        {"solved": "Solution(x, None, 1)", "in_gradient": "return {'W': theta['W']}"},
        "ok",
        "wrong",
        "$",
    ),
    "nan_iterations": ({"iterations": "np.nan"}, "nonfinite", "unknown", "the solution's count of iterations is not"),
    "many_iterations": ({"iterations": "10**400"}, "nonfinite", "unknown", "the solution's count of iterations is not"),
    "tensor_iterations": ({"iterations": "torch.tensor(3)"}, "ok", "right", "$"),
    "half_an_iteration": ({"iterations": "2.5"}, "ok", "right", "$"),
    "negative_iterations": ({"iterations": "-1"}, "error", "unknown", "BadSolutionError: iterations must be a number"),
    "said_iterations": ({"iterations": "'3'"}, "error", "unknown", "BadSolutionError: .* not negative, not '3'$"),
    "no_iterations": ({"iterations": "None"}, "error", "unknown", "BadSolutionError: .* not negative, not None$"),
    "numpy_converged": ({"converged": "np.bool_(True)"}, "ok", "right", "$"),
    "each_converged": ({"converged": "torch.ones(1, dtype=torch.bool)"}, "ok", "right", "$"),
    "converged_by_word": ({"converged": "'yes'"}, "error", "unknown", "BadSolutionError: converged must be True or"),
    "no_solution": (
        {"solved": "(x, u)"},
        "error",
        "unknown",
        "BadSolutionError: solve must return a Solution, .*tuple",
    ),
    "flat_x": (
        {"solved": "Solution(x[0], u, 1)"},
        "error",
        "unknown",
        r"BadSolutionError: .* shape \(1, 8\), it has \(8,",
    ),
    "numpy_x": (
        {"solved": "Solution(x.numpy(), u, 1)"},
        "error",
        "unknown",
        "BadSolutionError: .* a tensor, it is ndarr",
    ),
    "integer_x": (
        {"solved": "Solution(x.long(), u, 1)"},
        "error",
        "unknown",
        "BadSolutionError: .* real floating dtype",
    ),
    "sparse_x": ({"solved": "Solution(x.to_sparse(), u, 1)"}, "error", "unknown", "BadSolutionError: .* must be dense"),
    "elsewhere": (
        {"returned": "W.to('meta')"},
        "error",
        "unknown",
        "BadGradientError: .* must be on cpu, it is on meta",
    ),
    "sparse": ({"returned": "W.to_sparse()"}, "error", "unknown", "BadGradientError: the gradient of W must be dense"),
    "complex": (
        {"returned": "W + 0j"},
        "error",
        "unknown",
        "BadGradientError: .* must be of torch.float64, it is of tor",
    ),
    "integer": (
        {"returned": "W.long()"},
        "error",
        "unknown",
        "BadGradientError: .* must be of torch.float64, it is of",
    ),
    "no_dict": ({"whole": "W"}, "error", "unknown", r"BadGradientError: .* keys \['W'\], it has Tensor$"),
    "other_keys": ({"whole": "{{'W': W, 7: W}}"}, "error", "unknown", r"BadGradientError: .* it has \['7', 'W'\]$"),
    "mute": ({"in_solve": SAYS_NOTHING}, "error", "unknown", "Mute: its text cannot be had: ZeroDivisionError$"),
    "long_text": ({"in_solve": "raise ValueError('x' * 10**7)"}, "error", "unknown", "ValueError: x{900,}$"),
    "half_a_letter": (
        {"in_solve": r"raise ValueError('a \udcff \x1b[31mb\n')"},
        "error",
        "unknown",
        r"ValueError: a \\udcff b$",
    ),
    "interrupts": ({"in_gradient": "raise KeyboardInterrupt"}, "error", "unknown", "KeyboardInterrupt:$"),
    "recurses": ({"in_gradient": RECURSES}, "error", "unknown", "RecursionError: maximum recursion depth"),
    "warns": ({"in_solve": MANY_WARNINGS}, "ok", "right", "$"),
    "prints": ({"in_solve": PRINTS}, "ok", "right", "$"),
    "prints_and_fails": ({"in_solve": f"{PRINTS}; raise KeyError('W')"}, "error", "unknown", "KeyError: 'W'$"),
}


@dataclass(frozen=True)
class Ran:
    folder: Path
    records: dict[str, Record]
    said: subprocess.CompletedProcess[str]


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("matrix")
    spoilt = [write_method(folder, key, **changes) for key, (changes, *_) in RETURNED.items()]
    path = write_config(folder, [*spoilt, write_method(folder, "healthy")], timing=False, memory=False)
    done = bench("run", path, "--out", folder / "run", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    return Ran(folder / "run", {record.method: record for record in read_journal(folder / "run")}, done)


@pytest.mark.parametrize("key", RETURNED)
def test_each_is_a_row_with_its_words(matrix: Ran, key: str) -> None:
    _, status, accuracy, message = RETURNED[key]
    record = matrix.records[key]
    assert (record.status, record.accuracy) == (status, accuracy), record.message
    assert re.match(message, record.message), record.message
    assert "\n" not in record.message


def test_the_healthy_one_beside_them_is_right(matrix: Ran) -> None:
    healthy = matrix.records["healthy"]
    assert (healthy.status, healthy.accuracy, healthy.output_tail) == ("ok", "right", None)
    assert healthy.best_scalar == pytest.approx(1.0, rel=1e-12)


def test_errors_are_right_however_large(matrix: Ran) -> None:
    """||1e200 J - R|| / ||R|| = 8e200 / ||R||, J the 8 x 8 matrix of ones, as R is nothing beside it."""
    R = matrix.records["healthy"].reference_norm
    assert R is not None
    assert matrix.records["huge"].error_relative == pytest.approx(8e200 / R, rel=1e-12)
    assert matrix.records["huge"].error_max_abs == pytest.approx(1e200, rel=1e-12)
    assert matrix.records["twice"].best_scalar == pytest.approx(0.5, rel=1e-12)
    assert matrix.records["smallest"].error_relative == pytest.approx(1.0, rel=1e-12)
    largest = matrix.records["largest"]
    assert (largest.error_relative is None) == ("error_overflow" in largest.flags) == (8 * 1.7 / R > 1.797)
    assert matrix.records["zero"].best_scalar is None
    assert matrix.records["tensor_iterations"].iterations == 3
    assert matrix.records["half_an_iteration"].iterations == 2.5


def test_every_line_is_json_and_the_table_has_every_row(matrix: Ran) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    for line in (matrix.folder / "journal.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert len(pd.read_parquet(matrix.folder / "records.parquet")) == len(RETURNED) + 1


def test_the_same_command_again_says_the_same(matrix: Ran) -> None:
    config = matrix.folder.parent / "config.toml"
    before = (matrix.folder / "journal.jsonl").read_bytes()
    done = bench("run", config, "--out", matrix.folder)
    assert done.returncode == 0, done.stderr
    assert (matrix.folder / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("number", ["123456789012345678901234567890", "-9223372036854775809", "0x8000000000000000"])
@pytest.mark.parametrize(
    ("command", "text", "key"),
    [
        ("run", '[[problem]]\nn = 6\nseed = {}\n[[method]]\nkey = "blorc"\n', "problem[0].seed"),
        ("run", '[[problem]]\nn = [6, {}]\n[[method]]\nkey = "blorc"\n', "problem[0].n[1]"),
        ("learn", "[problem]\nn = 6\nseed = {}\n", "problem.seed"),
        ("denoise", "seeds = [0, {}]\n", "seeds[1]"),
    ],
)
def test_an_integer_that_cannot_be_stored_is_refused_with_the_range(
    tmp_path: Path, command: str, text: str, key: str, number: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text.format(number))
    done = CliRunner().invoke(app, [command, str(path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    wanted = "input should be an integer from -9223372036854775808 to 9223372036854775807"
    assert done.stderr.splitlines() == [f"error: {path}: {key}: {wanted}, not {int(number, 0)}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = -1", "problem[0].seed: input should be greater than or equal to 0, not -1"),
        ("scale = nan", "problem[0].scale: input should be a finite number, not nan"),
        ("noise = 1.7e308", "problem[0]: y has entries that are not finite: choose smaller settings"),
        ("signal_date = 2020-01-01", "problem[0].signal_date: a setting is no date or time: write it as text"),
        (f"seed = {'9' * 5000}", "not TOML: an integer has more digits than can be stored"),
        (f"n = {'[' * 5000}", "not TOML that can be read: it is nested too deeply"),
    ],
)
def test_a_number_that_no_run_can_have_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[[problem]]\nsignal = "gaussian"\ntransform = "gaussian"\n{text}\n[[method]]\nkey = "blorc"\n')
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")])
    assert (done.exit_code, done.stderr) == (2, f"error: {path}: {said}\n")


def test_a_seed_that_no_journal_can_hold_is_one_line(tmp_path: Path) -> None:
    family = tmp_path / "worded.py"
    family.write_text(
        "from problems.analysis_l1 import AnalysisL1, Settings\n"
        "class Worded(Settings):\n    seed: str = 'first'\n"
        "class Words(AnalysisL1):\n    settings_type = Worded\n"
        "    @classmethod\n    def build(cls, settings):\n"
        "        return AnalysisL1.build(Settings(**settings.model_dump(exclude={'seed'}, exclude_unset=True)))\n"
    )
    path = write_config(tmp_path, [write_method(tmp_path, "healthy")])
    path.write_text(path.read_text().replace("analysis_l1", "worded"))
    done = CliRunner().invoke(app, ["run", str(path), "--plugin", str(family), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2, done.output
    assert re.match(f"error: {path}: healthy on worded cannot be recorded: .*seed", done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1


@given(st.lists(st.floats(min_value=0, allow_nan=False, allow_infinity=False), min_size=1, max_size=5), st.data())
def test_an_axis_of_errors_has_room_for_any(errors: list[float], data: st.DataObject) -> None:
    bars = [data.draw(st.none() | st.floats(min_value=0, allow_nan=False, allow_infinity=False)) for _ in errors]
    record = record_of(cell_of(), Status.OK)
    records = [
        record.model_copy(update={"error_relative": error, "reference_error_relative": bar})
        for error, bar in zip(errors, bars, strict=True)
    ]
    axis = error_axis([0.5] * len(records), records)
    assert 0 < axis.bottom <= axis.floor < axis.top < math.inf
    assert axis.ticks


def test_a_table_that_cannot_be_written_is_an_error_and_no_row_is_lost(tmp_path: Path) -> None:
    path = write_config(tmp_path, [write_method(tmp_path, "healthy")], timing=False, memory=False)
    (tmp_path / "run" / "records.parquet").mkdir(parents=True)
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'run'}/records.parquet: cannot be written: ")
    assert [record.status for record in read_journal(tmp_path / "run")] == ["ok"]
    (tmp_path / "run" / "records.parquet").rmdir()
    assert CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")]).exit_code == 0
    assert len(pd.read_parquet(tmp_path / "run" / "records.parquet")) == 1


def test_the_report_has_every_row_in_every_format(matrix: Ran) -> None:
    done = bench("report", matrix.folder)
    assert done.returncode == 0, done.stderr
    written = matrix.folder / "report"
    for name in ("report.html", "report.md", "tables.tex", "records.csv"):
        text = (written / name).read_text().replace("\\_", "_")
        assert all(key in text for key in RETURNED), name
    assert "1.0e200" in (written / "report.md").read_text()


def test_what_a_method_prints_is_kept_and_not_mixed_in(matrix: Ran) -> None:
    for key in ("prints", "prints_and_fails"):
        kept = output.read(matrix.folder, matrix.records[key].cell_id)
        assert all(f"by {whom}\n" in kept for whom in ("Python", "another program", "C"))
        tail = matrix.records[key].output_tail
        assert tail is not None
        assert ("KeyError: 'W'" in tail) == (key == "prints_and_fails")
    assert "by C" not in matrix.said.stdout + matrix.said.stderr
    traceback = output.read(matrix.folder, matrix.records["prints_and_fails"].cell_id)
    assert re.search(r'prints_and_fails.py", line \d+, in solve', traceback)


def test_what_is_kept_of_it_is_bounded_and_has_no_escapes(matrix: Ran) -> None:
    tails = [record.output_tail for record in matrix.records.values() if record.output_tail is not None]
    assert max(map(len, tails)) <= OUTPUT_CHARACTERS
    assert max(len(tail.split("\n")) for tail in tails) <= OUTPUT_LINES
    files = list((matrix.folder / output.FOLDER).iterdir())
    assert len(files) == len(tails)
    assert max(file.stat().st_size for file in files) < 2**18
    assert not any("\x1b" in file.read_text() for file in files)
    flood = output.read(matrix.folder, matrix.records["warns"].cell_id)
    assert re.search(r"^\[\d+ bytes before this were not kept\]$", flood, re.MULTILINE)


def test_reproduce_shows_what_was_printed_both_times(matrix: Ran) -> None:
    done = bench("reproduce", matrix.records["prints_and_fails"].cell_id, matrix.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nby C\n") == done.stdout.count("Traceback (most recent call last)") == 2
