"""An instance is the same to the bit on every machine, and pair i depends on the seed and on i alone.

`instances.json` has the hashes of all of `every_instance.py`, so that a machine of another kind sees a difference.
`python -m tests.every_instance > tests/instances.json` makes it again, where instances were meant to change.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from every_instance import EVERY, build
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import _portable, image_operators, operators
from problems._portable_torch import PortableTorch
from problems.contract import input_sha256

ROOT = Path(__file__).resolve().parent.parent
CPU = Path("/proc/cpuinfo")
AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
MACHINES = {
    "as it is": {"OMP_NUM_THREADS": "2"},
    "Haswell": {"NPY_DISABLE_CPU_FEATURES": AVX512, "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "SkylakeX": {},
    "Nehalem": {
        "NPY_DISABLE_CPU_FEATURES": f"{AVX512} AVX2 FMA3 X86_V3",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4",
    },
}
"""The kernels of OpenBLAS, and with each what makes numpy, torch, MKL and the C library compute as on such a processor.
On this suite's state before `_portable.py` each of them but the threads changed hashes."""


def started(kernel: str, settings: dict[str, str]) -> subprocess.Popen[str]:
    chosen = {} if kernel == "as it is" else {"OPENBLAS_CORETYPE": kernel}
    bare = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS")}
    environment = bare | {"OMP_NUM_THREADS": "1"} | chosen | settings
    command = [sys.executable, "-m", "tests.every_instance"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_every_instance_is_the_same_on_every_machine():
    there = CPU.read_text() if CPU.is_file() else ""
    possible = {name: env for name, env in MACHINES.items() if name != "SkylakeX" or "avx512f" in there}
    processes = {kernel: started(kernel, settings) for kernel, settings in possible.items()}
    found = {kernel: json.loads(process.communicate()[0]) for kernel, process in processes.items()}
    expected = json.loads((ROOT / "tests/instances.json").read_text())
    for kernel, hashes in found.items():
        assert [name for name in expected if hashes[name] != expected[name]] == [], kernel
        assert hashes.keys() == expected.keys()


def test_the_list_has_every_choice_of_every_family():
    """A choice that settings name, and that the list leaves out, would go untested."""
    from typing import get_args

    from problems.registry import keys

    assert {family for family, _ in EVERY.values()} == set(keys("problems"))
    taken = [value for _, chosen in EVERY.values() for value in chosen.values() if isinstance(value, str)]
    for kind in (operators.Forward, operators.Transform, image_operators.Forward):
        assert set(get_args(kind)) - {"identity"} <= set(taken)


@settings(max_examples=60)
@given(
    name=st.sampled_from([name for name, (_, chosen) in EVERY.items() if "instance" not in chosen]),
    seed=st.integers(0, 2**40),
    pairs=st.integers(2, 9),
    data=st.data(),
)
def test_a_pair_depends_on_the_seed_and_on_its_number_alone(name, seed, pairs, data):
    """Training and validation are parts of one build, the test set one of another seed: the same holds for them."""
    pair = data.draw(st.integers(0, pairs - 1))
    many, fewer = build(name, seed=seed, pairs=pairs), build(name, seed=seed, pairs=pair + 1)
    of_many, of_fewer = (one.subset(slice(pair, pair + 1)) for one in (many, fewer))
    assert input_sha256(of_many) == input_sha256(of_fewer)
    assert input_sha256(many.subset(slice(0, 1))) == input_sha256(build(name, seed=seed, pairs=1))


@given(st.integers(0, 2**60), st.integers(1, 20_000))
@settings(max_examples=30)
def test_normal_numbers_are_numpys(seed, size):
    """One in 3,800 has a logarithm in it, which a C library rounds in its own way; the next numbers are the same."""
    ours, numpys = np.random.default_rng(seed), np.random.default_rng(seed)
    found, expected = _portable.normal(ours, size), numpys.normal(size=size)
    assert np.abs(found - expected).max() <= 2e-15  # two roundings of numbers below 8
    assert ours.bit_generator.state == numpys.bit_generator.state
    assert np.array_equal(_portable.uniform(ours, -0.25, 0.25, 9), numpys.uniform(-0.25, 0.25, 9))


def test_cosines_exponentials_and_powers_are_right():
    t = np.concatenate([np.arange(-16, 17) / 8, np.random.default_rng(0).uniform(-5, 5, 200)])
    x = np.concatenate([[-800.0, -745.0, -1e-300, 0.0, 700.0], np.random.default_rng(1).uniform(-40, 40, 200)])
    with mpmath.workdps(40):
        cos = [float(mpmath.cospi(2 * mpmath.mpf(one))) for one in t]
        sin = [float(mpmath.sinpi(2 * mpmath.mpf(one))) for one in t]
        exp = [float(mpmath.exp(mpmath.mpf(one))) for one in x]
        powers = [float(mpmath.power(10, mpmath.mpf(one))) for one in t]
    np.testing.assert_allclose(_portable.cosine(t), cos, rtol=0, atol=3e-16)  # a polynomial of numbers below 1
    np.testing.assert_allclose(_portable.sine(t), sin, rtol=0, atol=1e-15)  # and t - 1/4 rounds by 4e-16 beyond 4
    assert np.array_equal(_portable.cosine(np.arange(8) / 4), [1, 0, -1, 0] * 2)
    np.testing.assert_allclose(_portable.exponential(x), exp, rtol=5e-16, atol=5e-324)
    assert _portable.exponential(np.array(-np.inf)) == 0.0
    assert np.array_equal(_portable.power(10.0, t), powers)
    assert _portable.logarithm(math.e) == 1.0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**30))
