"""The patch games of Lecouat, Ponce and Mairal (section 3.2 and table 1): every overlapping patch is a player.

Player j owns the code z_j of patch j and minimises over it, the others' codes z* given,

    1/2 ||D z_j - P_j y||^2  +  sum_l lambda_l |z_j[l]|                                                  sparse coding
    + gamma/2 ||W z_j - P_j yhat||^2,   yhat = N^-1 sum_k P_k^T W z_k,                              variance reduction
    + sum_l mu_l sqrt(sum_{k in N_j} a_jk z_k[l]^2)                                                    non-local group

where P_j cuts patch j out and N counts the patches over each pixel. L(theta) = sum_b 1/2 ||yhat_b - x_true_b||^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from problems import images, operators
from problems._pairs import Pairs
from problems._portable import (
    exponential,
    is_positive_definite,
    length,
    logarithm,
    normal,
    power,
    product,
    spectral_norm,
)
from problems._portable_torch import PortableTorch
from problems.contract import AutodiffProblem, Measurement, Structure, Theta, zero_gradient
from problems.penalties import L1, MoreauL1, Penalty

Count = Annotated[int, pydantic.Field(ge=1)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]

BETWEEN_REFRESHES = 24
"""Gradient steps; the paper has 24 in all (settings L.7)."""


class Settings(pydantic.BaseModel):
    """What an instance is made from; every key has a default."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    side: Count = 6
    """Of the picture, in pixels."""
    patch: Count = 3
    """Side of a patch (L.7: 9)."""
    atoms: Count = 8
    """Columns of D (L.7: 256). No more than pixels in a patch, or `unique` is not claimed."""
    weight: Positive = 0.05
    """What the lambda_l are about."""
    penalty: Literal["moreau", "l1"] = "moreau"
    """The Moreau envelope of the weighted |z| (section 3.3), or |z| itself."""
    alpha: Positive = 20.0
    """Of the envelopes: |z| and the group norms are rounded off below 1/alpha (for |z|, where lambda_l = weight)."""
    iterations: Count | None = None
    """theta has an alpha_t and a step size eta_t for so many iterations of the solver scheduled_gradient. The alpha_t
    grow to `alpha`, by one factor; eta_t is one over a bound on the Lipschitz constant at alpha_t."""
    variance: NotNegative = 0.3
    """gamma; 0 leaves variance reduction out."""
    group: NotNegative = 0.0
    """What the mu_l are about; 0 leaves the non-local group penalty out."""
    symmetric: bool = False
    """Every player pays for all groups that it is in, not for its own alone: a potential game (appendix A.2)."""
    reach: NotNegative = 1.5
    """How far, in pixels, the corner of a similar patch may be: the radius of the search window."""
    kappa: Positive = 2.0
    """Of the similarity, for every pixel of a patch."""
    refreshes: Annotated[int, pydantic.Field(ge=0)] = 0
    """Times that the similarity is computed again, see `refreshed`; 0 leaves it that of y."""
    untied: bool = False
    """theta has a C of its own in the data term's C^T (D z - P y) (section 3.4)."""
    normalise: Literal["never", "start", "always"] = "start"
    """Whether D (and C) is divided by its largest singular value: not at all, where the gradient is taken, or in F."""
    spread: NotNegative = 0.1
    """Size of the random differences, relative: of D from cosines, of W and C from D, of lambda_l and mu_l from their
    median. The paper starts at C = D = W (L.8)."""
    noise: NotNegative = 0.1
    """Standard deviation of the noise in y."""
    pairs: Count = 2
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    folder: str | None = None
    """Where the pictures are; left out, those that scikit-image ships."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.patch > self.side:
            raise ValueError(f"patches of side {self.patch} do not fit into a picture of side {self.side}")
        if self.group > 0 and self.penalty == "l1":
            raise ValueError("the group norm is not separable, only its envelope is in F: set penalty = 'moreau'")
        if self.iterations is not None and self.penalty == "l1":
            raise ValueError("penalty = 'l1' has no alpha to learn: set penalty = 'moreau'")
        if self.group == 0:
            for name in ("symmetric", "reach", "kappa", "refreshes"):
                if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is about the group penalty: set group = 0.02, or leave it out")
        if self.symmetric and self.untied:
            raise ValueError("C^T (D z - P y) is no gradient where C is not D: leave symmetric or untied out")
        return self


@dataclass(frozen=True)
class PatchGame(Pairs, AutodiffProblem):
    """The unknown x stacks the codes, z_1 to z_J; K = M = diag(lambda), repeated for every patch, carries the l1 norm.

    F has what is left of every player's own derivative, halves on the squares (settings X.55):

        F_j = C^T (D z_j - P_j y) + gamma W^T s_j * (W z_j - P_j yhat) + mu * a_jj q_j * z_j,
        s_j = P_j (1 - 1/N),    q_j[l] = min(alpha, 1/||w_jl||),    w_jl = (sqrt(a_jk) z_k[l])_{k in N_j}.

    s_j is there because z_j moves yhat too. The group norm is smoothed as a norm, by the envelope of ||w|| (section
    3.3); it is no separable penalty, which is why it is in F. With `symmetric` a_jj q_j becomes sum_i a_ij q_i, and F
    the gradient of the sum of all groups. a_jk = softmax_k(-||diag(kappa) (P_j g - P_k g)||^2) over the window of j,
    j included, with the guide g of each pair its own y.

    theta: "D" (m, p), "W" (m, p) the debiasing dictionary, "log_lambda" (p,), and where they are used "C" (m, p),
    "log_variance" (1,) = log gamma, "log_group" (p,) = log mu, "kappa" (m,), "alpha" (T,) and "eta" (T,).

    Which games are minimisations: sparse coding with variance reduction is one, although every player looks at its own
    cost alone, as s is constant on the patches over a pixel, so that the pull is the gradient of gamma/2 sum of s times
    the squared deviations from yhat. An untied C, or a group that its own player pays for alone, makes F_x asymmetric.

    UNIQUE: with tau the least eigenvalue of the symmetric part of C^T D, H = F + M phi'(K x) is strongly monotone where
    tau exceeds what an asymmetric group may lack of being monotone (`_group_bounds`); it is claimed where theta0 has
    that, and holds near there. More atoms than pixels in a patch have tau = 0.

    F costs 4 m p J multiplications per sample, twice that with variance reduction; groups J^2 (m + p) and J^2 numbers.
    """

    settings_type = Settings
    per_pair = ("y", "x_true", "guide")

    settings: Settings
    y: Float[Tensor, "b N"]
    x_true: Float[Tensor, "b N"]
    guide: Float[Tensor, "b N"]
    """What the similarity is read off."""
    places: Int[Tensor, "J m"]
    """The pixels of every patch."""
    near: Bool[Tensor, "J J"]
    """Whether patch k is in the search window of patch j."""
    start: Theta
    structure: Structure
    penalty: Penalty

    @classmethod
    def build(cls, settings: Settings) -> PatchGame:
        """Pair i depends on the seed and on i alone, so that more pairs extend fewer."""
        generators = [np.random.default_rng([settings.seed, 2, pair]) for pair in range(settings.pairs)]
        x_true = np.stack([images.patch(settings.side, settings.folder, rng) for rng in generators])
        y = torch.from_numpy(x_true + settings.noise * np.stack([normal(rng, x_true.shape[1]) for rng in generators]))
        places, corners = _places(settings.side, settings.patch)
        down, right = (corners[:, None] - corners).transpose(2, 0, 1)
        penalty = L1() if settings.penalty == "l1" else MoreauL1(settings.alpha / settings.weight)
        problem = cls(
            settings=settings,
            y=y,
            x_true=torch.from_numpy(x_true),
            guide=y,
            places=torch.from_numpy(places),
            near=torch.from_numpy(down**2 + right**2 <= settings.reach**2),
            start=_start(settings),
            structure=Structure(0),
            penalty=penalty if settings.iterations is None else MoreauL1(1.0),
        )
        if settings.iterations is not None:
            eta = 1.0 / _steepness(problem, problem.start["alpha"].numpy())
            problem = replace(problem, start={**problem.start, "eta": torch.from_numpy(eta)})
        problem = replace(problem, structure=_structure(problem))
        for _ in range(settings.refreshes):
            with PortableTorch():
                problem = problem.refreshed(_descended(problem), problem.start)
        return problem

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (len(self.places) * self.settings.atoms,)

    @property
    def u_shape(self) -> tuple[int, ...]:
        return self.x_shape

    @property
    def signal_shape(self) -> tuple[int, ...]:
        return (self.settings.side, self.settings.side)

    @property
    def measurement(self) -> Measurement:
        return Measurement.of("identity", self.settings.noise)

    def tensors(self) -> dict[str, Tensor]:
        of = self.settings
        form = [of.penalty == "l1", of.normalise == "always", of.symmetric, of.variance > 0, of.group > 0, of.untied]
        return {
            "y": self.y,
            "x_true": self.x_true,
            "guide": self.guide,
            "places": self.places,
            "near": self.near,
            "form": torch.tensor(form),
            "alpha, weight": torch.tensor([of.alpha, of.weight], dtype=torch.float64),
        }

    def theta0(self) -> Theta:
        return dict(self.start)

    def F(self, x: Tensor, theta: Theta) -> Tensor:
        z = self._codes(x)
        C, D = self.dictionaries(theta)
        own = (z @ D.T - self.patches(self.y)) @ C
        if self.settings.variance > 0:
            decoded = z @ theta["W"].T
            share = self.patches(1.0 - 1.0 / self._covered)
            deviation = share * (decoded - self.patches(self._averaged(decoded)))
            own = own + theta["log_variance"].exp() * (deviation @ theta["W"])
        if self.settings.group > 0:
            own = own + self._group_gradient(z, theta)
        return own.flatten(1)

    def K(self, x: Tensor, theta: Theta) -> Tensor:
        weighted = x * self._lambda(theta)
        return weighted * (theta["alpha"][-1:] / self.settings.weight) if "alpha" in theta else weighted

    def M(self, u: Tensor, theta: Theta) -> Tensor:
        return u * self._lambda(theta)

    def loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        return 0.5 * ((self.reconstruct(x, theta) - self.x_true) ** 2).sum()

    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        error = self.patches((self.reconstruct(x, theta) - self.x_true) / self._covered)
        g_W = error.flatten(0, 1).T @ self._codes(x).flatten(0, 1)
        return (error @ theta["W"]).flatten(1), {**zero_gradient(theta), "W": g_W}

    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        raise NotImplementedError("a game states no cone program")

    def conic_data(self) -> dict[str, Tensor]:
        raise NotImplementedError("a game states no cone program")

    def reconstruct(self, x: Tensor, theta: Theta) -> Float[Tensor, "b N"]:
        """yhat: the mean of the overlapping W z_j (the paper's equation 3)."""
        return self._averaged(self._codes(x) @ theta["W"].T)

    def refreshed(self, x: Tensor, theta: Theta) -> PatchGame:
        """The game whose similarity is that of the picture which the codes x stand for, in the place of y.

        A constant: neither the gradient nor x* knows where the guide came from. The paper recomputes the similarity
        during its unrolled iterations and differentiates through it; how often, it says twice (settings X.54).
        """
        renewed = replace(self, guide=self.reconstruct(x, theta).detach())
        return replace(renewed, structure=_structure(renewed))

    def dictionaries(self, theta: Theta) -> tuple[Float[Tensor, "m p"], Float[Tensor, "m p"]]:
        """(C, D) as they are in F. `always` has no derivative where the largest singular value is a double one."""
        D = theta["D"]
        C = theta.get("C", D)
        if self.settings.normalise == "always":
            C, D = _normalised(C), _normalised(D)
        return C, D

    def patches(self, picture: Float[Tensor, "b N"]) -> Float[Tensor, "b J m"]:
        """P_j of every j."""
        return picture[:, self.places]

    def similarity(self, kappa: Float[Tensor, " m"]) -> Float[Tensor, "b J J"]:
        """a_jk; every row adds up to 1 (settings L.2)."""
        scaled = kappa * self.patches(self.guide)
        squares = (scaled * scaled).sum(2)
        d = squares[:, :, None] + squares[:, None, :] - 2.0 * scaled @ scaled.mT
        return torch.softmax((-d).masked_fill(~self.near, -math.inf), 2)

    def _codes(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b J p"]:
        return x.reshape(-1, len(self.places), self.settings.atoms)

    def _averaged(self, decoded: Float[Tensor, "b J m"]) -> Float[Tensor, "b N"]:
        stacked = decoded.new_zeros(decoded.shape[0], self.y.shape[1])
        return torch.index_add(stacked, 1, self.places.flatten(), decoded.flatten(1)) / self._covered

    @property
    def _covered(self) -> Float[Tensor, "1 N"]:
        """N, how many patches each pixel is in."""
        return torch.bincount(self.places.flatten(), minlength=self.y.shape[1]).to(self.y.dtype)[None]

    def _lambda(self, theta: Theta) -> Float[Tensor, " n"]:
        return theta["log_lambda"].exp().repeat(len(self.places))

    def _group_gradient(self, z: Float[Tensor, "b J p"], theta: Theta) -> Float[Tensor, "b J p"]:
        a = self.similarity(theta["kappa"])
        alpha = theta["alpha"][-1:] if "alpha" in theta else z.new_tensor([self.settings.alpha])
        squared = a @ (z * z)
        rounded = squared * alpha**2 <= 1.0  # a root of zero has no derivative, not even one to be left out
        q = torch.where(rounded, alpha, 1.0 / torch.where(rounded, 1.0, squared).sqrt())
        pull = a.mT @ q if self.settings.symmetric else a.diagonal(dim1=1, dim2=2)[:, :, None] * q
        return theta["log_group"].exp() * pull * z


def _places(side: int, patch: int) -> tuple[Int[np.ndarray, "J m"], Int[np.ndarray, "J 2"]]:
    """The pixels of every patch, rows joined, and its upper left corner."""
    pixels = np.arange(side * side).reshape(side, side)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (patch, patch))
    corners = np.argwhere(np.ones(windows.shape[:2], bool))
    return windows.reshape(-1, patch * patch).copy(), corners


def _start(settings: Settings) -> Theta:
    """D: products of cosines, then normal atoms, all shaken and of unit length."""
    rng = np.random.default_rng([settings.seed, 0])
    m, p = settings.patch**2, settings.atoms

    def shaken(columns: np.ndarray) -> Float[np.ndarray, "m p"]:
        return columns + settings.spread * normal(rng, (m, p)) / math.sqrt(m)

    cosines = operators.transform_matrix("dct", settings.patch, settings.patch, rng)
    atoms = np.concatenate([np.kron(cosines, cosines).T, normal(rng, (m, max(0, p - m)))], 1)[:, :p]
    D = shaken(atoms / length(atoms, axis=0))
    D = D / length(D, axis=0)
    W, C = shaken(D), shaken(D)
    if settings.normalise != "never":
        W = W / spectral_norm(D)
    if settings.normalise == "start":
        C, D = C / spectral_norm(C), D / spectral_norm(D)
    of_lambda, of_mu = (settings.spread * normal(rng, p) for _ in range(2))
    theta = {"D": D, "W": W, "log_lambda": logarithm(settings.weight) + of_lambda}
    if settings.untied:
        theta["C"] = C
    if settings.variance > 0:
        theta["log_variance"] = np.array([logarithm(settings.variance)])
    if settings.group > 0:
        theta["log_group"] = logarithm(settings.group) + of_mu
        theta["kappa"] = np.full(m, settings.kappa)
    if settings.iterations is not None:
        theta["alpha"] = power(settings.alpha, np.arange(1, settings.iterations + 1) / settings.iterations)
    return {name: torch.from_numpy(value) for name, value in theta.items()}


def _dictionaries_at_start(problem: PatchGame) -> Theta:
    """D, and C where there is one, as they are in F at theta0."""
    held: Theta = {name: problem.start[name] for name in ("C", "D") if name in problem.start}
    if problem.settings.normalise != "always":
        return held
    return {name: dictionary / spectral_norm(dictionary.numpy()) for name, dictionary in held.items()}


def _steepness(problem: PatchGame, alpha: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """A bound on the Lipschitz constant at theta0 and at each alpha, whatever the pairs: the sum of the terms' own."""
    settings, theta = problem.settings, problem.start
    at_start = _dictionaries_at_start(problem)
    C, D, W = (spectral_norm(part.numpy()) for part in (at_start.get("C", at_start["D"]), at_start["D"], theta["W"]))
    largest = float(exponential(theta["log_lambda"].max().numpy()))
    per_alpha = largest * largest / settings.weight + _group_bounds(problem)[0]
    return C * D + settings.variance * W * W + alpha * per_alpha


def _descended(problem: PatchGame) -> Float[Tensor, "b n"]:
    """BETWEEN_REFRESHES gradient steps of all players from z = 0, at theta0."""
    theta, penalty = {**problem.start, **_dictionaries_at_start(problem)}, problem.penalty
    assert isinstance(penalty, MoreauL1)
    eta = 1.0 / float(_steepness(problem, np.array([problem.settings.alpha]))[0])
    problem = replace(problem, settings=problem.settings.model_copy(update={"normalise": "never"}))
    x = problem.y.new_zeros((problem.batch, *problem.x_shape))
    for _ in range(BETWEEN_REFRESHES):
        x = x - eta * (problem.F(x, theta) + problem.M(penalty.derivative(problem.K(x, theta)), theta))
    return x


def _normalised(dictionary: Float[Tensor, "m p"]) -> Float[Tensor, "m p"]:
    return dictionary / torch.linalg.matrix_norm(dictionary, 2)


def _structure(problem: PatchGame) -> Structure:
    settings = problem.settings
    structure = Structure.L1 if settings.penalty == "l1" else Structure.SMOOTH
    if settings.group == 0:
        structure |= Structure.AFFINE_F
    if not settings.untied and (settings.group == 0 or settings.symmetric) and settings.iterations is None:
        structure |= Structure.MINIMISATION
    at_start = _dictionaries_at_start(problem)
    twice = product(at_start.get("C", at_start["D"]).numpy().T, at_start["D"].numpy())
    needed = max(1e-10, settings.alpha * _group_bounds(problem)[1])
    monotone = is_positive_definite(0.5 * (twice + twice.T) - needed * np.eye(len(twice)))
    return structure | Structure.UNIQUE if monotone else structure


def _group_bounds(problem: PatchGame) -> tuple[float, float]:
    """Of the group term's Jacobian G at theta0, per unit of alpha: a bound on ||G|| whatever the pictures, and one on
    how far below zero its symmetric part may reach for those of the batch.

    With `symmetric` G is a Hessian, largest at z = 0, where it is mu alpha sum_i a_ij, and nowhere negative. Otherwise,
    where ||w_jl|| <= 1/alpha, G is diagonal, mu alpha a_jj; elsewhere 0 <= G_jj <= mu alpha a_jj, and for k != j

        |G_jk| = mu_l a_jj a_jk |z_j z_k| / ||w_jl||^3 <= mu_l alpha sqrt(a_jj a_jk) / 2,
        sum_k |G_jk| <= mu_l alpha sqrt(a_jj (1 - a_jj)) / 2,

    as 2 sqrt(a_jj a_jk) |z_j z_k| <= ||w_jl||^2, and by Cauchy and Schwarz. ||G||^2 is at most the largest row's sum
    times the largest column's; half of a row's sum and half of a column's is the radius of one of Gershgorin's discs.

    The first bound has step sizes in theta0 and in `refreshed` pictures, so that a pair's must not depend on the
    others': of a player's own a_jj it takes the worst, t + sqrt(t (1 - t)) / 2 <= (1 + sqrt(5/4)) / 2 in a row, and in
    a column 1/4 for each of the others, as a_jj + a_jk <= 1; with `symmetric` 1/2, as a_jk <= a_jj.
    """
    settings, theta = problem.settings, problem.start
    if settings.group == 0:
        return 0.0, 0.0
    mu = float(exponential(theta["log_group"].max().numpy()))
    others = int(np.count_nonzero(problem.near.numpy(), axis=1).max()) - 1
    if settings.symmetric:
        return mu * (1.0 + others / 2.0), 0.0
    steepest = math.sqrt((1.0 + math.sqrt(1.25)) / 2.0 * (1.0 + others / 4.0))
    with PortableTorch():
        a = problem.similarity(theta["kappa"])
        own = a.diagonal(dim1=1, dim2=2)
        rows = 0.5 * (own * (1.0 - own)).sqrt()
        columns = 0.5 * ((own[:, :, None] * a).sqrt().sum(1) - own)
    return mu * steepest, mu * float(0.5 * (rows + columns).max())
