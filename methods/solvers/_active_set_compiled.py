"""The exact solver on the CPU: where arrays meet the compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers import _active_set_cpu as kernels
from methods.solvers.contract import Certificate, Factor, Point, Solved


def dtype_for(dtype: torch.dtype) -> torch.dtype:
    """Always double precision: half the digits would save less than half of the time."""
    del dtype
    return torch.float64


def solve(W: Float[Tensor, "k n"], y: Float[Tensor, "b n"], u: Float[Tensor, "b k"] | None, tolerance: float) -> Solved:
    """min 1/2 ||x - y||^2 + ||W x||_1 for each row y, from the dual start u where there is one."""
    (k, n), b = W.shape, len(y)
    W_array, Wt, Y = (
        np.ascontiguousarray(W.numpy()),
        np.ascontiguousarray(W.mT.numpy()),
        np.ascontiguousarray(y.numpy()),
    )
    X, U = np.empty((b, n)), np.zeros((b, k))
    if u is not None:
        U[:] = u.numpy()
    pattern, rows = np.empty((b, k), np.int8), np.empty((b, k), np.uint32)
    numbers, counts, starts = np.empty((b, 4)), np.empty((b, 4), np.int64), np.empty(b, np.int64)
    threads = _threads(b)
    most = -(-b // max(threads, 1)) * threads * k * (k + 1) // 2
    factors = np.empty(most)  # of which the kernel touches what it needs: the rest never becomes memory
    out = (X, U, pattern, numbers, counts, rows, factors, starts)
    gram_threads = _threads(k * k * n // 2**22 + 1)
    residual, steps = kernels.solve_batch(threads, gram_threads, W_array, Wt, Y, u is not None, tolerance, *out)
    certificate = Certificate(torch.from_numpy(pattern), torch.from_numpy(numbers), torch.from_numpy(counts))
    x, u = torch.from_numpy(X), torch.from_numpy(U)
    return Solved(
        x, u, steps, residual, residual <= tolerance, Compiled(W_array, Wt, counts, rows, factors, starts), certificate
    )


def _threads(pieces: int) -> int:
    return min(numba.get_num_threads(), pieces)


class Compiled(Factor):
    """The Cholesky factors of W0 W0^T, packed, m (m + 1) / 2 numbers per sample; where a sample has none, the rows.

    O(k n + m^2) per sample, an orthogonalisation, O(m^2 n), where there is no factor.
    """

    def __init__(
        self,
        W: np.ndarray,
        Wt: np.ndarray,
        counts: np.ndarray,
        rows: np.ndarray,
        factors: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        self._W, self._Wt = W, Wt
        self._per_sample = (counts, rows, factors, starts)

    def adjoint(self, g: Tensor) -> Point:
        G = np.ascontiguousarray(g.numpy(), np.float64)
        P, A = np.empty_like(G), np.empty((len(G), len(self._W)))
        threads = _threads(len(G))
        kernels.adjoint_batch(threads, self._W, self._Wt, *self._per_sample, G, P, A)
        return Point(torch.from_numpy(P).to(g.dtype), torch.from_numpy(A).to(g.dtype))


def factor_of(W: Float[Tensor, "k n"], on: np.ndarray) -> Compiled:
    """Without any factor: the rows that `on` (b, k) marks as the cosupport, to be orthogonalised."""
    array = W.numpy().astype(np.float64, order="C")
    counts, rows = np.zeros((len(on), 4), np.int64), np.empty(on.shape, np.uint32)
    counts[:, 0] = on.sum(1)
    for sample, mask in enumerate(on):
        rows[sample, : counts[sample, 0]] = mask.nonzero()[0]
    kernels.order_batch(array, counts, rows)
    return Compiled(array, np.ascontiguousarray(array.T), counts, rows, np.empty(0), np.zeros(len(on), np.int64))


def _warm_up() -> None:
    """Compiles the kernels, or loads them from numba's cache: no clock then sees it."""
    W = torch.eye(2, dtype=torch.float64)
    factor = solve(W, W, None, 1e-12).factor
    assert factor is not None
    factor.adjoint(W)
    factor_of(W, np.ones((2, 2), bool)).adjoint(W)


def _indices() -> list[Path]:
    """Of what numba has in its cache, for this source or an earlier one."""
    kernel = kernels.solve_batch
    return list(Path(kernel.stats.cache_path).glob(f"{Path(kernels.__file__).stem}.{kernel.__name__}-*.nbi"))


def _is_cached() -> bool:
    return any(index.stat().st_mtime >= Path(kernels.__file__).stat().st_mtime for index in _indices())


def _compile_elsewhere() -> None:
    """In a process of its own: what has just been compiled sums in another order than what is loaded from the cache,
    and a training that is continued would then differ in its last bits from the one that compiled.
    """
    print("compiling the exact solver, once on this machine: about half a minute", file=sys.stderr, flush=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", __name__], env=environment, check=False)  # what fails there fails here again
    for index in _indices():
        index.touch()  # numba knows a source by its content: it may have found all of it there, and written nothing


if __name__ != "__main__" and not _is_cached():
    _compile_elsewhere()
_warm_up()
