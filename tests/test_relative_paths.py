"""Relative paths of a configuration start from its folder: in every command, from wherever it is typed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bench import config
from bench.cli import app
from bench.denoising import score
from bench.journal import read
from bench.learning import outcome
from bench.provenance import copy_config
from tests.bench_plugins import write_method
from tests.slurm_cluster import LocalJobs
from tests.test_slurm import collect

RUN = """
plugins = ["mine/healthy.py"]
[[problem]]
family = "analysis_l1"
signal = "patches"
n = 16
folder = "pictures"
[[method]]
key = "healthy"
[measure]
memory = false
timing = false
[reference]
enabled = false
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, its pictures and its plug-in; the work is done in another one."""
    folder = tmp_path / "study"
    (folder / "pictures").mkdir(parents=True)
    (folder / "mine").mkdir()
    write_method(folder / "mine", "healthy")
    picture = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "pictures" / "one.png")
    (folder / "run.toml").write_text(RUN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def bench(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def test_a_run_goes_on_and_is_reproduced_from_anywhere(study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    bench("run", "../study/run.toml", "--out", run)
    (record,) = read(run).values()
    assert record.status == "ok", record.message
    assert record.problem_parameters["folder"] == "pictures"
    copy = tomllib.loads((run / "config.toml").read_text())
    assert copy == {"relative_to": str(study), **tomllib.loads(RUN)}
    bench("run", run / "config.toml", "--out", tmp_path / "again")  # the copy, from its own folder
    (again,) = read(tmp_path / "again").values()
    assert (again.cell_id, again.input_sha256) == (record.cell_id, record.input_sha256)
    assert bench("reproduce", record.cell_id, run).output.splitlines()[-1] == "the same"


@pytest.mark.slow
def test_a_job_of_slurm_finds_them(study: Path, tmp_path: Path) -> None:
    collect(study / "run.toml", tmp_path / "run", LocalJobs())
    (record,) = read(tmp_path / "run").values()
    assert record.status == "ok", record.message


def test_learning_and_denoising_find_them(study: Path, tmp_path: Path) -> None:
    (study / "learn.toml").write_text(
        "epochs = 1\nbatch = 2\nvalidation_pairs = 0\nthreads = 1\n"
        '[problem]\nsignal = "patches"\nn = 16\nfolder = "pictures"\npairs = 2\nscale = 0.1\n[test]\npairs = 2\n'
    )
    bench("learn", "../study/learn.toml", "--out", study / "learned")
    (learned,) = outcome.read(study / "learned")
    assert learned.problem["folder"] == "pictures"
    (study / "denoise.toml").write_text(
        '[pictures]\nfolder = "pictures"\n[[denoiser]]\nkey = "patch_transform"\nfiles = ["learned/theta.npz"]\n'
    )
    first = bench("denoise", "../study/denoise.toml", "--out", tmp_path / "denoised")
    assert "continues" not in first.output
    scores = list(score.read(tmp_path / "denoised").values())
    assert {one.picture for one in scores} == {"one.png"}
    assert [one.parameters["files"] for one in scores if one.parameters] == [["learned/theta.npz"]] * 2
    copied = tmp_path / "denoised" / "config.toml"
    assert "4 of 4 scores are there already" in bench("denoise", copied, "--out", tmp_path / "denoised").output


def test_a_copy_names_the_folder_where_it_has_to_and_once(study: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (study / "plain.toml").write_text('folder = "/absolute"\n')
    copy_config(study / "plain.toml", first)
    assert (first / "config.toml").read_text() == 'folder = "/absolute"\n'
    copy_config(study / "run.toml", first)
    copy_config(first / "config.toml", second)
    assert (second / "config.toml").read_text() == f'relative_to = "{study}"\n{RUN}'


def test_a_base_that_is_relative_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "relative.toml"
    path.write_text(f'relative_to = "somewhere"\n{RUN}')
    with pytest.raises(config.ConfigError, match="relative_to: 'somewhere' is not absolute: leave it out"):
        config.load(path)


def test_what_is_no_path_is_left_for_the_settings_to_refuse() -> None:
    given = {"folder": 5, "files": ["a", 6], "n": "a", "absent": None}
    assert config.located(given, Path("/h")) == {"folder": 5, "files": ["/h/a", 6], "n": "a", "absent": None}
    assert config.located({"folder": None, "files": "/else/a"}, Path("/h")) == {"folder": None, "files": "/else/a"}
