"""No stale number: what was made of another picture, other data or another plug-in does not count, and is said."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from skimage.io import imsave
from typer.testing import CliRunner, Result

from bench import compare, config, environment, forecast, plugin_store, plugins, provenance, reads, stale
from bench.catalogue import Catalogue, ChangedError, PluginError, joint_sha256
from bench.cell import Cell
from bench.cli import app
from bench.cluster import Seen
from bench.config import Measure
from bench.denoising import score
from bench.journal import Journal, damage, read
from bench.measure import record_of
from bench.record import Record, Status, read_journal
from bench.roles import Task
from bench.run import Plan, Request, _pending
from bench.run_folder import Run, RunError
from bench.slurm import SlurmOptions, measure_on_slurm
from problems import analysis_l1
from problems.contract import input_sha256
from reports.content import read_content
from reports.instances import group
from reports.profiles import rosters
from reports.terminal import terminal_table
from tests.bench_plugins import write_config, write_method
from tests.in_process import bench
from tests.test_plugins_one_file_each import FAMILY
from tests.test_slurm import CELLS, COMPLETED, RUNNING, Scripted, plan_of

QUICK: dict[str, Any] = {"timing": False, "memory": False}
WITHOUT_REFERENCE = "[reference]\nenabled = false\n"
A, B = "a" * 64, "b" * 64


def write_picture(folder: Path, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    grey = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    imsave(folder / "a.png", grey, check_contrast=False)


def with_helper(folder: Path, key: str, gain: float) -> Path:
    """A plug-in whose gradient is multiplied by what `helper.py` beside it says, imported as late as can be."""
    folder.mkdir(exist_ok=True)
    path = write_method(folder, key, in_gradient="from helper import GAIN", returned="GAIN * W")
    (folder / "helper.py").write_text(f"GAIN = {gain}\n")
    return path


# --- a plug-in and the modules beside it ------------------------------------------------------------------------------


def test_the_sources_of_a_plugin_are_all_that_its_imports_reach(tmp_path: Path) -> None:
    files = {
        "mine.py": "import os, helper\ndef late():\n    from pkg.deep import thing\n    import methods.contract\n",
        "helper.py": "from . import sibling\nimport importlib\nimportlib.import_module('named')\n",
        "sibling.py": "try:\n    import absent\nexcept ImportError:\n    import mine\n",
        "named.py": "",
        "unrelated.py": "",
        "os.txt": "",
        "pkg/__init__.py": "from .base import *\n",
        "pkg/base.py": "from .. import root\n",
        "pkg/deep.py": "from . import base, leaf\nfrom star import *\n",
        "pkg/leaf.py": "x = (  # no Python, and reached all the same",
        "pkg/other.py": "",
        "root.py": "",
        "star/__init__.py": "",
        "star/inside.py": "",
        "methods/contract.py": "raise AssertionError('the suite has its own')",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    reached = plugins.sources(tmp_path / "mine.py")
    not_reached = {"unrelated.py", "os.txt", "pkg/other.py", "methods/contract.py"}
    assert set(reached) == set(files) - not_reached
    before = plugins.sources_sha256(reached)
    for name in files:
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text + "\n")
        now = plugins.sources(tmp_path / "mine.py")
        assert (plugins.sources_sha256(now) != before) == (name not in not_reached)
        assert plugins.changed_files(reached, now) == ([] if name in not_reached else [name])
        (tmp_path / name).write_text(text)


def test_modules_of_one_name_beside_two_plugins_do_not_meet(tmp_path: Path) -> None:
    for number, folder in enumerate(["one", "two"]):
        (tmp_path / folder / "kit").mkdir(parents=True)
        (tmp_path / folder / "helper.py").write_text(f"import json\nvalue = {number}\n")
        (tmp_path / folder / "kit" / "__init__.py").write_text("")
        (tmp_path / folder / "kit" / "part.py").write_text("import helper\nfrom .. import helper as same\n")
        (tmp_path / folder / "methods").mkdir()
        (tmp_path / folder / f"mine{number}.py").write_text(
            "import helper, kit.part as part\nimport methods.contract, torch\n"
            "def late():\n    import kit.part\n    from helper import value\n"
            "    return value, kit.part.same is helper\n"
        )
    for number, folder in enumerate(["one", "two"]):
        module = plugins.load(tmp_path / folder / f"mine{number}.py")
        assert module.late() == (number, True)
        assert module.helper.value == number
        assert module.part.helper is module.helper
        assert module.__file__ == str(tmp_path / folder / f"mine{number}.py")
        assert "Method" in vars(module.methods.contract)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_changed_module_beside_a_plugin_is_not_run_in_its_place(tmp_path: Path) -> None:
    catalogue = Catalogue.of([with_helper(tmp_path, "scaled", 1.0)])
    assert catalogue.method("scaled").__name__ == "Shrinkage"
    (tmp_path / "helper.py").write_text("GAIN = 2.0\n")
    with pytest.raises(ChangedError, match=r"scaled\.py: helper\.py changed while the run was under way"):
        Catalogue(**json.loads(json.dumps(catalogue.to_json()))).method("scaled")


def test_a_cell_of_two_plugins_has_one_hash_the_methods_first(tmp_path: Path) -> None:
    method, family = write_method(tmp_path, "mine"), tmp_path / "family.py"
    family.write_text(FAMILY)
    catalogue = Catalogue.of([method, family])
    of_method, of_family = (plugins.sources_sha256(plugins.sources(path)) for path in (method, family))
    assert catalogue.plugin_sha256("blorc", "analysis_l1") is None
    assert catalogue.plugin_sha256("mine", "analysis_l1") == of_method
    assert catalogue.plugin_sha256("blorc", "family") == of_family
    both = catalogue.plugin_sha256("mine", "family")
    assert both == joint_sha256([of_method, of_family]) != joint_sha256([of_family, of_method])

    run = tmp_path / "run"
    plugin_store.keep(catalogue, run)
    record = a_record(method="mine", problem="family", plugin_sha256=both)
    kept = plugin_store.kept(record, run)
    assert [path.relative_to(run / "plugins").parts for path in kept] == [
        (of_method, "mine.py"),
        (of_family, "family.py"),
    ]
    kept[0].write_text("# not what the row came from\n")
    with pytest.raises(plugin_store.NoVersionError, match="does not hold the version"):
        plugin_store.kept(record, run)


def test_a_missing_plugin_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"absent\.py does not exist"):
        Catalogue.of([tmp_path / "absent.py"])


# --- run --------------------------------------------------------------------------------------------------------------


def test_only_what_a_change_touches_is_measured_again_and_each_version_stays(tmp_path: Path) -> None:
    mine, out = with_helper(tmp_path / "mine", "scaled", 1.0), tmp_path / "run"
    path = write_config(tmp_path, [], f'signal = "patches"\nfolder = "{tmp_path / "pics"}"', WITHOUT_REFERENCE, **QUICK)
    path.write_text(path.read_text().replace("n = 8", "n = 9") + '[[method]]\nkey = "blorc"\n')
    path.write_text("\n".join(path.read_text().splitlines()) + "\n")
    write_picture(tmp_path / "pics", 0)

    def told() -> str:
        done = bench("run", path, "--plugin", mine, "--out", out)
        assert done.exit_code == 0, done.output
        return done.output

    told()
    assert f"all 2 cells are in {out} already" in told()

    with_helper(tmp_path / "mine", "scaled", 2.0)
    said = told()
    assert f"the plug-in {mine}: " in said
    assert "(helper.py changed): 1 row is measured again" in said
    assert f"1 of 2 cells are in {out} already" in said
    first, second = (record for record in read_journal(out) if record.method == "scaled")
    assert first.plugin_sha256 != second.plugin_sha256
    assert first.input_sha256 == second.input_sha256
    gains = {folder.name: (folder / "helper.py").read_text() for folder in (out / "plugins").iterdir()}
    assert gains == {first.plugin_sha256: "GAIN = 1.0\n", second.plugin_sha256: "GAIN = 2.0\n"}
    assert not list((tmp_path / "mine").glob("__pycache__"))

    write_picture(tmp_path / "pics", 1)
    said = told()
    assert "the input of analysis_l1 n=9 seed=0: " in said
    assert "2 rows are measured again" in said
    assert len(read_journal(out)) == 5
    assert {record.input_sha256 for record in read(out).values()} == {read_journal(out)[-1].input_sha256}
    assert f"all 2 cells are in {out} already" in told()

    with_helper(tmp_path / "mine", "scaled", 3.0)
    again = bench("reproduce", second.cell_id, out)
    assert again.exit_code == 0, again.output
    assert again.stdout.rstrip().endswith("the same")


def test_a_plugin_that_changes_while_it_is_measured_stops_the_run_in_one_line(tmp_path: Path) -> None:
    changes = f"open({str(tmp_path / 'restless.py')!r}, 'a').write('# more')"
    path = write_config(
        tmp_path, [write_method(tmp_path, "restless", in_solve=changes)], tail=WITHOUT_REFERENCE, **QUICK
    )
    path.write_text(path.read_text().replace("n = 8", "n = [8, 9]"))
    done = bench("run", path, "--out", tmp_path / "run", "--jobs", "1")
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "restless.py changed while the run was under way: what is measured is kept" in line
    (row,) = read_journal(tmp_path / "run")
    (version,) = (tmp_path / "run" / "plugins").iterdir()
    assert (row.plugin_sha256, row.n) == (version.name, 8)


def test_a_worker_refuses_another_input_than_the_plans() -> None:
    problem = analysis_l1.AnalysisL1.build(analysis_l1.Settings(n=6))
    job = {
        "method_key": "blorc",
        "method_parameters": {},
        "family": "analysis_l1",
        "problem_parameters": {"n": 6},
        "input_sha256": input_sha256(problem),
        "chunks": [[0, 1]],
        "device": "cpu",
        "dtype": "float64",
        "threads": 1,
        "catalogue": {},
    }
    assert Task.of(job).original.batch == problem.batch
    with pytest.raises(ChangedError, match=r"the input of analysis_l1 changed .* \(aaaaaaaa, now "):
        _ = Task.of({**job, "input_sha256": A}).original


def a_record(**changes: Any) -> Record:
    given = {
        "cell_id": "0" * 12,
        "input_sha256": A,
        "method": "mine",
        "method_parameters": {},
        "problem": "analysis_l1",
        "problem_parameters": {"n": 8, "seed": 0},
        **{"n": 8, "k": 8, "theta_size": 64, "pairs": 1, "batch": 1, "device": "cpu", "dtype": "float64"},
        **{"threads": 1, "seed": 0, "status": "ok"},
    }
    return Record.model_validate(given | changes)


def test_in_a_folder_alone_the_newest_input_and_the_newest_version_count() -> None:
    old = a_record(cell_id="old", method="blorc")
    other_size = a_record(cell_id="size", n=16, problem_parameters={"n": 16, "seed": 0}, input_sha256=B)
    new = a_record(cell_id="new", input_sha256=B)
    assert list(stale.counting([old, other_size, new])) == ["size", "new"]
    assert list(stale.counting([new, other_size, old])) == ["size", "old"]
    first, second = (a_record(cell_id=name, plugin_sha256=sha) for name, sha in (("one", A), ("two", B)))
    shipped = a_record(cell_id="shipped", method="blorc")
    assert list(stale.counting([first, shipped, second])) == ["shipped", "two"]
    before = a_record(cell_id="before")  # of a suite that did not record versions
    assert list(stale.counting([before, shipped, second])) == ["shipped", "two"]


def plan_with(cells: Sequence[Cell], out: Path) -> Plan:
    return replace(plan_of(list(cells), Path("c.toml"), out), catalogue=Catalogue())


class Heard:
    """As much of a watcher as is told what a folder holds."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_pruned_row_falls_with_the_row_that_pruned_it(tmp_path: Path) -> None:
    small = replace(CELLS[0], instance=replace(CELLS[0].instance, parameters={"n": 8, "seed": 0}, identity={"n": 8}))
    large = replace(
        small, instance=replace(small.instance, n=16, parameters={"n": 16, "seed": 0}, identity={"n": 16}, sha256="L")
    )
    with Journal(tmp_path) as journal:
        journal.append(record_of(small, Status.TIMEOUT, ""))
        journal.append(record_of(large, Status.TIMEOUT, "", flags=["pruned"]))
        heard: Any = Heard()
        assert _pending(plan_with([small, large], tmp_path), journal, frozenset(), heard) == []
        changed = replace(small, instance=replace(small.instance, sha256="other"))
        assert _pending(plan_with([changed, large], tmp_path), journal, frozenset(), heard) == [changed, large]
    assert any(line.endswith("1 row is measured again") for line in heard.lines)


