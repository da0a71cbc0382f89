"""Trainings by axes: the matrix, what is held against the learned W, the studies' verdicts and the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bench.cli import app
from bench.config import ConfigError
from bench.learning.curves import CURVES, Point
from bench.learning.matrix import expand
from bench.learning.outcome import OUTCOMES, SCHEMA, Outcome, Psnr, read
from bench.lock import LOCK, hold
from methods.denoisers._analysis import denoised
from methods.denoisers.finite_differences import FiniteDifferences
from problems import signals
from problems.analysis_l1 import AnalysisL1, Settings
from reports.studies import learn_1d, learn_backends, learn_noise_levels
from reports.studies._learning import aligned, cosines, differences
from reports.study import Study, Verdict
from reports.trainings import Group, Missing, Training, grouped
from tests.test_html_report import Elements

TINY = """
title = "tiny"
study = "learn_1d"
epochs = 2
batch = 10
validation_pairs = 6
threads = 1
[problem]
n = 12
pairs = 20
scale = 0.3
ripple = 0.0
seed = [0, 1]
[test]
pairs = 15
denoisers = ["finite_differences", "cosine"]
[[variant]]
name = "as printed"
[[variant]]
name = "Adam, cosine"
learner = { key = "adam", rate = 5e-3 }
schedule = { key = "cosine" }
"""


def learned(tmp_path: Path, text: str, out: str = "out") -> tuple[Result, Path]:
    config = tmp_path / "tiny.toml"
    config.write_text(text)
    folder = tmp_path / out
    return CliRunner().invoke(app, ["learn", str(config), "--out", str(folder)]), folder


# --- axes -------------------------------------------------------------------------------------------------------------


def test_variants_and_lists_make_the_cross_product() -> None:
    document = {
        "epochs": 3,
        "problem": {"n": 8, "noise": [0.1, 0.2]},
        "variant": [{"name": "a"}, {"name": "b", "epochs": [1, 2], "problem": {"pairs": 200, "noise": 0.5}}],
    }
    runs = expand(document, Path("x.toml"))
    assert [run.settings for run in runs] == [
        {"variant": "a", "problem.noise": 0.1},
        {"variant": "a", "problem.noise": 0.2},
        {"variant": "b", "epochs": 1},
        {"variant": "b", "epochs": 2},
    ]
    assert [run.config.epochs for run in runs] == [3, 3, 1, 2]
    assert [run.config.problem.settings["noise"] for run in runs] == [0.1, 0.2, 0.5, 0.5]
    assert runs[2].config.problem.settings["n"] == 8  # laid over, key by key
    assert len({run.name for run in runs}) == 4


def test_without_axes_there_is_one_training_in_the_folder_itself() -> None:
    (run,) = expand({"epochs": 3, "test": {"denoisers": ["cosine"]}}, Path("x.toml"))
    assert (run.name, run.settings) == ("", {})


def test_two_trainings_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="give each value, and each name, once"):
        expand({"seed": [1, 1]}, Path("x.toml"))


BAD = {
    'study = "learn_1e"': "study: there is no 'learn_1e' for trainings: did you mean 'learn_1d'?",
    'study = "sign_pattern"': "study: there is no 'sign_pattern' for trainings",
    "[problem]\nnoise = []": "problem.noise: an empty list leaves no cell",
    "[[variant]]\nepochs = 2": "variant[0].name: missing",
    "[variant]\nname = 'a'": "variant: a table must be written [[variant]]",
    "[[variant]]\nname = 'a'\nepochz = 2": "epochz: unknown key: did you mean 'epochs'?",
    "[test]\npair = 3": "test.pair: unknown key: did you mean 'pairs'?",
    "[test]\ndenoisers = ['cosin']": "test.denoisers: methods.denoisers has no 'cosin': did you mean 'cosine'?",
    "[test]\ndenoisers = ['bm3d']": "test.denoisers: bm3d is for pictures: choose one for signals",
    "[problem]\nsignal = 'dct_sparse'\njumps = 3": "jumps is for signal = 'piecewise_constant' alone",
}


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_one_line(tmp_path: Path, text: str) -> None:
    result, folder = learned(tmp_path, f"batch = 1\nvalidation_pairs = 0\n{text}")
    assert result.exit_code == 2
    assert BAD[text] in result.stderr
    assert result.stderr.count("\n") == 1
    assert not folder.exists()


@pytest.mark.parametrize("between", [False, True])
def test_pieces_have_as_many_jumps_as_asked_for(between: bool) -> None:
    """A jump between samples is one nonzero difference; one inside a cell is two at most, and one at the least."""
    pieces = signals.Pieces(jumps=7, between_samples=between, lowest=0.0)
    for seed in range(20):
        x = signals.draw("piecewise_constant", 64, 0.0, np.random.default_rng(seed), pieces)
        assert x.min() >= 0.0
        assert x.max() == 1.0
        changes = np.count_nonzero(np.abs(np.diff(x)) > 1e-12)
        assert changes == 7 if between else 4 <= changes <= 14


# --- the command, whole -----------------------------------------------------------------------------------------------


def test_a_matrix_is_trained_judged_resumed_and_reported(tmp_path: Path) -> None:
    result, out = learned(tmp_path, TINY)
    assert result.exit_code == 0, result.output
    outcomes = read(out)
    assert [(one.settings["variant"], one.settings["problem.seed"]) for one in outcomes] == [
        ("as printed", 0),
        ("as printed", 1),
        ("Adam, cosine", 0),
        ("Adam, cosine", 1),
    ]
    for one in outcomes:
        _is_what_it_says(one, out)

    before = (out / OUTCOMES).read_bytes()
    again, _ = learned(tmp_path, TINY)
    assert again.exit_code == 0
    assert again.output.count("finished: 2 epochs, 4 updates") == 4
    assert "test:" not in again.output
    (out / OUTCOMES).write_bytes(b"".join(before.splitlines(keepends=True)[:2]))  # killed after the second
    resumed, _ = learned(tmp_path, TINY)
    assert resumed.exit_code == 0
    assert (out / OUTCOMES).read_bytes() == before

    reported = CliRunner().invoke(app, ["report", str(out)])
    assert reported.exit_code == 0, reported.output
    page = (out / "report" / "report.html").read_text()
    assert "Adam, cosine" in page
    assert "not measured" in page
    links = [value for key, value in Elements(page).attributes if key in {"src", "href", "xlink:href"}]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert "learning_curves.png" in (out / "report" / "report.md").read_text()
    assert (out / "report" / "learned_transforms.png").stat().st_size > 1000

    with hold(out):
        second, _ = learned(tmp_path, TINY)
        assert second.exit_code == 2
        assert "is writing into it" in second.stderr
    (out / LOCK).unlink()
    single, _ = learned(tmp_path, "epochs = 1\n[problem]\nn = 8\npairs = 100")
    assert single.exit_code == 2
    assert "holds several trainings" in single.stderr


def _is_what_it_says(one: Outcome, out: Path) -> None:
    """The PSNR are those of the learned theta, and of the baseline, computed here from the pairs of their seeds."""
    seed = one.settings["problem.seed"]
    training = AnalysisL1.build(Settings(n=12, pairs=20, ripple=0.0, seed=seed))
    test = AnalysisL1.build(Settings(n=12, pairs=15, ripple=0.0, seed=seed + 1000))
    clean, noisy = test.x_true.numpy(), test.y.numpy()
    with np.load(out / one.run / "theta.npz", allow_pickle=False) as stored:
        W = stored["W"]
    standard = FiniteDifferences().fit(training.x_true.numpy(), training.y.numpy())(noisy)
    own = {name: _psnr(x, clean) for name, x in (("learned", denoised(W, noisy)), ("noisy", noisy))}
    own["finite_differences"] = _psnr(standard, clean)
    for name, expected in own.items():
        found = one.psnr[name]
        # Two solvers, both certified to 1e-9 or better; PSNR multiplies a relative difference by 8.7.
        assert found.mean_db == pytest.approx(expected.mean(), abs=1e-6)
        assert found.deviation_db == pytest.approx(expected.std(ddof=1), abs=1e-6)
        assert found.gain_db == pytest.approx((own["learned"] - expected).mean(), abs=1e-6)
    last = json.loads((out / one.run / CURVES).read_text().splitlines()[-1])
    assert (one.training_loss, one.validation_loss) == (last["training_loss"], last["validation_loss"])
    assert (one.epochs, one.updates) == (2, 4)


def _psnr(x: np.ndarray, clean: np.ndarray) -> np.ndarray:
    return np.asarray(-10 * np.log10(((x - clean) ** 2).mean(1)))


def test_a_backend_is_an_axis_and_may_go_on_from_a_solution_without_its_own_memory(tmp_path: Path) -> None:
    """Piggyback's adjoint iterates are no part of a checkpoint: from the second epoch on it starts them anew."""
    axis = '[backend]\nkey = ["active_set_adjoint", "piggyback"]\n'
    result, out = learned(tmp_path, TINY.split("[[variant]]")[0].replace("seed = [0, 1]", "seed = 0") + axis)
    assert result.exit_code == 0, result.output
    exact, piggyback = read(out)
    assert piggyback.settings == {"backend.key": "piggyback"}
    # Its tolerance is 1e-10 of both systems, and four steps of 1e-4 magnify nothing.
    assert piggyback.training_loss == pytest.approx(exact.training_loss, rel=1e-8)


