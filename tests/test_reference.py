"""The reference against truths that share nothing with it: formulas, and 50-digit arithmetic."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

from bench._exact_lower_level import solve_exactly
from bench._lower_level import LowerLevel, NoReference
from bench.extended_precision import gradient_in_extended_precision
from bench.reference import MOST_ONE_SIDED, reference_for
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import Structure


def one_pair(W, y, x_true, **settings):
    W, y, x_true = (torch.as_tensor(value, dtype=torch.float64) for value in (W, y, x_true))
    template = AnalysisL1.build(Settings(n=W.shape[1], **settings))
    return replace(template, W=W, y=y[None], x_true=x_true[None])


def mp_gradient(problem):
    """dL/dW by differences of 1e-20 in 50-digit arithmetic, through the closed form at the pattern of W x*."""
    W = problem.W.numpy()
    k, n = W.shape
    signs = exact(problem).signs
    y, x_true = problem.y[0].tolist(), problem.x_true[0].tolist()
    with mpmath.workdps(50):
        on = [i for i in range(k) if signs[i] == 0]
        off = [i for i in range(k) if signs[i] != 0]

        def loss(W):
            q = mpmath.matrix(y) - sum((int(signs[i]) * W[i, :].T for i in off), mpmath.zeros(n, 1))
            if on:
                W0 = mpmath.matrix([[W[i, j] for j in range(n)] for i in on])
                q = q - W0.T * mpmath.lu_solve(W0 * W0.T, W0 * q)
            return sum((q[j] - x_true[j]) ** 2 for j in range(n)) / 2

        base, h = mpmath.matrix(W.tolist()), mpmath.mpf(10) ** -20
        gradient = np.empty((k, n))
        for i in range(k):
            for j in range(n):
                ahead, behind = base.copy(), base.copy()
                ahead[i, j] += h
                behind[i, j] -= h
                gradient[i, j] = float((loss(ahead) - loss(behind)) / (2 * h))
    return gradient


def exact(problem):
    return solve_exactly(LowerLevel.of(problem, problem.theta0()))


def roundings_of(problem):
    """What rounding p, a, x* and u to double precision can do to each entry of -(u p^T + a x*^T), thrice over."""
    solved = exact(problem)
    x, u, W = solved.x.astype(float), solved.u.astype(float), problem.W.numpy()
    g = x - problem.x_true[0].numpy()
    a = np.zeros(len(u))
    a[solved.on] = np.linalg.lstsq(W[solved.on].T, g, rcond=None)[0]
    p = g - W.T @ a
    return 3 * np.finfo(float).eps * (np.outer(abs(u), abs(p)) + np.outer(abs(a), abs(x))).ravel()


@pytest.mark.parametrize("w", [0.3, -0.3, 0.9, 1.2, -1.7])
def test_scalar_case_of_the_paper(w):
    """readings.md J.25: x* = y - |w| for |w| <= y, else 0; dL/dw = -sign(w) (x* - x_true), or 0."""
    y, x_true = 1.0, 0.25
    reference = reference_for(one_pair([[w]], [y], [x_true]), "coordinates", 0, None)
    truth = -np.sign(w) * (y - abs(w) - x_true) if abs(w) <= y else 0.0
    assert reference.verdict == "smooth"
    assert abs(reference.values[0] - truth) <= reference.bars[0] + 1e-15  # the claim, and the truth's own rounding
    assert reference.bars[0] <= 1e-9


@pytest.mark.parametrize(("w", "ahead", "behind"), [(1.0, 0.0, 0.25), (0.0, -0.75, 0.75), (-1.0, -0.25, 0.0)])
def test_kinks_of_the_scalar_case(w, ahead, behind):
    """J.25 lists w = y, -y and w = 0 as kinks of the loss; the slopes on either side are those of the formula there."""
    reference = reference_for(one_pair([[w]], [1.0], [0.25]), "coordinates", 0, None)
    assert (reference.verdict, reference.usable.any(), reference.kink.all()) == ("kink", False, True)
    assert abs(reference.ahead[0] - ahead) <= reference.bars[0] + 1e-15
    assert abs(reference.behind[0] - behind) <= reference.bars[0] + 1e-15
    assert reference.bars[0] <= 1e-11  # two extrapolations of forward differences in 19 digits


def test_fifty_digits_agree_with_differences_of_fifty_digits():
    problem = AnalysisL1.build(Settings(seed=5, transform="gaussian", k=9, scale=0.2, n=6))
    truth = mp_gradient(problem).ravel()
    found = gradient_in_extended_precision(problem)
    assert (np.abs(found.values - truth) <= roundings_of(problem)).all()
    assert found.residual <= 1e-40  # ten of the fifty digits are for the condition of the saddle matrix
    solved = exact(problem)
    assert found.margin_dual == pytest.approx(solved.margin_dual, abs=1e-15)
    assert found.margin_primal == pytest.approx(solved.margin_primal, abs=1e-15)


GENERIC = [
    {"transform": "dct", "scale": 0.3, "n": 6},
    {"transform": "finite_difference", "scale": 0.4, "n": 8},
    {"transform": "gaussian", "k": 4, "scale": 0.3, "n": 6},
    {"transform": "identity", "scale": 0.4, "n": 6},
    {"transform": "dct", "scale": 0.1, "n": 64, "signal": "patches"},
    {"transform": "finite_difference", "scale": 0.1, "n": 64},
    {"transform": "gaussian", "k": 48, "scale": 0.4, "n": 64},
    {"transform": "gaussian", "k": 128, "scale": 0.1, "n": 64, "signal": "gaussian"},
    {"transform": "dct", "scale": 0.3, "n": 16, "fidelity": "full"},
    {"transform": "dct", "scale": 0.2, "n": 16, "forward": "blur"},
    {"transform": "gaussian", "k": 20, "scale": 0.2, "n": 16, "forward": "gaussian", "fidelity": "full"},
]


@pytest.mark.parametrize("settings", GENERIC, ids=lambda settings: " ".join(map(str, settings.values())))
def test_agrees_with_fifty_digits_inside_its_bar(settings):
    problem = AnalysisL1.build(Settings(seed=5, **settings))
    truth = gradient_in_extended_precision(problem).values
    reference = reference_for(problem, "coordinates", 0, None) if problem.W.numel() < 1000 else None
    along = reference_for(problem, 16, 0, None)
    size = np.linalg.norm(truth)
    if reference is not None:
        assert reference.verdict == "smooth"
        # 1e-16: the 50 digits end in a gradient in double precision, too
        assert (np.abs(reference.values - truth) <= reference.bars + 1e-16 * size).all()
        assert np.linalg.norm(reference.bars) <= 1e-13 * size
    assert along.verdict == "smooth"
    assert (np.abs(along.values - along.directions @ truth) <= along.bars + 1e-16 * size).all()
    assert np.linalg.norm(along.bars) <= 1e-12 * np.linalg.norm(along.values)


def test_every_coordinate_at_full_size_inside_its_bar():
    problem = AnalysisL1.build(Settings(n=64, transform="finite_difference", scale=0.1))
    truth = gradient_in_extended_precision(problem).values
    reference = reference_for(problem, "coordinates", 0, None)
    assert (np.abs(reference.values - truth) <= reference.bars + 1e-16 * np.linalg.norm(truth)).all()
    assert np.linalg.norm(reference.bars) <= 1e-13 * np.linalg.norm(truth)


def test_a_pair_near_a_kink_does_not_spoil_the_stacked_bar():
    """100 pairs with W = I and n = 36 (the problem `paper` of table4.toml); one has a margin of 1e-5."""
    problem = AnalysisL1.build(Settings(n=36, pairs=100))
    references = [reference_for(problem.subset(slice(i, i + 1)), 16, 0, None) for i in range(100)]
    assert min(reference.margin_dual for reference in references) < 2e-5
    values, bars = (np.concatenate([getattr(each, name) for each in references]) for name in ("values", "bars"))
    assert np.linalg.norm(bars) <= 1e-13 * np.linalg.norm(values)  # it was 6e-9 by differences of L itself


@pytest.mark.parametrize("forward", ["blur", "gaussian"])
@pytest.mark.parametrize("fidelity", ["half", "full"])
def test_forward_matrix_against_the_conic_solver_alone(forward, fidelity):
    """With A != I: differences of the loss at Clarabel's own solutions, no polish. Their noise allows 1e-4."""
    import cvxpy as cp

    problem = AnalysisL1.build(
        Settings(n=8, transform="dct", scale=0.2, seed=2, forward=forward, fidelity=fidelity, noise=0.05)
    )
    reference = reference_for(problem, "coordinates", 0, None)
    program, parameters, variables = problem.conic()
    parameters["y"].value = problem.y[0].numpy()

    def loss(W):
        parameters["W"].value = W
        program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        return 0.5 * ((variables["x"].value - problem.x_true[0].numpy()) ** 2).sum()

    rng = np.random.default_rng(0)
    for _ in range(3):
        D = rng.normal(size=(8, 8))
        h = 1e-5
        slope = (loss(problem.W.numpy() + h * D) - loss(problem.W.numpy() - h * D)) / (2 * h)
        assert slope == pytest.approx(float(reference.values @ D.ravel()), rel=1e-4, abs=1e-6)