def test_a_finished_plan_knows_what_it_was_built_from(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "y.npy").write_bytes(b"1")
    with reads.listening() as read_paths:
        (tmp_path / "data" / "y.npy").read_bytes()
        assert [path.name for path in (tmp_path / "data").glob("*")] == ["y.npy"]
        assert not (tmp_path / "absent").exists()
        with pytest.raises(FileNotFoundError):
            (tmp_path / "absent").read_bytes()
        Path(config.__file__).read_bytes()
        Path(os.__file__).read_bytes()
    known = reads.fingerprints(read_paths)
    assert {Path(path).name for path in known} == {"y.npy", "data", "absent"}
    assert reads.are_as_they_were(known)
    for change, back in (
        (lambda: (tmp_path / "data" / "y.npy").write_bytes(b"2"), lambda: (tmp_path / "data/y.npy").write_bytes(b"1")),
        (lambda: (tmp_path / "data" / "x").touch(), (tmp_path / "data" / "x").unlink),
        (lambda: (tmp_path / "absent").touch(), (tmp_path / "absent").unlink),
    ):
        change()
        assert not reads.are_as_they_were(known)
        back()
        assert reads.are_as_they_were(known)


def test_the_key_of_a_plan_names_the_modules_beside_a_plugin_and_where_paths_begin(tmp_path: Path) -> None:
    plugin = with_helper(tmp_path, "scaled", 1.0)
    request = Request({}, tmp_path / "c.toml", tmp_path / "run", plugins=[plugin])
    before = request.key()
    assert request.key() == before
    (tmp_path / "helper.py").write_text("GAIN = 2.0\n")
    assert request.key() != before
    assert replace(request, plugins=[]).key() != replace(request, plugins=[], config_path=Path("/c.toml")).key()


