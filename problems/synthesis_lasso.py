"""The lasso of a dictionary, PUDLE's lower level ("Implicit acceleration of dictionary learning by backpropagation").

z*(D) = argmin_z  1/2 ||A D z - y||^2 + lambda ||z||_1,        L(D) = sum_b loss(z*_b(D), D)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

from problems import operators
from problems._pairs import Pairs
from problems._portable import length, normal, times, uniform
from problems.contract import AutodiffProblem, Measurement, Structure, Theta
from problems.penalties import L1

Positive = Annotated[int, pydantic.Field(ge=1)]
NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


class Settings(pydantic.BaseModel):
    """What an instance is made from; every key has a default."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    m: Positive = 32
    """Samples per signal: the length of an atom (readings.md P.5: 50)."""
    p: Positive = 16
    """Atoms, the columns of D, and unknowns of a code (P.5: 100)."""
    nonzeros: Positive = 3
    """Of a true code, their places drawn without replacement (P.5: 5)."""
    weight: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 0.2
    """lambda (P.6)."""
    tau: NotNegative = 0.14
    """D = D_true + tau B with entries N(0, 1/m) in B. The paper's 0.55 / log m is 0.14 at its m = 50 if that is the
    natural logarithm, and 0.32 if its base is ten (P.6, U.19)."""
    loss: Literal["supervised", "lasso", "least_squares"] = "supervised"
    """1/2 ||D z - x_true||^2; the lower level's objective; or its data term alone."""
    forward: operators.Forward = "identity"
    """A, which the paper has not."""
    noise: NotNegative = 0.0
    """Standard deviation of the noise in y; none in the paper's theory figures."""
    pairs: Positive = 2
    seed: Annotated[int, pydantic.Field(ge=0)] = 0

    @pydantic.model_validator(mode="after")
    def _room(self) -> Settings:
        if self.nonzeros > self.p:
            raise ValueError(f"nonzeros = {self.nonzeros} do not fit into codes of p = {self.p} entries")
        return self


