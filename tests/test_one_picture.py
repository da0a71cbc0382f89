"""Training pairs from the patches of one picture: analysis_l1 with `picture` and `stride`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pydantic
import pytest
from skimage import data
from skimage.io import imsave

from bench.learning.config import resolve
from bench.learning.matrix import Run, expand
from problems import images
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import input_sha256

FROM_CAMERA = {"signal": "patches", "n": 64, "picture": "camera", "stride": 7}


def test_the_stripes_of_the_paper_have_1296_patches_on_their_grid() -> None:
    """256 pixels, 8 x 8, stride 7: 36 positions a side (readings.md J.17)."""
    picture = images.picture("stripes_vertical", None)
    rng = np.random.default_rng(0)
    own = images.grid_patches(picture, 8, 7, 1296, rng).reshape(-1, 8, 8)
    assert (own == own[:, :1]).all()  # constant down every column
    with pytest.raises(ValueError, match=r"256 x 256 has 1296 patches \(8 x 8 pixels, stride 7\), not 1297 pairs"):
        images.grid_patches(picture, 8, 7, 1297, rng)


@pytest.mark.parametrize("name", images.STRIPED)
def test_stripes_are_normalised_and_repeat_every_ten_pixels(name: str) -> None:
    picture = images.picture(name, None)
    assert picture.shape == (256, 256)
    assert set(np.unique(picture)) == {0.0, 1.0}
    assert np.array_equal(picture[:, :-10], picture[:, 10:])
    assert abs(picture.mean() - 0.5) < 0.02
    if name == "stripes_diagonal":
        assert np.array_equal(picture[1:, :-1], picture[:-1, 1:])  # constant where row + column is


def test_the_pairs_are_patches_of_the_grid_and_none_is_there_twice() -> None:
    problem = AnalysisL1.build(Settings(**FROM_CAMERA, pairs=5329))
    camera = data.camera()
    grid = [camera[i : i + 8, j : j + 8].tobytes() for i in range(0, 505, 7) for j in range(0, 505, 7)]
    drawn = [row.tobytes() for row in np.rint(255 * problem.x_true.numpy()).astype(np.uint8)]
    assert len(drawn) == 73 * 73
    assert sorted(drawn) == sorted(grid)
    assert drawn != grid
    assert np.std(problem.y.numpy() - problem.x_true.numpy()) == pytest.approx(0.1, rel=0.01)  # 341 056 values


def test_more_pairs_extend_fewer_and_the_seed_decides() -> None:
    few, many = (AnalysisL1.build(Settings(**FROM_CAMERA, pairs=pairs)) for pairs in (5, 30))
    assert np.array_equal(few.y.numpy(), many.y.numpy()[:5])
    other = AnalysisL1.build(Settings(**FROM_CAMERA, pairs=5, seed=1))
    assert not np.array_equal(few.x_true.numpy(), other.x_true.numpy())


def test_a_file_of_a_folder_is_found_by_its_name(tmp_path: Path) -> None:
    first, second = (np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8) for seed in (0, 1))
    imsave(tmp_path / "a.png", first)
    imsave(tmp_path / "b.png", second)
    settings = Settings(signal="patches", n=64, picture="b.png", stride=8, folder=str(tmp_path), pairs=4)
    drawn = AnalysisL1.build(settings).x_true.numpy()
    assert drawn.sum() == pytest.approx(second.sum() / 255, rel=1e-12)  # four patches side by side: all of it
    with pytest.raises(ValueError, match=r"no picture 'c\.png' is in folder"):
        AnalysisL1.build(settings.model_copy(update={"picture": "c.png"}))


def test_settings_that_do_not_go_together_are_refused() -> None:
    for given, said in (
        ({"signal": "patches", "picture": "camera"}, "picture needs stride"),
        ({"signal": "patches", "stride": 7}, "stride needs picture"),
        ({"picture": "camera", "stride": 7}, "for signal = 'patches' alone"),
    ):
        with pytest.raises(pydantic.ValidationError, match=said):
            Settings.model_validate(given)


def test_random_patches_of_random_pictures_are_what_they_were() -> None:
    """The hash that this instance had before one picture could be asked for; no parameter of it is new either."""
    problem = AnalysisL1.build(Settings(signal="patches", n=36, pairs=3))
    assert input_sha256(problem) == "f6e8decc97571e6a3b8092ba60d2f28a9c51171150cafeee333e4a2daa7796e9"
    assert not {"picture", "stride"} & problem.parameters.keys()


CONFIGS = Path(__file__).parents[1] / "bench" / "configs"
SHIPPED = [
    pytest.param(file, run, id=f"{file.stem} {run.name}")
    for pattern in ("learn_stripes_*.toml", "learn_pictures.toml")
    for file in sorted(CONFIGS.glob(pattern))
    for run in expand(tomllib.loads(file.read_text()), file)
]


@pytest.mark.parametrize(("file", "run"), SHIPPED)
def test_the_shipped_trainings_are_of_the_papers_patches(file: Path, run: Run) -> None:
    """J.17 to J.19: 8 x 8 patches, stride 7, batches of 100, sigma = 0.1 or 0.15; 750 epochs of the stripes."""
    given = run.config
    resolved = resolve(given, file, [])
    settings = resolved.training.settings
    assert (settings.n, settings.stride, given.batch) == (64, 7, 100)
    assert resolved.training.batch == settings.pairs - given.validation_pairs
    if "stripes" in file.stem:
        assert (settings.picture, settings.noise, given.epochs) == (file.stem.removeprefix("learn_"), 0.1, 750)
        assert settings.pairs == 1296  # all of them
    else:
        assert settings.noise in (0.1, 0.15)
