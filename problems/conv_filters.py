"""Learned convolutional filters (Crockett and Fessler, "Bilevel methods for image reconstruction", equation Ex).

x*(c, b) = argmin_x  1/2 ||A x - y||^2 + sum_k 1' phi(w_k c_k * x),        w_k = e^{b_0 + b_k},
L(c, b) = the sum over the pairs of 1/2 ||x* - x_true||^2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

from problems import image_operators, images, operators, signals
from problems._convolution import CircularConvolution
from problems._pairs import Pairs
from problems._portable import exponential, length, normal
from problems.contract import Linearised, LinearMap, Measurement, Structure, Theta, zero_gradient
from problems.image_operators import ForwardOperator
from problems.penalties import L1, CornerRoundedL1, LogSum, Penalty, Quadratic, StudentT

Positive = Annotated[int, pydantic.Field(ge=1)]
Sides = tuple[Positive, Positive]
Size = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]

EPSILON = {"corner_rounded": 0.01, "student_t": 0.01, "log_sum": 1.0}
"""What the paper takes (Appendix D, readings.md R.1) or prints (section 6.1)."""
OF_FORWARD = {"sampling": image_operators.SAMPLING, "spokes": ("fourier_radial",), "blur_deviation": ("blur",)}


class Settings(pydantic.BaseModel):
    """What an instance is made from; every key has a default."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    shape: Positive | Sides = (8, 8)
    """Samples of a signal, or rows and columns of a picture; in TOML [[256, 256]], as a list is an axis."""
    signal: Literal["patches", "piecewise_constant", "dct_sparse", "gaussian"] | None = None
    """Left out, patches of pictures, or piecewise constant signals where there is one dimension."""
    filters: Literal["dct", "random"] = "dct"
    """Products of cosines, unit norm, without the constant one (section 6.1); or normal taps of unit norm."""
    filter_size: Positive | Sides = 3
    """Taps, per side where there are two."""
    count: Positive | None = None
    """Filters; left out, one fewer than taps (and one at least)."""
    log_weight: Annotated[float, pydantic.Field(allow_inf_nan=False)] = -4.0
    """b_0, which is not learned; every b_k starts at 0 (Appendix D)."""
    weights: Literal["inside", "outside"] = "inside"
    """phi(w_k c_k * x), or w_k phi(c_k * x) as (Ex) prints it. The l1 norm takes both for the same."""
    penalty: Literal["corner_rounded", "l1", "log_sum", "student_t", "quadratic"] = "corner_rounded"
    epsilon: Size | None = None
    """Length over which phi bends, in the unit of c_k * x at b = 0; left out, 0.01, or 1 for log_sum."""
    forward: image_operators.Forward = "identity"
    sampling: Size | None = None
    """Measured pixels (mask, 3/4 left out), frequencies (fourier_random, 1/2) or rows per pixel (dense, 3/2)."""
    spokes: Positive | None = None
    """Lines of fourier_radial; left out, a quarter of the longer side."""
    blur_deviation: Size | None = None
    """Standard deviation of the Gaussian of blur in pixels; left out, 1."""
    noise: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.1
    """Standard deviation of the noise in y."""
    ripple: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.02
    """Amplitude of a slow cosine in x_true, one-dimensional signals only (see analysis_l1)."""
    pairs: Positive = 2
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    folder: str | None = None
    """Where the pictures of `patches` are; left out, those that scikit-image ships."""

    @property
    def sides(self) -> Sides:
        """Rows and columns."""
        return (1, self.shape) if isinstance(self.shape, int) else self.shape

    @property
    def taps(self) -> Sides:
        """Rows and columns of a filter."""
        if isinstance(self.filter_size, int):
            return (1 if isinstance(self.shape, int) else self.filter_size, self.filter_size)
        return self.filter_size

    @pydantic.model_validator(mode="after")
    def _signal_of_that_dimension(self) -> Settings:
        if isinstance(self.shape, int) and self.signal == "patches":
            raise ValueError(f"patches are pictures: write shape = [[{self.shape}, {self.shape}]]")
        if not isinstance(self.shape, int) and self.signal not in (None, "patches"):
            raise ValueError(f"{self.signal} has one dimension: write shape = {math.prod(self.shape)}")
        return self

    @pydantic.model_validator(mode="after")
    def _filters_that_fit(self) -> Settings:
        if any(taps > pixels for taps, pixels in zip(self.taps, self.sides, strict=True)):
            raise ValueError(f"filters of {_times(self.taps)} do not fit into {_times(self.sides)}")
        most = math.prod(self.taps) - 1
        if self.filters == "dct" and not 0 < (self.count or most) <= most:
            raise ValueError(f"dct has {most} filters of {_times(self.taps)} besides the constant one")
        return self

    @pydantic.model_validator(mode="after")
    def _only_what_is_used(self) -> Settings:
        if self.epsilon is not None and self.penalty not in EPSILON:
            raise ValueError(f"{self.penalty} has no length: leave epsilon out")
        if self.penalty == "l1" and self.weights == "outside":
            raise ValueError("w |z| = |w z|: leave weights out")
        for name, kinds in OF_FORWARD.items():
            if getattr(self, name) is not None and self.forward not in kinds:
                raise ValueError(f"{name} is for forward = {' or '.join(kinds)}: leave it out")
        if self.forward in ("mask", "fourier_random") and (self.sampling or 0) > 1:
            raise ValueError(f"{self.forward} measures nothing twice: sampling is 1 at most, not {self.sampling:g}")
        return self


