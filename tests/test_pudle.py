"""PUDLE's three gradients against hand-written recursions, against their limits, and their rates against its theorems.

The fast tests hold each gradient to what it is at a finite T; the slow one fits how its error falls with T.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from numpy.typing import NDArray
from synthesis_truth import build, gradient, jacobian, matrices, relative, solve

from methods._pudle import PudleGradient
from methods.active_set_adjoint import ActiveSetAdjoint
from methods.contract import Solution
from methods.pudle_ae_lasso import PudleAeLasso
from methods.pudle_ae_ls import PudleAeLs
from methods.pudle_dec import PudleDec
from methods.solvers._proximal import step_size
from methods.solvers.ista import Ista
from methods.solvers.support_polish import SupportPolish
from methods.unrolled_reverse import UnrolledReverse
from problems.analysis_l1 import AnalysisL1
from problems.synthesis_lasso import SynthesisLasso

ALL: list[type[PudleGradient]] = [PudleDec, PudleAeLasso, PudleAeLs]
SMALL = {"m": 6, "p": 9, "nonzeros": 2, "noise": 0.1, "pairs": 2, "seed": 3}
VARIANTS: list[dict[str, Any]] = [{}, {"decay": 0.9}, {"hard_threshold": 0.05}]
ALPHA = 0.1

Array = NDArray[np.float64]


def at(method: PudleGradient, problem: SynthesisLasso, warm: Solution | None = None) -> tuple[Array, Array]:
    """(z_T, gradient)."""
    assert method.refusal(problem) is None
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta, warm)
    assert solution.iterations == method.steps
    return solution.x.numpy(), method.hypergradient(prepared, theta, solution)["D"].numpy()


def encode(problem: SynthesisLasso, D: Array, steps: int, variant: dict[str, Any], z: Array | None = None) -> Array:
    """Algorithm 2, its threshold alpha lambda beta^t or hard; sample by sample, with loops where code has maps."""
    A, weight = matrices(problem)[0], problem.settings.weight
    codes = np.zeros((problem.batch, D.shape[1])) if z is None else z.copy()
    for t in range(steps):
        for b, y in enumerate(problem.y.numpy()):
            v = codes[b] - ALPHA * D.T @ A.T @ (A @ D @ codes[b] - y)
            threshold = ALPHA * weight * variant.get("decay", 1.0) ** t
            if "hard_threshold" in variant:
                codes[b] = np.where(np.abs(v) >= variant["hard_threshold"], v, 0.0)
            else:
                codes[b] = np.sign(v) * np.maximum(np.abs(v) - threshold, 0.0)
    return codes


def value(problem: SynthesisLasso, D: Array, z: Array, with_penalty: bool) -> float:
    A = matrices(problem)[0]
    supervised = problem.settings.loss == "supervised"
    misfit = z @ D.T - problem.x_true.numpy() if supervised else z @ D.T @ A.T - problem.y.numpy()
    return 0.5 * float((misfit**2).sum()) + with_penalty * problem.settings.weight * float(np.abs(z).sum())


def differences(f: Any, D: Array, h: float = 1e-4) -> Array:
    """Central, extrapolated: an error of h^4 and of rounding over h, both some 1e-11."""
    gradient = np.empty_like(D)
    for index in np.ndindex(*D.shape):
        e = np.zeros_like(D)
        e[index] = h
        wide, narrow = f(D + e) - f(D - e), f(D + e / 2) - f(D - e / 2)
        gradient[index] = (8 * narrow - wide) / (6 * h)
    return gradient


@pytest.mark.parametrize("variant", VARIANTS, ids=["soft", "decay", "hard"])
@pytest.mark.parametrize(("forward", "loss"), [("identity", "lasso"), ("blur", "lasso"), ("blur", "supervised")])
def test_each_is_the_derivative_that_it_is_named_after(variant: dict[str, Any], forward: str, loss: str) -> None:
    """(8) after 7 steps: with the code fixed, with the lasso through the code, with the squared loss through it."""
    problem = build(**SMALL, forward=forward, loss=loss)
    D = problem.D.numpy()
    z = encode(problem, D, 7, variant)
    truths = {
        PudleDec: lambda d: value(problem, d, z, False),
        PudleAeLs: lambda d: value(problem, d, encode(problem, d, 7, variant), False),
        PudleAeLasso: lambda d: value(problem, d, encode(problem, d, 7, variant), True),
    }
    for method in ALL if loss == "lasso" else (PudleDec, PudleAeLs):
        z_T, found = at(method(steps=7, alpha=ALPHA, **variant), problem)
        assert 0 < (z_T != 0).sum() < z_T.size
        np.testing.assert_allclose(z_T, z, rtol=0, atol=1e-13)  # rounding
        np.testing.assert_allclose(found, differences(truths[method], D), rtol=0, atol=1e-9)


def test_without_alpha_the_step_is_that_of_ista() -> None:
    problem = build(**SMALL, loss="lasso")
    theta = problem.theta0()
    largest = float(np.linalg.norm(problem.D.numpy(), 2)) ** 2
    assert 1 / 1.03 <= step_size(problem, theta) * largest <= 1.0 + 1e-12  # rounded up by 2 %
    for own, loss in ((PudleAeLasso(steps=40), "lasso"), (PudleAeLs(steps=40), "supervised")):
        same = build(**SMALL, loss=loss)
        unrolled = UnrolledReverse(solver=Ista(), steps=40)
        prepared = unrolled.prepare(same)
        expected = unrolled.hypergradient(prepared, theta, unrolled.solve(prepared, theta))["D"]
        assert relative(at(own, same)[1], expected) <= 1e-13  # rounding: the same steps


@pytest.mark.parametrize("method", ALL)
def test_a_warm_start_is_a_constant(method: type[PudleGradient]) -> None:
    problem = build(**SMALL, loss="lasso")
    start = torch.from_numpy(encode(problem, problem.D.numpy(), 3, {}))
    z_T, found = at(method(steps=2, alpha=ALPHA), problem, Solution(start, torch.zeros_like(start), 3))

    def through(d: Array) -> float:
        z = z_T if method is PudleDec else encode(problem, d, 2, {}, start.numpy())
        return value(problem, d, z, method is PudleAeLasso)

    np.testing.assert_allclose(found, differences(through, problem.D.numpy()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ALL)
def test_a_batch_is_a_sum_and_a_gradient_can_be_asked_for_twice(method: type[PudleGradient]) -> None:
    problem = build(**SMALL, loss="lasso")
    own, theta = method(steps=30, alpha=ALPHA), problem.theta0()
    singles = sum(at(own, problem.subset(slice(i, i + 1)))[1] for i in range(2))
    prepared = own.prepare(problem)
    solution = own.solve(prepared, theta)
    first, second = (own.hypergradient(prepared, theta, solution)["D"] for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert relative(first, singles) <= 1e-13  # rounding


def test_limits() -> None:
    """g_dec and g_ae-lasso tend to g_hat = (D z* - y) z*^T; g_ae-ls is off by J*^T lambda sign(z*) (Theorem 3.3)."""
    problem = build(m=12, p=20, pairs=3, noise=0.1, loss="lasso")
    D, y = problem.D.numpy(), problem.y.numpy()
    found = [solve(problem, b) for b in range(3)]
    g_hat = sum(np.outer(D @ code.z - y[b], code.z) for b, code in enumerate(found))
    bias = sum(
        np.einsum("pij,p->ij", jacobian(problem, code, b), 0.2 * np.sign(code.z)) for b, code in enumerate(found)
    )
    assert np.linalg.norm(bias) > 0.1 * np.linalg.norm(g_hat)
    # After 1500 steps of a rate of 0.98 at worst, some 1e-13.
    assert relative(at(PudleDec(steps=1500), problem)[1], g_hat) <= 1e-10
    assert relative(at(PudleAeLasso(steps=1500), problem)[1], g_hat) <= 1e-10
    assert relative(at(PudleAeLs(steps=1500), problem)[1], g_hat - bias) <= 1e-10


def test_with_a_squared_loss_g_ae_ls_is_the_hypergradient_and_g_dec_is_not() -> None:
    for loss in ("supervised", "least_squares"):
        problem = build(m=12, p=20, pairs=3, noise=0.1, loss=loss)
        truth = gradient(problem)
        assert relative(at(PudleAeLs(steps=1500), problem)[1], truth) <= 1e-10
        assert relative(at(PudleDec(steps=1500), problem)[1], truth) > 0.1


def test_decay_ends_at_the_least_squares_code() -> None:
    """With lambda_t gone the iteration is gradient descent: for independent atoms z -> D^+ y, and no bias is left."""
    problem = build(m=12, p=8, pairs=2, noise=0.1, loss="lasso")
    z, found = at(PudleAeLs(steps=3000, decay=0.9), problem)
    D, y = problem.D.numpy(), problem.y.numpy()
    expected = y @ np.linalg.pinv(D).T
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-10)  # 3000 steps of a rate below 0.99
    # There the code's own gradient vanishes, so that the direct part is all.
    assert relative(found, (expected @ D.T - y).T @ expected) <= 1e-9


def test_a_hard_threshold_does_not_shrink() -> None:
    """Orthonormal atoms, alpha = 1: entries of D^T y below b go, the others stay whole."""
    problem = build(m=12, p=8, pairs=3, noise=0.1, loss="lasso")
    D = torch.linalg.qr(problem.D).Q
    method = PudleDec(steps=5, alpha=1.0, hard_threshold=0.5)
    solution = method.solve(method.prepare(problem), {"D": D})
    b = (problem.y @ D).numpy()
    np.testing.assert_allclose(solution.x.numpy(), np.where(np.abs(b) >= 0.5, b, 0.0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", ALL)
def test_other_families_and_losses_are_refused(method: type[PudleGradient]) -> None:
    refusal = method().refusal(AnalysisL1.build(AnalysisL1.settings_type(n=8)))
    assert refusal is not None
    assert "use the family synthesis_lasso" in refusal
    refusal = method().refusal(build(loss="supervised"))
    assert (refusal is None) == (method is not PudleAeLasso)
    assert refusal is None or "set loss = 'lasso'" in refusal


def test_two_thresholds_at_once_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="leave one of them out"):
        PudleDec(decay=0.9, hard_threshold=0.1)


def test_the_papers_step_is_above_what_its_theory_assumes() -> None:
    """Settings P.2, P.6: alpha = 0.2 is above 1/sigma_max(D)^2 of the stated dictionaries, below twice that."""
    for seed in range(3):
        D = build(m=50, p=100, nonzeros=5, seed=seed).D.numpy()
        largest = np.linalg.norm(D, 2) ** 2
        assert 1 / largest < 0.2 < 2 / largest


# --- Figures 2 and 3: how the errors fall with T ----------------------------------------------------------------------


def fitted_rate(T: Array, errors: Array, growing: bool) -> float:
    """rho of errors = c rho^T, or of c T rho^T, by least squares on the logarithm."""
    logs = np.log(errors / T if growing else errors)
    return float(np.exp(np.polyfit(T, logs, 1)[0]))


SIZES = {"half": {"m": 25, "p": 50, "nonzeros": 3}, "paper": {"m": 50, "p": 100, "nonzeros": 5}}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seed"), [("half", 0), ("half", 1), ("half", 2), ("half", 3), ("paper", 0)])
def test_figures_2_and_3(size: str, seed: int) -> None:
    """Settings P.5, P.6, one signal: the fitted rates against Theorems 3.1 to 3.3, and the bias of g_ae-ls.

    rho is the largest |1 - alpha mu| over the eigenvalues mu of F_x on the support, which the theorems bound the rates
    by. Errors are fitted from after the support has settled to where rounding begins, at 1e-12.
    """
    problem = build(**SIZES[size], pairs=1, loss="lasso", seed=seed)
    alpha, D, y = 0.2, problem.D.numpy(), problem.y[0].numpy()
    m, p = D.shape
    polished = SupportPolish().solve(problem, problem.theta0())
    assert polished.converged
    z_hat = polished.x[0].numpy()
    on = z_hat != 0
    mu = np.linalg.eigvalsh(D[:, on].T @ D[:, on])
    rho = float(np.abs(1 - alpha * mu).max())
    J_hat = jacobian(problem, solve(problem))
    g_hat = np.outer(D @ z_hat - y, z_hat)
    exact = ActiveSetAdjoint(solver=SupportPolish())
    prepared = exact.prepare(problem)
    polished_g = exact.hypergradient(prepared, problem.theta0(), exact.solve(prepared, problem.theta0()))["D"]
    assert relative(polished_g, g_hat) <= 1e-12  # rounding

    # One pass: z_t, and J_t by its own recursion (Definition 3.1), off the support zero.
    z, J = np.zeros(p), np.zeros((p, m, p))
    biased = g_hat - np.tensordot(0.2 * np.sign(z_hat), J_hat, 1)
    code, jac, dec, lasso, ls, settled = ([] for _ in range(6))
    eye = np.eye(p)
    for t in range(1, 401):
        r = D @ z - y
        v = z - alpha * D.T @ r
        dF = np.einsum("jk,i->kij", eye, r) + np.einsum("ik,j->kij", D, z) + np.tensordot(D.T @ D, J, 1)
        keep = np.abs(v) > 0.2 * alpha
        z, J = np.sign(v) * np.maximum(np.abs(v) - 0.2 * alpha, 0), (J - alpha * dF) * keep[:, None, None]
        r = D @ z - y
        g = np.outer(r, z)
        with_J = {h: g + np.tensordot(D.T @ r + h * 0.2 * np.sign(z), J, 1) for h in (0, 1)}
        code.append(np.linalg.norm(z - z_hat))
        jac.append(np.linalg.norm(J - J_hat))
        dec.append(np.linalg.norm(g - g_hat))
        lasso.append(np.linalg.norm(with_J[1] - g_hat))
        ls.append(np.linalg.norm(with_J[0] - biased))
        settled.append(np.array_equal(z != 0, on))
        if t in (5, 60, 200):  # the methods say the same
            for method, own in ((PudleDec, g), (PudleAeLasso, with_J[1]), (PudleAeLs, with_J[0])):
                np.testing.assert_allclose(at(method(steps=t, alpha=alpha), problem)[1], own, rtol=0, atol=1e-12)

    B = 400 - next((i for i, same in enumerate(reversed(settled)) if not same), 400)
    T = np.arange(1, 401, dtype=float)

    def rate(errors: list[float], growing: bool = False) -> float:
        e = np.array(errors)
        floor = next((i for i, error in enumerate(e) if error < 1e-12), 400)
        # The slowest mode alone, after the others have gone: the last two thirds of what is above rounding.
        window = slice(B + (floor - B) // 3, floor)
        assert window.stop - window.start >= 10
        return fitted_rate(T[window], e[window], growing)

    rates = {"code": rate(code), "dec": rate(dec), "J": rate(jac, growing=True), "ae-ls": rate(ls, growing=True)}
    # (a + b T) rho^(2T) with a, b >= 0 lies between the two laws that are fitted: b = 0, and a = 0.
    ratios = [np.log(rate(lasso, growing)) / np.log(rates["dec"]) for growing in (False, True)]
    relative_bias = np.linalg.norm(biased - g_hat) / np.linalg.norm(g_hat)
    print(f"exponent of ae-lasso over that of dec {ratios[0]:.3f} to {ratios[1]:.3f}, bias {relative_bias:.3f}")
    assert all(found == pytest.approx(rho, rel=1e-2) for found in rates.values())
    assert 1.9 <= ratios[0] <= 2.02
    assert 1.98 <= ratios[1] <= 2.1
    assert relative_bias > 0.1