def test_an_environment_names_the_suites_own_code() -> None:
    assert "source_sha256" in provenance.GROUND
    now = environment.describe()
    assert now["source_sha256"] == reads.source_sha256()
    assert provenance.differences({**now, "source_sha256": A}, now) == [
        f"source_sha256 {A[:12]}..., now {now['source_sha256'][:12]}..."
    ]


def test_a_forecast_takes_nothing_from_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = replace(CELLS[0], plugin_sha256=A)
    row = record_of(cell, Status.TIMEOUT, "not finished", wall_seconds=500.0)

    def note(*records: Record) -> str:
        monkeypatch.setattr(forecast, "earlier_records", lambda *_: list(records))
        (prediction,) = forecast.predictions([cell], [], Measure())
        return prediction.note

    assert note(row).startswith("timeout in an earlier run")
    assert note(row.model_copy(update={"plugin_sha256": B})) == ""
    assert note(row.model_copy(update={"input_sha256": B})) == ""


# --- Slurm's jobs -----------------------------------------------------------------------------------------------------


def on_slurm(cluster: Scripted, cells: list[Cell], out: Path) -> list[str]:
    said: list[str] = []
    options = SlurmOptions(cluster=cluster)
    with Journal(out) as journal:
        measure_on_slurm(
            plan_of(cells, Path("c.toml"), out), cells, options, lambda _, row: journal.append(row), said.append
        )
    return said


