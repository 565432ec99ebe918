"""One training on several processes, each with its part of the batch.

    torchrun --nproc-per-node 4 -m speechlm_lab train codec

`torchrun` starts the processes and tells each its number (its *rank*) and their count.
Each draws batches of its own; gradients are averaged; after each step all take over the
weights and codebooks of rank 0, which alone writes files. With one process, started as
usual, nothing here does anything. A GPU is used where there is one.
"""

import os

import torch
from torch import distributed, nn


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def count() -> int:
    """Processes that train together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def join() -> None:
    """Meet the other processes; call it before the first step."""
    if count() > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Part from them, after the last step."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def average_gradients(model: nn.Module) -> None:
    """Give all processes the mean of their gradients."""
    if count() > 1:
        for parameter in model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # all must take part, or none goes on
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)
                parameter.grad /= count()


def share(model: nn.Module) -> None:
    """Give all processes the weights and buffers of rank 0.

    Also what a step changed without a gradient: running means, restarted codes.
    """
    if count() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)


def any_of(flag: bool) -> bool:
    """True when `flag` is True in any process: so that all stop at one step."""
    if count() == 1:
        return flag
    told = torch.tensor(float(flag), device=device())
    distributed.all_reduce(told)
    return bool(told > 0)
