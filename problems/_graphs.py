"""Rings and grids of players, their unordered pairs of neighbours, and the weights a_jk that the players give them."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.random import Generator
from torch import Tensor

from problems._portable import exponential, normal


@dataclass(frozen=True)
class Graph:
    """Players 0 ... n-1; pair e joins starts[e] and ends[e], and every pair of neighbours is there once."""

    n: int
    starts: Int[Tensor, " k"]
    ends: Int[Tensor, " k"]
    offset: Int[Tensor, " k"]
    """Which of the `offsets` leads from the start of a pair to its end."""
    offsets: int
    squared_length: Float[Tensor, " k"]
    """Squared distance of the two, in steps of the graph."""
    window: Int[Tensor, "n q"]
    """The players of the patch around each: three in a row, or three by three with the border repeated."""

    @property
    def k(self) -> int:
        """Number of pairs."""
        return self.starts.shape[0]


def ring(n: int, reach: float) -> Graph:
    """n players in a circle, each with those at most `reach` steps away. Raises ValueError where a pair meets twice."""
    lags = range(1, math.floor(reach) + 1)
    if 2 * len(lags) >= n:
        raise ValueError(f"a ring of {n} has no {len(lags)} neighbours on either side: lower reach, or raise n")
    j = np.arange(n)
    pairs = [(j, (j + lag) % n) for lag in lags]
    return _graph(n, pairs, [lag**2 for lag in lags], np.stack([(j - 1) % n, j, (j + 1) % n], 1))


def grid(side: int, reach: float) -> Graph:
    """side x side players, each with those at most `reach` away: 4 of them for 1, 8 for 1.5, 12 for 2."""
    if side < 2:
        raise ValueError("a grid needs at least 2 x 2 players")
    number = np.arange(side * side).reshape(side, side)
    most = min(math.floor(reach), side - 1)
    half_plane = [(0, right) for right in range(1, most + 1)]
    half_plane += [(down, right) for down in range(1, most + 1) for right in range(-most, most + 1)]
    steps = [(down, right) for down, right in half_plane if down**2 + right**2 <= reach**2]
    pairs = []
    for down, right in steps:
        left = slice(max(0, -right), side - max(0, right))
        moved = slice(max(0, right), side - max(0, -right))
        pairs.append((number[: side - down, left].ravel(), number[down:, moved].ravel()))
    padded = np.pad(number, 1, mode="edge")
    window = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(side * side, 9)
    return _graph(side * side, pairs, [down**2 + right**2 for down, right in steps], window)


def _graph(n: int, pairs: list[tuple[np.ndarray, np.ndarray]], squares: list[int], window: np.ndarray) -> Graph:
    counts = [len(starts) for starts, _ in pairs]
    starts, ends = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return Graph(
        n=n,
        starts=torch.from_numpy(starts),
        ends=torch.from_numpy(ends),
        offset=torch.from_numpy(np.repeat(np.arange(len(pairs)), counts)),
        offsets=len(pairs),
        squared_length=torch.from_numpy(np.repeat(np.asarray(squares, float), counts)),
        window=torch.from_numpy(window.copy()),
    )


class Weights(abc.ABC):
    """Parameters -> (a_jk, a_kj) of every pair e = (j, k), each of shape (k,)."""

    name: str
    """What theta calls the parameters."""
    start: Tensor
    """Where the gradient is asked for."""

    @abc.abstractmethod
    def of(self, parameters: Tensor) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """The two weights of every pair; differentiable."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What the weights depend on besides their parameters."""


