"""The analysis-l1 denoiser of the BLORC papers (journal, equation 3.1; ICASSP, equation 3).

x*(W) = argmin_x  1/2 ||A x - y||^2 + ||W x||_1,        L(W) = sum_b 1/2 ||x*_b(W) - x_true_b||^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from problems import hard, images, operators, signals
from problems._pairs import Pairs
from problems._portable import normal, times
from problems.contract import AutodiffProblem, Measurement, Structure, Theta, zero_gradient
from problems.penalties import L1
from problems.registry import nearest

Positive = Annotated[int, pydantic.Field(ge=1)]


class Settings(pydantic.BaseModel):
    """What an instance is made from; every key has a default."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    signal: Literal["piecewise_constant", "dct_sparse", "gaussian", "patches"] = "piecewise_constant"
    n: Positive = 64
    """Samples per signal; a square for patches."""
    k: Positive | None = None
    """Rows of W; left out, as many as the transform has."""
    transform: operators.Transform = "identity"
    scale: Annotated[float, pydantic.Field(allow_inf_nan=False)] = 1.0
    """What the transform is multiplied by: the weight of the l1 term."""
    fidelity: Literal["half", "full"] = "half"
    """Data term 1/2 ||Ax - y||^2 (J 3.1) or ||Ax - y||^2 (J 1.6b); readings.md X.1."""
    forward: operators.Forward = "identity"
    noise: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.1
    """Standard deviation of the noise in y."""
    ripple: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.02
    """Amplitude of a slow cosine in x_true, one-dimensional signals only; 0 gives the paper's signals. Without it
    x_true is constant on the pieces of any x* that jumps wherever x_true does, and the adjoint variable `a` is 0."""
    jumps: Positive | None = None
    """Of a piecewise-constant signal; left out, 2 to 6. The papers state neither this nor the next two (U.6)."""
    jumps_between_samples: bool | None = None
    """Left out, no: a jump falls inside a cell, and its sample takes a value between the two levels."""
    lowest: Annotated[float, pydantic.Field(ge=-1, lt=1)] | None = None
    """Level of a piecewise-constant signal, where the highest is 1; left out, -1. J.23 has signals in [0, 1]."""
    pairs: Positive = 1
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    folder: str | None = None
    """Where the pictures of `patches` are; left out, those that scikit-image ships."""
    picture: str | None = None
    """Of `patches`: one picture, by its name there (problems/images.py), whose patches with corners `stride` pixels
    apart are the pairs, in random order and none of them twice; left out, random patches of all pictures."""
    stride: Positive | None = None

    instance: str | None = None
    """A hard instance of problems/hard.py by its name, instead of a drawn one; n, seed and margin are all it takes."""
    margin: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None
    """Of the instance near_kink alone: 1 - u_0, 1e-6 where it is left out."""

    @pydantic.model_validator(mode="after")
    def _instance_alone(self) -> Settings:
        if self.margin is not None and self.instance != "near_kink":
            raise ValueError("margin is for instance = 'near_kink' alone: leave it out")
        if self.instance is None:
            return self
        if self.instance not in hard.INSTANCES:
            raise ValueError(f"no hard instance '{self.instance}': {nearest(self.instance, list(hard.INSTANCES))}")
        for name, value in self.model_dump(exclude={"n", "seed", "instance", "margin"}, exclude_defaults=True).items():
            raise ValueError(f"instance = '{self.instance}' settles {name} itself: leave {name} = {value!r} out")
        return self

    @pydantic.model_validator(mode="after")
    def _sides(self) -> Settings:
        if self.signal == "patches" and math.isqrt(self.n) ** 2 != self.n:
            raise ValueError(f"n = {self.n} is not a square: patches need n such as 36 or 64")
        return self

    @pydantic.model_validator(mode="after")
    def _one_picture(self) -> Settings:
        if self.picture is not None and self.signal != "patches":
            raise ValueError(f"picture = '{self.picture}' is for signal = 'patches' alone: leave it out")
        if (self.picture is None) != (self.stride is None):
            there, missing = ("stride", "picture") if self.picture is None else ("picture", "stride")
            raise ValueError(f"{there} needs {missing}, too: patches of one picture, so many pixels apart")
        return self

    @pydantic.model_validator(mode="after")
    def _pieces_of_pieces(self) -> Settings:
        given = self.model_dump(include={"jumps", "jumps_between_samples", "lowest"}, exclude_none=True)
        if given and self.signal != "piecewise_constant":
            raise ValueError(f"{next(iter(given))} is for signal = 'piecewise_constant' alone: leave it out")
        return self

    @property
    def pieces(self) -> signals.Pieces:
        """What a piecewise-constant signal is made of."""
        return signals.Pieces(
            self.jumps, bool(self.jumps_between_samples), -1.0 if self.lowest is None else self.lowest
        )

    @property
    def side(self) -> int | None:
        """Pixels per side of a patch, None for one-dimensional signals."""
        return math.isqrt(self.n) if self.signal == "patches" else None


