"""The processes that share every batch: what one adds up with the others, in whichever number they are."""

from __future__ import annotations

import abc
import os
import sys
from datetime import timedelta
from typing import NoReturn, Self

import torch
import torch.distributed
from torch import Tensor

from bench.process_tree import die_with

PATIENCE = timedelta(hours=1)
"""Longer than the slowest backend takes for its share of a batch."""


class Ranks(abc.ABC):
    """`count` processes that run the same program; this one is `rank`."""

    rank: int
    count: int

    @abc.abstractmethod
    def sum(self, values: Tensor) -> Tensor:
        """Entry by entry over all ranks, bit for bit the same on each; may write into `values`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Called once, by each."""

    def share(self, pairs: Tensor) -> Tensor:
        """This rank's run of them; shares differ by one pair at most."""
        total = len(pairs)
        return pairs[total * self.rank // self.count : total * (self.rank + 1) // self.count]


class Alone(Ranks):
    """One process."""

    rank, count = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        return values

    def close(self) -> None:
        pass


class Distributed(Ranks):
    """torch.distributed as torchrun has set it up: nccl on GPUs, gloo elsewhere."""

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
        self.rank, self.count = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        torch.distributed.all_reduce(values)
        return values

    def close(self) -> None:
        torch.distributed.destroy_process_group()

    @classmethod
    def under_torchrun(cls, device: torch.device) -> Self:
        """Dies with torchrun, which a kill -9 of that would otherwise leave behind."""
        die_with(os.getppid())
        return cls(device)


def is_under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def join(device: torch.device) -> Ranks:
    """The ranks that this process is one of."""
    return Distributed.under_torchrun(device) if is_under_torchrun() else Alone()


def local_device(name: str) -> torch.device:
    """That of the configuration; of several ranks on GPUs, each its own."""
    if name == "cuda" and is_under_torchrun():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(name)


def processes_here() -> int:
    """Ranks on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_under_torchrun() else 1


def become_torchrun(count: int, arguments: list[str]) -> NoReturn:
    """This process becomes torchrun, which starts `python -m bench ARGUMENTS` so many times."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "-m", "bench", *arguments])
