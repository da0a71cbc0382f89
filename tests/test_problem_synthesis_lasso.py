"""The dictionary's lasso: its contract, its codes by four solvers, its exact gradient; against Clarabel and numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis_truth import build, codes, gradient, matrices, relative, solve
from toy_family import draws

from methods.active_set_adjoint import ActiveSetAdjoint
from methods.cvxpy_layer import CvxpyLayer
from methods.equilibrium import Equilibrium
from methods.solvers._proximal import step_size
from methods.solvers.active_set import ActiveSet
from methods.solvers.contract import Point, Solver
from methods.solvers.fista import Fista
from methods.solvers.ista import Ista
from methods.solvers.support_polish import SupportPolish
from methods.unrolled_forward import UnrolledForward
from methods.unrolled_reverse import UnrolledReverse
from problems import operators
from problems.analysis_l1 import AnalysisL1
from problems.contract import Structure, input_sha256, kkt_residual, scales, theta_size
from problems.synthesis_lasso import Settings, SynthesisLasso

LOSSES = ["supervised", "lasso", "least_squares"]
COMPLETE = {"m": 12, "p": 8, "pairs": 3, "noise": 0.1}
WIDE = {"m": 12, "p": 20, "pairs": 3, "noise": 0.1}
"""More atoms than samples, as in the paper."""
FIRST_ORDER = [Ista(tolerance=1e-13), Ista(step=1.8, tolerance=1e-13), Fista(tolerance=1e-13)]
SOLVERS = [*FIRST_ORDER, SupportPolish()]


def name_of(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Solver) else str(value)


@st.composite
def instances(draw: Any) -> SynthesisLasso:
    p = draw(st.integers(1, 12))
    return build(
        m=draw(st.integers(2, 12)),
        p=p,
        nonzeros=draw(st.integers(1, p)),
        weight=draw(st.floats(0.05, 2.0)),
        loss=draw(st.sampled_from(LOSSES)),
        forward=draw(st.sampled_from(get_args(operators.Forward))),
        noise=draw(st.sampled_from([0.0, 0.1])),
        pairs=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**31)),
    )


# --- the contract ---------------------------------------------------------------------------------------------------


@given(problem=instances())
@settings(max_examples=12)
def test_the_lower_level_in_numpy(problem: SynthesisLasso) -> None:
    x, p, u, _ = draws(problem)
    theta, (A, D) = problem.theta0(), matrices(problem)
    B, weight = A @ D, problem.settings.weight
    F = (x.numpy() @ B.T - problem.y.numpy()) @ B
    # Sums of some tens of products of numbers of order ten, 1e-16 each.
    np.testing.assert_allclose(problem.F(x, theta).numpy(), F, rtol=0, atol=1e-11)
    np.testing.assert_allclose(problem.K(x, theta).numpy(), weight * x.numpy(), rtol=1e-15)
    np.testing.assert_allclose(problem.M(u, theta).numpy(), weight * u.numpy(), rtol=1e-15)
    maps = problem.linearise(x, theta)
    np.testing.assert_allclose(maps.F_x.dense()[0].numpy(), B.T @ B, rtol=0, atol=1e-11)
    np.testing.assert_allclose(maps.F_x.matvec(p).numpy(), p.numpy() @ B.T @ B, rtol=0, atol=1e-11)


@given(problem=instances())
@settings(max_examples=12)
def test_pullback_is_that_of_the_formula(problem: SynthesisLasso) -> None:
    """<p, B^T (B z - y)> over D with B = A D: A^T ((B z - y) p^T + (B p) z^T); K and M do not depend on D."""
    x, p, u, a = draws(problem)
    A, D = matrices(problem)
    expected = np.zeros(D.shape)
    for z, q, y in zip(x.numpy(), p.numpy(), problem.y.numpy(), strict=True):
        expected += A.T @ (np.outer(A @ D @ z - y, q) + np.outer(A @ D @ q, z))
    pulled = problem.pullback(p, a, x, u, problem.theta0())["D"]
    np.testing.assert_allclose(pulled.numpy(), expected, rtol=0, atol=1e-11)  # as above


@given(problem=instances())
@settings(max_examples=12)
def test_loss_and_its_gradient(problem: SynthesisLasso) -> None:
    """Both parts against central differences of the loss, whose value is written out in numpy."""
    x, p, _, _ = draws(problem)
    theta, (A, D) = problem.theta0(), matrices(problem)
    decoded = x.numpy() @ D.T
    supervised = problem.settings.loss == "supervised"
    misfit = decoded - problem.x_true.numpy() if supervised else decoded @ A.T - problem.y.numpy()
    value = 0.5 * (misfit**2).sum()
    assert float(problem.squared_loss(x, theta)) == pytest.approx(value, rel=1e-12)
    if problem.settings.loss == "lasso":
        value += problem.settings.weight * np.abs(x.numpy()).sum()
    assert float(problem.loss(x, theta)) == pytest.approx(value, rel=1e-12)

    g_x, g_theta = problem.loss_gradient(x, theta)
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=D.shape))
    h = 1e-2 * float(x.abs().min()) / float(p.abs().max())  # no entry of x changes its sign
    slope = float(problem.loss(x + h * p, theta) - problem.loss(x - h * p, theta)) / (2 * h)
    # Quadratic in x and in D: no truncation; rounding 1e-16 of the loss over h.
    assert slope == pytest.approx(float((g_x * p).sum()), rel=1e-9, abs=1e-13 * value / h)
    slope = 0.5 * float(problem.loss(x, {"D": problem.D + direction}) - problem.loss(x, {"D": problem.D - direction}))
    assert slope == pytest.approx(float((g_theta["D"] * direction).sum()), rel=1e-9, abs=1e-10)


@given(problem=instances())
@settings(max_examples=12)
def test_unique_is_claimed_where_the_columns_are_independent(problem: SynthesisLasso) -> None:
    A, D = matrices(problem)
    independent = np.linalg.svd(A @ D, compute_uv=False)
    full = len(independent) == D.shape[1] and independent.min() > 1e-10
    assert (Structure.UNIQUE in problem.structure) == full


def test_a_pair_depends_on_the_seed_and_its_number_alone() -> None:
    few, many = build(pairs=2, noise=0.1, seed=5), build(pairs=4, noise=0.1, seed=5)
    assert torch.equal(few.y, many.y[:2])
    assert torch.equal(few.D, many.D)
    assert torch.equal(many.subset(slice(1, 3)).y, many.y[1:3])
    assert not torch.equal(few.D, build(seed=6).D)


def test_what_the_paper_says_of_its_instances() -> None:
    """Settings P.5 and P.6: sizes, five nonzeros in (1, 2), unit columns before tau B, whose entries are N(0, 1/m)."""
    paper = {"m": 50, "p": 100, "nonzeros": 5, "pairs": 4}
    problem, exact = build(**paper, tau=0.14), build(**paper, tau=0.0)
    assert (problem.y.shape, problem.D.shape, theta_size(problem)) == ((4, 50), (50, 100), 5000)
    assert torch.linalg.norm(exact.D, dim=0).numpy() == pytest.approx(1.0, abs=1e-14)
    assert float((problem.D - exact.D).std()) == pytest.approx(0.14 / np.sqrt(50), rel=0.05)  # 5000 draws: 1 %
    # With no noise and D = D_true the codes are read off the signals, up to lambda / mu for the smallest mu around 0.4.
    z = SupportPolish().solve(build(**paper, tau=0.0, weight=1e-6), exact.theta0()).x
    largest = z.abs().sort(dim=1, descending=True).values
    assert float(largest[:, 4].min()) > 0.999
    assert float(largest[:, 0].max()) < 2.001
    assert float(largest[:, 5].max()) < 1e-4


def test_the_hash_tells_losses_and_weights_apart() -> None:
    made = [build(), build(loss="lasso"), build(weight=0.3), build(seed=1), build(forward="blur")]
    assert len({input_sha256(problem) for problem in made}) == len(made)


def test_codes_with_more_entries_than_atoms_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="nonzeros = 9 do not fit into codes of p = 8"):
        Settings(p=8, nonzeros=9)


# --- codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instance", [COMPLETE, WIDE, {**COMPLETE, "forward": "blur"}, {**WIDE, "forward": "mask"}],
                         ids=["complete", "wide", "blur", "wide-mask"])  # fmt: skip
@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_codes_are_those_of_an_interior_point_method(solver: Solver, instance: dict[str, Any]) -> None:
    problem = build(**instance)
    solved = solver.solve(problem, problem.theta0())
    assert solved.converged
    truth = codes(problem)
    # The residual is 1e-13 of max |D^T y|, some 5; the smallest eigenvalue of F_x on a support is above 1e-3 here.
    torch.testing.assert_close(solved.x, truth, rtol=0, atol=1e-9)
    assert torch.equal(solved.x != 0, truth != 0)


def test_the_exact_active_set_serves_where_the_columns_are_independent() -> None:
    problem = build(**COMPLETE)
    solved = ActiveSet().solve(problem, problem.theta0())
    assert solved.converged
    torch.testing.assert_close(solved.x, codes(problem), rtol=0, atol=1e-13)  # rounding, condition number 100
    refusal = ActiveSet().refusal(build(**WIDE))
    assert refusal is not None
    assert "unique" in refusal


@pytest.mark.parametrize("seed", range(6))
def test_support_polish_proves_its_codes(seed: int) -> None:
    """The KKT conditions recomputed in numpy, on instances with up to four times as many atoms as samples."""
    problem = build(m=12, p=18 + 6 * seed, nonzeros=4, noise=0.2, weight=0.05, pairs=4, seed=seed)
    solved = SupportPolish().solve(problem, problem.theta0())
    assert solved.converged
    D, z, u, y = problem.D.numpy(), solved.x.numpy(), solved.u.numpy(), problem.y.numpy()
    stationarity = (z @ D.T - y) @ D + 0.05 * u
    assert np.abs(stationarity).max() <= 1e-12 * np.abs(y @ D).max()
    assert np.abs(u).max() <= 1 + 1e-12
    assert np.array_equal(np.sign(z[z != 0]), u[z != 0])
    assert (z != 0).any()


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_orthonormal_atoms_are_soft_thresholding(solver: Solver) -> None:
    """z* = soft(D^T y, lambda) for D^T D = I, in one step of ISTA with alpha = 1."""
    problem = build(m=12, p=8, weight=0.4, noise=0.3, pairs=3)
    D = torch.linalg.qr(problem.D).Q
    b = problem.y @ D
    closed = b.sign() * (b.abs() - 0.4).clamp(min=0)
    solved = solver.solve(problem, {"D": D})
    torch.testing.assert_close(solved.x, closed, rtol=0, atol=1e-12)  # a residual of 1e-13 times max |b| of 3


def test_fista_is_the_recursion_with_restarts() -> None:
    """Beck and Teboulle's momentum, dropped at every uphill step, written out for one sample."""
    problem = build(m=12, p=30, nonzeros=4, noise=0.2, weight=0.05, pairs=1, seed=1)
    theta, D, y = problem.theta0(), problem.D.numpy(), problem.y[0].numpy()
    alpha = step_size(problem, theta)
    iteration = Fista().bind(problem, theta)
    state = iteration.start()
    x, v, t, restarts = np.zeros(30), np.zeros(30), 1.0, 0
    for _ in range(300):
        w = v - alpha * D.T @ (D @ v - y)
        ahead = np.sign(w) * np.maximum(np.abs(w) - 0.05 * alpha, 0)
        if (v - ahead) @ (ahead - x) > 0:
            x, v, t, restarts = ahead, ahead, 1.0, restarts + 1
        else:
            after = (1 + np.sqrt(1 + 4 * t * t)) / 2
            x, v, t = ahead, ahead + (t - 1) / after * (ahead - x), after
        state = iteration.step(state)
        np.testing.assert_allclose(iteration.primal(state)[0].numpy(), x, rtol=0, atol=1e-11)  # rounding, 300 steps
    assert restarts >= 2


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_large_weights_and_zero_data_give_the_zero_code(solver: Solver) -> None:
    problem = build(weight=100.0)
    solved = solver.solve(problem, problem.theta0())
    assert solved.converged
    assert float(solved.x.abs().max()) == 0.0
    silent = replace(build(), y=torch.zeros_like(problem.y))
    assert float(solver.solve(silent, silent.theta0()).x.abs().max()) == 0.0


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_a_warm_start_takes_no_step(solver: Solver) -> None:
    problem = build(**WIDE)
    theta = problem.theta0()
    solved = solver.solve(problem, theta)
    assert solved.iterations > 0
    again = solver.solve(problem, theta, Point(solved.x, solved.u))
    assert again.iterations == 0
    torch.testing.assert_close(again.x, solved.x, rtol=0, atol=1e-13)