@dataclass(frozen=True)
class AnalysisL1(Pairs, AutodiffProblem):
    """F(x) = c A^T (A x - y), K = W, M = W^T, with c = 1 (fidelity half) or 2 (full); theta = {"W": (k, n)}."""

    settings_type = Settings

    settings: Settings
    y: Float[Tensor, "b m"]
    x_true: Float[Tensor, "b n"]
    W: Float[Tensor, "k n"]
    A: Float[Tensor, "m n"] | None
    structure: Structure
    penalty: L1 = field(default_factory=L1)

    @classmethod
    def build(cls, settings: Settings) -> AnalysisL1:
        """Pair i depends on the seed and on i alone, so that more pairs extend fewer."""
        n, side = settings.n, settings.side
        rng = np.random.default_rng([settings.seed, 0])
        if settings.instance is not None:
            return _hard_instance(settings, settings.instance, rng)
        k = settings.k or operators.natural_rows(settings.transform, n, side)
        make = operators.transform_matrix if side is None else operators.picture_transform_matrix
        W = settings.scale * make(settings.transform, k, side or n, rng)
        A = operators.forward_matrix(settings.forward, n, np.random.default_rng([settings.seed, 1]))

        generators = [np.random.default_rng([settings.seed, 2, pair]) for pair in range(settings.pairs)]
        if side is None:
            drawn = (signals.draw(settings.signal, n, settings.ripple, rng, settings.pieces) for rng in generators)
            x_true = np.stack(list(drawn))
        elif settings.picture is not None and settings.stride is not None:
            picture = images.picture(settings.picture, settings.folder)
            order = np.random.default_rng([settings.seed, 3])
            x_true = images.grid_patches(picture, side, settings.stride, settings.pairs, order)
        else:
            x_true = np.stack([images.patch(side, settings.folder, rng) for rng in generators])
        clean = x_true if A is None else times(A, x_true)
        y = clean + settings.noise * np.stack([normal(rng, clean.shape[1]) for rng in generators])
        return cls(
            settings=settings,
            y=torch.from_numpy(y),
            x_true=torch.from_numpy(x_true),
            W=torch.from_numpy(W),
            A=None if A is None else torch.from_numpy(A),
            structure=_structure(A, settings.fidelity),
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.W.shape[1],)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (self.W.shape[0],)

    @property
    def signal_shape(self) -> tuple[int, ...]:
        side = self.settings.side
        return self.x_shape if side is None else (side, side)

    @property
    def measurement(self) -> Measurement:
        if self.settings.instance is not None:  # whose y is planted
            return Measurement.MEASURED
        return Measurement.of(self.settings.forward, self.settings.noise)

    def tensors(self) -> dict[str, Tensor]:
        named = {"y": self.y, "x_true": self.x_true, "A": self.A, "c": torch.tensor(self._c)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def theta0(self) -> Theta:
        return {"W": self.W}

    @property
    def _c(self) -> float:
        return 1.0 if self.settings.fidelity == "half" else 2.0

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        del theta
        gradient = x - self.y if self.A is None else (x @ self.A.T - self.y) @ self.A
        return gradient if self._c == 1.0 else self._c * gradient

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        return x @ theta["W"].T

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        return u @ theta["W"]

    def loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        del theta
        return 0.5 * ((x - self.x_true) ** 2).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        return x - self.x_true, zero_gradient(theta)

    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        import cvxpy as cp

        k, n = self.W.shape
        x, z = cp.Variable(n, name="x"), cp.Variable(k, name="z")
        W, y = cp.Parameter((k, n), name="W"), cp.Parameter(self.y.shape[1], name="y")
        residual = x - y if self.A is None else self.A.cpu().numpy() @ x - y
        split = W @ x == z
        objective = self._c / 2 * cp.sum_squares(residual) + cp.norm1(z)
        problem = cp.Problem(cp.Minimize(objective), [split])
        return problem, {"W": W, "y": y}, {"x": x, "u": split.dual_variables[0]}

    def conic_data(self) -> dict[str, Tensor]:
        return {"y": self.y}


def _hard_instance(settings: Settings, name: str, rng: np.random.Generator) -> AnalysisL1:
    made = hard.INSTANCES[name](hard.Asked(settings.n, settings.margin or 1e-6, rng))
    W, y, x_true = (torch.from_numpy(part) for part in (made.W, made.y, made.x_true))
    return AnalysisL1(settings, y[None], x_true[None], W, A=None, structure=_structure(None, "half"))


def _structure(A: np.ndarray | None, fidelity: str) -> Structure:
    structure = Structure.MINIMISATION | Structure.AFFINE_F | Structure.TRANSFORM | Structure.L1 | Structure.CONIC
    if operators.has_independent_columns(A):
        structure |= Structure.UNIQUE
    if A is None and fidelity == "half":
        structure |= Structure.IDENTITY_FORWARD
    return structure
