"""Batches made ahead of their steps, so that a GPU does not wait for them."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from speechlm_lab import parallel


class Batches(Dataset):
    """`make(step)` for the steps of a training, in their order.

    Each is a named tuple of tensors and must depend on its step alone. On a GPU other
    processes make them ahead; on a CPU, whose cores train already, each is made when it
    is asked for.
    """

    def __init__(self, make: Callable[[int], NamedTuple], steps: int) -> None:
        self.make = make
        self.steps = steps
        gpus = torch.cuda.device_count()
        self.workers = min(8, (os.cpu_count() or 1) // gpus - 1) if gpus else 0
        self._next = -1
        self._made: Iterator[NamedTuple] = iter(())

    def __getitem__(self, step: int) -> NamedTuple:
        return self.make(step)

    def __call__(self, step: int) -> NamedTuple:
        """The batch of a step, its tensors on this process's device."""
        made = self._ahead(step) if self.workers else self.make(step)
        device = parallel.device()
        moved = [part.to(device, non_blocking=True) for part in made]
        return type(made)(*moved)

    def _ahead(self, step: int) -> NamedTuple:
        if step != self._next:  # at first, or where a training is taken up again
            loader = DataLoader(
                self, batch_size=None, sampler=range(step, self.steps),
                num_workers=self.workers,
                generator=torch.Generator(),  # or it draws from the training's own
            )  # fmt: skip
            self._made = iter(loader)
        self._next = step + 1
        return next(self._made)
