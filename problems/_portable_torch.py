"""torch formulas evaluated to the same bits on every machine: for the few that an instance is made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from problems._portable import exponential, product, total

MOVES = {
    *("_to_copy", "_unsafe_view", "alias", "cat", "clone", "constant_pad_nd", "copy_", "detach", "diagonal", "expand"),
    *("index", "index_select", "lift_fresh", "permute", "repeat", "resolve_conj", "resolve_neg", "select", "slice"),
    *("stack", "t", "to", "transpose", "unsqueeze", "view", "_local_scalar_dense"),
}
MAKES_OR_COMPARES = {
    *("arange", "empty_like", "fill_", "full", "new_full", "new_zeros", "ones_like", "scalar_tensor", "bincount"),
    *("amax", "bitwise_not", "clamp", "le", "masked_fill", "max", "maximum", "where"),
}
ROUNDS_EACH_NUMBER_ONCE = {"abs", "add", "div", "mul", "neg", "reciprocal", "rsub", "sqrt", "sub"}
ALIKE = MOVES | MAKES_OR_COMPARES | ROUNDS_EACH_NUMBER_ONCE
"""The operations of which it is known that no machine does them in its own way."""


class PortableTorch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own lacks annotations
    """Within it sums, products of matrices and exponentials are those of `_portable.py`. On the CPU, without gradients.

    Raises NotImplementedError for an operation of which it is not known that it rounds alike everywhere.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _PORTABLE:
            return _PORTABLE[name](*args, **(kwargs or {}))
        if name not in ALIKE:
            raise NotImplementedError(
                f"{func} may round by the machine: problems/_portable_torch.py has no version of it"
            )
        return func(*args, **(kwargs or {}))


def _product(a: Tensor, b: Tensor) -> Tensor:
    if b.ndim == 1:
        return _product(a, b[:, None])[:, 0]
    return torch.from_numpy(product(a.numpy(), b.numpy()))


def _sum(x: Tensor, dim: list[int], keepdim: bool = False, dtype: None = None) -> Tensor:
    del dtype
    (axis,) = dim
    sum_ = torch.from_numpy(total(x.numpy(), axis))
    return sum_.unsqueeze(axis) if keepdim else sum_


def _exp(x: Tensor) -> Tensor:
    return torch.from_numpy(exponential(x.numpy()))


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    del half_to_float
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
        raise NotImplementedError(f"no portable power of {exponent}")
    return x * x if exponent == 2 else 1.0 / (x * x)


_PORTABLE: dict[str, Callable[..., Tensor]] = {
    "mm": _product,
    "bmm": _product,
    "mv": _product,
    "sum": _sum,
    "exp": _exp,
    "_softmax": _softmax,
    "index_add": _index_add,
    "pow": _pow,
}