@dataclass(frozen=True)
class Free(Weights):
    """The weights are the parameters: one per offset (the paper's a_{j-k}) or one per pair, and per direction."""

    start: Float[Tensor, " P"]
    ahead: Int[Tensor, " k"]
    """Which of them is a_jk."""
    back: Int[Tensor, " k"]
    """Which is a_kj: the same one where the weights are symmetric."""
    name: str = "a"

    def of(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return parameters[self.ahead], parameters[self.back]

    def tensors(self) -> dict[str, Tensor]:
        return {"ahead": self.ahead, "back": self.back}


@dataclass(frozen=True)
class Softmax(Weights):
    """a_jk = scale softmax_k(-d_jk) over the neighbours of j (settings L.2): every player shares out the same total.

    bilateral   d_jk = (g_j - g_k)^2 / (2 sigma_0^2) + |j - k|^2 / (2 sigma_1^2),   parameters "sigma" (2,)
    non-local   d_jk = ||diag(kappa) (P_j g - P_k g)||^2,                           parameters "kappa" (q,)

    with a guide picture g and its patches P_j g. d is symmetric, a is not, as each player has its own neighbours;
    `symmetric` takes the mean of a_jk and a_kj.
    """

    name: str
    start: Float[Tensor, " f"]
    features: Float[Tensor, "k f"]
    """d_jk = features @ sigma^-2, or features @ kappa^2."""
    slots: Int[Tensor, "2 k"]
    """Where (j, k) and (k, j) stand in the table of all players' neighbours, read row by row."""
    table: Int[Tensor, "n neighbours"]
    """The pairs that each player is in; k where it has fewer."""
    scale: float
    symmetric: bool

    def of(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights = parameters**-2 if self.name == "sigma" else parameters**2
        d = torch.nn.functional.pad(self.features @ weights, (0, 1), value=math.inf)
        shares = self.scale * torch.softmax(-d[self.table], 1).reshape(-1)
        ahead, back = shares[self.slots[0]], shares[self.slots[1]]
        if self.symmetric:
            ahead = back = 0.5 * (ahead + back)
        return ahead, back

    def tensors(self) -> dict[str, Tensor]:
        return {"features": self.features, "scale": torch.tensor([self.scale, self.symmetric])}


def free(
    graph: Graph, per: Literal["offset", "pair"], ratio: float | None, scale: float, spread: float, rng: Generator
) -> Free:
    """Log-normal weights; a_jk / a_kj is `ratio` for every offset, `ratio` or its inverse for every pair.

    Without a ratio both directions share one parameter.
    """
    size, own = (graph.offsets, graph.offset) if per == "offset" else (graph.k, torch.arange(graph.k))
    a = scale * exponential(spread * normal(rng, size))
    if ratio is None:
        return Free(torch.from_numpy(a), own, own)
    signs = np.ones(size) if per == "offset" else rng.choice([-1.0, 1.0], size)
    lean = np.where(signs > 0, math.sqrt(ratio), 1.0 / math.sqrt(ratio))
    return Free(torch.from_numpy(np.concatenate([a * lean, a / lean])), own, own + size)


def bilateral(
    graph: Graph, guide: Float[Tensor, " n"], sigma: tuple[float, float], scale: float, symmetric: bool
) -> Softmax:
    """sigma = (sigma_d, sigma_r): of intensity, and of position, as the paper has them (settings X.56)."""
    intensity = (guide[graph.starts] - guide[graph.ends]) ** 2
    features = torch.stack([intensity / 2, graph.squared_length / 2], 1)
    return Softmax("sigma", torch.tensor(sigma, dtype=guide.dtype), features, *_neighbours(graph), scale, symmetric)


def non_local(graph: Graph, guide: Float[Tensor, " n"], kappa: float, scale: float, symmetric: bool) -> Softmax:
    """With every entry of kappa the same to begin with."""
    patches = guide[graph.window]
    features = (patches[graph.starts] - patches[graph.ends]) ** 2
    start = torch.full((features.shape[1],), kappa, dtype=guide.dtype)
    return Softmax("kappa", start, features, *_neighbours(graph), scale, symmetric)


def _neighbours(graph: Graph) -> tuple[Int[Tensor, "2 k"], Int[Tensor, "n neighbours"]]:
    players = torch.cat([graph.starts, graph.ends])
    degree = torch.bincount(players, minlength=graph.n)
    order = torch.argsort(players, stable=True)
    first = torch.cumsum(degree, 0) - degree
    most = int(degree.max())
    slots = torch.empty_like(players)
    slots[order] = players[order] * most + torch.arange(2 * graph.k) - first[players[order]]
    table = torch.full((graph.n * most,), graph.k)
    table[slots] = torch.arange(graph.k).repeat(2)
    return slots.reshape(2, -1), table.reshape(graph.n, most)
