"""One plain training loop that survives being killed.

What makes a resumed training end in the same weights, bit for bit, as one that was
never stopped:

- the batch of a step depends on the seed and the step, not on what ran before;
- the learning rate depends on the step, not on the clock;
- a checkpoint holds weights, buffers, the optimizer's averages, random state and step;
- a new checkpoint takes the old one's name only when it is whole;
- the number of threads, which decides the order of sums, is part of the settings.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from speechlm_lab import parallel
from speechlm_lab.training_log import Log

STATE = "state.pt"
LOG = "log.csv"


class TrainError(RuntimeError):
    """A training cannot start, go on, or be resumed."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `train`."""

    steps: int  # optimizer steps in all
    learning_rate: float = 1e-3  # of AdamW, at its highest
    warmup: int = 30  # steps over which the learning rate rises from 0
    decay: float = 0.4  # share of the steps, the last ones, over which it falls to 0
    betas: tuple[float, float] = (0.9, 0.99)  # decay of AdamW's averages, per step
    weight_decay: float = 0.01  # of AdamW, on matrices only
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0  # of weights, batches and whatever else is random
    threads: int = 2  # CPU threads of each process
    processes: int = 1  # that share a batch (see `parallel`); with GPUs one for each
    save_every: float = 20.0  # seconds from one checkpoint to the next
    log_every: int = 20  # steps from one row of the log to the next


class Training(NamedTuple):
    """How a call of `train` ended."""

    step: int  # steps done, in all calls together
    seconds: float  # spent in steps, in all calls together
    finished: bool  # False when a signal stopped it


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step counted from 0: up, flat, straight down to 0."""
    rise = (step + 1) / max(1, config.warmup)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.learning_rate * min(1.0, rise, fall)


def step_generator(seed: int, step: int, shared: bool = False) -> torch.Generator:
    """A random generator of one step of a seed: each process's own, or `shared`."""
    # SeedSequence mixes them, so that neighbours are unrelated
    rank = 0 if shared else parallel.rank()
    numbers = [seed, step] + [rank] * (rank > 0)
    mixed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> 1))


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def train(
    model: nn.Module,
    loss: Callable[[int], dict[str, Tensor]],
    config: TrainConfig,
    folder: str | Path,
    settings: dict | None = None,
    resume: bool = True,
) -> Training:
    """Train `model`, leaving a checkpoint and a log in `folder`.

    `loss(step)` returns scalars by name, of which "loss" is minimised and all are
    logged; its batch must depend on the step alone (see `step_generator`). `settings`,
    plain values, are kept in the checkpoint: one with other settings is not resumed.

    The first SIGINT or SIGTERM ends the current step, saves, and returns. Raises
    TrainError when the loss is not finite or a checkpoint does not fit.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    model.to(parallel.device())
    optimizer = _optimizer(model, config)
    settings = {"train": asdict(config), **(settings or {})}
    state = Checkpoint(folder / STATE, model, optimizer, settings)
    log = Log(folder / LOG)
    if resume:
        state.load()
    if state.step == 0:
        torch.manual_seed(config.seed)
    if parallel.rank() == 0:
        log.cut(after=state.step)

    parallel.share(model)
    model.train()
    began = saved = time.monotonic()
    earlier = state.seconds
    with Interrupt() as interrupt:
        while state.step < config.steps and not parallel.any_of(interrupt.received):
            rate = learning_rate(state.step, config)
            values = _step(model, optimizer, loss, state.step, rate, config.clip)
            state.step += 1
            state.seconds = earlier + time.monotonic() - began
            state.add(values)
            if parallel.rank() > 0:
                continue
            if state.step % config.log_every == 0 or state.step == config.steps:
                row = {"step": state.step, "seconds": round(state.seconds, 1)}
                row |= {"learning_rate": rate, **state.means()}
                log.write(row)
                print(_progress(row, config.steps, earlier, began), flush=True)
            if time.monotonic() - saved > config.save_every:
                state.save()
                saved = time.monotonic()
    if parallel.rank() == 0:
        state.save()
    return Training(state.step, state.seconds, state.step >= config.steps)


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    parameters = [p for p in model.parameters() if p.requires_grad]
    # shrinking gains and biases would only fight the data
    matrices = [p for p in parameters if p.ndim >= 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    # fused: the same update in a third of the time
    return torch.optim.AdamW(groups, config.learning_rate, config.betas, fused=True)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[int], dict[str, Tensor]],
    step: int,
    rate: float,
    clip: float,
) -> dict[str, float]:
    """One optimizer step; returns the logged values."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    values = loss(step)
    if not torch.isfinite(values["loss"]):
        raise TrainError(
            f"the loss became {values['loss'].item()} at step {step}: "
            "lower the learning rate"
        )
    optimizer.zero_grad(set_to_none=True)
    values["loss"].backward()
    parallel.average_gradients(model)
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    parallel.share_codebooks(model)
    return {name: value.item() for name, value in values.items()}


def _progress(row: dict, steps: int, earlier: float, began: float) -> str:
    names = [n for n in row if n not in ("step", "seconds", "learning_rate")]
    values = "  ".join(f"{name} {row[name]:.4f}" for name in names)
    left = row["seconds"] / row["step"] * (steps - row["step"])
    return (
        f"step {row['step']}/{steps}  {values}  "
        f"{_clock(row['seconds'])} gone, {_clock(left)} left"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Checkpoint:
    """All that training changes, saved to and loaded from one file."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: dict,
    ) -> None:
        self.path = path
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self.step = 0
        self.seconds = 0.0
        self.sums: dict[str, float] = {}  # of the logged values since the last row
        self.count = 0  # steps in these sums

    def add(self, values: dict[str, float]) -> None:
        """Add a step's values to the sums."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Means since the last call, rounded for the log."""
        means = {n: float(f"{s / self.count:.6g}") for n, s in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def save(self) -> None:
        """Write the checkpoint; the old one stays whole until the new one is."""
        content = {
            "settings": self.settings,
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
            "count": self.count,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    def load(self) -> None:
        """Take up the saved state; without a file, stay at step 0."""
        if not self.path.exists():
            return
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise anything
            reason = " ".join(str(error).split())[:80]
            raise TrainError(
                f"{self.path} cannot be read ({reason} ...): copy it again, or start "
                "anew without resuming"
            ) from error
        if content["settings"] != self.settings:
            raise TrainError(
                f"{self.path} belongs to a training with other settings "
                f"({_difference(content['settings'], self.settings)}): choose another "
                "folder, or start anew without resuming"
            )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["random"])
        for name in ("step", "seconds", "sums", "count"):
            setattr(self, name, content[name])


def _difference(old: dict, new: dict) -> str:
    """The first setting that differs, in words."""
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict) and a != b:
            return f"{name}: {_difference(a, b)}"
        if a != b:
            return f"{name} was {a}, now {b}"
    return "nothing"


class Interrupt:
    """Within its `with` block the first SIGINT or SIGTERM only sets `received`.

    The second one acts as ever.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        # only the main thread may set handlers; elsewhere signals act as ever
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = True
        print("stopping after this step ...", file=sys.stderr, flush=True)
        self.__exit__()