def test_a_failed_training_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    wild = TINY.replace('name = "as printed"', 'name = "wild"\nlearner = { rate = 1e308 }')
    result, out = learned(tmp_path, wild)
    assert result.exit_code == 1
    outcomes = read(out)
    assert [one.status for one in outcomes] == ["failed", "failed", "finished", "finished"]
    assert "lower learner.rate" in outcomes[0].message
    assert CliRunner().invoke(app, ["report", str(out)]).exit_code == 0


@pytest.mark.parametrize("asked", [["--format", "tex"], []])
def test_what_cannot_be_reported_is_one_line(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / CURVES).write_text("")
    result = CliRunner().invoke(app, ["report", str(tmp_path), *asked])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


# --- rows beside a transform ------------------------------------------------------------------------------------------


def test_rows_come_back_in_the_order_and_sign_that_they_were_shuffled_from() -> None:
    rng, D = np.random.default_rng(0), differences(10)
    order, signs, sizes = rng.permutation(9), rng.choice([-1.0, 1.0], 9), rng.uniform(0.5, 2.0, 9)
    shuffled = np.concatenate([(signs * sizes)[:, None] * D[order], np.ones((1, 10))])
    found = aligned(shuffled, D)
    expected = np.empty(9)
    expected[order] = sizes
    np.testing.assert_allclose(found.correlations, 1.0, atol=1e-15)
    np.testing.assert_allclose(found.W[:9], expected[:, None] * D, atol=1e-15)
    np.testing.assert_array_equal(found.W[9], np.ones(10))


