"""Codebook patterns: how K parallel streams of codes become one sequence of steps.

A language model predicts one step after another, but each frame has K codes that
depend on one another. A pattern lays the codes `[B, K, F]` out so that a code is
predicted after those it should know. Each layout here has an exact inverse.

`PATTERNS` holds all of them in one form, so that they can be compared. For K levels
and F frames, and for the code of level k in frame f, when it is predicted:

    name             streams   steps        levels it knows of a frame g
    parallel         K         F            all if g < f
    delay            K         F + K - 1    those below k + f - g
    flatten          1         K * F        all if g < f; below k if g = f
    coarse-to-fine   1         K * F        below k; level k too if g < f
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _check(codes: Tensor, name: str) -> None:
    if codes.ndim != 3:
        raise ValueError(f"{name} must be [B, K, steps], got {list(codes.shape)}")


def _frames_of_one_stream(steps: Tensor, codebooks: int) -> int:
    """Frames in `steps` `[B, 1, K * F]`, K = `codebooks`."""
    _check(steps, "steps")
    if codebooks < 1:
        raise ValueError(f"codebooks must be at least 1, got {codebooks}")
    if steps.shape[1] != 1 or steps.shape[2] % codebooks:
        raise ValueError(
            f"steps must be [B, 1, F * {codebooks}], got {list(steps.shape)}"
        )
    return steps.shape[2] // codebooks


def parallel(codes: Tensor) -> Tensor:
    """The codes as they are, one frame a step: `[B, K, F]` to `[B, K, F]`.

    The shortest layout and its own inverse. The levels of one frame are predicted at
    once and cannot see each other. Three levels, frames 0 to 3:

        level 0   0 1 2 3
        level 1   0 1 2 3
        level 2   0 1 2 3
    """
    _check(codes, "codes")
    return codes


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
    """One code a step, frame after frame: `[B, K, F]` to `[B, 1, F * K]`.

    Every code sees all levels below it, and the sequence is K times as long. Three
    levels, frames 0 to 3:

        level   0 1 2 0 1 2 0 1 2 0 1 2
        frame   0 0 0 1 1 1 2 2 2 3 3 3
    """
    _check(codes, "codes")
    batch, codebooks, frames = codes.shape
    return codes.transpose(1, 2).reshape(batch, 1, codebooks * frames)


def unflatten(steps: Tensor, codebooks: int) -> Tensor:
    """Inverse of `flatten`: `[B, 1, F * K]` to `[B, K, F]`, K = `codebooks`."""
    frames = _frames_of_one_stream(steps, codebooks)
    return steps.reshape(len(steps), frames, codebooks).transpose(1, 2)


def coarse_to_fine(codes: Tensor) -> Tensor:
    """One code a step, level after level: `[B, K, F]` to `[B, 1, K * F]`.

    The whole stretch at level 0, then the whole of level 1, and so on: a code sees
    the lower levels of all frames, later ones too, but not the higher levels of any.
    No frame is complete before the last level begins: nothing plays early. AudioLM
    (Borsos et al. 2022, arXiv 2209.03143) and VALL-E (Wang et al. 2023, arXiv
    2301.02111) go from coarse levels to fine ones with a model for each stage; here
    it is one sequence. Three levels, frames 0 to 3:

        level   0 0 0 0 1 1 1 1 2 2 2 2
        frame   0 1 2 3 0 1 2 3 0 1 2 3
    """
    _check(codes, "codes")
    batch, codebooks, frames = codes.shape
    return codes.reshape(batch, 1, codebooks * frames)


def uncoarse_to_fine(steps: Tensor, codebooks: int) -> Tensor:
    """Inverse of `coarse_to_fine`: `[B, 1, K * F]` to `[B, K, F]`, K = `codebooks`."""
    frames = _frames_of_one_stream(steps, codebooks)
    return steps.reshape(len(steps), codebooks, frames)


@dataclass(frozen=True)
class Pattern:
    """A layout of codes `[B, K, F]` as steps `[B, streams, S]`, and the way back."""

    name: str
    lay: Callable[[Tensor, int], Tensor]  # (codes, blank) -> steps
    pick: Callable[[Tensor, int], Tensor]  # (steps, K) -> codes
    streams: Callable[[int], int]  # K -> codes a step
    steps: Callable[[int, int], int]  # (K, F) -> S

    def levels(self, codebooks: int, frames: int) -> Tensor:
        """The level of the code in each step, int64 `[streams, S]`.

        A model embeds and predicts a code with the table of its level. With several
        streams, stream k is level k throughout, in blank corners too.
        """
        own = torch.arange(codebooks)[:, None].expand(codebooks, frames)
        laid = self.lay(own[None], -1)[0]
        stream = torch.arange(len(laid))[:, None]
        return torch.where(laid < 0, stream, laid)

    def frames(self, codebooks: int, frames: int) -> Tensor:
        """The frame of the code in each step, int64 `[streams, S]`; -1 where blank."""
        own = torch.arange(frames).expand(codebooks, frames)
        return self.lay(own[None], -1)[0]


def _pick_streams(undo: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """`undo`, after a check that there is one stream a level."""

    def pick(steps: Tensor, codebooks: int) -> Tensor:
        _check(steps, "steps")
        if steps.shape[1] != codebooks:
            raise ValueError(
                f"steps must be [B, {codebooks}, S], got {list(steps.shape)}"
            )
        return undo(steps)

    return pick


PATTERNS: dict[str, Pattern] = {
    pattern.name: pattern
    for pattern in (
        Pattern(
            name="parallel",
            lay=lambda codes, blank: parallel(codes),
            pick=_pick_streams(parallel),
            streams=lambda codebooks: codebooks,
            steps=lambda codebooks, frames: frames,
        ),
        Pattern(
            name="delay",
            lay=delay,
            pick=_pick_streams(undelay),
            streams=lambda codebooks: codebooks,
            steps=lambda codebooks, frames: frames + codebooks - 1,
        ),
        Pattern(
            name="flatten",
            lay=lambda codes, blank: flatten(codes),
            pick=unflatten,
            streams=lambda codebooks: 1,
            steps=lambda codebooks, frames: codebooks * frames,
        ),
        Pattern(
            name="coarse-to-fine",
            lay=lambda codes, blank: coarse_to_fine(codes),
            pick=uncoarse_to_fine,
            streams=lambda codebooks: 1,
            steps=lambda codebooks, frames: codebooks * frames,
        ),
    )
}
