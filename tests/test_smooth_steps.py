"""The two solvers whose steps are smooth: what they converge to, and the gradients through them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from first_order_truth import build, clarabel, pairings, relative, slopes, upper_loss

from methods.equilibrium import Equilibrium
from methods.solvers.active_set import ActiveSet
from methods.solvers.bregman_pdhg import BregmanPdhg
from methods.solvers.p_norm_admm import PNormAdmm, smooth_shrinkage
from methods.unrolled_forward import UnrolledForward
from methods.unrolled_reverse import UnrolledReverse
from problems.contract import Problem


def gradient(method: UnrolledReverse | UnrolledForward, problem: Problem) -> torch.Tensor:
    prepared, theta = method.prepare(problem), problem.theta0()
    return method.hypergradient(prepared, theta, method.solve(prepared, theta))["W"]


@pytest.mark.parametrize("forward", ["identity", "blur"])
def test_the_entropy_leads_to_the_l1_solution(forward: str) -> None:
    problem = build(n=16, k=12, transform="gaussian", scale=0.3, forward=forward, pairs=2)
    solved = BregmanPdhg(tolerance=1e-11).solve(problem, problem.theta0())
    assert solved.converged
    assert float(solved.u.abs().max()) <= 1.0
    # Clarabel's x was within 2e-10 of the active sets'; the residual is magnified by up to 100, by the blur.
    torch.testing.assert_close(solved.x, clarabel(problem), rtol=0, atol=2e-9)


def test_the_entropy_s_steps_tend_to_soft_thresholding() -> None:
    """The review's figure 4.1a (readings.md R.8): A = I, K = I; the more steps, the nearer, and smooth at every T."""
    y = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    problem = replace(build(n=1, transform="identity"), y=y, x_true=y)
    soft, theta = y - y.clamp(-1, 1), problem.theta0()
    iteration = BregmanPdhg(ratio=1.0).bind(problem, theta)
    state, errors = iteration.start(), []
    for step in range(1, 641):
        state = iteration.step(state)
        if step in (10, 40, 160, 640):
            errors.append(float((iteration.primal(state) - soft).abs().max()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 27 * errors[3]  # about 1 / T at the kink |y| = 1


@pytest.mark.parametrize("transform", ["dct", "gaussian"])
def test_unrolled_entropy_steps_give_the_bilevel_gradient(transform: str) -> None:
    problem = build(n=16, transform=transform, scale=0.3, pairs=2, seed=1)
    truth = slopes(upper_loss(problem), problem.theta0(), h=2e-4)
    found = {"W": gradient(UnrolledReverse(solver=BregmanPdhg(), steps=1000), problem)}
    assert relative(pairings(found), truth) <= 1e-8  # the differences are good to 1e-10


@pytest.mark.parametrize("solver", [BregmanPdhg(), PNormAdmm(beta=0.1)], ids=["entropy", "p-norm"])
def test_forward_mode_is_reverse_mode(solver: BregmanPdhg | PNormAdmm) -> None:
    problem = build(n=8, k=6, transform="gaussian", scale=0.3, forward="blur", pairs=2)
    found = [gradient(method(solver=solver, steps=30), problem) for method in (UnrolledReverse, UnrolledForward)]
    assert relative(found[1], found[0]) <= 1e-12  # rounding, over 30 steps


def test_shrinkage_solves_its_equation_and_tends_to_the_soft_one() -> None:
    v, step = torch.linspace(-3, 3, 601, dtype=torch.float64), 0.5
    for beta in (1.0, 1e-2, 1e-4):
        z = smooth_shrinkage(v, step, beta)
        on = v.abs() > step
        assert torch.equal(z == 0, ~on)
        # The optimality condition, z + step (1 + 2 beta |z|^(1/2)) sign(z) = v, to rounding.
        residual = z + step * (1 + 2 * beta * z.abs().sqrt()) * v.sign() - v
        torch.testing.assert_close(residual[on], torch.zeros_like(v[on]), rtol=0, atol=1e-14)
        soft = v - v.clamp(-step, step)
        assert float((z - soft).abs().max()) <= 2 * step * beta * 2.5**0.5  # |z| is below 2.5
    at = torch.tensor([step - 1e-9, step + 1e-9], dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(smooth_shrinkage(at, step, 0.1).sum(), at)
    torch.testing.assert_close(derivative, torch.zeros_like(derivative), rtol=0, atol=1e-6)  # 2 r / (beta step)^2


def test_the_p_norm_s_bias_falls_with_beta() -> None:
    problem = build(n=16, transform="dct", scale=0.3, pairs=2, seed=1)
    theta = problem.theta0()
    x, truth = ActiveSet().solve(problem, theta).x, slopes(upper_loss(problem), theta, h=2e-4)
    far, gradients = [], []
    for beta in (1e-1, 1e-2, 1e-3):
        method = UnrolledReverse(solver=PNormAdmm(beta=beta), steps=1500)
        prepared = method.prepare(problem)
        solution = method.solve(prepared, theta)
        far.append(relative(solution.x, x))
        gradients.append(relative(pairings(method.hypergradient(prepared, theta, solution)), truth))
    assert far[0] > 5 * far[1] > 25 * far[2]
    assert gradients[0] > gradients[1] > gradients[2]


def test_neither_is_an_equilibrium() -> None:
    for key in ("bregman_pdhg", "p_norm_admm"):
        assert key in (Equilibrium(solver=key).refusal(build(n=8)) or "")