def test_steps_run_out_without_a_claim() -> None:
    problem = build(m=12, p=48, nonzeros=4, noise=0.2, weight=0.001)
    theta = problem.theta0()
    for solver in (Ista(max_steps=3), Fista(max_steps=3), SupportPolish(max_steps=3)):
        solved = solver.solve(problem, theta)
        assert not solved.converged
        assert solved.iterations == 3
        residual = kkt_residual(problem, solved.x, solved.u, theta, scales(problem, theta))
        assert solved.residual == pytest.approx(float(residual.max()), rel=1e-12)
        assert solved.residual > 1e-6


def test_duplicated_atoms_have_many_codes_of_which_one_is_returned() -> None:
    problem = build(m=12, p=8, pairs=2)
    D = torch.cat([problem.D, problem.D], 1)
    doubled = replace(problem, D=D)
    x = Ista(tolerance=1e-12).solve(doubled, {"D": D}).x
    single = SupportPolish().solve(problem, problem.theta0()).x
    torch.testing.assert_close(x[:, :8] + x[:, 8:], single, rtol=0, atol=1e-10)  # the sum alone is determined


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_single_precision(solver: Solver) -> None:
    problem = build(**WIDE)
    single = problem.to("cpu", torch.float32)
    solved = solver.solve(single, single.theta0())
    assert solved.converged
    assert solved.x.dtype == torch.float32
    # 100 epsilons of residual, 1.2e-5, over the smallest eigenvalue on a support, above 0.05 here.
    torch.testing.assert_close(solved.x.double(), codes(problem), rtol=0, atol=2e-3)


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_an_analysis_transform_is_refused_with_the_remedy(solver: Solver) -> None:
    refusal = solver.refusal(AnalysisL1.build(AnalysisL1.settings_type(n=8)))
    assert refusal is not None
    assert "synthesis_lasso" in refusal


