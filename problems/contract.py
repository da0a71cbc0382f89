"""The lower level, as every family states it and every method sees it.

All families are one inclusion, with g a separable penalty (README.md beside this file):

    0 in F(x; theta) + M(theta) dg(K(theta) x),        M = K^T whenever the lower level is a minimisation.

A family writes F, K, M, its loss and its settings. What a gradient needs beyond that, the pull-back and the
linearisation, is derived from those four here, by automatic differentiation.
"""

from __future__ import annotations

import abc
import enum
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from problems.penalties import L1, Penalty, SmoothPenalty

LANCZOS_STEPS = 50
"""Of `operator_norm`."""
SQUARES_VANISH = 1e-15
"""Length of a vector below which a sum of squares may lose digits; float32 has numbers down to 1e-38."""

Theta = dict[str, Tensor]
"""The upper level's variables by name, shared by every sample of the batch."""


class Structure(enum.Flag):
    """What a method may rely on."""

    MINIMISATION = enum.auto()  # F is a gradient and M = K^T
    AFFINE_F = enum.auto()  # F(x) = H x - b, the same H for every sample
    IDENTITY_FORWARD = enum.auto()  # F(x) = x - y
    TRANSFORM = enum.auto()  # theta = {"W"}, K(x) = W x, M(u) = W^T u; F and the loss do not depend on theta
    IDENTITY_K = enum.auto()  # K(x) = lambda x
    L1 = enum.auto()  # the penalty is the l1 norm
    CONIC = enum.auto()  # `conic` writes it down for cvxpy
    UNIQUE = enum.auto()  # one x* for every theta
    SMOOTH = enum.auto()  # the penalty is a SmoothPenalty


class Measurement(enum.StrEnum):
    """What y is of x_true, in words for a reader."""

    EXACT = "x_true itself"
    NOISY = "noisy"  # x_true plus noise
    BLURRED = "blurred"
    BLURRED_AND_NOISY = "blurred and noisy"
    MEASURED = "measured"  # anything else, such as samples of a spectrum

    @classmethod
    def of(cls, forward: str, noise: float) -> Measurement:
        """By the name of the forward operator, and the standard deviation of the noise."""
        exact, noisy = {
            "identity": (cls.EXACT, cls.NOISY),
            "blur": (cls.BLURRED, cls.BLURRED_AND_NOISY),
        }.get(forward, (cls.MEASURED, cls.MEASURED))
        return noisy if noise > 0 else exact


REMEDIES = {
    Structure.MINIMISATION: "use a problem whose lower level is a minimisation (symmetric weights)",
    Structure.AFFINE_F: "use a quadratic data term (in patch_game, group = 0)",
    Structure.IDENTITY_FORWARD: "set forward = 'identity' and fidelity = 'half' (without the half, scale W by 1/2)",
    Structure.TRANSFORM: "use the family analysis_l1, or active_set_adjoint, which runs on every l1 family",
    Structure.IDENTITY_K: "use the family synthesis_lasso",
    Structure.L1: "set penalty = 'l1'",
    Structure.CONIC: "use a convex family that states its cone program (analysis_l1)",
    Structure.UNIQUE: "use a forward matrix with full column rank (or D); in a game symmetric weights or smoothness",
    Structure.SMOOTH: "use a smooth penalty, such as penalty = 'corner_rounded' of conv_filters or 'moreau' of tv_game",
}


def missing_structure(requires: Structure, problem: Problem) -> str | None:
    """One clause per property that the problem lacks, each with its remedy; None where nothing is missing."""
    missing = requires & ~problem.structure
    clauses = [f"needs {str(flag.name).lower()}: {REMEDIES[flag]}" for flag in missing]
    return "; ".join(clauses) or None


@dataclass(frozen=True)
class LinearMap:
    """A linear map acting on each sample of a batch, by products only."""

    matvec: Callable[[Float[Tensor, "b columns"]], Float[Tensor, "b rows"]]
    rmatvec: Callable[[Float[Tensor, "b rows"]], Float[Tensor, "b columns"]]
    dense: Callable[[], Float[Tensor, "b rows columns"]]


