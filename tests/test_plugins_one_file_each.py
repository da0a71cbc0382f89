"""A fifth family and a new method are one new file each: they run and are judged with no list edited."""

import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.record import read_journal

FAMILY = '''
import pydantic, torch
from dataclasses import dataclass, replace
from problems.contract import AutodiffProblem, Structure
from problems.penalties import CornerRoundedL1

class Settings(pydantic.BaseModel):
    n: int = 6
    pairs: int = 2

@dataclass(frozen=True)
class ScaledDenoiser(AutodiffProblem):
    """x* = argmin 1/2 |x - y|^2 + sum_i phi(w_i x_i), theta = {"w"}."""

    settings_type = Settings
    settings: Settings
    y: torch.Tensor
    x_true: torch.Tensor
    w: torch.Tensor
    structure = (
        Structure.MINIMISATION | Structure.AFFINE_F | Structure.IDENTITY_FORWARD | Structure.UNIQUE | Structure.SMOOTH
    )
    penalty = CornerRoundedL1(0.2)

    @classmethod
    def build(cls, settings):
        generator = torch.Generator().manual_seed(0)
        y, x_true = torch.randn(2, settings.pairs, settings.n, generator=generator, dtype=torch.float64)
        return cls(settings, y, x_true, torch.linspace(0.2, 0.9, settings.n, dtype=torch.float64))

    batch = property(lambda self: len(self.y))
    x_shape = u_shape = property(lambda self: (self.settings.n,))
    parameters = property(lambda self: self.settings.model_dump())

    def to(self, device, dtype):
        moved = {name: getattr(self, name).to(device, dtype) for name in ("y", "x_true", "w")}
        return replace(self, **moved)

    def subset(self, samples):
        return replace(self, y=self.y[samples], x_true=self.x_true[samples])

    def tensors(self):
        return {"y": self.y, "x_true": self.x_true}

    def theta0(self):
        return {"w": self.w}

    def F(self, x, theta):
        return x - self.y

    def K(self, x, theta):
        return x * theta["w"]

    def M(self, u, theta):
        return u * theta["w"]

    def loss(self, x, theta):
        return 0.5 * ((x - self.x_true) ** 2).sum()

    def loss_gradient(self, x, theta):
        return x - self.x_true, {"w": torch.zeros_like(theta["w"])}

    def conic(self):
        raise NotImplementedError

    def conic_data(self):
        raise NotImplementedError
'''

METHOD = '''
import torch
from methods.contract import Method, Prepared, Solution, refuse_unless_met
from problems.contract import Structure

class ScalarNewton(Method):
    """Newton's method entry by entry, for a diagonal K, and the implicit function theorem."""

    requires = Structure.SMOOTH | Structure.IDENTITY_FORWARD
    devices = frozenset({"cpu"})
    batched = True

    def refusal(self, problem):
        return refuse_unless_met(self, problem)

    def prepare(self, problem):
        return Prepared(problem)

    def solve(self, prepared, theta, warm=None):
        problem, w = prepared.problem, theta["w"]
        x = torch.zeros_like(problem.y)
        for step in range(100):
            slope = 1 + w**2 * problem.penalty.second_derivative(w * x)
            x = x - 0.5 ** (step < 50) * (x - problem.y + w * problem.penalty.derivative(w * x)) / slope
        return Solution(x, problem.penalty.derivative(w * x), 100)

    def hypergradient(self, prepared, theta, solution):
        problem, w, x, u = prepared.problem, theta["w"], solution.x, solution.u
        curvature = problem.penalty.second_derivative(w * x)
        p = problem.loss_gradient(x, theta)[0] / (1 + w**2 * curvature)
        return {"w": -(p * (u + w * curvature * x)).sum(0)}
'''


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "scaled_denoiser.py").write_text(FAMILY)
    (tmp_path / "scalar_newton.py").write_text(METHOD)
    path = tmp_path / "config.toml"
    path.write_text(
        textwrap.dedent("""
        plugins = ["scaled_denoiser.py", "scalar_newton.py"]
        [[problem]]
        family = "scaled_denoiser"
        [[method]]
        key = "scalar_newton"
        [[method]]
        key = "minimizer"
        [[method]]
        key = "blorc"
        [measure]
        processes = 1
        values = 2
        min_seconds = 1e-4
        """)
    )
    return path


def test_a_fifth_family_and_a_new_method_are_one_file_each(config: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", str(config), "--out", str(tmp_path / "run")])
    assert result.exit_code in (0, 1), result.output
    records = {record.method: record for record in read_journal(tmp_path / "run")}
    for key in ("scalar_newton", "minimizer"):  # the new method, and a shipped one on the new family
        record = records[key]
        assert record.status == "ok", record.message
        assert record.error_relative <= 1e-8  # the contract of exact methods
        assert record.reference_error_relative <= 1e-9
    assert records["blorc"].status == "unsupported"
    assert ":" in records["blorc"].message  # the remedy