def test_linear_algebra_agrees_with_lapack(rows, columns, seed):
    rng = np.random.default_rng(seed)
    a, b, v = rng.normal(size=(rows, columns)), rng.normal(size=(columns, 3)), rng.normal(size=columns)
    square, right = rng.normal(size=(rows, rows)), rng.normal(size=rows)
    np.testing.assert_allclose(_portable.product(a, b), a @ b, rtol=0, atol=1e-13)  # nine products of size 10 at most
    np.testing.assert_allclose(_portable.times(a, v), a @ v, rtol=0, atol=1e-13)
    assert _portable.spectral_norm(a) == pytest.approx(np.linalg.norm(a, 2), rel=1e-14)
    Q = np.linalg.qr(square)[0]
    conditioned = np.linalg.cond(square)
    np.testing.assert_allclose(_portable.orthogonal(square), Q, rtol=0, atol=1e-14 * conditioned)
    x = _portable.solve(square, right)
    np.testing.assert_allclose(x, np.linalg.solve(square, right), rtol=0, atol=1e-13 * conditioned * np.abs(x).max())
    symmetric = square + square.T
    if abs(least := np.linalg.eigvalsh(symmetric)[0]) > 1e-9:
        assert _portable.is_positive_definite(symmetric) == (least > 0)


def test_sums_are_term_by_term():
    """1 + 2^-53 rounds to 1, again and again; in another order the small terms would add up first."""
    terms = np.array([1.0, *[2.0**-53] * 1000])
    assert float(_portable.total(terms)) == 1.0
    assert float(_portable.product(terms[None], np.ones((1001, 1)))[0, 0]) == 1.0
    assert sum(map(Fraction, terms)) > 1


def test_torch_is_refused_what_may_round_by_the_machine():
    x = torch.linspace(0.1, 1.0, 7, dtype=torch.float64)
    with PortableTorch():
        same = x.exp().sum(0) + (x[None] @ x[:, None]).sum(0)[0]
        with pytest.raises(NotImplementedError, match="cos"):
            x.cos()
    assert float(same) == pytest.approx(float(x.exp().sum() + x @ x), rel=1e-15)


@pytest.mark.parametrize("kind", ["identity", "mask", "blur", "fourier", "gaussian"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 31])
def test_columns_are_independent_where_it_is_said(kind, n):
    """By singular values, which decide no instance."""
    A = operators.forward_matrix(kind, n, np.random.default_rng(n))
    assert operators.has_independent_columns(A) == (A is None or np.linalg.matrix_rank(A) == n)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 4), (5, 7)])
@pytest.mark.parametrize("kind", ["identity", "mask", "blur", "fourier_random", "fourier_radial", "dense"])
def test_what_y_is_made_of_is_the_operators_own_product(shape, kind):
    rng, x = np.random.default_rng(3), np.random.default_rng(4).normal(size=math.prod(shape))
    A = {
        "identity": image_operators.Identity,
        "mask": lambda: image_operators.mask(shape, 0.6, rng),
        "blur": lambda: image_operators.gaussian_blur(shape, 1.3),
        "fourier_random": lambda: image_operators.random_frequencies(shape, 0.7, rng),
        "fourier_radial": lambda: image_operators.radial_frequencies(shape, 3),
        "dense": lambda: image_operators.gaussian_matrix(shape, 1.5, rng),
    }[kind]()
    expected = A.forward(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(A.data_of(x), expected, rtol=0, atol=1e-14)  # sums of at most 35 terms of size 2