@dataclass(frozen=True)
class Linearised:
    """The three linear maps of the saddle system at one (x, theta): the Jacobian of F, and K and M themselves."""

    F_x: LinearMap
    K: LinearMap
    M: LinearMap


class Problem(abc.ABC):
    """One batch of training pairs that share theta; frozen. x is (b, n), u is (b, k), the loss a SUM over b."""

    settings_type: ClassVar[type[pydantic.BaseModel]]
    structure: Structure
    penalty: Penalty

    @classmethod
    @abc.abstractmethod
    def build(cls, settings: Any) -> Problem:
        """The instance that `settings` (of `settings_type`) describes, on the CPU in double precision."""

    @property
    @abc.abstractmethod
    def batch(self) -> int:
        """Number of training pairs b."""

    @property
    @abc.abstractmethod
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one sample's x."""

    @property
    @abc.abstractmethod
    def u_shape(self) -> tuple[int, ...]:
        """Shape of one sample's certificate u."""

    @abc.abstractmethod
    def to(self, device: str | torch.device, dtype: torch.dtype) -> Problem:
        """The same problem elsewhere, or in another precision."""

    @abc.abstractmethod
    def subset(self, samples: slice | Tensor) -> Problem:
        """The problem of some of the pairs: a run of them, or those whose numbers the tensor lists, in its order."""

    @abc.abstractmethod
    def theta0(self) -> Theta:
        """Where the gradient is asked for."""

    @abc.abstractmethod
    def F(self, x: Tensor, theta: Theta) -> Tensor:
        """The data term's gradient (or pseudo-gradient), shaped as x."""

    @abc.abstractmethod
    def K(self, x: Tensor, theta: Theta) -> Tensor:
        """K x, shaped as u. The same linear map for every sample; takes any number of samples."""

    @abc.abstractmethod
    def M(self, u: Tensor, theta: Theta) -> Tensor:
        """M u, shaped as x. The same linear map for every sample; takes any number of samples."""

    @abc.abstractmethod
    def loss(self, x: Tensor, theta: Theta) -> Float[Tensor, ""]:
        """The upper level's loss, summed over the batch."""

    @abc.abstractmethod
    def loss_gradient(self, x: Tensor, theta: Theta) -> tuple[Tensor, Theta]:
        """(g_x, g_theta): the loss's partial gradients at x."""

    def reconstruct(self, x: Tensor, theta: Theta) -> Tensor:
        """What x stands for, in the space of x_true, which is what it may be compared with: (b, *signal), any b.

        x itself, for all but the families whose unknown is a code.
        """
        del theta
        return x

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Of what `reconstruct` gives: (n,), or (rows, columns) of a picture, whose rows it joins."""
        return self.x_shape

    @property
    def measurement(self) -> Measurement:
        """What y is. What knows nothing but signals and noise takes NOISY alone, and a PSNR of y is of NOISY alone."""
        return Measurement.MEASURED

    @abc.abstractmethod
    def pullback(self, p: Tensor, a: Tensor, x: Tensor, u: Tensor, theta: Theta) -> Theta:
        """d/dtheta [<p, F(x) + M u> + <a, K x>], summed over the batch; p is shaped as x, a as u."""

    @abc.abstractmethod
    def linearise(self, x: Tensor, theta: Theta) -> Linearised:
        """F_x, K and M at (x, theta)."""

    @abc.abstractmethod
    def conic(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One sample as a cvxpy problem that is DPP: (problem, parameters, variables {"x", "u"}).

        Parameters carry theta's names and those of `conic_data`. Raises NotImplementedError unless CONIC.
        """

    @abc.abstractmethod
    def conic_data(self) -> dict[str, Tensor]:
        """The parameters of `conic` that are not theta, each with the batch first."""

    @property
    @abc.abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The settings it was built from, for the record."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every number that defines the instance, by name."""


