"""One training on several processes, each with its part of the batch.

    python -m speechlm_lab train codec --processes 2
    torchrun --nproc-per-node 4 -m speechlm_lab train codec

Both start the processes and tell each its number (its *rank*) and their count. Each
draws its part of every batch; gradients are averaged; after each step all take over the
codebooks of rank 0, which alone writes files. With one process nothing here does
anything. A GPU is used where there is one.

On two cores, two processes of one thread are about as fast as one process of two; they
meet once a step, the threads hundreds of times, which some machines take badly
(`benchmarks/EXPERIMENTS.md` has the seconds).
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

Made = TypeVar("Made")


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def count() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def launch(
    processes: int, arguments: Sequence[str], module: str = "speechlm_lab"
) -> int:
    """Run `python -m module` with `arguments` as several processes.

    Returns 0, or the exit status of the one that failed first; the others are then
    ended. SIGTERM is handed on to them; Ctrl-C at a terminal they have had themselves.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, *arguments]
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes), "USE_LIBUV": "0",  # Windows has none
    }  # fmt: skip
    started = [
        subprocess.Popen(
            command, env=os.environ | shared | {"RANK": str(i), "LOCAL_RANK": str(i)}
        )
        for i in range(processes)
    ]

    def end(*_: object) -> None:
        for process in started:
            process.terminate()

    def worst() -> int:
        return max(abs(process.poll() or 0) for process in started)

    before = signal.signal(signal.SIGTERM, end)
    failed = 0
    try:
        while any(process.poll() is None for process in started):
            try:
                time.sleep(0.2)
            except KeyboardInterrupt:
                continue  # they end after their step
            if not failed:
                failed = worst()
                if failed:
                    end()
    finally:
        signal.signal(signal.SIGTERM, before)
    return failed or worst()


def join() -> None:
    """Meet the other processes; call it before the first step."""
    if count() > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(distributed.destroy_process_group)


def wait() -> None:
    """Wait until all processes have come here."""
    if count() > 1:
        join()
        distributed.barrier()


def once(make: Callable[[], Made]) -> Made:
    """`make()` by rank 0, then by the others, who find on the disk what it left."""
    made = make() if rank() == 0 else None
    wait()
    return make() if made is None else made


def part(batch: int) -> int:
    """How many of a batch are this process's, at least one."""
    return max(1, batch // count())


def average_gradients(model: nn.Module) -> None:
    """Give all processes the mean of their gradients."""
    if count() > 1:
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:  # all must take part, or none goes on
                parameter.grad = torch.zeros_like(parameter)
        _together([p.grad for p in parameters], distributed.all_reduce)
        for parameter in parameters:
            parameter.grad /= count()


def share(model: nn.Module) -> None:
    """Give all processes the weights and buffers of rank 0, before the first step."""
    _take_over(list(model.state_dict().values()))


def share_codebooks(model: nn.Module) -> None:
    """Give all processes what a step of rank 0 changed by other means than gradients.

    That is, buffers (running means) and codebooks (restarted codes). Other weights need
    no sharing: equal ones with equal gradients stay equal.
    """
    learnt = {name for name, _ in model.named_parameters()}
    _take_over(
        [
            tensor
            for name, tensor in model.state_dict().items()
            if name not in learnt or name.endswith(".codebook")
        ]
    )


def _take_over(tensors: list[Tensor]) -> None:
    if count() > 1:
        join()
        for kind in sorted({tensor.dtype for tensor in tensors}, key=str):
            same = [tensor for tensor in tensors if tensor.dtype == kind]
            _together(same, lambda flat: distributed.broadcast(flat, 0))


def _together(tensors: list[Tensor], send: Callable[[Tensor], object]) -> None:
    """`send` all tensors as one, in place: a hundred messages cost more than theirs."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    send(flat)
    pieces = flat.split([tensor.numel() for tensor in tensors])
    with torch.no_grad():
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))


def any_of(flag: bool) -> bool:
    """True when `flag` is True in any process: so that all stop at one step."""
    if count() == 1:
        return flag
    told = torch.tensor(float(flag), device=device())
    distributed.all_reduce(told)
    return bool(told > 0)
