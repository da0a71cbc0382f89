"""Gradients that a run keeps, from the worker that computed them to the maps of the report."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from bench import kept
from bench.cluster import Cluster, Seen
from bench.config import Measure, read
from bench.extended_precision import gradient_in_extended_precision
from bench.journal import Journal
from bench.progress import watcher
from bench.record import Record, Status, read_journal
from bench.run import Plan, Request, run
from bench.slurm import SlurmOptions, measure_on_slurm
from bench.whole_file import copy_whole
from problems.analysis_l1 import AnalysisL1, Settings
from reports import gradient_maps_figure
from reports.content import Content, read_content
from reports.gradient_maps import GradientMaps, gradient_maps, remarks
from reports.plots import gradient_maps as plot
from reports.run_arrays import gradient_of, reference_of
from reports.style import Look
from tests.bench_cells import cell_of, record_of
from tests.bench_plugins import write_config, write_method

OFF = 1.0 + 1e-6
"""What `careless` multiplies its gradient by."""
LOOK = Look.of(["blorc"], [8])


def measured(config: Path, out: Path, only: str = "", retry: frozenset[Status] = frozenset()) -> None:
    """As the command line does it; one fork server serves all runs of this process."""
    run(Request(read(config), config, out, only=only, retry=retry), watcher(Console(file=StringIO())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: an exact method, one that is off by 1e-6, one that fails; pairs one by one, and two at a time."""
    there = tmp_path_factory.mktemp("run")
    methods = [
        write_method(there, "careful"),
        write_method(there, "careless", returned=f"{OFF!r} * W"),
        write_method(there, "broken", in_gradient="raise ValueError('no')"),
    ]
    settings = "k = 8\npairs = 2\nbatch = [1, 2]"
    config = write_config(
        there, methods, settings, memory=False, timing=False, tail="[reference]\ncoordinate_pairs = 1\n"
    )
    measured(config, there / "run")
    return there / "run"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Of the run, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def pair() -> AnalysisL1:
    """The first of the run's pairs, built anew."""
    return AnalysisL1.build(Settings(n=8, k=8, scale=0.2, pairs=2)).subset(slice(0, 1))


def by_formula(problem: AnalysisL1) -> np.ndarray:
    """-(u p^T + a x^T) for W = s I (tests/bench_plugins.py), in NumPy."""
    y, x_true, s = problem.y[0].numpy(), problem.x_true[0].numpy(), float(problem.W[0, 0])
    x = np.sign(y) * np.maximum(np.abs(y) - s, 0.0)
    g, on = x - x_true, x != 0
    return -(np.outer((y - x) / s, np.where(on, g, 0.0)) + np.outer(np.where(on, 0.0, g / s), x))


def records(folder: Path) -> dict[tuple[str, int], Record]:
    return {(record.method, record.batch): record for record in read_journal(folder)}


def maps(folder: Path) -> GradientMaps:
    found = gradient_maps(read_content([folder]))
    assert found is not None
    return found


def test_a_run_keeps_the_first_gradient_of_each_cell_in_theta_shape(folder: Path) -> None:
    rows = records(folder)
    own = [path.stem for path in sorted((folder / "gradients").iterdir())]
    assert own == sorted(rows[method, 1].cell_id for method in ("careful", "careless"))
    truth = by_formula(pair())
    for method, factor in (("careful", 1.0), ("careless", OFF)):
        parts = gradient_of(folder, rows[method, 1])
        assert parts is not None
        assert [*parts] == ["W"]
        assert parts["W"].dtype == np.float64
        # The formula's few operations, in another order.
        np.testing.assert_allclose(parts["W"], factor * truth, rtol=1e-14, atol=1e-16)


def test_the_kept_reference_is_the_fifty_digit_gradient_within_its_bars(folder: Path) -> None:
    found = reference_of(folder, records(folder)["careful", 1], "coordinates")
    assert found is not None
    truth = gradient_in_extended_precision(pair()).values
    assert found.usable.all()
    assert (np.abs(found.values - truth) <= found.bars + 1e-16 * np.linalg.norm(truth)).all()
    assert reference_of(folder, records(folder)["careful", 2], "directions") is not None


def test_maps_set_each_method_against_the_reference(folder: Path) -> None:
    found = maps(folder)
    careful, careless = found.maps
    assert (found.part, found.n, found.missing, found.methods_left_out) == ("W", 8, 0, 0)
    assert (careful.label, careless.label) == ("careful", "careless")
    assert careful.error_relative is not None
    assert found.bar_relative is not None
    # The method and the reference each round some ten operations; the reference's bar is for its own.
    assert careful.error_relative <= found.bar_relative + 10 * np.finfo(float).eps
    assert careless.error_relative == pytest.approx(OFF - 1.0, rel=1e-6)  # the reference is exact to 1e-14
    assert careless.said == "1.0e-6"
    np.testing.assert_allclose(careless.distance, 1e-6 * np.abs(by_formula(pair())), atol=1e-14)
    said = remarks(found)
    assert "careless 1.0e-6" in said
    assert "First pair of" in said