# --- gradients ------------------------------------------------------------------------------------------------------


def hypergradient(method: Any, problem: SynthesisLasso) -> torch.Tensor:
    assert method.refusal(problem) is None
    prepared, theta = method.prepare(problem), problem.theta0()
    return method.hypergradient(prepared, theta, method.solve(prepared, theta))["D"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("instance", [COMPLETE, WIDE], ids=["complete", "wide"])
def test_every_exact_route_is_the_gradient_of_the_jacobian(loss: str, instance: dict[str, Any]) -> None:
    """The polish's own factor, the generic saddle after ISTA, and three ways through iterations."""
    problem = build(**instance, loss=loss)
    truth = gradient(problem)
    exact = [ActiveSetAdjoint(solver=solver) for solver in (SupportPolish(), Ista(tolerance=1e-14))]
    for method in exact:
        assert relative(hypergradient(method, problem), truth) <= 1e-11  # rounding, condition numbers of some 100
    slow = [UnrolledReverse(solver=Ista(), steps=1500), UnrolledReverse(solver=Fista(), steps=800),
            Equilibrium(solver=Ista(tolerance=1e-13))]  # fmt: skip
    for method in slow:
        # The iterates have converged to 1e-13 or so, and their derivatives a factor T less.
        assert relative(hypergradient(method, problem), truth) <= 1e-9, method


@pytest.mark.parametrize("loss", LOSSES)
def test_exact_gradient_through_a_forward_matrix(loss: str) -> None:
    """Differences of L at proved codes, extrapolated, along random directions."""
    problem = build(m=12, p=20, noise=0.1, pairs=3, forward="blur", loss=loss)
    theta, polish = problem.theta0(), SupportPolish()
    G = hypergradient(ActiveSetAdjoint(solver=polish), problem)

    def L(D: torch.Tensor) -> tuple[float, torch.Tensor]:
        x = polish.solve(problem, {"D": D}).x
        return float(problem.loss(x, {"D": D})), x.sign()

    rng, h = np.random.default_rng(0), 1e-3
    for _ in range(4):
        d = torch.from_numpy(rng.normal(size=problem.D.shape))
        d /= d.norm()
        values = {t: L(theta["D"] + t * h * d) for t in (1.0, 0.5, -0.5, -1.0)}
        assert all(torch.equal(signs, values[1.0][1]) for _, signs in values.values()), "a kink lies within h"
        slope = (8 * (values[0.5][0] - values[-0.5][0]) - (values[1.0][0] - values[-1.0][0])) / (6 * h)
        # h^4 = 1e-12 times fifth derivatives, and rounding: 1e-15 over h.
        assert slope == pytest.approx(float((G * d).sum()), rel=1e-8, abs=1e-10)


def test_the_lasso_loss_has_the_direct_part_alone() -> None:
    """PUDLE's g_hat (5): where the loss is what the lower level minimises, its code need not be differentiated."""
    problem = build(**WIDE, loss="lasso")
    z, D = codes(problem), problem.D
    analytic = (z @ D.T - problem.y).T @ z
    assert relative(hypergradient(ActiveSetAdjoint(solver=SupportPolish()), problem), analytic) <= 1e-12  # rounding


def test_forward_mode_is_reverse_mode() -> None:
    problem = build(m=6, p=5, pairs=2, nonzeros=2, noise=0.1)
    for solver in (Ista(), Fista()):
        modes = [mode(solver=solver, steps=30) for mode in (UnrolledReverse, UnrolledForward)]
        reverse, forward = (hypergradient(method, problem) for method in modes)
        assert relative(forward, reverse) <= 1e-12  # rounding, over 30 steps


def test_the_stated_cone_program() -> None:
    """Its solution, its certificate's sign, and the gradient that a differentiable layer makes of it."""
    problem = build(m=8, p=5, nonzeros=2, noise=0.1, forward="blur")
    cone, parameters, variables = problem.conic()
    parameters["D"].value = problem.D.numpy()
    for sample in range(problem.batch):
        parameters["y"].value = problem.y[sample].numpy()
        cone.solve(solver="CLARABEL", tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        code = solve(problem, sample)
        assert variables["x"].value == pytest.approx(code.z, abs=1e-6)  # an interior point, within 1e-13 of objective
        assert variables["u"].value == pytest.approx(code.u, abs=1e-5)
    G = hypergradient(ActiveSetAdjoint(solver=SupportPolish()), problem)
    assert relative(hypergradient(CvxpyLayer(mode="dense", tolerance=1e-12), problem), G) <= 1e-8
