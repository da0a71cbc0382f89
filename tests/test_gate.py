"""The gate: what fails, by how much, in which words, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import baseline as file
from bench import gate, verdicts
from bench.baseline import Baseline, Machine, Tolerances
from bench.record import Record, Status
from bench.verdicts import Kind, Outcome, Verdict
from tests.test_journal import record

ROOT = Path(__file__).parents[1]
HERE, ELSEWHERE = Machine(cpu="Model T", logical_cores=2), Machine(cpu="Model A", logical_cores=2)
MIB = 2**20


def baseline_of(tmp_path: Path, *records: Record, **tolerances: Any) -> Baseline:
    by_cell = {each.cell_id: each for each in records}
    file.write_baseline(tmp_path / "b.json", by_cell, HERE, Tolerances(**tolerances))
    return file.read_baseline(tmp_path / "b.json")


def verdict_on(tmp_path: Path, now: Record, before: Record, kind: Kind = Kind.ACCURACY) -> Verdict:
    judged = gate.judge({now.cell_id: now}, baseline_of(tmp_path, before), HERE)
    (verdict,) = [each for each in judged if each.kind is kind]
    return verdict


@pytest.mark.parametrize(
    ("error", "passes"),
    [(1.0e-12, True), (3.9e-12, True), (4.0e-12, True), (4.2e-12, False), (1.0, False)],
)
def test_an_error_may_grow_to_three_times_the_baseline_and_one_bar(tmp_path: Path, error: float, passes: bool) -> None:
    before = record("a", error_relative=1e-12, reference_error_relative=1e-12)
    now = record("a", error_relative=error, reference_error_relative=5e-13)
    assert verdict_on(tmp_path, now, before).outcome == ("passed" if passes else "failed")


def test_a_failure_says_which_where_and_by_how_much(tmp_path: Path) -> None:
    before = record("a", error_relative=2e-14, reference_error_relative=1.2e-11)
    now = record("a", error_relative=3.1e-2)
    assert verdict_on(tmp_path, now, before).line == (
        "blorc on analysis_l1 n=8: error 3.1e-02, baseline 2.0e-14, allowed 1.2e-11 (3 x baseline + bar + rounding)"
    )


RANKS = [{"ok"}, {"kink", "inaccurate_solver"}, {"unsupported"}]
RANKS.append({*map(str, Status)} - set().union(*RANKS))


@pytest.mark.parametrize("now", Status)
@pytest.mark.parametrize("before", Status)
def test_a_status_may_improve_but_not_get_worse(tmp_path: Path, before: Status, now: Status) -> None:
    rank = {name: position for position, names in enumerate(RANKS) for name in names}
    verdict = verdict_on(tmp_path, record("a", now), record("a", before))
    assert (verdict.outcome is Outcome.FAILED) == (rank[now] > rank[before])


def test_an_error_that_is_no_longer_measured_fails(tmp_path: Path) -> None:
    verdict = verdict_on(tmp_path, record("a"), record("a", error_relative=1e-12))
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, "no error was measured, baseline 1.0e-12")


def test_a_missing_cell_fails_and_a_new_one_does_not(tmp_path: Path) -> None:
    missing, new = gate.judge({"new": record("new")}, baseline_of(tmp_path, record("old")), HERE)
    assert missing.line == "blorc on analysis_l1 n=8 (old): missing from the run"
    assert (missing.outcome, new.outcome) == (Outcome.FAILED, Outcome.UNJUDGED)
    assert new.reason == "new, not in the baseline"


@pytest.mark.parametrize("name", ["host_peak_bytes", "device_peak_bytes"])
@pytest.mark.parametrize(
    ("before", "now", "passes"),
    [
        (10 * MIB, 12 * MIB, True),  # 1.1 x 10 + 1
        (10 * MIB, 12 * MIB + 1, False),
        (10 * MIB, 1 * MIB, True),
        (0, 1 * MIB, True),
        (0, 1 * MIB + 1, False),
    ],
)
def test_memory_may_grow_to_its_tolerance(tmp_path: Path, name: str, before: int, now: int, passes: bool) -> None:
    held = baseline_of(tmp_path, record("a", **{name: before}), memory_factor=1.1, memory_slack_bytes=MIB)
    _, verdict = gate.judge({"a": record("a", **{name: now})}, held, HERE)
    assert (verdict.kind, verdict.outcome) == (Kind.MEMORY, "passed" if passes else "failed")
    assert verdicts.exit_code([verdict]) == (0 if passes else 3)


def test_memory_is_judged_on_any_machine_and_in_words(tmp_path: Path) -> None:
    held = baseline_of(tmp_path, record("a", host_peak_bytes=10 * MIB), memory_factor=1.1, memory_slack_bytes=MIB)
    _, verdict = gate.judge({"a": record("a", host_peak_bytes=14 * MIB)}, held, ELSEWHERE)
    assert verdict.line == (
        "blorc on analysis_l1 n=8: memory 14.00 MiB, baseline 10.00 MiB, allowed 12.00 MiB (1.1 x baseline + 1 MiB)"
    )


def test_memory_that_is_no_longer_measured_fails(tmp_path: Path) -> None:
    verdict = verdict_on(tmp_path, record("a"), record("a", host_peak_bytes=MIB), Kind.MEMORY)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, "no memory was measured, baseline 1.00 MiB")


@pytest.mark.parametrize(
    ("now", "before", "reasons"),
    [
        (record("a", host_peak_bytes=90 * MIB), record("a"), []),
        (
            record("a", Status.TIMEOUT),
            record("a", host_peak_bytes=MIB),
            ["the cell's status got worse"],
        ),
        (
            record("a", host_peak_bytes=90 * MIB, flags=["memory_sampled"]),
            record("a", host_peak_bytes=MIB),
            ["memory was sampled, and may have peaked unseen"],
        ),
        (record("a", host_peak_bytes=90 * MIB), record("a", host_peak_bytes=MIB, flags=["memory_sampled"]), []),
    ],
    ids=["none in the baseline", "failed otherwise", "sampled now", "sampled then"],
)
def test_memory_is_not_judged(tmp_path: Path, now: Record, before: Record, reasons: list[str]) -> None:
    judged = gate.judge({"a": now}, baseline_of(tmp_path, before), HERE)
    assert [(each.outcome, each.reason) for each in judged if each.kind is Kind.MEMORY] == [
        (Outcome.UNJUDGED, reason) for reason in reasons
    ]


def timed(cell_id: str, solve: float, gradient: float, **others: Any) -> Record:
    return record(cell_id, solve_seconds=solve, gradient_seconds=gradient, **others)


def times(judged: list[Verdict]) -> dict[str, Verdict]:
    return {each.cell_id: each for each in judged if each.kind is Kind.TIME}


BEFORE = [timed(str(number), 1e-3 * number, 2e-3 * number) for number in range(1, 8)]


def slowed(by: float, **changes: tuple[float, float]) -> dict[str, Record]:
    """All cells by one factor, as on a machine with a slower clock, and some by factors of their own."""
    now = {}
    for each in BEFORE:
        assert each.solve_seconds is not None
        assert each.gradient_seconds is not None
        solve, gradient = changes.get(f"cell_{each.cell_id}", (1.0, 1.0))
        now[each.cell_id] = timed(each.cell_id, by * solve * each.solve_seconds, by * gradient * each.gradient_seconds)
    return now


@pytest.mark.parametrize("drift", [0.1, 1.0, 3.0])
def test_a_cell_is_slow_beside_the_others_and_not_beside_the_clock(tmp_path: Path, drift: float) -> None:
    held = baseline_of(tmp_path, *BEFORE, time_factor=1.5)
    now = slowed(drift, cell_2=(1.0, 1.6), cell_5=(1.4, 1.4), cell_6=(0.1, 0.1))
    judged = times(gate.judge(now, held, HERE))
    assert {cell for cell, verdict in judged.items() if verdict.outcome is Outcome.WARNED} == {"2"}
    assert {verdict.outcome for cell, verdict in judged.items() if cell != "2"} == {Outcome.PASSED}
    said = f"gradient {1.6 * drift:.2f} x the baseline's seconds, the run's median {drift:.2f} x, allowed "
    # Numbers of a baseline are rounded up to three digits: up to 1 %.
    assert judged["2"].reason[:12] == said[:12]
    assert f"{1.5 * drift:.2f} x (1.5 x the median)" in judged["2"].reason
    assert verdicts.exit_code(judged.values()) == 0


def test_slow_cells_fail_where_that_is_asked_for(tmp_path: Path) -> None:
    held = baseline_of(tmp_path, *BEFORE)
    judged = gate.judge(slowed(1.0, cell_2=(9.0, 1.0)), held, HERE, time_is_hard=True)
    assert [each.cell_id for each in judged if each.outcome is Outcome.FAILED] == ["2"]
    assert verdicts.exit_code(judged) == 4


@pytest.mark.parametrize("machine", [ELSEWHERE, Machine(cpu="Model T", logical_cores=64), Machine()])
def test_times_of_another_machine_are_not_judged(tmp_path: Path, machine: Machine) -> None:
    held = baseline_of(tmp_path, *BEFORE)
    judged = gate.judge(slowed(1.0, cell_2=(9.0, 9.0)), held, machine, time_is_hard=True)
    assert {each.outcome for each in times(judged).values()} == {Outcome.UNJUDGED}
    (line,) = verdicts.unjudged_lines(judged)
    assert line.startswith("time: 7 not judged: another machine: ")
    assert verdicts.exit_code(judged) == 0


def test_what_two_unknown_machines_took_is_not_judged(tmp_path: Path) -> None:
    file.write_baseline(tmp_path / "b.json", {each.cell_id: each for each in BEFORE}, Machine(), Tolerances())
    judged = gate.judge(slowed(1.0), file.read_baseline(tmp_path / "b.json"), Machine())
    assert {each.outcome for each in times(judged).values()} == {Outcome.UNJUDGED}


def test_flagged_times_neither_fail_nor_enter_the_baseline(tmp_path: Path) -> None:
    held = baseline_of(tmp_path, *BEFORE, timed("flagged", 1.0, 1.0, flags=["loaded"]))
    assert held.cells["flagged"].solve_seconds is None
    now = slowed(1.0) | {"1": timed("1", 9.0, 9.0, flags=["unstable"]), "flagged": timed("flagged", 9.0, 9.0)}
    judged = times(gate.judge(now, held, HERE))
    assert "flagged" not in judged
    assert judged["1"].reason == "the times are flagged"


def test_a_drift_is_not_taken_from_a_handful(tmp_path: Path) -> None:
    held = baseline_of(tmp_path, *BEFORE[:4])
    judged = times(gate.judge({name: found for name, found in slowed(1.0).items() if name in "1234"}, held, HERE))
    assert {each.reason for each in judged.values()} == {"fewer than 5 cells to take the run's drift from"}


def test_accuracy_goes_before_memory_and_memory_before_time() -> None:
    failed = {kind: Verdict(kind, "a", "a", Outcome.FAILED) for kind in Kind}
    assert verdicts.exit_code(failed.values()) == 1
    assert verdicts.exit_code([failed[Kind.TIME], failed[Kind.MEMORY]]) == 3
    assert verdicts.exit_code([failed[Kind.TIME]]) == 4


@given(st.floats(1e-300, 1e300))
def test_rounding_goes_up_to_three_digits(value: float) -> None:
    rounded = file._rounded_up(value)
    assert rounded is not None
    # Up by at most one unit in the third digit: 1 % of the value; the rest is the rounding of the bounds themselves.
    assert value <= rounded <= value * 1.01 * (1 + 1e-15)
    assert float(f"{rounded:.2e}") == rounded


def test_the_baseline_is_sorted_and_stable(tmp_path: Path) -> None:
    baseline_of(tmp_path, record("b"), record("a", error_relative=1.23456e-12))
    first = (tmp_path / "b.json").read_text()
    written = json.loads(first)
    assert list(written["cells"]) == ["a", "b"]
    assert written["cells"]["a"]["error_relative"] == 1.24e-12
    assert (written["schema"], written["tolerances"]["factor"]) == (2, 3.0)
    assert written["machine"] == {"cpu": "Model T", "logical_cores": 2}
    baseline_of(tmp_path, record("a", error_relative=1.23456e-12), record("b"))
    assert (tmp_path / "b.json").read_text() == first


GOOD = '"tolerances": {}, "machine": {}, "cells": {}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"schema": 2, "cells": {}}',
        '{"schema": 3, ' + GOOD + "}",
        '{"schema": 2, "extra": 0, ' + GOOD + "}",
        '{"schema": 2, ' + GOOD.replace("{}", '{"factor": 0.5}', 1) + "}",
        '{"schema": 2, ' + GOOD.replace("{}", '{"memory_factor": NaN}', 1) + "}",
        '{"schema": 2, ' + GOOD[:-2] + '{"a": {}}}',
    ],
)
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    for read in (file.read_baseline, file.kept_tolerances):
        with pytest.raises(file.BaselineError) as error:
            read(tmp_path / "b.json")
        assert "\n" not in str(error.value)
        assert "b.json: not a baseline" in str(error.value)


def test_a_baseline_of_before_is_refused_and_its_factor_kept_by_an_update(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"schema": 1, "factor": 5.0, "cells": {}}')
    with pytest.raises(file.BaselineError, match=r"schema 1, .*: write it again with --update$"):
        file.read_baseline(tmp_path / "b.json")
    assert file.kept_tolerances(tmp_path / "b.json") == Tolerances(factor=5.0)
    assert file.kept_tolerances(tmp_path / "absent.json") == Tolerances()


def test_junit_and_markdown_tell_the_failures(tmp_path: Path) -> None:
    good, bad = record("a", error_relative=1e-12), record("b", Status.TIMEOUT, message="late | very")
    held = baseline_of(tmp_path, good, record("b"), *BEFORE)
    judged = gate.judge({"a": good, "b": bad, **slowed(1.0, cell_7=(2.0, 1.0))}, held, HERE)
    suites = ElementTree.fromstring(verdicts.junit("gate", judged))
    accuracy, time = suites.iter("testsuite")
    assert (accuracy.get("name"), accuracy.get("tests"), accuracy.get("failures")) == ("gate.accuracy", "9", "1")
    assert [case.get("classname") for case in suites.iter("testcase") if case.find("failure") is not None] == [
        "gate.accuracy.b"
    ]
    assert (time.get("tests"), time.get("failures")) == ("7", "0")
    assert [text.text for text in time.iter("system-out")] == [f"warning: {times(judged)['7'].line}"]
    summary = gate.summary(judged)
    assert summary.startswith("## Gate: **failed**\n\naccuracy: 8 of 9 passed; time: 7 of 7 passed (1 warned).\n")
    assert "| failed | accuracy | blorc on analysis_l1 n=8 | status timeout, baseline ok: late \\| very |" in summary
    assert "| warned | time | blorc on analysis_l1 n=8 | solve 2.00 x" in summary


def test_a_summary_stays_short(tmp_path: Path) -> None:
    held = baseline_of(tmp_path, *(record(str(number)) for number in range(200)))
    lines = gate.summary(gate.judge({}, held, HERE)).splitlines()
    assert len(lines) <= 40
    assert "... and 175 more." in lines


@given(st.text(), st.text())
def test_no_name_breaks_the_xml_or_a_table(name: str, reason: str) -> None:
    hostile = Verdict(Kind.ACCURACY, "a", name, Outcome.FAILED, reason)
    (case,) = ElementTree.fromstring(verdicts.junit("gate", [hostile])).iter("testcase")
    assert case.find("failure") is not None
    *_, row = verdicts.markdown_table(("cell", "what"), [(name, reason)])
    assert "\n" not in row
    bars = [index for index, character in enumerate(row) if character == "|" and row[index - 1] != "\\"]
    assert len(bars) == 3


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a|b", r"a\|b"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("<script>", r"\<script\>"),
        ("`code`", r"\`code\`"),
        ("![i](u)", r"\!\[i\](u)"),
        ("dual_pgd _it_", r"dual_pgd \_it\_"),
        ("two\nlines", "two lines"),
        ("@someone #12", "@\N{ZERO WIDTH SPACE}someone \\#12"),
        ("\\|", r"\\\|"),
    ],
)
def test_markup_is_shown_and_not_obeyed(hostile: str, shown: str) -> None:
    assert verdicts.markdown(hostile) == shown


def write_run(
    folder: Path, records: Mapping[str, Record] | list[Record], machine: dict[str, Any] | None = None
) -> Path:
    """A run folder by hand."""
    folder.mkdir(exist_ok=True)
    lines = records.values() if isinstance(records, Mapping) else records
    (folder / "journal.jsonl").write_text("".join(each.to_line() + "\n" for each in lines))
    (folder / "environment.json").write_text(json.dumps(machine or HERE.model_dump()))
    return folder


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command_ends_with_the_code_of_what_failed(tmp_path: Path) -> None:
    held, wrong = tmp_path / "b.json", 0.5
    before = [record("e", error_relative=1e-12, host_peak_bytes=10 * MIB), *BEFORE]
    run = write_run(tmp_path / "run", before)
    assert check(run, "--baseline", held).returncode == 2
    assert check(run, "--baseline", held, "--update").returncode == 0
    passed = check(run, "--baseline", held)
    assert (passed.returncode, passed.stderr) == (0, "")
    assert passed.stdout == "accuracy: 8 of 8 passed; memory: 1 of 1 passed; time: 7 of 7 passed\n"

    slow = slowed(1.0, cell_3=(1.0, 4.0))
    write_run(run, [before[0], *slow.values()])
    soft, hard = check(run, "--baseline", held), check(run, "--baseline", held, "--time", "hard")
    assert (soft.returncode, hard.returncode) == (0, 4)
    assert soft.stderr == f"warning: {hard.stderr}"
    assert hard.stderr.startswith("blorc on analysis_l1 n=8: gradient 4.00 x the baseline's seconds")

    write_run(run, [record("e", error_relative=1e-12, host_peak_bytes=20 * MIB), *slow.values()])
    assert check(run, "--baseline", held, "--time", "hard").returncode == 3
    write_run(run, [record("e", error_relative=wrong, host_peak_bytes=20 * MIB), *slow.values()])
    junit, summary = tmp_path / "j.xml", tmp_path / "s.md"
    summary.write_text("of another step\n")
    failed = check(run, "--baseline", held, "--junit", junit, "--summary", summary)
    assert failed.returncode == 1
    assert len(list(ElementTree.parse(junit).iter("failure"))) == 2
    assert summary.read_text().startswith("of another step\n## Gate: **failed**")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--time", "firm"], "error: --time firm: choose from soft, hard"),
        ([], "b.json: a baseline of schema 1, which holds no memory: write it again with --update"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "b.json").write_text('{"schema": 1, "factor": 3.0, "cells": {}}')
    done = check(write_run(tmp_path / "run", BEFORE), "--baseline", tmp_path / "b.json", *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert expected in done.stderr


@pytest.mark.parametrize("name", ["accuracy", "memory"])
def test_the_committed_baselines_are_such_and_hold_what_they_are_for(name: str) -> None:
    committed = file.read_baseline(ROOT / "results" / "baseline" / f"{name}.json")
    column = {"accuracy": "error_relative", "memory": "host_peak_bytes"}[name]
    assert all(getattr(each, column) is not None for each in committed.cells.values() if each.status is Status.OK)
    assert committed.cells