def test_rank_deficient_cosupport_is_said():
    """A repeated row: no derivative for a general change of W (readings.md X.9), and the defect counted."""
    W = np.concatenate([0.4 * np.eye(4), 0.4 * np.eye(4)[:1]])
    reference = reference_for(one_pair(W, [0.2, 1.0, -0.1, 0.9], [0.5, 0.5, 0.5, 0.5]), "coordinates", 0, None)
    assert (reference.verdict, reference.cosupport_rank_defect, reference.margin_dual) == ("kink", 1, None)


def test_a_kink_of_many_coordinates_is_given_directions():
    """Where every step has a pattern of its own, thousands of coordinates would take an hour."""
    n = 23
    assert n * (n + 1) > MOST_ONE_SIDED
    W = np.concatenate([0.4 * np.eye(n), 0.4 * np.eye(n)[:1]])
    reference = reference_for(one_pair(W, np.linspace(0.2, 2, n), np.ones(n)), "coordinates", 0, None)
    assert (reference.kind, reference.verdict, reference.directions.shape) == ("directions(16)", "kink", (16, W.size))


@pytest.mark.parametrize("forward", ["identity", "blur"])
def test_a_family_of_another_structure_takes_a_pattern_for_every_step(forward):
    """The same problem without the flag that says theta is W itself, as a family with filters would state it."""
    problem = AnalysisL1.build(Settings(n=6, transform="dct", scale=0.2, forward=forward))
    truth = gradient_in_extended_precision(problem).values
    plain = replace(problem, structure=problem.structure & ~(Structure.TRANSFORM | Structure.IDENTITY_FORWARD))
    reference = reference_for(plain, 4, 0, None)
    assert reference.verdict == "smooth"
    truth = reference.directions @ truth
    assert (np.abs(reference.values - truth) <= reference.bars).all()
    assert np.linalg.norm(reference.bars) <= 1e-7 * np.linalg.norm(truth)  # theta + h d is rounded to 16 digits


