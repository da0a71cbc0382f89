"""The command `denoise` on tiny pictures: scores, resuming, tuning, refusals; its pages."""

from __future__ import annotations

import json
import math
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread, imsave
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner, Result

from bench.cli import app
from bench.denoise import noise
from bench.denoising import score
from bench.denoising.config import parse, resolve
from bench.denoising.score import Denoised, Learned, Score, at_an_end, best
from bench.learning.matrix import expand
from methods.denoisers.total_variation import TotalVariation
from problems import images
from problems.operators import picture_transform_matrix
from reports.filters import direction, has_direction, is_near
from reports.studies import denoise_pictures, denoise_stripes
from reports.study import Verdict

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "bench" / "configs"

TINY = """
study = "denoise_pictures"
threads = 1
sigma = [25.5]
seeds = [0, 1]

[pictures]
names = ["camera", "stripes_diagonal"]
crop = 20

[[denoiser]]
key = "patch_transform"
files = ["{theta}"]
weight = 0.2
stride = 4

[[denoiser]]
key = "total_variation"
label = "TV"
tune = {{ weight = [0.1, 1.0] }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    W = picture_transform_matrix("finite_difference", 24, 4, np.random.default_rng(0))
    about = json.dumps({"problem": {"picture": "brick"}})
    np.savez(tmp_path / "theta.npz", W=W, about=np.array(about))
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(theta=tmp_path / "theta.npz"))
    return path


def command(config: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["denoise", str(config), "--out", str(config.parent / "run"), *more])


def scores_of(config: Path) -> list[Score]:
    return list(score.read(config.parent / "run").values())


def lines_of(config: Path) -> list[str]:
    return (config.parent / "run" / score.SCORES).read_text().splitlines()


# --- what it measures -------------------------------------------------------------------------------------------------


def test_the_command_writes_scores_tables_and_pictures(config: Path, tmp_path: Path) -> None:
    out = config.parent / "run"
    ended = command(config)
    assert ended.exit_code == 0, ended.output
    assert "sigma = 25.5 of 255: means over 2 pictures, 2 seeds" in ended.stdout
    scores = scores_of(config)
    assert len(scores) == 2 * 2 * 4  # pictures, seeds; noisy, transform and two weights of TV
    clean = images.picture("camera", None)[246:266, 246:266]
    noisy = clean + 0.1 * noise(clean, 1)
    own = next(s for s in scores if (s.picture, s.seed, s.tuned) == ("camera", 1, {"weight": 1.0}))
    denoised = TotalVariation(weight=1.0).denoise(noisy, 0.1)
    assert own.psnr_db == pytest.approx(peak_signal_noise_ratio(clean, denoised, data_range=1.0), rel=1e-12)
    assert own.ssim == pytest.approx(structural_similarity(clean, denoised, data_range=1.0), rel=1e-12)
    noisy_psnr = [s.psnr_db for s in scores if s.key == "noisy"]
    assert np.mean(noisy_psnr) == pytest.approx(20.0, abs=0.5)  # 400 pixels: 0.3 dB of one picture, four of them
    shown = next(s for s in scores if (s.picture, s.seed, s.tuned) == ("camera", 0, {"weight": 1.0}))
    expected = np.clip(TotalVariation(weight=1.0).denoise(clean + 0.1 * noise(clean, 0), 0.1), 0, 1)
    assert np.abs(imread(out / shown.image) / 255 - expected).max() <= 0.51 / 255
    report = (out / "report" / "report.md").read_text()
    for name in ("sheet_25.5_1.png", "filters.png"):
        assert f"]({name})" in report
        assert imread(out / "report" / name).std() > 10  # not blank
    assert "Image-3" in report
    (config.parent / "theta.npz").unlink()  # the run has its own copy
    again = CliRunner().invoke(app, ["report", str(out), "--format", "md", "--out", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again" / "report.md").read_text() == report
    for file in (out / "images").iterdir():  # as in a run that is published without pictures that are not its own
        file.unlink()
    without = CliRunner().invoke(app, ["report", str(out), "--format", "md", "--out", str(tmp_path / "without")])
    assert without.exit_code == 0, without.output
    shorter = (tmp_path / "without" / "report.md").read_text()
    assert "sheet_" not in shorter
    assert {*shorter.splitlines()} < {*report.splitlines()}
    assert "| BLORC | 25.5 | patch_transform | weight = 0.2, stride = 4," in report


def test_the_noise_is_normal_and_of_the_picture_and_the_seed_alone() -> None:
    clean = images.picture("coins", None)
    drawn = noise(clean, 0)
    assert drawn.std() == pytest.approx(1.0, abs=0.01)  # 116 000 values: 0.002
    assert drawn.mean() == pytest.approx(0.0, abs=0.01)
    assert np.array_equal(drawn, noise(clean.copy(), 0))
    assert np.abs(np.corrcoef(drawn.ravel(), noise(clean, 1).ravel())[0, 1]) < 0.02
    assert np.abs(np.corrcoef(drawn.ravel()[:4096], noise(clean[:64, :64].copy(), 0).ravel())[0, 1]) < 0.1


def test_the_best_of_what_is_tuned_is_that_of_the_highest_mean_at_each_sigma() -> None:
    def made(sigma: float, picture: str, weight: float, psnr: float | None) -> Score:
        tuned = {"weight": weight}
        return Score(f"{sigma}{picture}{weight}", picture, 8, 8, sigma, 0, "TV", "tv", tuned, tuned, psnr)

    scores = [
        *(made(1.0, "a", 1.0, 30.0), made(1.0, "b", 1.0, 20.0), made(1.0, "a", 2.0, 26.0), made(1.0, "b", 2.0, 26.0)),
        *(made(2.0, "a", 1.0, 30.0), made(2.0, "b", 1.0, 25.0), made(2.0, "a", 2.0, 99.0), made(2.0, "b", 2.0, None)),
    ]
    assert [s.id for s in best(scores)] == ["1.0a2.0", "1.0b2.0", "2.0a1.0", "2.0b1.0"]
    assert all(at_an_end(score, scores) for score in scores)
    further = [*scores, made(1.0, "a", 3.0, 25.0), made(1.0, "b", 3.0, 25.0)]
    assert [s.id for s in best(further) if at_an_end(s, further)] == ["2.0a1.0", "2.0b1.0"]
    assert not at_an_end(scores[0], scores[:2])  # one value alone has no end


# --- what it survives -------------------------------------------------------------------------------------------------


def test_it_continues_and_does_again_what_has_changed_alone(config: Path) -> None:
    assert command(config).exit_code == 0
    whole = lines_of(config)
    path = config.parent / "run" / score.SCORES
    path.write_text("\n".join(whole[:5]) + "\n" + whole[5][:40])  # killed while it wrote
    again = command(config)
    assert again.exit_code == 0
    assert "5 of 16 scores are there already" in again.stderr

    def timeless(lines: list[str]) -> list[dict[str, Any]]:
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    lines = lines_of(config)
    assert timeless(lines) == timeless(whole)
    np.savez(config.parent / "theta.npz", W=0.5 * np.eye(16))  # another transform under the same name
    changed = command(config)
    assert "12 of 16 scores are there already" in changed.stderr
    assert len(lines_of(config)) == len(lines) + 4


def test_a_denoiser_that_fails_is_a_row_with_a_word_and_is_tried_again(config: Path) -> None:
    text = config.read_text().replace("crop = 20", "crop = 8")
    np.savez(config.parent / "theta.npz", W=np.eye(81))  # patches of 9 x 9
    config.write_text(text)
    result = command(config)
    assert result.exit_code == 1
    assert "failed (4 of 4)" in result.stdout
    report = (config.parent / "run" / "report" / "report.md").read_text()
    assert "ValueError: a picture of 8 x 8 has no patch of 9 x 9 pixels" in report
    assert "12 of 16 scores are there already" in command(config).stderr
    kept = list((config.parent / "run" / "output").glob("*.txt"))
    assert len(kept) == 4
    assert all("patch_transform.py" in file.read_text() for file in kept)


def test_a_folder_on_the_command_line_takes_the_place_of_the_configurations(config: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, size=(24, 30), dtype=np.uint8)
    imsave(tmp_path / "own" / "one.png", picture)
    config.write_text(config.read_text().replace('names = ["camera", "stripes_diagonal"]', "limit = 1"))
    assert command(config, "--folder", str(tmp_path / "own")).exit_code == 0
    assert {s.picture for s in scores_of(config)} == {"one.png"}
    shown = imread(tmp_path / "run" / "images" / "one.png.png")
    assert np.array_equal(shown, picture[2:22, 5:25])  # the middle


REFUSED = [
    ('key = "total_variation"', 'key = "total_varation"', "denoiser[1].key: no 'total_varation': did you mean"),
    ('key = "total_variation"', 'key = "cosine"', "denoiser[1].key: no 'cosine'"),
    ("weight = 0.2", "wieght = 0.2", "denoiser[0].wieght: unknown key: did you mean 'weight'?"),
    ("weight = 0.2", "weight = 0.2\ntune = { weight = [1.0] }", "denoiser[0].tune.weight: weight is set beside it"),
    ("theta.npz", "absent.npz", "learn CONFIG --out"),
    ('"camera"', '"kamera"', "pictures: no picture 'kamera' is bundled: did you mean 'camera'?"),
    ("crop = 20", "crop = 400", "pictures: stripes_diagonal has 256 x 256 pixels, 400 x 400 are needed"),
    ("sigma = [25.5]", "sigma = [0]", "sigma[0]: input should be greater than 0"),
    ('study = "denoise_pictures"', 'study = "denoise_picture"', "did you mean 'denoise_pictures'?"),
    ("[[denoiser]]", "[[denoise]]", "denoiser: missing: add [[denoiser]]"),
    ('label = "TV"', 'label = "patch_transform"', "denoiser[1].label: 'patch_transform' is another's"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), REFUSED)
def test_bad_input_is_one_line_and_code_2(config: Path, right: str, wrong: str, said: str) -> None:
    config.write_text(config.read_text().replace(right, wrong))
    result = command(config)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {config}: ")
    assert said in line
    assert not (config.parent / "run").exists()


def test_a_folder_without_pictures_is_refused(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace('names = ["camera", "stripes_diagonal"]', ""))
    (tmp_path / "empty").mkdir()
    result = command(config, "--folder", str(tmp_path / "empty"))
    assert result.exit_code == 2
    assert "holds no picture" in result.stderr


# --- what its pages say -----------------------------------------------------------------------------------------------

COORDINATES = np.indices((8, 8))


@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 90.0, 135.0, 160.0])
@pytest.mark.parametrize("period", [5.0, 9.0])
def test_the_direction_of_a_wave_is_found(degrees: float, period: float) -> None:
    down, along = COORDINATES
    angle = math.radians(degrees)
    waves = [
        np.cos(2 * np.pi * (along * math.cos(angle) + down * math.sin(angle)) / period + phase)
        for phase in np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ]
    found = [direction(wave) for wave in waves]
    assert all(has_direction(each) for each in found)
    apart = [abs((each.degrees - degrees + 90) % 180 - 90) for each in found]
    assert max(apart) <= 10  # lag-one differences stand for derivatives: 8 degrees at a period of 5
    assert all(is_near(each, degrees) and not is_near(each, degrees + 90) for each in found)


def test_a_spot_and_a_checkerboard_have_no_direction() -> None:
    spot = np.zeros((8, 8))
    spot[3, 4] = 1.0
    checkerboard = (-1.0) ** COORDINATES.sum(0)
    assert not has_direction(direction(spot))
    assert not has_direction(direction(checkerboard))
    assert not has_direction(direction(np.ones((8, 8))))


def test_the_stripes_page_counts_filters_at_right_angles() -> None:
    down, along = COORDINATES
    steep = [np.cos(frequency * down).ravel() for frequency in np.linspace(0.3, 2, 40)]
    level = [np.cos(frequency * along).ravel() for frequency in np.linspace(0.3, 2, 24)]
    W = np.stack([*steep, *level])
    run = Denoised("", None, Path(), [], [Learned("", name, W) for name in ("stripes_vertical", "stripes_diagonal")])
    vertical, diagonal, *_ = denoise_stripes.study(run).claims
    assert vertical.ours == "of 64 filters 40 lie at right angles to the stripes, 24 along them"
    assert vertical.verdict is Verdict.REPRODUCED
    assert diagonal.ours.startswith("of 64 filters 0 lie")
    assert diagonal.verdict is Verdict.NOT_REPRODUCED
    missing = denoise_stripes.study(Denoised("", None, Path(), [])).claims
    assert {claim.verdict for claim in missing} == {Verdict.NOT_MEASURED}


def test_the_share_along_the_stripes_is_that_of_a_projection() -> None:
    W = np.random.default_rng(0).normal(size=(4096, 64))
    for picture, dimension in (("stripes_vertical", 8), ("stripes_diagonal", 15)):
        shares = denoise_stripes.striped_shares(W, picture)
        assert denoise_stripes.chance_share(W, picture) == dimension / 64
        assert np.mean(shares) == pytest.approx(dimension / 64, rel=0.03)  # 4096 rows: 1 %
        patches = images.grid_patches(images.picture(picture, None), 8, 3, 500, np.random.default_rng(0))
        assert denoise_stripes.striped_shares(patches, picture) == pytest.approx([1.0] * 500)
    differences = picture_transform_matrix("finite_difference", 112, 8, np.random.default_rng(0))
    run = Denoised("", None, Path(), [], [Learned("", "stripes_vertical", differences[56:])])
    *_, vertical, _ = denoise_stripes.study(run).claims
    level = denoise_stripes.striped_shares(differences[:56], "stripes_vertical")
    steep = denoise_stripes.striped_shares(differences[56:], "stripes_vertical")
    assert (max(steep), min(level)) == (0.0, pytest.approx(0.125))  # down a column, and along a row
    assert vertical.ours == "median share 0.0%, where a filter without preference has 12.5%"
    assert vertical.verdict is Verdict.REPRODUCED


def order(ours: dict[str, list[float]]) -> dict[str, Verdict]:
    keys = {"BLORC": "patch_transform", "Analysis K-SVD": "analysis_ksvd", "BM3D": "bm3d"}
    scores = [
        Score(f"{name}{number}", f"picture {number}", 8, 8, 38.25, 0, name, keys[name], {}, {}, psnr, 0.5)
        for name, values in ours.items()
        for number, psnr in enumerate(values)
    ]
    claims = denoise_pictures.study(Denoised("", None, Path(), scores)).claims
    return {c.published: c.verdict for c in claims if c.source.endswith("order") and "38.25" in c.published}


def test_the_order_is_judged_by_paired_differences() -> None:
    """Pictures differ by 10 dB and methods by 1: only pairs can tell."""
    base = np.array([20.0, 25.0, 30.0])
    found = order(
        {
            "BLORC": list(base + np.array([0.9, 1.0, 1.1])),
            "BM3D": list(base),
            "Analysis K-SVD": list(base + np.array([0.5, -0.5, 0.1])),
        }
    )
    assert found == {
        "BLORC is above BM3D by 0.44 dB at sigma 38.25": Verdict.REPRODUCED,
        "BLORC is above Analysis K-SVD by 0.51 dB at sigma 38.25": Verdict.REPRODUCED,
        "BM3D is above Analysis K-SVD by 0.07 dB at sigma 38.25": Verdict.NOT_TESTABLE,
    }
    reverse = order({"BLORC": list(base), "BM3D": list(base + np.array([0.9, 1.0, 1.1])), "Analysis K-SVD": list(base)})
    assert reverse["BLORC is above BM3D by 0.44 dB at sigma 38.25"] is Verdict.NOT_REPRODUCED
    assert set(order({"BLORC": [20.0, 21.0]}).values()) == {Verdict.NOT_MEASURED}


def test_the_papers_own_arithmetic_is_checked() -> None:
    claims = denoise_pictures.study(Denoised("", None, Path(), [])).claims
    against = {c.published: c.verdict for c in claims if "against Table 2" in c.source}
    assert against == {
        "BM3D has 23.72 dB at sigma 38.25": Verdict.REPRODUCED,
        "Analysis K-SVD has 23.65 dB at sigma 38.25": Verdict.REPRODUCED,
        "BLORC has 24.16 dB at sigma 38.25": Verdict.NOT_REPRODUCED,
    }
    assert sum("Table 2" in c.source and c.verdict is Verdict.NOT_TESTABLE for c in claims) == 12


@pytest.mark.parametrize(
    "file", sorted((ROOT / "bench" / "configs").glob("denoise_*.toml")), ids=lambda path: path.stem
)
def test_the_shipped_configurations_fit_the_trainings_that_they_name(file: Path, tmp_path: Path) -> None:
    """Each theta.npz is where the configuration of that name puts it, run from the checkout, which says so itself."""
    given = parse(tomllib.loads(file.read_text()), file)
    files = {name for entry in given.denoiser for name in entry.settings.get("files", ())}
    learned = {os.path.relpath(file.parent / name, ROOT) for name in files}
    assert learned
    for name in learned:
        folder = Path(*Path(name).parts[:2])
        training = CONFIGS / f"{folder.name}.toml"
        assert f"--out {folder}`" in training.read_text()
        problem = tomllib.loads(training.read_text())["problem"]
        runs = expand(tomllib.loads(training.read_text()), training)
        assert Path(name) in {folder / run.name / "theta.npz" for run in runs}
        (tmp_path / name).parent.mkdir(parents=True)
        np.savez(tmp_path / name, W=np.eye(problem["n"]))
    imsave(tmp_path / "one.png", np.zeros((256, 256), dtype=np.uint8), check_contrast=False)
    elsewhere = tmp_path / file.relative_to(ROOT)  # as if the checkout were there
    elsewhere.parent.mkdir(parents=True)
    resolved = resolve(given, elsewhere, str(tmp_path) if given.pictures.names is None else None)
    assert all(picture.shape == (128, 128) for picture in resolved.pictures.values())
    assert not {"brick", "clock", "grass"} & resolved.pictures.keys()  # learned on
