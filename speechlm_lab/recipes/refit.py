"""After a codec's training: its codebooks once more, for even use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechlm_lab.codec import Codec, StridedCodec
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE
from speechlm_lab.quantize import balance_levels
from speechlm_lab.recipes.pool import Pool
from speechlm_lab.train import step_generator

TOGETHER = 8  # clips that are coded at a time


@dataclass(frozen=True)
class Refit:
    """What codebooks are fitted to, and how strongly their use is evened out.

    Clean TinyVoices are counted and balanced. Recordings, and clips as in training,
    with their gains and noise, only move the codes that are nearest to them.
    """

    # of `quantize.balance`, a level each; the last one holds for all others
    gammas: tuple[float, ...] = (4.0, 1.0, 4.0, 2.0, 2.0, 1.0)
    minutes: float = 40.0  # of audio
    real: float = 0.25  # share of it from recordings, where they can be had
    rough: float = 0.25  # share of it that are clips as in training
    clip: float = 4.0  # s, length of the other clips
    passes: int = 4  # over all of it, for each level


@torch.no_grad()
def refit(
    codec: Codec | StridedCodec,
    settings: Refit,
    pool: Pool,
    real: list[np.ndarray],
    rough: Callable[[int], Tensor],
    seed: int,
    first: int,
) -> None:
    """Fit the codebooks of `codec` again, in place; the rest of it stays as it is.

    Args:
        settings: what to fit them to.
        pool, real: as in `CodecRecipe.sample_batch`.
        rough: clips `[B, T]` of a training batch, by its step.
        seed: of the training.
        first: no step from this one on was trained on.
    """
    generator = step_generator(seed, first)
    length = min(int(settings.clip * SAMPLE_RATE), len(pool.wave) - 1)
    share = 1 - settings.real - settings.rough
    count = _clips(settings.minutes * share, length)
    at = torch.randint(len(pool.wave) - length, (count,), generator=generator)
    parts = [_latents(codec, pool.clips(at, length))]
    if real:
        cut = []
        for number in range(_clips(settings.minutes * settings.real, length)):
            stream = real[number % 4 == 3]  # three of the first for each of the second
            begin = int(torch.randint(len(stream) - length, (1,), generator=generator))
            cut.append(stream[begin : begin + length])
        wave = torch.from_numpy(np.stack(cut)).float() / 32768
        parts.append(_latents(codec, wave))
    steps, wanted = first, settings.minutes * settings.rough * 60 * SAMPLE_RATE
    while wanted > 0:
        wave = rough(steps)
        parts.append(_latents(codec, wave))
        steps, wanted = steps + 1, wanted - wave.numel()
    frames = [part.flatten(0, 1) for part in parts]
    counted = torch.arange(sum(len(f) for f in frames)) < len(frames[0])
    balance_levels(
        codec.quantizer,
        torch.cat(frames)[None],
        settings.gammas,
        counted[None],
        settings.passes,
        seed,
    )


def told(settings: Refit) -> str:
    """What was done, for a card."""
    gammas = ", ".join(f"{gamma:g}" for gamma in settings.gammas)
    return (
        "fitted again after the training, all else unchanged, for even use "
        f"(`quantize.balance_levels`, gamma {gammas} and so on, "
        f"{settings.minutes:g} minutes)"
    )


def _clips(minutes: float, length: int) -> int:
    return max(1, round(minutes * 60 * SAMPLE_RATE / length))


def _latents(codec: Codec | StridedCodec, waves: Tensor) -> Tensor:
    return torch.cat([codec.latents(part) for part in waves.split(TOGETHER)])