def test_a_variant_that_is_less_accurate_is_counted_and_not_drawn(copy: Path) -> None:
    best = records(copy)["careless", 1]
    worse = best.model_copy(update={"cell_id": "0" * 12, "method_parameters": {"gain": 2.0}, "error_relative": 1.0})
    copy_whole(copy / kept.gradient_file(best.cell_id), copy / kept.gradient_file(worse.cell_id))
    with (copy / "journal.jsonl").open("a") as journal:
        journal.write(worse.to_line() + "\n")
    found = maps(copy)
    assert [one.label for one in found.maps] == ["careful", "careless"]
    assert found.variants_left_out == 1
    assert "others, not drawn: 1." in remarks(found)


def test_entries_without_a_derivative_are_left_out(copy: Path) -> None:
    record = records(copy)["careful", 1]
    path = copy / kept.reference_file(str(record.input_sha256), "coordinates")
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["usable"][3], arrays["kink"][3], arrays["values"][3] = False, True, 1e3
    np.savez(path, **arrays)
    found = maps(copy)
    assert found.missing == 1
    assert math.isnan(found.reference[0, 3])
    assert found.maps[1].error_relative == pytest.approx(OFF - 1.0, rel=1e-6)
    assert "without a derivative, in pink: 1" in remarks(found)
    assert gradient_maps_figure.draw(found).axes


def drawn(content: Content) -> list[np.ndarray]:
    """The heat maps of the page's figure, in double precision."""
    shown = plot.plot(content, LOOK)
    assert shown is not None
    return [np.array(trace.z, float) for trace in shown.figures[""].data if trace.type == "heatmap"]


def test_both_figures_show_the_same_numbers(folder: Path) -> None:
    found = maps(folder)
    axes = [one for one in gradient_maps_figure.draw(found).axes if one.images]
    images = {one.get_title(): np.ma.getdata(one.images[0].get_array()) for one in axes}
    np.testing.assert_array_equal(images["careless"], found.maps[1].gradient)
    np.testing.assert_array_equal(images["reference"], found.reference)
    reference, _, _, _, careless, exponents, _ = drawn(read_content([folder]))  # each method: upper, lower, grey
    np.testing.assert_allclose(reference, found.reference, rtol=1e-7)  # single precision
    np.testing.assert_allclose(careless, found.maps[1].gradient, rtol=1e-7)
    above = found.maps[1].distance > found.bars
    np.testing.assert_allclose(exponents[above], np.log10(found.maps[1].distance[above]), rtol=1e-6)
    assert np.isnan(exponents[~above]).all()


@pytest.mark.parametrize("damage", ["gradients", "references", "cut short", "not a zip"])
def test_without_files_there_is_a_report_and_no_picture(copy: Path, damage: str) -> None:
    if damage in ("gradients", "references"):
        shutil.rmtree(copy / damage)
    for path in copy.glob("gradients/*.npz"):
        path.write_bytes(path.read_bytes()[:100] if damage == "cut short" else b"no")
    content = read_content([copy])
    assert len(content.records) == 6
    assert gradient_maps(content) is None
    assert plot.plot(content, LOOK) is None


def test_a_cell_that_is_measured_again_has_its_new_gradient_or_none(copy: Path) -> None:
    rows, plugin = records(copy), copy / "careless.py"
    for path in (copy / "plugins").glob("*/*.py"):
        shutil.copy(path, copy)
    before = (copy / kept.gradient_file(rows["careful", 1].cell_id)).read_bytes()
    retry = frozenset({Status.OK})
    plugin.write_text(plugin.read_text().replace(repr(OFF), "3.0"))
    config = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(re.sub("^relative_to = .*\n", "", config))  # the changed plug-in lies here
    measured(copy / "config.toml", copy, "method=careless,batch=1", retry)
    again = gradient_of(copy, rows["careless", 1])
    assert again is not None
    np.testing.assert_allclose(again["W"], 3.0 * by_formula(pair()), rtol=1e-14, atol=1e-16)
    assert (copy / kept.gradient_file(rows["careful", 1].cell_id)).read_bytes() == before
    plugin.write_text(plugin.read_text().replace("3.0 * W", "1 / 0"))
    measured(copy / "config.toml", copy, "method=careless,batch=1", retry)
    assert gradient_of(copy, rows["careless", 1]) is None
    assert records(copy)["careless", 1].status == Status.ERROR


