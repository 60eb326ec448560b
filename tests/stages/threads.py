"""The processes of a world as threads of this one, which is faster to start and to look into."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from stages.world import World

T = TypeVar("T")


@dataclass(frozen=True)
class ThreadWorld(World):
    """A world whose members meet at a barrier."""

    slots: list[torch.Tensor] = field(default_factory=list)
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        self.slots[self.rank] = values
        self.barrier.wait()
        everyone = torch.stack(self.slots)
        self.barrier.wait()
        return everyone


def together(size: int, work: Callable[[World], T]) -> list[T]:
    """Do `work` in `size` threads that share a world; what each returned, by rank."""
    slots, barrier = [torch.empty(0)] * size, threading.Barrier(size, timeout=30)

    def one(rank: int) -> T:
        try:
            return work(ThreadWorld(rank=rank, size=size, slots=slots, barrier=barrier))
        except BaseException:
            barrier.abort()  # the others need not wait
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
