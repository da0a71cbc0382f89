"""The peers against the reference, and the traps that each of them sets (shared/PEERS.md)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.reference import reference_for
from methods.contract import Method, Solution
from methods.diffcp_direct import DiffcpDirect
from methods.dqp import Dqp
from methods.piggyback import Piggyback
from methods.qp_layer import QpLayer
from methods.qpth import Qpth
from problems.analysis_l1 import AnalysisL1, Settings
from problems.contract import kkt_residual, scales

TIGHT = QpLayer(eps=1e-12, eps_backward=1e-12, rho_backward=1e-12, mu_backward=1e-12)

# Each at the settings where it is best, with the error that it then owes, and why.
PEERS = {
    "qp_layer": (TIGHT, 1e-9),  # mu_backward = 1e-12, magnified by the conditioning of the active constraints
    "dqp_daqp": (Dqp(), 1e-8),  # rounding for k <= n; DAQP solves a singular Q by proximal steps, to 4e-9 in u
    "dqp_piqp": (Dqp(solver="piqp", eps_abs=1e-12), 1e-8),  # 1e-12 in the duality gap, so a little more in u
    "qpth": (Qpth(), 1e-5),  # multipliers and slacks are cut off at 1e-8
    "piggyback": (Piggyback(), 1e-8),  # residuals of 1e-10 over the smallest singular value
    "diffcp_dense": (DiffcpDirect(mode="dense", tolerance=1e-12), 1e-9),  # the solver's 1e-12, a direct solve after it
    "diffcp_lsmr": (DiffcpDirect(mode="lsmr", tolerance=1e-12), 1e-6),  # stops at 1e-10 relative, inside diffcp
    "diffcp_lsqr": (DiffcpDirect(mode="lsqr", tolerance=1e-12), 1e-4),  # stops at 1e-8 relative, inside diffcp
    "diffcp_clarabel": (DiffcpDirect(solver="Clarabel", mode="dense", tolerance=1e-12), 1e-4),  # stalls near 1e-7
}

INSTANCES = {
    "square": Settings(n=8, transform="dct", scale=0.2, pairs=3, seed=1),
    "wide": Settings(n=8, k=6, transform="gaussian", scale=0.4, pairs=3, seed=2),
    "tall": Settings(n=8, k=12, transform="gaussian", scale=0.2, pairs=3, seed=3, signal="gaussian"),
    "zeros in W": Settings(n=8, scale=0.2, pairs=3, seed=5, signal="dct_sparse"),
    "blur": Settings(n=8, transform="dct", scale=0.1, pairs=3, seed=7, forward="blur"),
}


@pytest.fixture(scope="module")
def truth() -> Callable[[str], np.ndarray]:
    cache: dict[str, np.ndarray] = {}

    def of(name: str) -> np.ndarray:
        if name not in cache:
            problem = AnalysisL1.build(INSTANCES[name])
            references = [reference_for(problem.subset(slice(i, i + 1)), "coordinates", 0, None) for i in range(3)]
            assert [reference.verdict for reference in references] == ["smooth"] * 3
            cache[name] = np.sum([reference.values for reference in references], axis=0).reshape(problem.W.shape)
        return cache[name]

    return of


def run(method: Method, problem: AnalysisL1) -> tuple[np.ndarray, Solution]:
    """(gradient, solution); skips where the method does not run here."""
    if (refusal := method.refusal(problem)) is not None:
        pytest.skip(refusal)
    prepared, theta = method.prepare(problem), problem.theta0()
    solution = method.solve(prepared, theta)
    return method.hypergradient(prepared, theta, solution)["W"].numpy(), solution


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def build(name: str, **changes: Any) -> AnalysisL1:
    return AnalysisL1.build(INSTANCES[name].model_copy(update=changes))


@pytest.mark.parametrize("name", INSTANCES)
@pytest.mark.parametrize("peer", PEERS)
def test_batch_gradient_is_the_sum_of_references(peer: str, name: str, truth: Callable[[str], np.ndarray]) -> None:
    """A mean over the three pairs would be off by a factor of three."""
    method, bound = PEERS[peer]
    gradient, solution = run(method, problem := build(name))
    assert solution.converged
    assert error(gradient, truth(name)) <= bound
    theta = problem.theta0()
    assert solution.u is not None
    # The solvers' own tolerances are 1e-12; Clarabel stalls near 1e-7 on the second-order cone.
    allowed = 1e-6 if peer == "diffcp_clarabel" else 1e-8
    assert float(kkt_residual(problem, solution.x, solution.u, theta, scales(problem, theta)).max()) <= allowed


@pytest.mark.parametrize("peer", PEERS)
def test_batch_is_the_sum_of_singles(peer: str) -> None:
    method, _ = PEERS[peer]
    problem = build("wide")
    singles = sum(run(method, problem.subset(slice(i, i + 1)))[0] for i in range(3))
    # Serial layers do the same arithmetic; piggyback and qpth stop a batch with its slowest sample.
    assert error(run(method, problem)[0], singles) <= (1e-6 if peer == "qpth" else 1e-9)


PACKAGES = [
    (QpLayer(), "proxsuite", "pip install proxsuite==0.8.0"),
    (Dqp(), "dqp", "pip install qpsolvers daqp piqp && pip install --no-deps libdqp==0.1.2"),
    (Dqp(), "qpsolvers", "pip install qpsolvers daqp piqp && pip install --no-deps libdqp==0.1.2"),
    (Dqp(solver="piqp"), "piqp", "pip install qpsolvers daqp piqp && pip install --no-deps libdqp==0.1.2"),
    (Qpth(), "qpth", "pip install --no-deps qpth==0.0.18"),
]


@pytest.mark.parametrize(("method", "package", "command"), PACKAGES, ids=[package for _, package, _ in PACKAGES])
def test_an_absent_package_is_refused_with_the_command(
    method: Method, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else object())
    assert method.refusal(build("wide")) == f"needs the package {package}: {command}"


def test_refusing_imports_no_package() -> None:
    """`bench list` asks every method; proxsuite and dqp take a second each."""
    code = (
        "import sys\n"
        "from methods.contract import Method\n"
        "from problems.analysis_l1 import AnalysisL1, Settings\n"
        "from problems.registry import load\n"
        "problem = AnalysisL1.build(Settings(n=4))\n"
        "for key in ('qp_layer', 'dqp', 'qpth', 'diffcp_direct'):\n"
        "    load('methods', key, Method)().refusal(problem)\n"
        "print({'proxsuite', 'dqp', 'qpsolvers', 'daqp', 'piqp', 'diffcp', 'scs'} & set(sys.modules),\n"
        "      [name for name in sys.modules if name.startswith('qpth')])\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output == "set() []\n"


@pytest.mark.parametrize("method", [QpLayer(), Dqp(), Qpth(), DiffcpDirect()], ids=lambda method: type(method).__name__)
def test_single_precision_is_refused_with_the_remedy(method: Method) -> None:
    refusal = method.refusal(build("wide").to("cpu", torch.float32))
    assert refusal is not None
    assert refusal.endswith("computes in double precision: set dtype = 'float64'")


# --- the traps ------------------------------------------------------------------------------------------------------


def test_the_error_of_qp_layer_is_its_proximal_parameter(truth: Callable[[str], np.ndarray]) -> None:
    """Proportional to mu_backward, whatever eps_backward is, down to about 1e-10."""
    first, second, default, tight = (
        error(run(method, build("wide"))[0], truth("wide"))
        for method in (*(TIGHT.model_copy(update={"mu_backward": mu}) for mu in (1e-5, 1e-8)), QpLayer(), TIGHT)
    )
    assert second == pytest.approx(1e-3 * first, rel=0.1)  # first order in mu: the next order is 1e-5
    assert default >= 100 * tight


def test_qp_layer_called_plainly_cuts_its_gradient_to_single_precision() -> None:
    QpLayer().refusal(build("wide")) and pytest.skip("proxsuite is not installed")
    from proxsuite.torch.qplayer import QPFunction

    def gradient() -> torch.Tensor:
        p = torch.tensor([[0.3, -2.0]], dtype=torch.float64, requires_grad=True)
        Q, C = torch.tensor([[[3.0, 1.0], [1.0, 2.0]]], dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
        none, bound = p.new_empty(0), torch.ones((1, 2), dtype=torch.float64)
        u, _, _ = QPFunction(eps=1e-12, eps_backward=1e-12, rho_backward=1e-12, mu_backward=1e-12)(
            Q, p, none, none, C, -bound, bound
        )
        return torch.autograd.grad(u[0, 0], p)[0]

    # u = (-1.3 / 3, 1), so that du_0 / dp_0 = -1/3, which single precision rounds at 1e-8.
    assert torch.get_default_dtype() == torch.float32
    assert float(abs(gradient()[0, 0] + 1 / 3)) > 1e-9
    torch.set_default_dtype(torch.float64)
    try:
        assert float(abs(gradient()[0, 0] + 1 / 3)) <= 1e-11
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_type_is_put_back_even_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    run(TIGHT, problem := build("wide"))
    assert torch.get_default_dtype() == torch.float32

    def fail(*arguments: object) -> None:
        assert torch.get_default_dtype() == torch.float64
        raise ArithmeticError

    monkeypatch.setattr(QpLayer, "minimiser", fail)
    with pytest.raises(ArithmeticError):
        TIGHT.solve(TIGHT.prepare(problem), problem.theta0())
    assert torch.get_default_dtype() == torch.float32


def test_qpth_averages_what_the_samples_share() -> None:
    """The trap is real, and expanding the parameters avoids it."""
    Qpth().refusal(build("wide")) and pytest.skip("qpth is not installed")
    from qpth.qp import QPFunction

    generator = torch.Generator().manual_seed(0)
    p = torch.randn((4, 3), generator=generator, dtype=torch.float64)
    G, none = torch.cat([torch.eye(3), -torch.eye(3)]).double(), torch.empty(0, dtype=torch.float64)

    def gradient(expand: bool) -> torch.Tensor:
        Q = (2.0 * torch.eye(3, dtype=torch.float64)).requires_grad_()
        given = Q.expand(4, 3, 3) if expand else Q
        u = QPFunction(verbose=-1)(given, p, G, p.new_ones(6), none, none)
        return torch.autograd.grad(u.sum(), Q)[0]

    torch.testing.assert_close(4.0 * gradient(expand=False), gradient(expand=True), rtol=1e-12, atol=1e-15)
    assert float(gradient(expand=True).norm()) > 0.1


def test_qpth_needs_independent_rows() -> None:
    refusal = Qpth().refusal(build("tall"))
    assert (
        refusal
        == "needs independent rows of K to factorise Q = K H^-1 M, not 12 of rank 8: take away those that depend"
    )
    run(Qpth(), build("wide"))
    with pytest.raises(RuntimeError, match="not SPD"):
        run(Qpth(), build("wide", scale=0.0))


def test_the_active_threshold_decides_the_gradient_of_dqp(truth: Callable[[str], np.ndarray]) -> None:
    """A row of the cosupport with |u| nearer to 1 than eps_active is taken for one of the support."""
    problem = build("wide")
    _, solution = run(Dqp(), problem)
    assert solution.u is not None
    inside = solution.u.abs()
    nearest = float((1 - inside[inside < 1 - 1e-9]).min())
    below, above = (error(run(Dqp(eps_active=factor * nearest), problem)[0], truth("wide")) for factor in (0.9, 1.1))
    assert below <= 1e-8
    assert above >= 1e-3


def test_diffcp_drops_zeros_from_the_matrix_it_is_given(truth: Callable[[str], np.ndarray]) -> None:
    """Its derivative is on the entries that A had, so that a second call with the same A would know fewer of them."""
    import diffcp

    method, problem = DiffcpDirect(mode="dense", tolerance=1e-12), build("zeros in W")
    program = method.prepare(problem.subset(slice(0, 1))).tool
    A = program.with_transform(problem.W.numpy())
    copy, stored = A.copy(), A.nnz
    arguments = program.offsets[0].copy(), program.cost.copy(), program.cones
    *_, adjoint = diffcp.solve_and_derivative(A, *arguments, solve_method="SCS", eps_abs=1e-10, eps_rel=1e-10)
    assert A.nnz < copy.nnz == stored
    g = np.ones(8)
    first = program.of_transform(adjoint(*program.direction(g))[0])
    *_, adjoint = diffcp.solve_and_derivative(A, *arguments, solve_method="SCS", eps_abs=1e-10, eps_rel=1e-10)
    second = program.of_transform(adjoint(*program.direction(g))[0])
    off_diagonal = ~np.eye(8, dtype=bool)
    assert np.abs(first[off_diagonal]).max() > 1e-2
    assert not second[off_diagonal].any()

    expected = truth("zeros in W")
    assert np.abs(expected[off_diagonal]).max() > 1e-2
    for _ in range(2):
        assert error(run(method, problem)[0], expected) <= 1e-9


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        (QpLayer(max_iter=1), QpLayer()),
        (Dqp(solver="piqp", eps_abs=1e-1), Dqp(solver="piqp", eps_abs=1e-12)),
        (Qpth(max_iter=2), Qpth()),
        (DiffcpDirect(tolerance=1e-1), DiffcpDirect()),
        (DiffcpDirect(solver="Clarabel", max_steps=2), DiffcpDirect(solver="Clarabel", tolerance=1e-12)),
        (Piggyback(max_steps=3), Piggyback()),
    ],
    ids=["qp_layer", "dqp", "qpth", "scs", "clarabel", "piggyback"],
)
def test_what_was_cut_short_is_not_called_converged(loose: Method, tight: Method) -> None:
    problem = build("wide")
    assert not run(loose, problem)[1].converged
    assert run(tight, problem)[1].converged


def test_piggyback_takes_no_step_from_its_own_limit_and_fewer_from_nearby() -> None:
    method, problem = Piggyback(), build("blur")
    prepared, theta = method.prepare(problem), problem.theta0()
    cold = method.solve(prepared, theta)
    assert cold.iterations > 0
    assert method.solve(prepared, theta, cold).iterations == 0
    nearby = {"W": theta["W"] * (1 + 1e-6)}
    warm = method.solve(prepared, nearby, cold)
    assert warm.converged
    assert warm.iterations < method.solve(prepared, nearby).iterations


@pytest.mark.gpu
def test_piggyback_on_a_gpu_is_that_on_the_cpu() -> None:
    problem = build("blur")
    there = problem.to("cuda", torch.float64)
    method, theta = Piggyback(), there.theta0()
    prepared = method.prepare(there)
    gradient = method.hypergradient(prepared, theta, method.solve(prepared, theta))["W"]
    assert gradient.device.type == "cuda"
    assert error(gradient.cpu().numpy(), run(method, problem)[0]) <= 1e-8  # both stop at residuals of 1e-10
