"""Codebook patterns: how K parallel streams of codes become one sequence of steps.

A language model predicts one step after another, but each frame has K codes that
depend on one another. A pattern lays the codes `[B, K, F]` out so that a code is
predicted after those it should know. Each function here has an exact inverse.

`parallel` needs no function: the codes as they are, one frame a step, in which the
levels of one frame cannot see each other.
"""

import torch
from torch import Tensor


def _check(codes: Tensor, name: str) -> None:
    if codes.ndim != 3:
        raise ValueError(f"{name} must be [B, K, steps], got {list(codes.shape)}")


def delay(codes: Tensor, blank: int) -> Tensor:
    """Shift level k by k steps: `[B, K, F]` to `[B, K, F + K - 1]`.

    So when level k of a frame is predicted, levels 0 to k - 1 of it are known, at the
    cost of K - 1 steps. `blank` fills the corners (MusicGen: Copet et al. 2023,
    arXiv 2306.05284). Three levels, frames 0 to 3, - for blank:

        level 0   0 1 2 3 - -
        level 1   - 0 1 2 3 -
        level 2   - - 0 1 2 3
    """
    _check(codes, "codes")
    batch, codebooks, frames = codes.shape
    steps = codes.new_full((batch, codebooks, frames + codebooks - 1), blank)
    for k in range(codebooks):
        steps[:, k, k : k + frames] = codes[:, k]
    return steps


def undelay(steps: Tensor) -> Tensor:
    """Inverse of `delay`: `[B, K, F + K - 1]` to `[B, K, F]`."""
    _check(steps, "steps")
    codebooks = steps.shape[1]
    frames = steps.shape[2] - codebooks + 1
    if frames < 0:
        raise ValueError(
            f"a delay of {codebooks} levels takes at least {codebooks - 1} steps, "
            f"got {steps.shape[2]}"
        )
    return torch.stack([steps[:, k, k : k + frames] for k in range(codebooks)], dim=1)


def flatten(codes: Tensor) -> Tensor:
    """One code a step, level after level: `[B, K, F]` to `[B, 1, F * K]`."""
    _check(codes, "codes")
    return codes.transpose(1, 2).reshape(len(codes), 1, -1)


def unflatten(steps: Tensor, codebooks: int) -> Tensor:
    """Inverse of `flatten`: `[B, 1, F * K]` to `[B, K, F]`, K = `codebooks`."""
    _check(steps, "steps")
    if steps.shape[1] != 1 or steps.shape[2] % codebooks:
        raise ValueError(
            f"steps must be [B, 1, F * {codebooks}], got {list(steps.shape)}"
        )
    return steps.reshape(len(steps), -1, codebooks).transpose(1, 2)