def test_the_identity_has_the_correlations_that_the_page_says() -> None:
    assert aligned(np.eye(64), differences(64)).median == pytest.approx(math.sqrt(0.5), abs=1e-15)
    assert aligned(np.eye(64), cosines(64)).correlations.max() <= math.sqrt(2 / 64)
    assert aligned(np.zeros((64, 64)), differences(64)).median == 0.0
    C = cosines(16)
    np.testing.assert_allclose(C @ C.T, np.eye(16), atol=1e-14)
    assert C[0] == pytest.approx(np.full(16, 0.25))  # the constant comes first


# --- verdicts ---------------------------------------------------------------------------------------------------------


FROM_I = {"transform": "identity", "scale": 1.0}


def made(
    variant: str = "printed",
    seed: int = 0,
    gain: float = 0.0,
    status: str = "finished",
    backend: str = "active_set_adjoint",
    losses: tuple[float, ...] = (4.0, 1.0),
    W: np.ndarray | None = None,
    **problem: Any,
) -> Training:
    """A training whose learned W is `gain` dB above finite differences at 26 dB."""

    def psnr(mean: float) -> Psnr:
        return Psnr(mean_db=mean, deviation_db=2.0, gain_db=26.0 + gain - mean, gain_deviation_db=1.0)

    means = {"learned": 26.0 + gain, "noisy": 19.6, "finite_differences": 26.0, "orthogonal_dictionary": 22.0}
    points = tuple(
        Point(epoch, epoch, epoch, 2.0 * epoch, loss, 20.0, loss, 20.0, 1e-3, 0) for epoch, loss in enumerate(losses, 1)
    )
    outcome = Outcome(
        schema=SCHEMA,
        run=f"{variant},{seed}",
        settings={
            "variant": variant,
            "problem.seed": seed,
            **{f"problem.{key}": each for key, each in problem.items()},
        },
        config={"test": {"pairs": 100}, "backend": {"key": backend}},
        problem={"signal": "piecewise_constant", "noise": 0.1, "n": 64, **FROM_I, "seed": seed, **problem},
        status="finished" if status == "finished" else "failed",
        message="" if status == "finished" else "it broke",
        epochs=len(losses),
        seconds=2.0 * len(losses),
        psnr={name: psnr(mean) for name, mean in means.items()} if status == "finished" else {},
    )
    return Training(outcome, points, W if status == "finished" else None)


