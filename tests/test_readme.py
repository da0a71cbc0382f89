"""What the README shows runs as it stands there."""

import re
import tomllib
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import pytest

from bench.denoising.score import read_folder
from bench.record import Status, read_journal
from reports import denoised_page, trainings, trainings_page
from reports.study import Verdict, read_study
from tests.in_process import bench

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "bench" / "configs"
STUDIES = ROOT / "reports" / "studies"
README = (ROOT / "README.md").read_text()


def test_your_method_as_a_row(tmp_path):
    """The plug-in of the README joins by its path alone, and is as exact as the text below it says."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_layer.py").write_text(code)
    (line,) = [line for line in README.splitlines() if "--plugin my_layer.py" in line]
    python, option, package, *command = line.replace("my_layer.py", str(tmp_path / "my_layer.py")).split()
    assert (python, option, package) == ("python", "-m", "bench")
    run = tmp_path / "run"
    done = bench(*command, "--out", run)
    assert done.exit_code == 0, done.output
    records = read_journal(run)
    assert [record.method for record in records] == ["my_layer"] * 2
    assert all(record.status is Status.OK and record.accuracy == "right" for record in records)
    (most,) = re.findall(r"Its errors there are below (\S+),", README)
    for record in records:
        assert record.error_relative <= record.reference_error_relative < float(most)
        assert abs(record.best_scalar - 1.0) < float(most)


def test_your_method_with_its_certificate_held_fixed_is_wrong_as_it_says(tmp_path):
    """The slip that the README names: u taken as a constant."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    line = "        u0 = torch.linalg.solve(W[zero] @ W[zero].T, W[zero] @ r)\n"
    assert line in code
    (tmp_path / "my_layer.py").write_text(code.replace(line, "        u0 = solution.u[0, zero]\n"))
    run = tmp_path / "run"
    config = CONFIGS / "smoke.toml"
    choice = ("--only", "method=my_layer", "--plugin", tmp_path / "my_layer.py")
    assert bench("run", config, *choice, "--out", run).exit_code == 0
    (percent,) = re.findall(r"`wrong` by (\d+) %", README)
    records = read_journal(run)
    assert [record.accuracy for record in records] == ["wrong"] * 2
    assert max(record.error_relative for record in records) == pytest.approx(float(percent) / 100, abs=0.01)


def test_its_two_commands_name_environments_that_exist():
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    named = re.findall(r"tox run -e (\w+)", README)
    assert {"table4", "tests"} <= set(named)
    assert all(f"testenv:{name}" in tox for name in named)


def test_every_config_that_is_shipped_loads():
    from bench import plan
    from bench.catalogue import Catalogue
    from bench.config import load

    others = {*CONFIGS.glob("learn_*.toml"), *CONFIGS.glob("denoise_*.toml")}  # test_learn.py, test_denoise_command.py
    for path in sorted(set(CONFIGS.glob("*.toml")) - others):
        assert plan.expand(load(path), Catalogue.of([]), str(path)), path
        assert tomllib.loads(path.read_text())["title"]


def test_its_numbers_are_those_of_the_reference_run():
    """Each cell of the README's table is the one that the named command prints for the named run."""
    from reports.content import read_content
    from reports.markdown import to_markdown

    run = ROOT / "results" / "reference_runs" / "table4-cpu"
    sections = to_markdown(read_content([run]), figures=[], pages=[]).split("### ")
    (section,) = [text for text in sections if text.startswith("analysis_l1: picture patches") and "100 pairs" in text]
    printed = {cells["method"]: cells for cells in table(section) if cells["n"] == "64"}
    quoted = list(table(README.split("## What the papers claim")[0]))
    assert len(quoted) >= 7
    for cells in quoted:
        method = cells.pop("method").strip("`")
        assert {name: printed[method][name] for name in cells} == cells


def test_its_verdicts_are_those_of_the_studies():
    """Each row of the README counts the claims of that study's kept run, as its page does."""
    quoted = re.findall(r"^\| \[`(\w+)`\]\((\S+)/report/report\.md\) \|.*\| ([^|]*) \|$", README, re.MULTILINE)
    of_cells = {path.stem for path in STUDIES.glob("*.py") if not path.stem.startswith(("_", "learn_", "denoise_"))}
    assert {name for name, *_ in quoted if not name.startswith(("learn_", "denoise_"))} == of_cells
    for name, folder, said in quoted:
        verdicts = Counter(claim.verdict for claim in study_of(name, ROOT / folder).claims)
        assert said == ", ".join(f"{verdicts[kind]} {kind}" for kind in Verdict if verdicts[kind]), name


def study_of(name, folder):
    if name.startswith("learn_"):
        return trainings_page.account_of(trainings.read(folder)).study
    if name.startswith("denoise_"):
        return denoised_page.account_of(read_folder(folder)).study
    return read_study(name, read_journal(folder))


def table(text):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return (dict(zip(rows[0], row, strict=True)) for row in rows[2:])
