"""The exact solver on the CPU: where arrays meet the compiled kernels.

Invariant: every array that a kernel is given has the shape, the type and the layout that the kernel takes for granted,
because it was made here, or checked here.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from methods.solvers import _active_set_cpu as kernels
from methods.solvers._machine_code import MachineCode
from methods.solvers._thread_pool import share_out
from methods.solvers.contract import Certificate, Factor, Point, Solved

CODE = MachineCode(kernels.__name__, "the exact solver", 15)
_PIECE = 2**22
"""Multiplications that are worth a piece of their own: it costs 15 microseconds to begin, and 50 to wake a thread."""
_PIECES_PER_THREAD = 4


def dtype_for(dtype: torch.dtype) -> torch.dtype:
    """Always double precision: half the digits would save less than half of the time."""
    del dtype
    return torch.float64


def solve(W: Float[Tensor, "k n"], y: Float[Tensor, "b n"], u: Float[Tensor, "b k"] | None, tolerance: float) -> Solved:
    """min 1/2 ||x - y||^2 + ||W x||_1 for each row y, from the dual start u where there is one.

    On at most `torch.get_num_threads()` threads, which change no bit of the result. Samples with NaN or infinity, or
    all of them where W has such, come back as NaN with a residual of NaN. Raises ValueError for other shapes, types or
    devices.
    """
    W_array, Y = _checked("W", W, 2), _checked("y", y, 2)
    (k, n), b = W.shape, len(Y)
    _demand("y", Y, (b, n))
    U = np.zeros((b, k))
    if u is not None:
        start = _checked("u", u, 2)
        _demand("u", start, (b, k))
        U[:] = start
    CODE.load()
    shared = _Rows.of(W_array)
    inverse_norms, G, G_single, totals = shared.products(W_array)
    X, pattern, rows = np.empty((b, n)), np.empty((b, k), np.int8), np.empty((b, k), np.uint32)
    numbers, counts, starts = np.empty((b, 4)), np.empty((b, 4), np.int64), np.empty(b, np.int64)
    share = _share(b, b * k * (32 * k + 4 * n))
    per_sample = k * (k + 1) // 2
    factors = np.empty(b * per_sample)  # of which the kernel touches what it needs: the rest never becomes memory

    def task(piece: int) -> None:
        first, last = piece * share, min(b, (piece + 1) * share)
        kernels.solve_share(
            *(first, last, first * per_sample, shared.W, shared.Wt, shared.scales, inverse_norms, G, G_single, totals),
            *(Y, u is not None, tolerance, X, U, pattern, numbers, counts, rows, factors, starts),
            *_scratch(k, n),
        )

    share_out(task, -(-b // share), torch.get_num_threads())
    residual = float(numbers[:, 0].max(initial=0.0))
    steps = int(counts[:, 2].max(initial=0))
    certificate = Certificate(torch.from_numpy(pattern), torch.from_numpy(numbers), torch.from_numpy(counts))
    factor = Compiled(shared, counts, rows, factors, starts)
    return Solved(torch.from_numpy(X), torch.from_numpy(U), steps, residual, residual <= tolerance, factor, certificate)


class _Rows:
    """The rows of W, each divided by a power of two so that its norm is about one; their transpose, and the powers."""

    def __init__(self, W: np.ndarray, Wt: np.ndarray, scales: np.ndarray) -> None:
        self.W, self.Wt, self.scales = W, Wt, scales

    @classmethod
    def of(cls, W: np.ndarray) -> _Rows:
        k, n = W.shape
        return cls(np.empty((k, n)), np.empty((n, k)), np.empty(k))

    def products(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Fills this in from W, and returns what else the samples share."""
        k, n = W.shape
        inverse_norms, G, G_single, totals = np.empty(k), np.empty((k, k)), np.empty((k, k), np.float32), np.empty(2)
        arrays = (W, self.W, self.Wt, self.scales, inverse_norms, G, G_single, totals, np.empty((2, k)))
        threads = torch.get_num_threads()
        if threads == 1 or k * k * n < 4 * _PIECE:
            kernels.prepare(kernels.SCALE | kernels.GRAM | kernels.SPECTRUM, 0, 1, *arrays)
        else:
            pieces = _PIECES_PER_THREAD * threads
            kernels.prepare(kernels.SCALE, 0, 1, *arrays)
            share_out(lambda piece: kernels.prepare(kernels.GRAM, piece, pieces, *arrays), pieces, threads)
            kernels.prepare(kernels.SPECTRUM, 0, 1, *arrays)
        return inverse_norms, G, G_single, totals