def changed_cells(plugin: str | None = None) -> list[Cell]:
    if plugin is not None:
        return [replace(cell, plugin_sha256=plugin) for cell in CELLS]
    return [replace(cell, instance=replace(cell.instance, sha256=f"{cell.instance.sha256}, changed")) for cell in CELLS]


@pytest.mark.parametrize(("cells", "what"), [(changed_cells(), "input"), (changed_cells(A), "plug-in")])
def test_what_a_job_found_changed_is_not_merged_as_if_it_was_the_same(
    tmp_path: Path, cells: list[Cell], what: str
) -> None:
    on_slurm(Scripted([RUNNING, COMPLETED], finishes=2), cells, tmp_path)
    rows = read(tmp_path)
    assert {row.status for row in rows.values()} == {Status.CRASHED}
    for cell in cells:
        assert not cell.changes(rows[cell.cell_id])
        assert f": the {what} changed between its submission and its start: not merged" in rows[cell.cell_id].message


def test_a_job_of_before_a_change_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        on_slurm(Scripted([KeyboardInterrupt(), Seen("CANCELLED")], finishes=0), CELLS[:2], tmp_path)
    for path in tmp_path.glob("jobs/*/job.json"):  # as a collector leaves it that was killed
        path.write_text(json.dumps({**json.loads(path.read_text()), "state": ""}))
    cluster = Scripted([COMPLETED], finishes=2)
    said = on_slurm(cluster, changed_cells(A)[:2], tmp_path)
    assert said[0] == "submitted before an input or a plug-in changed, and cancelled: 7_0"
    assert cluster.cancelled == ["7_0"]
    assert len(cluster.commands) == 1