@dataclass(frozen=True)
class ConvFilters(Pairs):
    """F(x) = A^T (A x - y), K stacks w_k C(c_k), M = K^T; theta = {"c": (filters, taps), "b": (filters,)}.

    C is circular convolution (Crockett and Fessler, equation 2.7); nothing is a matrix but in `dense`. (Ex) has the
    weights outside of phi: then K stacks C(c_k) and M the w_k C(c_k)^T, a minimisation still, but M is not K^T and
    MINIMISATION is not claimed. Inside, M = K^T, and K depends on e^b_k c_k alone; the two are one problem for l1, and
    for corner_rounded at b = 0.

    A product with K or M costs K S N multiplications per sample, `pullback` twice that, for K filters of S taps and N
    pixels; F_x those of A. Memory is K N + S N numbers per sample.

    x* need not be unique where A is not injective or phi is not convex. With l1 the rows of K on the cosupport are
    dependent as soon as filters of mean zero overlap there: see README.md for where the derivative exists.
    """

    settings_type = Settings

    settings: Settings
    y: Float[Tensor, "b m"]
    x_true: Float[Tensor, "b N"]
    c: Float[Tensor, "K S"]
    A: ForwardOperator
    convolution: CircularConvolution
    structure: Structure
    penalty: Penalty

    @classmethod
    def build(cls, settings: Settings) -> ConvFilters:
        """Pair i depends on the seed and on i alone, so that more pairs extend fewer."""
        c = _filters(settings, np.random.default_rng([settings.seed, 0]))
        A = _forward_operator(settings, np.random.default_rng([settings.seed, 1]))
        generators = [np.random.default_rng([settings.seed, 2, pair]) for pair in range(settings.pairs)]
        x_true = np.stack([_clean(settings, rng) for rng in generators])
        clean = np.stack([A.data_of(x) for x in x_true])
        y = clean + settings.noise * np.stack([normal(rng, clean.shape[1]) for rng in generators])
        penalty = _penalty(settings)
        return cls(
            settings=settings,
            y=torch.from_numpy(y),
            x_true=torch.from_numpy(x_true),
            c=torch.from_numpy(c),
            A=A,
            convolution=CircularConvolution.of(settings.sides, settings.taps),
            structure=_structure(A, penalty, settings.weights),
            penalty=penalty,
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.x_true.shape[1],)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (len(self.c) * self.x_true.shape[1],)

    @property
    def signal_shape(self) -> tuple[int, ...]:
        return self.x_shape if isinstance(self.settings.shape, int) else self.settings.sides

    @property
    def measurement(self) -> Measurement:
        return Measurement.of(self.settings.forward, self.settings.noise)

    def tensors(self) -> dict[str, Tensor]:
        settings = self.settings
        epsilon = settings.epsilon or EPSILON.get(settings.penalty, 0.0)
        return {
            "y": self.y,
            "x_true": self.x_true,
            "sides and taps": torch.tensor([settings.sides, settings.taps]),
            f"{settings.penalty}, weights {settings.weights}": torch.tensor([settings.log_weight, epsilon]),
            **{f"{settings.forward}.{name}": tensor for name, tensor in self.A.tensors().items()},
        }

    def theta0(self) -> Theta:
        return {"c": self.c, "b": self.c.new_zeros(len(self.c))}

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        del theta
        return self.A.adjoint(self.A.forward(x) - self.y)

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        return self._responses(self._filters_of_K(theta), x)

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        return self._sum_of_adjoints(self._weighted_filters(theta), u)

    def pullback(self, p: Tensor, a: Tensor, x: Tensor, u: Tensor, theta: Theta) -> Theta:
        """With G_u and G_a the correlations of u_k with p and of a_k with x, the pairing is
        sum_k w_k <c_k, G_u> + <c_k, G_a> (times w_k where it is inside), plus what does not depend on theta."""
        with torch.no_grad():
            w, c = self._w(theta), theta["c"]
            G_u, G_a = (self.convolution.adjoint_in_c(self._by_filter(z), v) for z, v in ((u, p), (a, x)))
            if self._weights_inside:
                G_u, G_a = G_u + G_a, torch.zeros_like(G_a)
            return {"c": w * G_u + G_a, "b": (w * c * G_u).sum(1)}

    def linearise(self, x: Tensor, theta: Theta) -> Linearised:
        inner, outer = self._filters_of_K(theta), self._weighted_filters(theta)

        def rows(product: Callable[[Tensor], Tensor]) -> Tensor:
            return product(torch.eye(x.shape[1], dtype=x.dtype, device=x.device)).expand(x.shape[0], -1, -1)

        return Linearised(
            F_x=LinearMap(self.A.gram, self.A.gram, lambda: rows(self.A.gram)),
            K=LinearMap(
                lambda v: self._responses(inner, v),
                lambda z: self._sum_of_adjoints(inner, z),
                lambda: rows(lambda v: self._responses(inner, v)).mT,
            ),
            M=LinearMap(
                lambda z: self._sum_of_adjoints(outer, z),
                lambda v: self._responses(outer, v),
                lambda: rows(lambda v: self._responses(outer, v)),
            ),
        )

    def loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        del theta
        return 0.5 * ((x - self.x_true) ** 2).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        return x - self.x_true, zero_gradient(theta)

    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        raise NotImplementedError("e^b c is not affine in theta: no disciplined parametrised program states it")

    def conic_data(self) -> dict[str, Tensor]:
        raise NotImplementedError("conv_filters states no cone program")

    @property
    def _weights_inside(self) -> bool:
        return self.settings.weights == "inside"

    def _w(self, theta: Theta) -> Float[Tensor, "K 1"]:
        return torch.exp(self.settings.log_weight + theta["b"])[:, None]

    def _weighted_filters(self, theta: Theta) -> Float[Tensor, "K S"]:
        return self._w(theta) * theta["c"]

    def _filters_of_K(self, theta: Theta) -> Float[Tensor, "K S"]:
        return self._weighted_filters(theta) if self._weights_inside else theta["c"]

    def _by_filter(self, z: Float[Tensor, "b k"]) -> Float[Tensor, "b K N"]:
        return z.reshape(-1, len(self.c), self.x_true.shape[1])

    def _responses(self, c: Float[Tensor, "K S"], x: Float[Tensor, "b N"]) -> Float[Tensor, "b k"]:
        return self.convolution.responses(c, x).flatten(1)

    def _sum_of_adjoints(self, c: Float[Tensor, "K S"], z: Float[Tensor, "b k"]) -> Float[Tensor, "b N"]:
        return self.convolution.adjoint_in_x(c, self._by_filter(z))