class AutodiffProblem(Problem):
    """A family that states F, K, M and its loss; `pullback` and `linearise` follow by automatic differentiation."""

    def pullback(self, p: Tensor, a: Tensor, x: Tensor, u: Tensor, theta: Theta) -> Theta:
        leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
        with torch.enable_grad():
            pairing = (p * (self.F(x, leaves) + self.M(u, leaves))).sum() + (a * self.K(x, leaves)).sum()
        gradients = torch.autograd.grad(pairing, tuple(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, gradients, strict=True))

    def linearise(self, x: Tensor, theta: Theta) -> Linearised:
        u = x.new_zeros((x.shape[0], *self.u_shape))

        def F(x: Tensor) -> Tensor:
            return self.F(x, theta)

        def K(x: Tensor) -> Tensor:
            return self.K(x, theta)

        def M(u: Tensor) -> Tensor:
            return self.M(u, theta)

        def jacobian_of_F() -> Tensor:
            shared = Structure.AFFINE_F in self.structure
            view, point = (self.subset(slice(0, 1)), x[:1]) if shared else (self, x)
            basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

            def column(e: Tensor) -> Tensor:
                return torch.func.jvp(lambda x: view.F(x, theta), (point,), (e.expand_as(point),))[1]

            columns = torch.func.vmap(column)(basis)
            return columns.permute(1, 2, 0).expand(x.shape[0], -1, -1)

        def matrix_of(linear: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
            basis = torch.eye(like.shape[1], dtype=x.dtype, device=x.device)
            return linear(basis).T.expand(x.shape[0], -1, -1)

        return Linearised(
            F_x=LinearMap(lambda v: torch.func.jvp(F, (x,), (v,))[1], _transpose(F, x), jacobian_of_F),
            K=LinearMap(K, _transpose(K, x), lambda: matrix_of(K, x)),
            M=LinearMap(M, _transpose(M, u), lambda: matrix_of(M, u)),
        )


def _transpose(map_: Callable[[Tensor], Tensor], point: Tensor) -> Callable[[Tensor], Tensor]:
    def rmatvec(w: Tensor) -> Tensor:
        return torch.func.vjp(map_, point)[1](w)[0]

    return rmatvec


def zero_gradient(theta: Theta) -> Theta:
    """Of what does not depend on theta; one number of memory each."""
    return {name: value.new_zeros(()).expand_as(value) for name, value in theta.items()}


def theta_size(problem: Problem) -> int:
    """Number of coordinates of the hypergradient."""
    return sum(value.numel() for value in problem.theta0().values())


def input_sha256(problem: Problem) -> str:
    """A hash of every number that defines the instance, and of nothing else."""
    digest = hashlib.sha256(type(problem).__name__.encode())
    for name, tensor in sorted({**problem.tensors(), **problem.theta0()}.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def operator_norm(matvec: Callable[[Tensor], Tensor], rmatvec: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """||K||_2, rounded up by 2 %: an upper bound, but for a chance below 1e-4 where K has 1e8 columns, less for fewer.

    It is the largest singular value of the bidiagonal matrix that Golub and Kahan's process leaves from a normal
    vector, always the same. Of k steps its square is within 4 % of ||K||^2, however K's singular values lie, but for a
    chance of 1.65 sqrt(n) exp(-0.2 (2 k - 1)) (Kuczynski and Wozniakowski 1992, theorem 4.1). A power iteration has no
    such bound: it is late where they lie close together, and a start that is no random one may miss the largest.

    `like` is one sample of the input, shape (1, n). Costs k = 50 products with K and with its transpose. NaN where K
    has an entry that is not finite.
    """
    with torch.no_grad():
        drawn = np.random.default_rng(0).normal(size=tuple(like.shape))
        v, _ = _unit(torch.from_numpy(drawn).to(like.device, like.dtype))
        u, alpha = _unit(matvec(v))
        diagonal, above = [alpha], list[float]()
        while len(diagonal) < LANCZOS_STEPS and alpha > 0.0:
            v_next, beta = _unit(torch.sub(rmatvec(u), v, alpha=alpha))
            if not beta > torch.finfo(like.dtype).eps * max(diagonal):
                break  # no other direction is left
            v = v_next
            u, alpha = _unit(torch.sub(matvec(v), u, alpha=beta))
            diagonal.append(alpha)
            above.append(beta)
    largest = max(diagonal + above)
    if not all(map(math.isfinite, diagonal + above)):
        return math.nan
    bidiagonal = np.diag(diagonal) + np.diag(above, 1)
    return 1.02 * largest * float(np.linalg.norm(bidiagonal / largest, 2)) if largest else 0.0


def _unit(v: Tensor) -> tuple[Tensor, float]:
    """v / ||v|| and ||v||, also where its squares overflow or vanish; v itself and 0 where it is zero."""
    length = float(v.norm())
    if SQUARES_VANISH < length < 1 / SQUARES_VANISH:
        return v / length, length
    peak = float(v.abs().max())
    if not 0.0 < peak < math.inf:
        return v, peak
    scaled, length = _unit(v / peak)
    return scaled, peak * length


def transform_norm(problem: Problem, theta: Theta) -> float:
    """||K(theta)||_2, from its products."""
    theta = {name: value.detach() for name, value in theta.items()}
    x = next(iter(theta.values())).new_zeros((1, *problem.x_shape))
    if Structure.MINIMISATION in problem.structure:
        return operator_norm(lambda v: problem.K(v, theta), lambda u: problem.M(u, theta), x)
    K = problem.linearise(x, theta).K
    return operator_norm(K.matvec, K.rmatvec, x)


def adjoint_norm(problem: Problem, theta: Theta) -> float:
    """||M(theta)||_2, from its products; a minimisation's is that of K."""
    theta = {name: value.detach() for name, value in theta.items()}
    like = next(iter(theta.values()))
    M = problem.linearise(like.new_zeros((1, *problem.x_shape)), theta).M
    return operator_norm(M.matvec, M.rmatvec, like.new_zeros((1, *problem.u_shape)))


@dataclass(frozen=True)
class Scales:
    """What residuals are relative to, one number per sample: the size of y, and that of K applied to it."""

    y: Float[Tensor, " b"]
    Ky: Float[Tensor, " b"]


def scales(problem: Problem, theta: Theta) -> Scales:
    """max|F(0)| and ||K|| times it; where y = 0 both are 1, and residuals are absolute there."""
    with torch.no_grad():
        origin = next(iter(theta.values())).new_zeros((problem.batch, *problem.x_shape))
        y = problem.F(origin, theta).flatten(1).abs().amax(1)
        Ky = y * transform_norm(problem, theta)
        one = torch.ones_like(y)
        return Scales(torch.where(y > 0, y, one), torch.where(Ky > 0, Ky, one))


def kkt_residual(problem: Problem, x: Tensor, u: Tensor, theta: Theta, relative_to: Scales) -> Float[Tensor, " b"]:
    """max(||F + M u||_inf / |y|, ||u - proj(u + K x / |Ky|)||_inf), per sample; zero exactly at a solution.

    For a smooth penalty the second part is ||u - phi'(K x)||_inf. Raises TypeError for a penalty that is neither.
    """
    penalty = problem.penalty
    if not isinstance(penalty, L1 | SmoothPenalty):
        raise TypeError(f"the KKT residual needs an l1 or a smooth penalty, not {type(penalty).__name__}")
    with torch.no_grad():
        stationarity = (problem.F(x, theta) + problem.M(u, theta)).flatten(1).abs().amax(1) / relative_to.y
        z = problem.K(x, theta)
        if isinstance(penalty, L1):
            held = penalty.project_dual(u + z / relative_to.Ky.reshape(-1, *[1] * (x.ndim - 1)))
        else:
            held = penalty.derivative(z)
        complementarity = (u - held).flatten(1).abs()
        return torch.maximum(stationarity, complementarity.amax(1) if complementarity.shape[1] else 0 * stationarity)