# --- the gate and the comparison --------------------------------------------------------------------------------------


def folder_with(path: Path, *records: Record) -> Path:
    path.mkdir()
    (path / "journal.jsonl").write_text("".join(f"{record.to_line()}\n" for record in records))
    return path


def test_the_gate_does_not_compare_two_inputs(tmp_path: Path) -> None:
    measured = a_record(error_relative=1e-9)
    run, baseline = folder_with(tmp_path / "run", measured), tmp_path / "baseline.json"
    assert bench("check", run, "--baseline", baseline, "--update").exit_code == 0
    assert bench("check", run, "--baseline", baseline).exit_code == 0
    worse = folder_with(tmp_path / "worse", measured.model_copy(update={"error_relative": 1.0}))
    assert bench("check", worse, "--baseline", baseline).exit_code == 1

    other = folder_with(tmp_path / "other", measured.model_copy(update={"error_relative": 1.0, "input_sha256": B}))
    junit = tmp_path / "junit.xml"
    told = bench("check", other, "--baseline", baseline, "--junit", junit)
    assert told.exit_code == 2
    assert "not comparable: the input changed (aaaaaaaa, now bbbbbbbb)" in told.stderr
    assert "input: 1 not comparable" in told.stdout
    assert "not comparable" in junit.read_text()

    document = json.loads(baseline.read_text())
    for cell in document["cells"].values():
        del cell["input_sha256"]
    baseline.write_text(json.dumps(document))
    silent = bench("check", other, "--baseline", baseline)
    assert silent.exit_code == 1
    assert "1 cell held against a baseline without knowing whether the input is the same" in silent.stderr


def test_two_runs_without_a_common_input_are_not_compared(tmp_path: Path) -> None:
    a = folder_with(tmp_path / "a", a_record())
    b = folder_with(tmp_path / "b", a_record(input_sha256=B))
    with pytest.raises(RunError, match="the inputs of all 1 cells changed: nothing to compare"):
        compare.compare(Run.read(a), Run.read(b))
    told = bench("compare", a, b)
    assert told.exit_code == 2
    assert "nothing to compare" in told.stderr


# --- reports ----------------------------------------------------------------------------------------------------------


def test_one_heading_never_has_two_inputs(tmp_path: Path) -> None:
    sizes = [{"n": n, "k": n, "problem_parameters": {"n": n, "seed": 0}} for n in (8, 16)]
    rows = [a_record(cell_id=f"{n}", input_sha256=A, **size) for n, size in enumerate(sizes)]
    one = group(rows)
    assert [len(own.records) for own in one] == [2]
    assert "input" not in one[0].heading

    mixed = group([*rows, a_record(cell_id="x", method="blorc", input_sha256=B, **sizes[0])])
    assert all(len({record.input_sha256 for record in own.records}) == 1 for own in mixed)
    assert [own.inputs for own in mixed] == ["input aaaaaaaa", "", "input bbbbbbbb"]
    assert all(own.inputs in own.heading and own.inputs in own.instance for own in mixed)
    console = Console(width=200, record=True)
    terminal_table([record for own in mixed for record in own.records], console)
    shown = console.export_text()
    assert all(f"input {sha}" in shown for sha in ("aaaaaaaa", "bbbbbbbb"))

    a = folder_with(tmp_path / "a", rows[0])
    b = folder_with(tmp_path / "b", rows[0].model_copy(update={"input_sha256": B}))
    titles = [section.table.title for section in read_content([a, b]).sections]
    assert [title.count(f"input {sha}") for title, sha in zip(titles, ("aaaaaaaa", "bbbbbbbb"), strict=True)] == [1, 1]
    assert "input" not in read_content([a, a]).sections[0].table.title
    assert rosters(mixed) == []


