"""The pixel games of Lecouat, Ponce and Mairal (section 3.2 and table 1): every pixel is a player of its own.

x*_j = argmin_{x_j}  1/2 (x_j - y_j)^2 + sum_{k in N_j} a_jk phi(x_j - x*_k)   for every j,
L(theta) = sum_b 1/2 ||x*_b(theta) - x_true_b||^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from problems import _graphs, images, signals
from problems._game_uniqueness import has_one_equilibrium
from problems._pairs import Pairs
from problems._portable import PRECISE, cosine, normal, power
from problems._portable_torch import PortableTorch
from problems.contract import AutodiffProblem, Measurement, Structure, Theta, zero_gradient
from problems.penalties import L1, MoreauL1, Penalty, Quadratic

Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


class Settings(pydantic.BaseModel):
    """What an instance is made from; every key has a default."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    graph: Literal["ring", "grid"] = "ring"
    """No chain, whose weights can always be made symmetric (see `_can_be_made_symmetric`)."""
    n: Annotated[int, pydantic.Field(ge=3)] = 16
    """Players; a square for a grid."""
    reach: Annotated[float, pydantic.Field(ge=1, allow_inf_nan=False)] = 1.0
    """How far a neighbour may be: on a grid 1 gives 4 of them, 1.5 gives 8."""
    penalty: Literal["moreau", "l1", "quadratic"] = "moreau"
    """phi: the Moreau envelope of |z|, |z| itself, or z^2, which makes it the paper's Laplacian."""
    alpha: Positive = 20.0
    """Of the Moreau envelope (section 3.3), which approaches |z| as it grows."""
    learn_alpha: bool = False
    """theta has alpha too."""
    iterations: Annotated[int, pydantic.Field(ge=1)] | None = None
    """theta has an alpha_t and a step size eta_t for so many iterations of the solver scheduled_gradient. The alpha_t
    grow to `alpha`, by one factor, and eta_t = 1 / (1 + alpha_t max_j sum_k a_jk)."""
    weights: Literal["offset", "pair", "bilateral", "non_local"] = "offset"
    """theta: one a per offset (the paper's a_{j-k}) or per pair, sigma of bilateral, kappa of non-local weights."""
    symmetric: bool = False
    """a_jk = a_kj: a potential game, which is a minimisation (appendix A.2)."""
    scale: Positive = 0.1
    """Median of the a of `offset` and `pair`; what bilateral and non-local weights add up to for each player."""
    spread: NotNegative = 0.3
    """Standard deviation of log a, for `offset` and `pair`."""
    ratio: Positive = 3.0
    """a_jk / a_kj where they are not symmetric: of an offset to its opposite, or of a pair in a direction drawn."""
    sigma: tuple[Positive, Positive] = (0.2, 1.0)
    """(sigma_d, sigma_r) of bilateral weights, of intensity and of position, as in the paper."""
    kappa: Positive = 2.0
    """Of non-local weights, for every pixel of the patch."""
    noise: NotNegative = 0.1
    """Standard deviation of the noise in y."""
    ripple: NotNegative = 0.02
    """Amplitude of a slow cosine in x_true, on rings and drawn pictures; see analysis_l1."""
    picture: Literal["drawn", "patches"] = "drawn"
    """Of a grid: piecewise constant in rows plus the same in columns, or patches of real pictures."""
    pairs: Annotated[int, pydantic.Field(ge=1)] = 2
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    folder: str | None = None
    """Where the pictures of `patches` are; left out, those that scikit-image ships."""

    instance: Literal["continuum"] | None = None
    """The hard instance of `continuum`, instead of a drawn one; n is all it takes."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.instance is not None:
            for name, value in self.model_dump(exclude={"n", "instance"}, exclude_defaults=True).items():
                raise ValueError(f"instance = '{self.instance}' settles {name} itself: leave {name} = {value!r} out")
        if self.graph == "grid" and math.isqrt(self.n) ** 2 != self.n:
            raise ValueError(f"n = {self.n} is not a square: a grid needs n such as 16 or 64")
        if self.graph == "ring" and 2 * math.floor(self.reach) >= self.n:
            raise ValueError(f"reach = {self.reach} goes round a ring of n = {self.n}: lower reach, or raise n")
        if self.weights == "bilateral" and self.reach < (2 if self.graph == "ring" else math.sqrt(2)):
            raise ValueError("all neighbours are equally far, and sigma_r has no effect: set reach = 2")
        if self.alpha_in_theta and self.penalty != "moreau":
            raise ValueError(f"penalty = '{self.penalty}' has no alpha to learn: set penalty = 'moreau'")
        if self.learn_alpha and self.iterations is not None:
            raise ValueError("iterations puts an alpha for each of them into theta: leave learn_alpha out")
        return self

    @property
    def alpha_in_theta(self) -> bool:
        """Whether theta has one alpha, or one per iteration."""
        return self.learn_alpha or self.iterations is not None


@dataclass(frozen=True)
class TvGame(Pairs, AutodiffProblem):
    """F(x) = x - y, and K has a row x_j - x_k for each unordered pair e = (j, k) of neighbours, with one u_e,

        (K x)_e = x_j - x_k,     M[j, e] = a_jk,     M[k, e] = -a_kj,

    so that (F + M u)_j is the derivative of player j's own cost. With symmetric weights and |z| the rows of K carry
    a_jk, which |a z| allows, so that M = K^T and the game is the minimisation that it equals; with a learned alpha they
    carry alpha, and phi is the envelope of alpha 1.

    A smooth penalty has one equilibrium for all positive weights: I + M diag(phi'') K is an M-matrix with row sums 1.
    |z| has one where the weights are symmetric, or can be made so by weighting the players. Elsewhere UNIQUE is claimed
    only where `has_one_equilibrium` proves it at theta0, for every pair of the batch; it then holds near theta0.

    theta is {"a"}, {"sigma": (2,)} or {"kappa": (q,)}, and {"alpha": (1,)} where that is learned, or {"alpha": (T,),
    "eta": (T,)} for T iterations, the last alpha being that of K. Bilateral and non-local weights are those of one
    guide picture, as all samples share M: the pairs are noisy takes of one picture, the guide is another take. The
    paper takes them from each picture itself, and refreshes them (settings X.54).
    """

    settings_type = Settings

    settings: Settings
    y: Float[Tensor, "b n"]
    x_true: Float[Tensor, "b n"]
    graph: _graphs.Graph
    weights: _graphs.Weights
    start: Theta
    structure: Structure
    penalty: Penalty

    @classmethod
    def build(cls, settings: Settings) -> TvGame:
        """Pair i depends on the seed and on i alone, so that more pairs extend fewer."""
        if settings.instance is not None:
            return continuum(settings)
        graph = _graph(settings)
        shared = settings.weights in ("bilateral", "non_local")
        x_true = np.stack([_picture(settings, 0 if shared else pair) for pair in range(settings.pairs)])
        y = x_true + np.stack([_noise(settings, pair) for pair in range(settings.pairs)])
        weights = _weights(settings, graph)
        return cls(
            settings=settings,
            graph=graph,
            weights=weights,
            start=_start(settings, graph, weights),
            y=torch.from_numpy(y),
            x_true=torch.from_numpy(x_true),
            structure=_structure(settings, graph, weights, y),
            penalty=_penalty(settings),
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.graph.n,)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return (self.graph.k,)

    @property
    def signal_shape(self) -> tuple[int, ...]:
        side = math.isqrt(self.graph.n)
        return self.x_shape if self.settings.graph == "ring" else (side, side)

    @property
    def measurement(self) -> Measurement:
        if self.settings.instance is not None:  # whose y is planted
            return Measurement.MEASURED
        return Measurement.of("identity", self.settings.noise)

    def tensors(self) -> dict[str, Tensor]:
        phi = torch.tensor([[L1, Quadratic, MoreauL1].index(type(self.penalty)), self.settings.alpha])
        pairs = {"starts": self.graph.starts, "ends": self.graph.ends, "phi": phi}
        return {"y": self.y, "x_true": self.x_true, **pairs, **self.weights.tensors()}

    def theta0(self) -> Theta:
        return dict(self.start)

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        del theta
        return x - self.y

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        differences = x.index_select(1, self.graph.starts) - x.index_select(1, self.graph.ends)
        if Structure.MINIMISATION in self.structure:
            return differences * self.weights.of(theta[self.weights.name])[0]
        return differences * theta["alpha"][-1:] if self.settings.alpha_in_theta else differences

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        a_jk, a_kj = self.weights.of(theta[self.weights.name])
        paid = torch.index_add(u.new_zeros((u.shape[0], self.graph.n)), 1, self.graph.starts, u * a_jk)
        return torch.index_add(paid, 1, self.graph.ends, -u * a_kj)

    def loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        del theta
        return 0.5 * ((x - self.x_true) ** 2).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        return x - self.x_true, zero_gradient(theta)

    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        raise NotImplementedError("a game states no cone program")

    def conic_data(self) -> dict[str, Tensor]:
        raise NotImplementedError("a game states no cone program")


def continuum(settings: Settings) -> TvGame:
    """A ring with a_{j,j+1} = 0.3, a_{j,j-1} = 0.1 and |z|, whose equilibria are x = c 1 for every |c - 1| <= 0.1.

    y = 1 + M u0 with |u0| <= 1/2. As M 1 = (0.3 - 0.1) 1, (1 + 0.2 t) 1 has the certificate u0 - t, which |t| <= 1/2
    leaves inside the box: K0 has one row more than its rank, M0 has none, and nothing tells the equilibria apart.
    """
    graph = _graphs.ring(settings.n, 1.0)
    weights = _graphs.Free(torch.tensor([0.3, 0.1], dtype=torch.float64), graph.offset, graph.offset + 1)
    structure = Structure.AFFINE_F | Structure.IDENTITY_FORWARD | Structure.L1
    x_true = torch.from_numpy(cosine(np.arange(settings.n) / settings.n))[None]
    ring = TvGame(settings, torch.ones_like(x_true), x_true, graph, weights, {"a": weights.start}, structure, L1())
    u0 = torch.tensor([0.5 * float(PRECISE.sin(2 * one + 1)) for one in range(settings.n)], dtype=torch.float64)
    with PortableTorch():
        return replace(ring, y=1.0 + ring.M(u0[None], ring.theta0()))


def _graph(settings: Settings) -> _graphs.Graph:
    if settings.graph == "ring":
        return _graphs.ring(settings.n, settings.reach)
    return _graphs.grid(math.isqrt(settings.n), settings.reach)


def _picture(settings: Settings, pair: int) -> Float[np.ndarray, " n"]:
    rng = np.random.default_rng([settings.seed, 2, pair])
    if settings.graph == "ring":
        return signals.draw("piecewise_constant", settings.n, settings.ripple, rng)
    side = math.isqrt(settings.n)
    if settings.picture == "patches":
        return images.patch(side, settings.folder, rng)
    row, column = (signals.draw("piecewise_constant", side, settings.ripple, rng) for _ in range(2))
    return (0.5 * (row[:, None] + column)).ravel()


def _noise(settings: Settings, take: int) -> Float[np.ndarray, " n"]:
    return settings.noise * normal(np.random.default_rng([settings.seed, 3, take]), settings.n)


def _weights(settings: Settings, graph: _graphs.Graph) -> _graphs.Weights:
    if settings.weights == "offset" or settings.weights == "pair":
        ratio = None if settings.symmetric else settings.ratio
        rng = np.random.default_rng([settings.seed, 0])
        return _graphs.free(graph, settings.weights, ratio, settings.scale, settings.spread, rng)
    other_take = settings.noise * normal(np.random.default_rng([settings.seed, 4]), settings.n)
    guide = torch.from_numpy(_picture(settings, 0) + other_take)
    if settings.weights == "bilateral":
        return _graphs.bilateral(graph, guide, settings.sigma, settings.scale, settings.symmetric)
    return _graphs.non_local(graph, guide, settings.kappa, settings.scale, settings.symmetric)


def _start(settings: Settings, graph: _graphs.Graph, weights: _graphs.Weights) -> Theta:
    theta = {weights.name: weights.start}
    if settings.iterations is not None:
        alpha = torch.from_numpy(power(settings.alpha, np.arange(1, settings.iterations + 1) / settings.iterations))
        with PortableTorch():
            a_jk, a_kj = weights.of(weights.start)
            total = a_jk.new_zeros(graph.n).index_add(0, graph.starts, a_jk).index_add(0, graph.ends, a_kj)
            return {**theta, "alpha": alpha, "eta": 1.0 / (1.0 + alpha * total.max())}
    return {**theta, "alpha": weights.start.new_tensor([settings.alpha])} if settings.learn_alpha else theta


def _penalty(settings: Settings) -> Penalty:
    if settings.penalty == "l1":
        return L1()
    if settings.penalty == "quadratic":
        return Quadratic()
    return MoreauL1(1.0 if settings.alpha_in_theta else settings.alpha)


def _structure(
    settings: Settings, graph: _graphs.Graph, weights: _graphs.Weights, y: Float[np.ndarray, "b n"]
) -> Structure:
    structure = Structure.AFFINE_F | Structure.IDENTITY_FORWARD
    if settings.penalty != "l1":
        return structure | Structure.SMOOTH | Structure.UNIQUE
    structure |= Structure.L1
    if settings.symmetric:
        return structure | Structure.MINIMISATION | Structure.UNIQUE
    if _can_be_made_symmetric(settings):
        return structure | Structure.UNIQUE
    a_jk, a_kj = weights.of(weights.start)
    pairs = graph.starts.numpy(), graph.ends.numpy()
    return structure | Structure.UNIQUE if has_one_equilibrium(*pairs, a_jk.numpy(), a_kj.numpy(), y) else structure


def _can_be_made_symmetric(settings: Settings) -> bool:
    """Whether, for every theta, there are c_j > 0 with c_j a_jk = c_k a_kj: a potential game of players weighted by c.

    Bilateral and non-local weights: c_j = sum_k exp(-d_jk), which the softmax divides by. Weights per offset on a grid
    with four neighbours: c is geometric in the row and in the column.
    """
    if settings.weights == "offset":
        return settings.graph == "grid" and settings.reach < math.sqrt(2)
    return settings.weights in ("bilateral", "non_local")