def test_fifty_digits_refuse_a_kink():
    with pytest.raises(NoReference, match="touches both sides"):
        gradient_in_extended_precision(one_pair([[1.0]], [1.0], [0.25]))


def test_margins_are_those_of_soft_thresholding():
    """W = I/2: Kx* = soft(y, 1/2)/2, u = y / (1/2) on the cosupport."""
    reference = reference_for(one_pair(np.eye(3) / 2, [0.3, 2.5, -1.5], [0.1, 0.2, 0.3]), 2, 0, None)
    assert reference.margin_dual == pytest.approx(1 - 0.6, abs=1e-12)
    assert reference.margin_primal == pytest.approx(1.0 / 2.0, abs=1e-12)  # |z| = 1/2 and 1, relative to the larger


def test_cache_returns_the_same_numbers(tmp_path):
    problem = AnalysisL1.build(Settings(n=8, transform="dct", scale=0.2))
    first = reference_for(problem, 3, 7, tmp_path)
    again = reference_for(problem, 3, 7, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    for name in ("values", "bars", "usable", "kink", "ahead", "behind", "directions"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert (again.kind, again.verdict, again.margin_dual) == (first.kind, first.verdict, first.margin_dual)
    other = reference_for(problem, 3, 8, tmp_path)
    assert not np.array_equal(other.values, first.values)
