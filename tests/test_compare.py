"""The comparison of two runs: its statistics against simulations of known truth, its command on runs made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from bench import compare_text
from bench.cell import Cell, Instance
from bench.change import Change, accuracy, memory, timings
from bench.cli import app
from bench.compare import Comparison, compare, verdicts
from bench.ratio import adjusted, p_values, ratios
from bench.record import Record, Status
from bench.run_folder import Run, RunError
from bench.samples import Timed, Value
from bench.suite import write_suite
from bench.verdicts import exit_code, junit
from tests.test_journal import record

ROOT = Path(__file__).parents[1]
MIB = 2**20
Array = NDArray[np.float64]
SECONDS = st.floats(1e-6, 1e3)


def processes(least: int = 2) -> st.SearchStrategy[list[float]]:
    return st.lists(SECONDS, min_size=least, max_size=6)


@given(processes(), processes())
def test_exchanging_the_runs_inverts_the_ratio_and_its_interval(a: list[float], b: list[float]) -> None:
    there, back = ratios(np.array(a), np.array(b)), ratios(np.array(b), np.array(a))
    for one, other in ((there.estimate, back.estimate), (there.low, back.high), (there.high, back.low)):
        # Exact but for the rounding of the quantiles' arithmetic on logs of up to 1e3, and of exp.
        assert np.log(one) == pytest.approx(-np.log(other), abs=1e-11)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-6)
    assert there.low <= there.estimate * (1 + 1e-12)
    assert there.estimate <= there.high * (1 + 1e-12)


@given(processes())
def test_identical_runs_have_the_ratio_one_and_are_not_significant(seconds: list[float]) -> None:
    same = ratios(np.array(seconds), np.array(seconds))
    assert same.estimate == 1
    assert same.low <= 1 <= same.high
    assert same.p_value == 1


@given(processes(), processes(), st.floats(1e-3, 1e3))
def test_the_unit_of_time_is_immaterial(a: list[float], b: list[float], unit: float) -> None:
    one, other = ratios(np.array(a), np.array(b)), ratios(unit * np.array(a), unit * np.array(b))
    assert np.log(one.estimate) == pytest.approx(np.log(other.estimate), abs=1e-11)
    assert np.log(one.low) == pytest.approx(np.log(other.low), abs=1e-9)


def test_processes_that_agree_to_the_last_digit_are_no_division_by_zero() -> None:
    constant = np.full(3, 0.25)
    changed = ratios(constant, 1.5 * constant)
    assert (changed.estimate, changed.p_value) == (pytest.approx(1.5), 0)
    assert changed.low == changed.high == changed.estimate


EFFECTS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "heavy-tailed": lambda random, shape: random.standard_t(4, shape),
    "skewed": lambda random, shape: random.exponential(size=shape),
}


def simulated(
    effect: str, cells: int, count: int, between: float, within: float, seed: int, factor: float = 1.0
) -> Array:
    """Process medians of `count` processes of 5 values: each process has a speed of its own, each value its noise."""
    random, draw = np.random.default_rng(seed), EFFECTS[effect]
    speed, noise = draw(random, (cells, count, 1)), draw(random, (cells, count, 5))
    return np.median(factor * np.exp(between * speed + within * noise), axis=-1)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize(
    ("before", "after", "between", "within"),
    [(2, 2, 0.02, 0.005), (3, 3, 0.02, 0.005), (3, 3, 0.003, 0.05), (3, 6, 0.02, 0.02), (10, 10, 0.02, 0.02)],
)
def test_the_interval_covers_a_true_ratio(effect: str, before: int, after: int, between: float, within: float) -> None:
    found = ratios(
        simulated(effect, 400, before, between, within, seed=1),
        simulated(effect, 400, after, between, within, seed=2, factor=1.3),
    )
    covered = np.mean((found.low <= 1.3) & (found.high >= 1.3))
    # 95 %, less three standard deviations of 400 draws: 3.3 %.
    assert covered >= 0.917
    assert abs(np.median(np.log(found.estimate)) - np.log(1.3)) < 0.01


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("count", [3, 10])
def test_where_nothing_changed_something_is_found_in_one_comparison_of_twenty(effect: str, count: int) -> None:
    """100 comparisons of 200 cells each. Were the 5 values of a process taken for 5 processes, most would fail."""
    from scipy import stats

    a, b = (np.log(simulated(effect, 200 * 100, count, 0.02, 0.01, seed=seed)) for seed in (3, 4))
    found = p_values(np.exp(a), np.exp(b)).reshape(100, 200)
    alarms = np.mean([(adjusted(each) < 0.05).any() for each in found])
    # 5 %, and three standard deviations of 100 comparisons: 6.5 %.
    assert alarms <= 0.115
    # The p-values themselves are no liars either, and not so shy as to be useless.
    assert 0.02 < np.mean(found < 0.05) < 0.06
    assert found.ravel() == pytest.approx(stats.ttest_ind(b, a, axis=-1, equal_var=False).pvalue)


def test_changed_cells_are_found_among_unchanged_ones_and_few_of_the_found_are_chance() -> None:
    factor = np.where(np.arange(200) < 40, 1.3, 1.0)[:, None]
    shares, found = [], []
    for seed in range(40):
        a = simulated("normal", 200, 5, 0.02, 0.01, seed=seed)
        b = factor * simulated("normal", 200, 5, 0.02, 0.01, seed=1000 + seed)
        significant = adjusted(p_values(a, b)) < 0.05
        found.append(significant[:40].mean())
        shares.append(significant[40:].sum() / max(1, significant.sum()))
    assert np.mean(found) > 0.99  # a change of 13 spreads of a process
    assert np.mean(shares) < 0.05


def cell(name: str, **parameters: Any) -> Cell:
    settings = {"n": 8, **parameters}
    instance = Instance("analysis_l1", settings, settings, "one", 8, 8, 64, 1, "0" * 64)
    return Cell(instance, name, {}, 1, "cpu", "float64", 1)


class Folder:
    """A run folder by hand."""

    def __init__(self, path: Path, **machine: Any) -> None:
        path.mkdir()
        self.path, self._records = path, list[Record]()
        self.machine = {"cpu": "Model T", "logical_cores": 2, "git_sha": "f" * 40, "git_dirty": False} | machine
        (path / "environment.json").write_text(json.dumps(self.machine))

    def add(self, name: str, seconds: list[list[float]] | None = None, **fields: Any) -> Record:
        """A cell. Seconds are of solve and gradient together, half of them each, by process and value."""
        added = cell(name)
        fields = {"input_sha256": "0" * 64, "host_peak_bytes": 10 * MIB, "error_relative": 1e-12} | fields
        named = {"method": name} | {key: fields.pop(key) for key in ("problem_parameters",) if key in fields}
        self._records.append(record(added.cell_id, **fields).model_copy(update=named))
        (self.path / "journal.jsonl").write_text("".join(each.to_line() + "\n" for each in self._records))
        if seconds:
            timed = [Timed(1.0, 1, (), tuple(Value(each / 2, each / 2, 1) for each in own)) for own in seconds]
            write_suite(self.path / "pyperf" / f"{added.cell_id}.json", added, timed)
        return self._records[-1]

    @property
    def run(self) -> Run:
        return Run.read(self.path)


def noisy(seed: int, factor: float = 1.0, count: int = 5) -> list[list[float]]:
    random = np.random.default_rng(seed)
    speeds = np.exp(0.01 * random.standard_normal((count, 1)) + 0.005 * random.standard_normal((count, 5)))
    return (1e-3 * factor * speeds).tolist()


@pytest.fixture
def two(tmp_path: Path) -> tuple[Folder, Folder]:
    """Ten cells, of which one became slower, one faster, and the others did not change."""
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b", git_sha="e" * 40)
    for number in range(8):
        a.add(f"same{number}", noisy(number))
        b.add(f"same{number}", noisy(100 + number))
    a.add("slower", noisy(20))
    b.add("slower", noisy(21, 1.3))
    a.add("faster", noisy(30))
    b.add("faster", noisy(31, 1 / 1.3))
    return a, b


def changes(comparison: Comparison) -> dict[str, Change]:
    return {each.where.split()[0]: each.timing.change for each in comparison.compared if each.timing is not None}


def test_a_change_of_time_is_found_and_its_interval_holds_it(two: tuple[Folder, Folder]) -> None:
    comparison = compare(two[0].run, two[1].run)
    found = changes(comparison)
    assert (found.pop("slower"), found.pop("faster")) == ("slower", "faster")
    assert set(found.values()) <= {"no change", "unresolved"}
    first, second = comparison.compared[:2]
    assert first.where.startswith("slower")  # what got worse comes first, what got better next
    assert second.where.startswith("faster")
    assert first.timing is not None
    assert first.timing.low is not None
    assert first.timing.high is not None
    assert first.timing.low <= 1.3 <= first.timing.high
    assert exit_code(verdicts(comparison)) == 4
    assert exit_code(verdicts(compare(two[0].run, two[0].run))) == 0


def test_every_phase_has_its_ratio(two: tuple[Folder, Folder]) -> None:
    """The gradient is made to take as long as the solve."""
    total, solve = (compare(two[0].run, two[1].run, phase).compared for phase in ("total", "solve"))
    assert [each.timing and each.timing.ratio for each in solve] == pytest.approx(
        [each.timing and each.timing.ratio for each in total]
    )
    assert total[0].timing is not None
    assert solve[0].timing is not None
    assert total[0].timing.a_seconds == pytest.approx(2 * solve[0].timing.a_seconds)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 0.5), st.integers(0, 1000))
def test_a_verdict_is_about_changes_beyond_the_margin(margin: float, seed: int) -> None:
    pair = (record("a"), record("a"))
    a, b = (simulated("normal", 1, 5, 0.02, 0.01, seed + 5000 * which)[0] for which in (0, 1))
    (timing,) = timings([pair], [(a.tolist(), (1.1 * b).tolist())], margin)
    assert timing is not None
    assert timing.low is not None
    assert timing.high is not None
    if timing.change is Change.NO_CHANGE:
        assert 1 / (1 + margin) <= timing.low <= timing.high <= 1 + margin
    elif timing.change is Change.SLOWER:
        assert timing.ratio > 1 + margin
    else:
        assert timing.high > 1 + margin or timing.low < 1 / (1 + margin)


@pytest.mark.parametrize("flag", ["unstable", "loaded", "threads", "throttled", "noisy"])
def test_flagged_times_are_shown_and_not_judged(tmp_path: Path, flag: str) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b")
    a.add("m", noisy(1))
    b.add("m", noisy(2, 3.0), flags=[flag, "pairs=1/2"])
    comparison = compare(a.run, b.run)
    (one,) = comparison.compared
    assert one.timing is not None
    assert (one.timing.change, one.timing.note) == (Change.UNJUDGED, f"B is {flag}")
    assert one.timing.ratio == pytest.approx(3, rel=0.1)
    assert exit_code(verdicts(comparison)) == 0


def test_a_single_process_is_shown_and_not_judged(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b")
    a.add("m", noisy(1, count=1))
    b.add("m", noisy(2, 3.0, count=3))
    (one,) = compare(a.run, b.run).compared
    assert one.timing is not None
    assert (one.timing.change, one.timing.low) == (Change.UNJUDGED, None)
    assert one.timing.note == "fewer than 2 processes in a run ([measure] processes)"


def test_cells_that_cannot_be_paired_are_named(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b")
    for folder, name in ((a, "gone"), (b, "new")):
        folder.add("both", noisy(1))
        folder.add(name, noisy(1))
    own = {"problem_parameters": {"seed": 1}}
    a.add("other", noisy(1), **own)
    b.add("other", noisy(1, 9.0), input_sha256="1" * 64, **own)
    comparison = compare(a.run, b.run)
    assert [each.where for each in comparison.compared] == ["both on analysis_l1 n=8"]
    assert comparison.only_a == ["gone on analysis_l1 n=8"]
    assert comparison.only_b == ["new on analysis_l1 n=8"]
    (other,) = comparison.other_input
    assert other.where == "other on analysis_l1 n=8"
    assert other.reason.startswith("not comparable: the input changed (")
    assert other in verdicts(comparison)
    assert any(line.startswith("1 not comparable: the input changed") for line in compare_text.footer(comparison))
    assert "1 cell not comparable: the input changed" in compare_text.headline(comparison)


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (record("a"), record("a", Status.CRASHED, message="SIGSEGV"), "worse"),
        (record("a", Status.TIMEOUT), record("a"), "better"),
        (record("a", Status.TIMEOUT), record("a", Status.CRASHED), "not judged"),
        (record("a", error_relative=1e-9), record("a", error_relative=2.9e-9), "no change"),
        (record("a", error_relative=1e-9), record("a", error_relative=3.1e-9), "worse"),
        (record("a", error_relative=3.1e-9), record("a", error_relative=1e-9), "better"),
        (
            record("a", error_relative=1e-12, reference_error_relative=1e-8),
            record("a", error_relative=9e-9, reference_error_relative=1e-10),
            "no change",  # within the bar of a reference
        ),
        (record("a", error_relative=1e-9), record("a"), "not judged"),
    ],
)
def test_accuracy_changes_by_status_and_by_errors_beyond_the_bars(before: Record, now: Record, change: str) -> None:
    assert accuracy(before, now).change == change


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ({"host_peak_bytes": 10 * MIB}, {"host_peak_bytes": 30 * MIB}, "larger"),
        ({"host_peak_bytes": 30 * MIB}, {"host_peak_bytes": 10 * MIB}, "smaller"),
        ({"host_peak_bytes": 10 * MIB}, {"host_peak_bytes": 10 * MIB + 1}, "no change"),
        ({"host_peak_bytes": 10 * MIB}, {}, "not judged"),
        ({"host_peak_bytes": 10 * MIB}, {"host_peak_bytes": 30 * MIB, "flags": ["memory_sampled"]}, "not judged"),
        (
            {"host_peak_bytes": 30 * MIB, "device_peak_bytes": 10 * MIB},
            {"host_peak_bytes": 10 * MIB, "device_peak_bytes": 30 * MIB},
            "larger",
        ),
    ],
)
def test_memory_changes_beyond_the_gates_tolerance(before: dict, now: dict, change: str) -> None:
    assert memory(record("a", **before), record("a", **now)).change == change


HOSTILE = "a|b`*[x](y)<i>@all\n_it_\x01"


def test_hostile_names_break_neither_the_table_nor_the_xml(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b")
    a.add(HOSTILE)
    b.add(HOSTILE, status=Status.CRASHED, message=f"died of {HOSTILE}")
    comparison = compare(a.run, b.run)
    assert len(list(ElementTree.fromstring(junit("compare", verdicts(comparison))).iter("failure"))) == 1
    row = next(line for line in compare_text.summary(comparison).splitlines() if "died" in line)
    assert row.replace(r"\|", "").count("|") == 1 + len(compare_text.HEADINGS)
    assert r"\[x\](y)\<i\>@" + "\N{ZERO WIDTH SPACE}all \\_it\\_" in row


def test_a_summary_stays_short(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b", cpu="Model A")
    for number in range(60):
        a.add(f"m{number}")
        b.add(f"m{number}", status=Status.CRASHED)
        b.add(f"new{number}")
    lines = compare_text.summary(compare(a.run, b.run)).splitlines()
    assert lines[0] == "## Comparison: **60 cells got worse**"
    assert len(lines) <= 40
    assert "... and 35 more." in lines


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "bench", "compare", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(called, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)


def test_the_command_prints_the_table_and_writes_both_files(two: tuple[Folder, Folder], tmp_path: Path) -> None:
    a, b = two
    xml, summary = tmp_path / "j.xml", tmp_path / "s.md"
    done = command(a.path, b.path, "--junit", xml, "--summary", summary)
    assert done.returncode == 4, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"A: {a.path}: 10 cells; machine Model T, 2 logical cores; commit ffffffffffff"
    assert lines[2] == f"A to B: git_sha {'f' * 40}, now {'e' * 40}"
    rows = [line for line in lines if "on analysis_l1" in line]
    assert len(rows) == 10
    assert rows[0].split()[0] == "slower"
    assert " slower " in rows[0][20:]
    assert "10 cells in both; time: 1 slower, 1 faster, " in done.stdout
    failed = [case for case in ElementTree.parse(xml).iter("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["slower on analysis_l1 n=8"]
    text = summary.read_text()
    assert text.startswith("## Comparison: **1 cell got worse**\n")
    assert text.count("on analysis_l1") == 2


def test_the_command_ends_with_the_code_of_what_got_worse(two: tuple[Folder, Folder]) -> None:
    def code(*arguments: Path) -> int:
        return CliRunner().invoke(app, ["compare", *map(str, arguments)]).exit_code

    a, b = two
    assert code(a.path, a.path) == 0
    assert code(a.path, b.path) == 4
    a.add("larger")
    b.add("larger", host_peak_bytes=40 * MIB)
    assert code(a.path, b.path) == 3
    a.add("wrong")
    b.add("wrong", error_relative=0.1)
    assert code(a.path, b.path) == 1


def test_another_machine_is_a_warning(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b", cpu="Model A")
    a.add("m", noisy(1))
    b.add("m", noisy(2))
    warning = "warning: the runs are not known to be of one machine: the ratios compare the machines, too"
    assert warning in compare_text.header(compare(a.run, b.run))
    assert warning not in compare_text.header(compare(a.run, a.run))
    (b.path / "environment.json").unlink()
    assert warning in compare_text.header(compare(b.run, b.run))


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    a, b = Folder(tmp_path / "a"), Folder(tmp_path / "b")
    spoilt = a.add("m", noisy(1))
    b.add("m", noisy(1))
    empty = tmp_path / "empty"
    empty.mkdir()
    stranger = Folder(tmp_path / "stranger")
    stranger.add("unheard of")
    cases = [
        (
            [a.path, stranger.path],
            f"{a.path} and {stranger.path} have no cell in common: compare runs of one configuration",
        ),
        ([a.path, empty], f"{empty}: not a run: it holds no journal.jsonl"),
        ([a.path, b.path, "--phase", "prepare"], "--phase prepare: choose from total, solve, gradient"),
    ]
    for arguments, expected in cases:
        done = command(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {expected}\n")
    path = a.path / "pyperf" / f"{spoilt.cell_id}.json"
    for text in ("", "{}", path.read_text().replace(f"{spoilt.cell_id} total", "another"), "\0"):
        path.write_text(text)
        with pytest.raises(RunError, match="not pyperf's timings of this cell") as error:
            compare(a.run, b.run)
        assert "\n" not in str(error.value)
    for text in ("[]", "{"):  # damaged: as if it were not there
        (b.path / "environment.json").write_text(text)
        assert Run.read(b.path).environment == {}
    (empty / "journal.jsonl").write_text("")
    with pytest.raises(RunError, match="holds no finished cell"):
        Run.read(empty)
