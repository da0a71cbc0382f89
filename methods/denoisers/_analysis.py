"""Denoising with an analysis transform: x*(W) for many signals at once, and the weight of W that suits training pairs.

The lower level is 1/2 ||x - y||^2 + ||w W x||_1; a weight w is all that a fixed W leaves to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from methods.denoisers.contract import Signals
from methods.solvers.exact import Exact
from problems.analysis_l1 import AnalysisL1, Settings

Transform = Float[np.ndarray, "k n"]

SMALLEST, LARGEST = 1e-4, 1e2
"""Weights between which the best one is looked for, for a W with rows of unit norm and signals of peak 1."""


def denoised(W: Transform, noisy: Signals) -> Signals:
    """x*(W) of each signal, certified. Raises ArithmeticError where the solver cannot certify one."""
    y, transform = (torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64)) for array in (noisy, W))
    problem = replace(AnalysisL1.build(Settings(n=y.shape[1])), y=y, x_true=y, W=transform)
    solved = Exact().solve(problem, {"W": transform})
    if not solved.converged:
        raise ArithmeticError(f"x* is certified to a relative residual of {solved.residual:.1e} only")
    return solved.x.numpy()


def tuned(shrink: Callable[[float], Signals], clean: Signals) -> float:
    """The weight with the least squared error over the training pairs: Brent's method on its logarithm, to 1 %."""
    found = minimize_scalar(
        lambda power: float(((shrink(10.0**power) - clean) ** 2).mean()),
        bounds=(math.log10(SMALLEST), math.log10(LARGEST)),
        method="bounded",
        options={"xatol": math.log10(1.01)},
    )
    return float(10.0**found.x)