def verdicts(study: Study) -> dict[str, Verdict]:
    return {f"{claim.source}: {claim.published}": claim.verdict for claim in study.claims}


def of(study: Study, words: str) -> list[Verdict]:
    found = [verdict for claim, verdict in verdicts(study).items() if words in claim]
    assert found
    return found


def groups(*trainings: Training) -> tuple[Group, ...]:
    return grouped(list(trainings))


def test_seeds_are_one_group_and_variants_are_several() -> None:
    found = groups(made(seed=0), made(seed=1), made("Adam", seed=0))
    assert [(group.label, len(group.trainings)) for group in found] == [("printed", 2), ("Adam", 1)]


@pytest.mark.parametrize(
    ("gains", "journal", "icassp"),
    [
        # Published 0.4 and 0.8 dB over 20 signals, whose gains deviate by 1 dB: two standard errors are 0.45 dB.
        ((0.3, 0.4, 0.5, 0.4, 0.4), Verdict.REPRODUCED, Verdict.REPRODUCED),  # 0.4, two standard errors 0.06
        ((-0.5, 0.5, 0.1, 0.2, -0.1), Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED),  # 0.04, two errors 0.33
        ((0.19,), Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED),  # one seed: two errors over 100 signals are 0.2
        ((0.21,), Verdict.REPRODUCED, Verdict.NOT_REPRODUCED),  # 0.59 less than 0.8, and 0.49 is the room
        ((1.5,), Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED),  # far more than either says
    ],
)
def test_a_gain_counts_by_more_than_two_standard_errors_and_as_published(
    gains: tuple[float, ...], journal: Verdict, icassp: Verdict
) -> None:
    study = learn_1d.study(groups(*(made(seed=seed, gain=gain) for seed, gain in enumerate(gains))))
    assert of(study, "above the standard transform by 0.4 dB") == [journal]
    assert of(study, "above the standard transform by 0.8 dB") == [icassp]


def test_a_published_mean_counts_within_two_standard_errors_of_its_signals() -> None:
    """Two standard errors of 20 signals that deviate by 2 dB are 0.89 dB, of 15 signals 1.03 dB."""
    study = learn_1d.study(groups(made(gain=-0.6), made("other", gain=-9.0)))
    assert of(study, "learned W (BLORC): 26.2") == [Verdict.REPRODUCED] * 2  # 25.4, by the first variant
    assert of(study, "finite differences): 25.8") == [Verdict.REPRODUCED]
    assert of(study, "noisy input): 19.5") == [Verdict.REPRODUCED] * 2
    assert of(study, "Procrustes): 25.2") == [Verdict.NOT_REPRODUCED]  # 22
    none = learn_1d.study(groups(made(gain=-2.0)))
    assert of(none, "learned W (BLORC): 26.2") == [Verdict.NOT_REPRODUCED] * 2  # 24


def test_other_signals_and_failures_are_not_measured() -> None:
    for training in (made(noise=0.2), made(status="failed")):
        study = learn_1d.study(groups(training))
        assert set(of(study, "dB")) == {Verdict.NOT_MEASURED}
    assert "it broke" in str(learn_1d.study(groups(made(status="failed"))).claims)


def test_structure_is_claimed_of_the_signals_own_transform() -> None:
    shuffled = np.random.default_rng(0).permutation(cosines(64))
    smooth = learn_1d.study(groups(made(W=shuffled, signal="dct_sparse")))
    assert of(smooth, "the DCT") == [Verdict.REPRODUCED]
    assert of(learn_1d.study(groups(made(W=shuffled))), "first differences") == [Verdict.NOT_REPRODUCED]
    assert of(learn_1d.study(groups(made(W=differences(64)))), "first differences") == [Verdict.REPRODUCED]


