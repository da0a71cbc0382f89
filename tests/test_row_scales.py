"""Rows of W of very different size: the exact solver against 450 digits, and where numbers overflow."""

import numpy as np
import pytest
import torch
from exact_truth import NotKnown, truth
from small_instances import instance

from methods.active_set_adjoint import ActiveSetAdjoint
from methods.solvers import _active_set_compiled as compiled
from methods.solvers.active_set import ActiveSet

RNG = np.random.default_rng(5)
W = torch.from_numpy(RNG.normal(size=(6, 8)) / 4)
Y = torch.from_numpy(RNG.normal(size=(3, 8)))
SEEDS = [seed for seed in range(110) if seed % 7 in (0, 1)]
"""Of the analysis family with A = I."""


@pytest.mark.parametrize("seed", SEEDS)
def test_what_converged_is_right(seed):
    """x always; u, pattern and gradient where the derivative exists; and where it does not, a margin or a rank says so.

    Bounds: rounding, times conditions of at most 1e4; u where the solver finds rows dependent to rounding is one of
    many.
    """
    _, problem = instance(seed)
    try:
        known = truth(problem)
    except NotKnown:
        pytest.skip("several x*, or none that can be proved")
    method = ActiveSetAdjoint(solver=ActiveSet())
    theta, prepared = problem.theta0(), method.prepare(problem)
    solved, solution = ActiveSet().solve(problem, theta), method.solve(prepared, theta)
    found = solved.certificate
    assert solved.converged
    x, u, y = known.point.x.astype(float), known.point.u.astype(float), problem.y.numpy()[0]
    size = max(np.abs(y).max(), 1e-300)
    assert np.abs(solved.x.numpy()[0] - x).max() <= 1e-11 * size
    if not known.point.smooth:
        said = found.margin_primal[0] <= 1e-9 or not found.margin_dual[0] > 1e-9 or found.rank_defect[0] > 0
        assert said
    elif not found.rank_defect[0]:
        assert ((found.pattern[0] == 0).numpy() == known.point.on).all()
        assert np.abs(solved.u.numpy()[0] - u).max(initial=0.0) <= 1e-9
        gradient = method.hypergradient(prepared, theta, solution)["W"].numpy().ravel()
        exact = known.ahead.astype(float)
        # what rounding of x leaves of a x^T, where the gradient itself vanishes
        least = min([1.0, *np.linalg.norm(problem.W.numpy()[known.point.on], axis=1)])
        rounding = 1e-15 * np.abs(x - problem.x_true.numpy()[0]).max() * (1.0 + size / least)
        assert np.abs(gradient - exact).max() <= 1e-9 * np.abs(exact).max() + rounding


@pytest.mark.parametrize("row", [0, 5])
@pytest.mark.parametrize("factor", [1e13, -1e13, 1e-13, 1e150, 1e-150])
def test_one_row_of_another_size_is_solved_as_its_limit(row, factor):
    """A huge row is an equation, W_i x = 0, whose u is next to nothing; a tiny one is not there."""
    scaled = W.clone()
    scaled[row] *= factor
    solved = compiled.solve(scaled, Y, None, 1e-12)
    assert solved.converged
    if abs(factor) > 1.0:
        w = W[row] / W[row].norm()
        assert (solved.x @ w).abs().max() <= 1e-14
        inside = torch.eye(8).double() - torch.outer(w, w)
        others = torch.cat([W[:row], W[row + 1 :]]) @ inside
        limit = compiled.solve(others, Y @ inside, None, 1e-12).x
    else:
        limit = compiled.solve(torch.cat([W[:row], W[row + 1 :]]), Y, None, 1e-12).x
    assert (solved.x - limit).abs().max() <= 1e-12


def test_powers_of_two_change_no_bit_of_x():
    for scale in (1.0, 2.0**-300, 2.0**300):
        first, second = compiled.solve(W * scale, Y * scale, None, 1e-12), compiled.solve(W, Y, None, 1e-12)
        assert torch.equal(first.x, second.x * scale)
        assert torch.equal(first.u, second.u)


@pytest.mark.parametrize("factor", [1e300, 5e307, 1e-300, 1e-310, 5e-324, 0.0])
def test_sizes_at_the_ends_of_the_doubles_are_solved_or_said(factor):
    extreme = W.clone()
    extreme[2] = (W[2] * factor) if factor != 5e-324 else torch.full((8,), 5e-324).double()
    solved = compiled.solve(extreme, Y, None, 1e-12)
    others = torch.cat([W[:2], W[3:]])
    assert solved.converged
    assert (solved.x - Y + solved.u @ extreme).abs().max() <= 1e-14
    if factor < 1.0:
        assert (solved.x - compiled.solve(others, Y, None, 1e-12).x).abs().max() <= 1e-14
    p, _ = solved.factor.adjoint(Y)
    assert p.isfinite().all()


def test_what_overflows_is_not_called_solved():
    """u would be 1e-600: no double is, and no residual can be computed from 0."""
    solved = compiled.solve(1e300 * W, 1e-300 * Y, None, 1e-12)
    assert not solved.converged
