"""torch formulas evaluated to the same bits on every machine: for the few that an instance is made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from problems._portable import exponential, product, total

MOVES = {
    *("__float__", "__get__", "__getitem__", "__len__", "detach", "diagonal", "flatten", "numpy", "pad", "repeat"),
    *("reshape", "to"),
}
MAKES_OR_COMPARES = {
    *("__invert__", "amax", "bincount", "clamp", "le", "masked_fill", "max", "new_tensor", "new_zeros", "where"),
}
ROUNDS_EACH_NUMBER_ONCE = {"__rdiv__", "__rsub__", "add", "div", "mul", "neg", "sqrt", "sub"}
ALIKE = MOVES | MAKES_OR_COMPARES | ROUNDS_EACH_NUMBER_ONCE
"""The functions of which it is known that no machine does them in its own way."""


class PortableTorch(TorchFunctionMode):
    """Within it sums, products of matrices and exponentials are those of `_portable.py`. On the CPU, without gradients.

    Raises NotImplementedError for a function of which it is not known that it rounds alike everywhere.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = func.__name__
        if name in _PORTABLE:
            return _PORTABLE[name](*args, **(kwargs or {}))
        if name not in ALIKE:
            raise NotImplementedError(
                f"{name} may round by the machine: problems/_portable_torch.py has no version of it"
            )
        return func(*args, **(kwargs or {}))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if b.ndim == 1:
        return _matmul(a, b[:, None])[..., 0]
    return torch.from_numpy(product(a.numpy(), b.numpy()))


def _sum(x: Tensor, dim: int) -> Tensor:
    return torch.from_numpy(total(x.numpy(), dim))


def _exp(x: Tensor) -> Tensor:
    return torch.from_numpy(exponential(x.numpy()))


def _softmax(x: Tensor, dim: int) -> Tensor:
    e = exponential((x - x.amax(dim, keepdim=True)).numpy())
    return torch.from_numpy(e / np.expand_dims(total(e, dim), dim))


def _index_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    sums = x.numpy().copy()
    along = np.moveaxis(sums, dim, 0)
    for place, terms in zip(index.tolist(), np.moveaxis(source.numpy(), dim, 0), strict=True):
        along[place] += terms
    return torch.from_numpy(sums)


def _pow(x: Tensor, exponent: int) -> Tensor:
    if exponent not in (2, -2):
        raise NotImplementedError(f"no portable power of {exponent}: problems/_portable_torch.py has 2 and -2")
    return x * x if exponent == 2 else 1.0 / (x * x)


_PORTABLE: dict[str, Callable[..., Tensor]] = {
    "matmul": _matmul,
    "sum": _sum,
    "exp": _exp,
    "softmax": _softmax,
    "index_add": _index_add,
    "pow": _pow,
}