def test_a_report_shows_the_rows_that_count_and_says_so(tmp_path: Path) -> None:
    aged, newer = a_record(cell_id="aged", method="blorc"), a_record(cell_id="newer", input_sha256=B)
    run = folder_with(tmp_path / "run", aged, newer)
    assert [record.cell_id for record in read_content([run]).records] == ["newer"]
    (line,) = damage(run)
    assert line.endswith("1 row is left out: of an earlier input, or an earlier version of a plug-in, than newer rows")


# --- learn ------------------------------------------------------------------------------------------------------------


def learn(path: Path, out: Path, *more: str | Path) -> Result:
    return CliRunner().invoke(app, ["learn", str(path), "--out", str(out), *map(str, more)])


def learn_config(folder: Path, backend: str) -> Path:
    path = folder / "learn.toml"
    path.write_text(
        f"""
epochs = 1
batch = 2
validation_pairs = 2
threads = 1
[problem]
n = 9
pairs = 4
signal = "patches"
folder = "{folder / "pics"}"
scale = 0.2
[backend]
key = "{backend}"
[learner]
rate = 1e-9
"""
    )
    return path


def test_a_finished_training_on_other_pictures_is_not_shown_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from problems import images

    path, out = learn_config(tmp_path, "active_set_adjoint"), tmp_path / "run"
    write_picture(tmp_path / "pics", 0)
    assert learn(path, out).exit_code == 0
    assert "finished: 1 epochs" in learn(path, out).output
    curves = (out / "curves.jsonl").read_bytes()
    write_picture(tmp_path / "pics", 1)
    images.pictures.cache_clear()  # each command has a process of its own
    for checkpoint in (True, False):
        if not checkpoint:
            (out / "checkpoint.npz").unlink()
        told = learn(path, out)
        assert told.exit_code == 2
        assert "the training data changed (" in told.output
        assert "choose another --out" in told.output
    assert (out / "curves.jsonl").read_bytes() == curves


def test_a_training_is_not_continued_by_another_plugin(tmp_path: Path) -> None:
    write_picture(tmp_path / "pics", 0)
    versions = [with_helper(tmp_path / name, "scaled", gain) for name, gain in (("one", 1.0), ("two", 2.0))]
    path, out = learn_config(tmp_path, "scaled"), tmp_path / "run"
    assert learn(path, out, "--plugin", versions[0]).exit_code == 0
    assert "finished: 1 epochs" in learn(path, out, "--plugin", versions[0]).output
    told = learn(path, out, "--plugin", versions[1])
    assert told.exit_code == 2
    assert "holds another training: the plug-in changed (" in told.output
    (kept,) = (out / "plugins").iterdir()
    assert (kept / "helper.py").read_text() == "GAIN = 1.0\n"


# --- denoise ----------------------------------------------------------------------------------------------------------


def test_denoise_says_whether_the_picture_or_the_transform_has_changed(tmp_path: Path) -> None:
    W = np.eye(16)
    np.savez(tmp_path / "theta.npz", W=W)
    write_picture(tmp_path / "pics", 0)
    path = tmp_path / "denoise.toml"
    path.write_text(
        f'threads = 1\nsigma = [25.5]\n[pictures]\nfolder = "{tmp_path / "pics"}"\n'
        f'[[denoiser]]\nkey = "patch_transform"\nfiles = ["{tmp_path / "theta.npz"}"]\nstride = 4\n'
    )

    def told(again: int) -> str:
        done = CliRunner().invoke(app, ["denoise", str(path), "--out", str(tmp_path / "run")])
        assert done.exit_code == 0, done.output
        assert len((tmp_path / "run" / score.SCORES).read_text().splitlines()) == again
        return done.output

    told(2)
    assert "changed" not in told(2)
    write_picture(tmp_path / "pics", 1)
    assert "the picture a.png changed: 2 scores are made again" in told(4)
    np.savez(tmp_path / "theta.npz", W=2 * W)
    said = told(5)
    assert f"the learned transform of patch_transform changed ({tmp_path / 'theta.npz'}): 1 score is made again" in said
    assert "the picture a.png" not in said