def test_only_what_was_learned_from_the_identity_counts() -> None:
    """A training that starts at differences has their rows, and whatever gain it has is not that of learning from I."""
    elsewhere = made("from differences", gain=1.0, W=differences(64), transform="finite_difference", scale=0.2)
    alone = learn_1d.study(groups(elsewhere))
    assert of(alone, "first differences") == of(alone, "learned W (BLORC)")[:1] == [Verdict.NOT_MEASURED]
    assert set(of(alone, "above the standard transform")) == {Verdict.NOT_MEASURED}
    assert of(alone, "finite differences): 25.8") == [Verdict.REPRODUCED]  # the signals are the paper's
    both = learn_1d.study(groups(made(gain=-1.0, W=np.eye(64)), elsewhere))
    assert set(of(both, "above the standard transform")) == {Verdict.NOT_REPRODUCED}
    assert of(both, "first differences") == [Verdict.NOT_REPRODUCED]
    assert [row[1] for row in both.tables[0].rows] == ["I", "0.2 finite difference"]


def test_rows_count_as_close_less_two_standard_errors() -> None:
    """Three seeds of 1.00, 1.00 and 0.71 have a mean of 0.90, and two standard errors are 0.20."""
    D = differences(64)
    sure = learn_1d.study(groups(*(made(seed=seed, W=D) for seed in range(3))))
    assert of(sure, "first differences") == [Verdict.REPRODUCED]
    mixed = learn_1d.study(groups(*(made(seed=seed, W=W) for seed, W in enumerate((D, D, np.eye(64))))))
    (claim,) = (claim for claim in mixed.claims if "first differences" in claim.published)
    assert "0.90 ± 0.17" in claim.ours
    assert claim.verdict is Verdict.NOT_REPRODUCED


def test_seeds_that_are_missing_or_failed_are_said_beside_the_verdict() -> None:
    missing = (Missing("d", "printed", "4"), Missing("e", "other", "0"))
    (group,) = grouped([*(made(seed=seed) for seed in range(3)), made(seed=3, status="failed")], missing)
    assert group.seeds == "3 of 5"
    claims = [claim for claim in learn_1d.study([group]).claims if claim.verdict is not Verdict.NOT_MEASURED]
    assert claims
    for claim in claims:
        assert "printed has 3 of 5 seeds; fewer than 5 seeds" in claim.why or "W resemble" in claim.published


def test_noise_levels_are_judged_each_by_its_own_sentence() -> None:
    D, identity = differences(64), np.eye(64)
    study = learn_noise_levels.study(
        groups(
            made(noise=0.02, W=D, losses=(4.0, 1.9)),
            made(noise=0.1, W=identity, losses=(4.0, 3.0)),
            made(noise=0.5, W=identity, losses=(4.0, 3.0)),
            made(noise=0.7, W=D),
            made(noise=0.2, status="failed"),
        )
    )
    assert of(study, "noise 0.02:") == [Verdict.REPRODUCED, Verdict.REPRODUCED]
    assert of(study, "noise 0.1:") == [Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED]
    assert of(study, "noise 0.5:") == [Verdict.REPRODUCED, Verdict.REPRODUCED]
    assert of(study, "noise 0.7:") == [Verdict.NOT_REPRODUCED]
    short = learn_noise_levels.study(groups(made(noise=0.1, W=identity), made(noise=0.7, W=identity)))
    assert of(short, "noise 0.7:") == [Verdict.NOT_TESTABLE]
    assert of(study, "noise 0.2:") == of(study, "noise 0.05:") == [Verdict.NOT_MEASURED]


@pytest.mark.parametrize(("other", "verdict"), [(1.0005, Verdict.REPRODUCED), (1.01, Verdict.NOT_REPRODUCED)])
def test_the_closed_form_is_to_follow_the_certified_path(other: float, verdict: Verdict) -> None:
    study = learn_backends.study(groups(made("a"), made("b", backend="blorc", losses=(4.0, other))))
    assert of(study, "closed form") == [verdict]
    cost = {row[0]: row for row in study.tables[0].rows}
    assert cost["b"][1:4] == ("2000", "1.0", "4.00")  # 2 s an epoch; 1.05 of the lowest loss after the second
    assert of(learn_backends.study(groups(made("a"))), "closed form") == [Verdict.NOT_MEASURED]