def _filters(settings: Settings, rng: Generator) -> Float[np.ndarray, "K S"]:
    rows, columns = settings.taps
    count = settings.count or max(1, rows * columns - 1)
    if settings.filters == "random":
        c = normal(rng, (count, rows * columns))
        return c / length(c)[:, None]
    down, across = (operators.transform_matrix("dct", taps, taps, rng) for taps in settings.taps)
    return np.kron(down, across)[1 : count + 1]


def _forward_operator(settings: Settings, rng: Generator) -> ForwardOperator:
    kind, shape = settings.forward, settings.sides
    if kind == "identity":
        return image_operators.Identity()
    if kind == "blur":
        return image_operators.gaussian_blur(shape, settings.blur_deviation or 1.0)
    if kind == "fourier_radial":
        return image_operators.radial_frequencies(shape, settings.spokes or max(1, max(shape) // 4))
    sampling = settings.sampling or image_operators.SAMPLING[kind]
    if kind == "mask":
        return image_operators.mask(shape, sampling, rng)
    if kind == "fourier_random":
        return image_operators.random_frequencies(shape, sampling, rng)
    return image_operators.gaussian_matrix(shape, sampling, rng)


def _clean(settings: Settings, rng: Generator) -> Float[np.ndarray, " N"]:
    if isinstance(settings.shape, int):
        return signals.draw(settings.signal or "piecewise_constant", settings.shape, settings.ripple, rng)
    return images.crop(*settings.shape, settings.folder, rng)


def _penalty(settings: Settings) -> Penalty:
    """phi, its length in the unit of Kx."""
    if settings.penalty == "l1":
        return L1()
    if settings.penalty == "quadratic":
        return Quadratic()
    scale = float(exponential(np.array(settings.log_weight))) if settings.weights == "inside" else 1.0
    epsilon = scale * (settings.epsilon or EPSILON[settings.penalty])
    if settings.penalty == "corner_rounded":
        return CornerRoundedL1(epsilon)
    return LogSum(epsilon) if settings.penalty == "log_sum" else StudentT(epsilon)


def _structure(A: ForwardOperator, penalty: Penalty, weights: str) -> Structure:
    structure = Structure.AFFINE_F
    if weights == "inside":
        structure |= Structure.MINIMISATION
    if isinstance(A, image_operators.Identity):
        structure |= Structure.IDENTITY_FORWARD
    structure |= Structure.L1 if isinstance(penalty, L1) else Structure.SMOOTH
    if A.injective and penalty.convex:
        structure |= Structure.UNIQUE
    return structure


def _times(sides: Sides) -> str:
    return " x ".join(str(side) for side in sides)