class Compiled(Factor):
    """The Cholesky factors of W0 W0^T, packed, m (m + 1) / 2 numbers per sample; where a sample has none, the rows.

    O(k n + m^2) per sample, an orthogonalisation, O(m^2 n), where there is no factor.
    """

    def __init__(
        self, rows_of_W: _Rows, counts: np.ndarray, rows: np.ndarray, factors: np.ndarray, starts: np.ndarray
    ) -> None:
        self._rows_of_W = rows_of_W
        self._per_sample = (counts, rows, factors, starts)

    def adjoint(self, g: Tensor) -> Point:
        """Raises ValueError where g is not one row of x's length per sample."""
        W = self._rows_of_W.W
        (k, n), b = W.shape, len(self._per_sample[0])
        G = _checked("g", g.to(torch.float64), 2)
        _demand("g", G, (b, n))
        P, A = np.empty_like(G), np.empty((b, k))
        share = _share(b, b * k * n * 4)

        def task(piece: int) -> None:
            r = min(k, n)
            scratch = np.empty((r, max(k, n))), np.empty((r, n)), np.empty((r, k)), np.empty((3, max(k, n)))
            first, last = piece * share, min(b, (piece + 1) * share)
            kernels.adjoint_share(first, last, W, self._rows_of_W.scales, *self._per_sample, G, P, A, *scratch)

        share_out(task, -(-b // share), torch.get_num_threads())
        return Point(torch.from_numpy(P).to(g.dtype), torch.from_numpy(A).to(g.dtype))


def factor_of(W: Float[Tensor, "k n"], on: np.ndarray) -> Compiled:
    """Without any factor: the rows that `on` (b, k) marks as the cosupport, to be orthogonalised. Raises ValueError."""
    W_array = _checked("W", W.to(torch.float64), 2)
    (k, n), b = W.shape, len(on)
    _demand("the cosupport", on, (b, k))
    CODE.load()
    rows_of_W = _Rows.of(W_array)
    rows_of_W.products(W_array)
    counts, rows = np.zeros((b, 4), np.int64), np.zeros((b, k), np.uint32)
    counts[:, 0] = on.sum(1)
    for sample, mask in enumerate(on):
        rows[sample, : counts[sample, 0]] = mask.nonzero()[0]
    r = min(k, n)
    kernels.order_batch(rows_of_W.W, counts, rows, np.empty(k), np.empty((r, n)), np.empty((r, max(k, n))))
    return Compiled(rows_of_W, counts, rows, np.empty(0), np.zeros(b, np.int64))


def _checked(name: str, value: Tensor, dimensions: int) -> np.ndarray:
    """As an array that kernels can read."""
    if value.device.type != "cpu" or value.dtype != torch.float64 or value.ndim != dimensions:
        raise ValueError(
            f"the exact solver needs {name} as {dimensions}-dimensional float64 on the CPU, "
            f"not {value.ndim}-dimensional {str(value.dtype).removeprefix('torch.')} on {value.device.type}"
        )
    array: np.ndarray = value.detach().numpy()
    return array if array.flags.carray else array.copy()


def _demand(name: str, array: np.ndarray, shape: tuple[int, int]) -> None:
    if array.shape != shape:
        raise ValueError(f"the exact solver needs {name} of shape {shape}, not {array.shape}")


def _share(samples: int, multiplications: int) -> int:
    """Neighbouring samples in a piece: all of them where there is one thread, or too little for a second one."""
    threads = torch.get_num_threads()
    pieces = min(samples, _PIECES_PER_THREAD * threads, multiplications // _PIECE) if threads > 1 else 1
    return -(-samples // max(pieces, 1)) or 1


def _scratch(k: int, n: int) -> tuple[np.ndarray, ...]:
    """One thread's A, L, Q, doubles, singles, integers and flags (`_active_set_cpu.Workspace`)."""
    size = max(k, n)
    A = np.empty((size, size))
    return (
        *(A, A.reshape(-1), np.empty((min(k, n), n)), np.empty((10, size))),
        *(np.empty((5, k), np.float32), np.empty((2, k), np.uint32), np.empty((2, k), np.int8)),
    )
