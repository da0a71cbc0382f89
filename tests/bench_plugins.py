"""Plug-in methods for the tests of the harness: one right answer, by a formula, and ways to spoil it.

For W = s I and A = I the lower level separates: x* = sign(y) max(|y| - s, 0), u = (y - x*) / s, and the hypergradient
is -(u p^T + a x*^T) with p = g on the support, a = g / s off it (problems/README.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHRINKAGE = """
import gc, os, signal, time
import numpy as np
import torch
from methods.contract import Method, Prepared, Solution, refuse_unless_met
from problems.contract import Structure

class Shrinkage(Method):
    '''Soft thresholding, for W a multiple of the identity.'''

    requires = Structure.TRANSFORM | Structure.IDENTITY_FORWARD
    devices = frozenset({{"cpu"}})
    batched = {batched}
    gain: float = 1.0

    def refusal(self, problem):
        return {refusal}

    def prepare(self, problem):
        {in_prepare}
        return Prepared(problem)

    def solve(self, prepared, theta, warm=None):
        del warm
        {in_solve}
        y, s = prepared.problem.y, theta["W"][0, 0]
        x = y.sign() * (y.abs() - s).clamp(min=0)
        u = (y - x) / s
        return {solved}

    def hypergradient(self, prepared, theta, solution):
        {in_gradient}
        x, u, s = solution.x, solution.u, theta["W"][0, 0]
        g = prepared.problem.loss_gradient(x, theta)[0]
        p, a = torch.where(x != 0, g, 0), torch.where(x != 0, 0, g / s)
        W = -self.gain * (u.T @ p + a.T @ x)
        return {whole}
"""


def write_method(
    folder: Path,
    key: str,
    in_prepare: str = "pass",
    in_solve: str = "pass",
    in_gradient: str = "pass",
    returned: str = "W",
    iterations: str = "1",
    converged: str = "True",
    solved: str = "Solution(x, u, {iterations}, converged={converged})",
    whole: str = "{{'W': {returned}}}",
    batched: str = "True",
    refusal: str = "refuse_unless_met(self, problem)",
) -> Path:
    """A plug-in called `key`, with one-line statements put into its three steps."""
    path = folder / f"{key}.py"
    path.write_text(
        SHRINKAGE.format(
            in_prepare=in_prepare,
            in_solve=in_solve,
            in_gradient=in_gradient,
            whole=whole.format(returned=returned),
            solved=solved.format(iterations=iterations, converged=converged),
            batched=batched,
            refusal=refusal,
        )
    )
    return path


def write_config(folder: Path, methods: list[Path], problem: str = "", tail: str = "", **measure: Any) -> Path:
    """A configuration with these plug-ins on one small problem, as short as it can be measured."""
    path = folder / "config.toml"
    tables = "".join(f'[[method]]\nkey = "{method.stem}"\n' for method in methods)
    quick = {"processes": 1, "values": 2, "min_seconds": 1e-4} | measure
    path.write_text(
        f"plugins = {json.dumps([method.name for method in methods])}\n"
        f'[[problem]]\nfamily = "analysis_l1"\nn = 8\nscale = 0.2\n{problem}\n'
        f"{tables}[measure]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in quick.items()) + tail
    )
    return path