@dataclass(frozen=True)
class SynthesisLasso(Pairs, AutodiffProblem):
    """F(z) = (A D)^T (A D z - y), K = lambda I, M = K^T; the unknown x of the contract is the code z; theta = {"D"}.

    Every loss depends on D, directly and through z*. That of the lasso is the lower level's objective, so that at z*
    its derivative is the direct part alone, (A^T (A D z* - y)) z*^T: the analytic gradient g_hat of PUDLE's (5).

    UNIQUE is claimed where A D has full column rank, as a drawn D has where there are rows enough: F is then strongly
    monotone near that D, which is what the solvers that factorise F_x take the flag for. With more atoms than samples
    F_x is singular. z* is then still unique for almost every D (the columns are in general position: R. J. Tibshirani,
    "The lasso problem and uniqueness", 2013), and has a derivative wherever the columns on its support are independent
    and no margin is zero; but no flag says so, and what needs UNIQUE refuses. `support_polish`, `ista` and `fista` do
    not need it, and the first proves its answer.

    A product with F costs 2 m p per sample, and m^2 more where A is not the identity.
    """

    settings_type = Settings

    settings: Settings
    y: Float[Tensor, "b rows"]
    x_true: Float[Tensor, "b m"]
    D: Float[Tensor, "m p"]
    A: Float[Tensor, "rows m"] | None
    structure: Structure
    penalty: L1 = field(default_factory=L1)

    @classmethod
    def build(cls, settings: Settings) -> SynthesisLasso:
        """Signals x_true = D_true z_true with sparse codes (P.5). Pair i depends on the seed and on i alone.

        Columns of D_true have unit length. Nonzero entries of z_true are uniform in (1, 2), each with a random sign:
        the paper does not say whether its own have one (readings.md U.20).
        """
        m, p = settings.m, settings.p
        rng = np.random.default_rng([settings.seed, 0])
        D_true = normal(rng, (m, p))
        D_true /= length(D_true, axis=0)
        D = D_true + settings.tau * normal(rng, (m, p)) / np.sqrt(m)
        A = operators.forward_matrix(settings.forward, m, np.random.default_rng([settings.seed, 1]))

        generators = [np.random.default_rng([settings.seed, 2, pair]) for pair in range(settings.pairs)]
        x_true = times(D_true, np.stack([_code(p, settings.nonzeros, rng) for rng in generators]))
        clean = x_true if A is None else times(A, x_true)
        y = clean + settings.noise * np.stack([normal(rng, clean.shape[1]) for rng in generators])
        return cls(
            settings=settings,
            y=torch.from_numpy(y),
            x_true=torch.from_numpy(x_true),
            D=torch.from_numpy(D),
            A=None if A is None else torch.from_numpy(A),
            structure=_structure(D, A),
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.D.shape[1],)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (self.D.shape[1],)

    @property
    def signal_shape(self) -> tuple[int, ...]:
        return (self.D.shape[0],)

    @property
    def measurement(self) -> Measurement:
        return Measurement.of(self.settings.forward, self.settings.noise)

    def tensors(self) -> dict[str, Tensor]:
        loss = torch.tensor(list(self.settings.loss.encode()))
        weight = torch.tensor(self._weight, dtype=torch.float64)
        named = {"y": self.y, "x_true": self.x_true, "A": self.A, "lambda": weight, "loss": loss}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def theta0(self) -> Theta:
        return {"D": self.D}

    @property
    def _weight(self) -> float:
        return self.settings.weight

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        D = theta["D"]
        return self._adjoint(self._measured(x @ D.T) - self.y) @ D

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        del theta
        return self._weight * x

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        del theta
        return self._weight * u

    def loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        squared = self.squared_loss(x, theta)
        return squared + self._weight * x.abs().sum() if self.settings.loss == "lasso" else squared

    def reconstruct(self, x: Tensor, theta: Theta) -> Float[Tensor, "b m"]:
        """D z."""
        return x @ theta["D"].T

    def squared_loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        """The loss without lambda ||z||_1, where it has that term: what PUDLE's g_ae-ls differentiates."""
        decoded = self.reconstruct(x, theta)
        misfit = decoded - self.x_true if self._supervised else self._measured(decoded) - self.y
        return 0.5 * (misfit**2).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        """With sign(0) = 0 for the subgradient of |z_i| at zero, which no exact hypergradient depends on.

        What rounding leaves of a code that is zero counts as zero: a sign that never settles would keep an iteration
        on g_x, such as piggyback's, from ever settling either.
        """
        D = theta["D"]
        decoded = self.reconstruct(x, theta)
        g_decoded = decoded - self.x_true if self._supervised else self._adjoint(self._measured(decoded) - self.y)
        g_x = g_decoded @ D
        if self.settings.loss == "lasso":
            noise = 10 * torch.finfo(x.dtype).eps * x.abs().amax(1, keepdim=True)
            g_x = g_x + self._weight * torch.where(x.abs() > noise, x.sign(), 0.0)
        return g_x, {"D": g_decoded.T @ x}

    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        import cvxpy as cp

        m, p = self.D.shape
        x, v = cp.Variable(p, name="x"), cp.Variable(p, name="v")
        D, y = cp.Parameter((m, p), name="D"), cp.Parameter(self.y.shape[1], name="y")
        residual = (D if self.A is None else self.A.cpu().numpy() @ D) @ x - y
        split = self._weight * x == v
        problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(residual) + cp.norm1(v)), [split])
        return problem, {"D": D, "y": y}, {"x": x, "u": split.dual_variables[0]}

    def conic_data(self) -> dict[str, Tensor]:
        return {"y": self.y}

    @property
    def _supervised(self) -> bool:
        return self.settings.loss == "supervised"

    def _measured(self, decoded: Float[Tensor, "b m"]) -> Float[Tensor, "b rows"]:
        return decoded if self.A is None else decoded @ self.A.T

    def _adjoint(self, residual: Float[Tensor, "b rows"]) -> Float[Tensor, "b m"]:
        return residual if self.A is None else residual @ self.A


def _code(p: int, nonzeros: int, rng: Generator) -> Float[np.ndarray, " p"]:
    z = np.zeros(p)
    places = rng.choice(p, nonzeros, replace=False)
    z[places] = uniform(rng, 1.0, 2.0, nonzeros) * rng.choice([-1.0, 1.0], nonzeros)
    return z


def _structure(D: Float[np.ndarray, "m p"], A: Float[np.ndarray, "rows m"] | None) -> Structure:
    """The columns of D are in general position, and the rows of an A that has fewer than columns are independent."""
    structure = Structure.MINIMISATION | Structure.AFFINE_F | Structure.IDENTITY_K | Structure.L1 | Structure.CONIC
    rows = len(D) if A is None else min(A.shape)
    return structure | Structure.UNIQUE if D.shape[1] <= rows else structure
