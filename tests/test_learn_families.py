"""What `learn` compares with x_true, family by family: a reconstruction in its space, or nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from bench.catalogue import Catalogue
from bench.cli import app
from bench.learning import checkpoint, curves
from bench.learning.outcome import Outcome, read
from problems.contract import Measurement, Problem
from problems.synthesis_lasso import Settings, SynthesisLasso

HEAD = """
epochs = 2
batch = 3
validation_pairs = 1
threads = 1

[learner]
rate = 1e-4

[test]
pairs = 4
"""

SMALL_GAME = "side = 4\natoms = 4\nalpha = 5.0\n"
FAMILIES = {
    "analysis_l1": ("", "", "noisy"),
    "analysis_l1 A": ('forward = "gaussian"', "", "measured"),
    "analysis_l1 patches": ('signal = "patches"\nn = 16', "", "noisy"),
    "analysis_l1 picture": ('signal = "patches"\nn = 16\npicture = "camera"\nstride = 100', "", "noisy"),
    "conv_filters": ("shape = [[6, 6]]", 'key = "minimizer"', "noisy"),
    "conv_filters blur": ('shape = [[6, 6]]\nforward = "blur"', 'key = "minimizer"', "blurred and noisy"),
    "conv_filters exact": ("shape = 9\nnoise = 0.0", 'key = "minimizer"', "x_true itself"),
    "synthesis_lasso": ("m = 10\np = 8\nnoise = 0.1", "", "noisy"),
    "patch_game sparse coding": ('side = 4\natoms = 4\nvariance = 0.0\npenalty = "l1"', "", "noisy"),
    "patch_game variance": (f"{SMALL_GAME}variance = 0.3", 'key = "minimizer"', "noisy"),
    "patch_game group": (f"{SMALL_GAME}group = 0.02", 'key = "minimizer"', "noisy"),
    "patch_game untied": (f"{SMALL_GAME}untied = true", 'key = "minimizer"', "noisy"),
    "tv_game": ("", 'key = "minimizer"', "noisy"),
    "tv_game bilateral": ('weights = "bilateral"\nreach = 2.0', 'key = "minimizer"', "noisy"),
}


def learned(tmp_path: Path, family: str, settings: str, backend: str = "", head: str = HEAD) -> Result:
    config = tmp_path / "learn.toml"
    config.write_text(f'{head}\n[backend]\n{backend}\n[problem]\nfamily = "{family}"\npairs = 3\n{settings}\n')
    return CliRunner().invoke(app, ["learn", str(config), "--out", str(tmp_path / "run")])


def outcome(tmp_path: Path) -> Outcome:
    (found,) = read(tmp_path / "run")
    return found


@pytest.mark.parametrize("named", FAMILIES)
def test_every_family_is_tested_in_the_space_of_its_signals(tmp_path: Path, named: str) -> None:
    settings, backend, measurement = FAMILIES[named]
    result = learned(tmp_path, named.partition(" ")[0], settings, backend)
    assert result.exit_code == 0, result.output
    found = outcome(tmp_path)
    assert (found.measurement, found.failed_denoisers) == (measurement, {})
    assert set(found.psnr) == ({"learned", "noisy"} if measurement == "noisy" else {"learned"})
    assert f"(PSNR at peak 1, y is {measurement})" in result.output
    family = Catalogue().problem(found.config["problem"]["family"])
    pixels = math.prod(family.build(family.settings_type(**found.problem)).signal_shape)
    for point in curves.read(tmp_path / "run"):  # the loss of the one pair for validation is its squared error
        assert point.validation_loss is not None
        assert point.validation_psnr_db == pytest.approx(-10 * math.log10(point.validation_loss / pixels), abs=1e-9)
        assert point.training_psnr_db is not None
    assert all(one.mean_db is not None for one in found.psnr.values())


def _lasso(D: np.ndarray, y: np.ndarray, weight: float) -> np.ndarray:
    """Codes by proximal gradient steps, in numpy alone."""
    z, step = np.zeros((len(y), D.shape[1])), 1 / np.linalg.norm(D, 2) ** 2
    for _ in range(20_000):
        z = z - step * (z @ D.T - y) @ D
        z = np.sign(z) * np.maximum(np.abs(z) - step * weight, 0)
    return z


def _psnr(made: np.ndarray, x_true: np.ndarray) -> float:
    return float(np.mean(-10 * np.log10(((made - x_true) ** 2).mean(1))))


def test_of_a_dictionary_it_is_what_the_codes_stand_for(tmp_path: Path) -> None:
    """At the theta that each number is said to be of, on signals of the dictionary that the training's are made of."""
    given: dict[str, Any] = {"m": 10, "p": 8, "noise": 0.1}
    assert learned(tmp_path, "synthesis_lasso", "\n".join(f"{k} = {v}" for k, v in given.items())).exit_code == 0
    whole = SynthesisLasso.build(Settings(**given, pairs=3 + 1 + 4))
    y, x_true = whole.y.numpy(), whole.x_true.numpy()

    def psnr(D: np.ndarray, pairs: slice) -> float:
        return _psnr(_lasso(D, y[pairs], 0.2) @ D.T, x_true[pairs])

    D = np.load(tmp_path / "run" / "theta.npz")["D"]
    first, last = curves.read(tmp_path / "run")
    assert first.training_psnr_db == pytest.approx(psnr(whole.D.numpy(), slice(0, 3)), abs=1e-6)  # met before the step
    assert last.validation_psnr_db == pytest.approx(psnr(D, slice(3, 4)), abs=1e-6)
    psnrs = outcome(tmp_path).psnr
    assert psnrs["learned"].mean_db == pytest.approx(psnr(D, slice(4, None)), abs=1e-6)
    assert psnrs["noisy"].mean_db == pytest.approx(_psnr(y[4:], x_true[4:]), abs=1e-9)


