"""The exact solver in forked processes and threads, and with input that it cannot solve."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from methods.solvers import _active_set_compiled as compiled
from methods.solvers._active_set_compiled import factor_of

RNG = np.random.default_rng(0)
W = torch.from_numpy(RNG.normal(size=(96, 128)) / 20)
Y = torch.from_numpy(RNG.normal(size=(32, 128)))
NAN, INF = float("nan"), float("inf")


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answer(W=W, y=Y):
    """x, u, p and a, as bytes."""
    solved = compiled.solve(W, y, None, 1e-12)
    assert solved.converged
    return b"".join(part.numpy().tobytes() for part in (solved.x, solved.u, *solved.factor.adjoint(y)))


class Solutions(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index, answer()


@pytest.fixture(scope="module")
def expected():
    """By two threads, so that the process has a pool from here on."""
    with threads(2):
        whole = answer()
    assert any(thread.name.startswith("exact-solver") for thread in threading.enumerate())
    return whole


def test_a_data_loaders_workers_solve_after_the_parent_has(expected):
    loader = DataLoader(Solutions(), num_workers=2, batch_size=None, multiprocessing_context="fork", timeout=60)
    answers = dict(iter(loader))
    assert sorted(answers) == [0, 1, 2, 3]
    assert set(answers.values()) == {expected}


def _send(pipe):
    with threads(2):
        pipe.send(answer())


def test_a_forked_process_solves_on_threads_of_its_own(expected):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_send, args=(theirs,), daemon=True)
    child.start()
    assert ours.poll(60)
    assert ours.recv() == expected
    child.join()
    assert child.exitcode == 0


def test_threads_of_the_caller_may_solve_at_once(expected):
    with ThreadPoolExecutor(4) as callers:
        # each has torch's number of threads, which is its own
        assert set(callers.map(lambda _: _on_two_threads(), range(24))) == {expected}


def _on_two_threads():
    torch.set_num_threads(2)
    return answer()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_torchs_threads_are_honoured_at_every_call_and_change_no_bit(expected, count, monkeypatch):
    used = []
    monkeypatch.setattr(compiled, "share_out", lambda task, n, most: [used.append((n, most)), *map(task, range(n))])
    with threads(count):
        assert answer() == expected
    assert {most for _, most in used} == {count}
    assert any(pieces > 1 for pieces, _ in used) == (count > 1)


def test_nothing_global_is_touched():
    import os

    import numba

    before = dict(os.environ), torch.get_num_threads(), numba.config.CACHE_DIR
    answer()
    assert (dict(os.environ), torch.get_num_threads(), numba.config.CACHE_DIR) == before


@pytest.mark.parametrize(
    ("W", "y", "u", "said"),
    [
        (W, Y[:, :-1], None, r"y of shape \(32, 128\), not \(32, 127\)"),
        (W, Y, torch.zeros(32, 95).double(), r"u of shape \(32, 96\), not \(32, 95\)"),
        (W, Y, torch.zeros(31, 96).double(), r"u of shape \(32, 96\), not \(31, 96\)"),
        (W[0], Y, None, "W as 2-dimensional float64 on the CPU, not 1-dimensional float64 on cpu"),
        (W, Y[0], None, "y as 2-dimensional float64"),
        (W.float(), Y, None, "W as 2-dimensional float64 on the CPU, not 2-dimensional float32 on cpu"),
        (W, Y.to(torch.int64), None, "not 2-dimensional int64"),
        (W, Y.to("meta"), None, "on meta"),
    ],
)
def test_misuse_is_one_clear_error(W, y, u, said):
    with pytest.raises(ValueError, match=said):
        compiled.solve(W, y, u, 1e-12)


def test_misuse_of_a_factor_is_one_clear_error():
    factor = compiled.solve(W, Y, None, 1e-12).factor
    for g in (Y[:-1], Y[:, :-1], Y[0]):
        with pytest.raises(ValueError, match="the exact solver needs g"):
            factor.adjoint(g)
    with pytest.raises(ValueError, match=r"the cosupport of shape \(32, 96\)"):
        factor_of(W, np.ones((32, 95), bool))


def test_any_layout_is_read_right(expected):
    strided = torch.empty(128, 96, 2, dtype=torch.float64)[..., 0].T
    strided.copy_(W)
    backwards = torch.from_numpy(np.asfortranarray(Y.numpy()))
    assert answer(strided, backwards) == expected
    bytes_ = np.frombuffer(bytearray(b"x" + Y.numpy().tobytes()), np.uint8)
    unaligned = torch.from_numpy(bytes_[1:].view(np.float64).reshape(32, 128))
    assert answer(W, unaligned) == expected


@pytest.mark.parametrize(("b", "k", "n"), [(0, 3, 4), (2, 0, 4), (2, 3, 1), (0, 0, 1), (1, 1, 1)])
def test_empty_and_single(b, k, n):
    y, W = torch.ones(b, n).double(), 0.25 * torch.eye(k, n).double() if n > 1 else torch.full((k, n), 0.25).double()
    solved = compiled.solve(W, y, None, 1e-12)
    assert solved.converged
    assert solved.x.shape == (b, n)
    assert solved.u.shape == (b, k)
    expected = 1.0 - 0.25 * k
    assert torch.allclose(solved.x, torch.full_like(y, expected))
    assert torch.allclose((y - solved.x), solved.u @ W)
    p, a = solved.factor.adjoint(y)
    assert torch.equal(p, y)
    assert not a.any()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_ends_and_says_so(bad):
    y = Y.clone()
    y[3, 5] = bad
    solved = compiled.solve(W, y, None, 1e-12)
    good = torch.arange(32) != 3
    assert not solved.converged
    assert solved.residual != solved.residual
    assert solved.certificate.residual.isnan().tolist() == (~good).tolist()
    assert solved.x[3].isnan().all()
    assert torch.equal(solved.x[good], compiled.solve(W, Y, None, 1e-12).x[good])
    V = W.clone()
    V[2, 2] = bad
    solved = compiled.solve(V, Y, None, 1e-12)
    assert not solved.converged
    assert solved.certificate.residual.isnan().all()
    start = torch.full((32, 96), bad, dtype=torch.float64)
    assert compiled.solve(W, Y, start, 1e-12).converged
    solved.factor.adjoint(torch.full_like(Y, bad))
    compiled.factor_of(V, np.ones((32, 96), bool)).adjoint(torch.full_like(Y, bad))
