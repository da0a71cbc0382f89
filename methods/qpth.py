"""The dual quadratic program in qpth."""

from __future__ import annotations

from typing import Annotated

import pydantic
import torch
from torch import Tensor

from methods._optional import missing_package, optional_module, single_precision
from methods._qp import DualQp
from methods.contract import refuse_unless_met
from problems.contract import Problem

INSTALL = "pip install --no-deps qpth==0.0.18"
"""Its metadata demands numpy < 2, which it does not need: hence no dependency group, and --no-deps."""


class Qpth(DualQp):
    """The peer: qpth 0.0.18, called as a user of that library would.

    A batched primal-dual interior-point method, and the derivative of its last KKT system (Amos and Kolter, "OptNet:
    Differentiable optimization as a layer in neural networks", ICML 2017, equations 7 and 8).

    Time: O(k^3) per iteration and sample, at most `max_iter` of them; batched. Memory: O(k^2) per sample. It factorises
    Q, so that W must have independent rows, k <= n, and its error grows with cond(W)^2. Its derivative is that of a
    point on the central path, multipliers and slacks cut off at 1e-8: good to about 1e-6, whatever `eps` is.

    Raises RuntimeError where Q is not numerically positive definite.
    """

    eps: Annotated[float, pydantic.Field(gt=0)] = 1e-12
    """Norm of the residuals at which it stops."""
    max_iter: Annotated[int, pydantic.Field(ge=1)] = 20

    def refusal(self, problem: Problem) -> str | None:
        absent = missing_package("qpth", INSTALL)
        return refuse_unless_met(self, problem) or single_precision(problem, "qpth") or _singular(problem) or absent

    def minimiser(self, Q: Tensor, p: Tensor) -> Tensor:
        identity = torch.eye(p.shape[1], dtype=p.dtype)
        G = torch.cat([identity, -identity]).expand(len(p), -1, -1)
        none = p.new_empty(0)
        layer = optional_module("qpth.qp").QPFunction(eps=self.eps, maxIter=self.max_iter, verbose=-1)
        return layer(Q, p, G, p.new_ones(G.shape[:2]), none, none)


def _singular(problem: Problem) -> str | None:
    theta = problem.theta0()
    x = next(iter(theta.values())).new_zeros((1, *problem.x_shape))
    k, rank = problem.u_shape[0], int(torch.linalg.matrix_rank(problem.linearise(x, theta).K.dense()[0]))
    if rank == k:
        return None
    return f"needs independent rows of K to factorise Q = K H^-1 M, not {k} of rank {rank}: take away those that depend"