def test_the_folders_stop_at_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, run = tmp_path / "source.npz", tmp_path / "run"
    source.write_bytes(b"1" * 100)
    run.mkdir()
    monkeypatch.setattr(kept, "MOST_BYTES", 250)
    names = [kept.gradient_file("a"), kept.reference_file("b", "coordinates"), kept.gradient_file("c")]
    for name in names:
        kept.keep(source, run, name)
    assert [(run / name).exists() for name in names] == [True, True, False]
    kept.keep(source, run, names[0])  # in its own place it fits
    kept.forget(run, "a")
    kept.keep(source, run, names[2])
    assert [(run / name).exists() for name in names] == [False, True, True]
    assert not list(run.rglob("*.part"))


def test_cells_side_by_side_keep_the_same_reference(tmp_path: Path) -> None:
    source, name = tmp_path / "source.npz", kept.reference_file("a", "coordinates")
    source.write_bytes(b"1" * 2**20)
    (tmp_path / "run").mkdir()
    with ThreadPoolExecutor(8) as cells:
        list(cells.map(lambda _: kept.keep(source, tmp_path / "run", name), range(200)))  # raises what a cell raised
    assert (tmp_path / "run" / name).read_bytes() == source.read_bytes()
    assert not list(tmp_path.rglob("*.part"))


def test_the_largest_gradient_file_is_as_large_as_the_limit_says(tmp_path: Path) -> None:
    from bench.references import MOST_COORDINATES
    from bench.roles import _write_parts

    theta = {"W": torch.zeros(2, MOST_COORDINATES // 4), "v": torch.zeros(MOST_COORDINATES // 2)}
    flat = np.arange(float(MOST_COORDINATES))
    _write_parts(flat, theta, tmp_path / "g.npz")
    assert 64 * 1024 <= (tmp_path / "g.npz").stat().st_size <= 64 * 1024 + 1024  # the headers of the two parts
    with np.load(tmp_path / "g.npz") as stored:
        assert stored.files == ["dL_dW", "dL_dv"]
        np.testing.assert_array_equal(np.concatenate([stored[name].ravel() for name in stored.files]), flat)


def test_nothing_is_kept_where_the_configuration_says_so(folder: Path, tmp_path: Path) -> None:
    method = write_method(tmp_path, "careful")
    config = write_config(tmp_path, [method], memory=False, timing=False, keep_gradients=False)
    assert Measure().keep_gradients
    measured(config, tmp_path / "run")
    assert not (tmp_path / "run" / "gradients").exists()
    assert not (tmp_path / "run" / "references").exists()
    settings = json.loads((folder / "environment.json").read_text())["settings"]["measure"]
    assert settings["keep_gradients"] is True


@dataclass(frozen=True)
class OneJob(Cluster):
    """Submits nothing: its job has finished one cell, with these files in its folder."""

    record: Record
    files: dict[Path, bytes]

    def submit(
        self, logs: Path, commands: Sequence[Sequence[str]], settings: Mapping[str, Any], at_once: int
    ) -> list[str]:
        del logs, settings, at_once
        (command,) = commands
        folder = Path(command[command.index("--out") + 1])
        with Journal(folder) as journal:
            journal.append(self.record)
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return ["7"]

    def states(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        return dict.fromkeys(job_ids, Seen("COMPLETED"))

    def cancel(self, job_ids: Sequence[str]) -> None:
        raise AssertionError(job_ids)


def test_the_files_of_a_slurm_job_are_merged_with_its_record(tmp_path: Path) -> None:
    done, lost = cell_of(n=8), cell_of(n=16)
    record = record_of(done, Status.OK, input_sha256=done.instance.sha256)
    files = {kept.gradient_file(done.cell_id): b"G", kept.reference_file(done.instance.sha256, "directions"): b"R"}
    stale = kept.gradient_file(lost.cell_id)
    (tmp_path / stale).parent.mkdir()
    (tmp_path / stale).write_bytes(b"of an earlier run")
    others: dict[str, Any] = {
        "config": None,
        "catalogue": None,
        "jobs": 1,
        "absent": frozenset(),
        "machine": {},
        "reads": None,
    }
    plan = Plan(config_path=tmp_path / "c.toml", plugins=[], cells=[done, lost], out=tmp_path, **others)
    rows: list[Record] = []
    options = SlurmOptions(cluster=OneJob(record, files))
    measure_on_slurm(plan, [done, lost], options, lambda _, row: rows.append(row), lambda _: None)
    assert [row.status for row in rows] == [Status.OK, Status.CRASHED]
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.glob("*/*.npz")} == files