def test_a_checkpoint_of_before_goes_on_without_one_epochs_psnr(tmp_path: Path) -> None:
    assert learned(tmp_path, "analysis_l1", "n = 8").exit_code == 0
    path = tmp_path / "run" / checkpoint.CHECKPOINT
    stored = checkpoint.read(path)
    assert stored is not None
    about, arrays = stored
    about["counts"] |= {"epoch": 1}
    checkpoint.write(path, about, {name: held for name, held in arrays.items() if not name.endswith(".errors")})
    (tmp_path / "run" / "outcomes.jsonl").unlink()
    assert learned(tmp_path, "analysis_l1", "n = 8").exit_code == 0
    assert curves.read(tmp_path / "run")[-1].training_psnr_db is not None


# --- what cannot be compared is refused before any training -----------------------------------------------------------

TWO_D = "is for one-dimensional signals, not for pictures of {0} x {0} pixels: leave it out"
REFUSED = [
    ("analysis_l1", 'signal = "patches"\nn = 16', "cosine", f"test.denoisers: cosine {TWO_D.format(4)}"),
    ("conv_filters", "shape = [[6, 6]]", "finite_differences", f"finite_differences {TWO_D.format(6)}"),
    ("patch_game", "", "finite_differences", f"finite_differences {TWO_D.format(6)}"),
    ("tv_game", 'graph = "grid"', "cosine", f"cosine {TWO_D.format(4)}"),
    (
        "analysis_l1",
        'forward = "blur"',
        "cosine",
        "test.denoisers: cosine takes y = x_true + noise, and y of analysis_l1 is blurred and noisy here: leave it out",
    ),
    ("conv_filters", 'shape = 9\nforward = "mask"', "orthogonal_dictionary", "y of conv_filters is measured here"),
    ("synthesis_lasso", 'm = 10\np = 8\nforward = "gaussian"', "cosine", "y of synthesis_lasso is measured here"),
    (
        "analysis_l1",
        'signal = "patches"\nn = 16\npicture = "coins"\nstride = 150',
        "",
        "test: its pairs cannot be built",
    ),
]


@pytest.mark.parametrize(("family", "settings", "rival", "said"), REFUSED)
def test_what_would_fail_after_training_is_refused_before(
    tmp_path: Path, family: str, settings: str, rival: str, said: str
) -> None:
    head = HEAD + (f'denoisers = ["{rival}"]\n' if rival else "")
    exact = family in ("analysis_l1", "synthesis_lasso")
    result = learned(tmp_path, family, settings, "" if exact else 'key = "minimizer"', head)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'learn.toml'}: test")
    assert said in line
    assert not (tmp_path / "run").exists()


THIRD_PARTYS = """
from dataclasses import dataclass
from problems.analysis_l1 import AnalysisL1 as Theirs

@dataclass(frozen=True)
class Parts(Theirs):
    def reconstruct(self, x, theta):
        return {body}
"""


@pytest.mark.parametrize(("body", "said"), [("x[:, :3]", "states no x_true"), ("x @ x", "cannot reconstruct: ")])
def test_a_family_without_a_reconstruction_has_no_psnr(tmp_path: Path, body: str, said: str) -> None:
    """One whose x is no signal, and that says nothing of what it stands for, has another shape than x_true."""
    plugin = tmp_path / "parts.py"
    plugin.write_text(THIRD_PARTYS.format(body=body))
    config = tmp_path / "learn.toml"
    problem = '[problem]\nfamily = "parts"\nn = 8\npairs = 3\n'
    given = ["learn", str(config), "--plugin", str(plugin), "--out", str(tmp_path / "run")]
    config.write_text(HEAD + problem)
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert said in line
    if body == "x[:, :3]":
        config.write_text(HEAD.partition("[test]")[0] + problem)
        done = CliRunner().invoke(app, given)
        assert done.exit_code == 0, done.output
        assert {one.training_psnr_db for one in curves.read(tmp_path / "run")} == {None}


FAILING = """
import torch
from methods.active_set_adjoint import ActiveSetAdjoint as Theirs

class Failing(Theirs):
    def solve(self, prepared, theta, warm=None):
        if prepared.problem.batch == 4:
            raise RuntimeError("four are too many")
        return super().solve(prepared, theta, warm)
"""


def test_a_backend_that_fails_on_the_test_pairs_costs_no_theta(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    config, out = tmp_path / "learn.toml", tmp_path / "run"
    config.write_text(
        HEAD.replace("batch = 3", "batch = 5") + '[backend]\nkey = "failing"\n[problem]\nn = 8\npairs = 5\n'
    )
    command = ["learn", str(config), "--plugin", str(tmp_path / "failing.py"), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "test: learned failed: RuntimeError: four are too many" in result.output
    assert json.loads((out / "status.json").read_text())["status"] == "finished"
    assert (out / "theta.npz").exists()


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("key", Catalogue().problems)
def test_reconstruct_is_in_the_space_of_x_true_for_any_batch(key: str, batch: int) -> None:
    problem: Problem = (family := Catalogue().problem(key)).build(family.settings_type(pairs=2))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, *problem.x_shape)))
    made = problem.reconstruct(x, problem.theta0())
    assert made.shape == (batch, *problem.tensors()["x_true"].shape[1:])
    assert made[0].numel() == np.prod(problem.signal_shape)
    # Linear in x, sample by sample: what one stands for does not depend on the others.
    alone = torch.cat([problem.reconstruct(each[None], problem.theta0()) for each in x])
    torch.testing.assert_close(made, alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("forward", "noise", "word"),
    [
        ("identity", 0.1, "noisy"),
        ("identity", 0.0, "x_true itself"),
        ("blur", 0.1, "blurred and noisy"),
        ("blur", 0.0, "blurred"),
        ("mask", 0.1, "measured"),
        ("fourier_random", 0.0, "measured"),
    ],
)
def test_what_y_is_has_a_word(forward: str, noise: float, word: str) -> None:
    assert Measurement.of(forward, noise) == word
