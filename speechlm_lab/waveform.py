"""What a wave is, and the checks that hold it to that.

A wave is a float32 torch tensor of samples in [-1, 1], of shape [T], or [B, T]
for a batch. These names are used through `speechlm_lab.audio`.
"""

import math

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16_000  # Hz; the rate of every model in the book


class AudioError(ValueError):
    """A sound that cannot be used; the message names the remedy."""


def check_rate(sample_rate: int) -> None:
    """Raise AudioError unless a rate is a whole number of Hz, 1,000 to 192,000."""
    if (
        isinstance(sample_rate, bool)
        or not isinstance(sample_rate, (int, np.integer))
        or not 1_000 <= sample_rate <= 192_000
    ):
        raise AudioError(
            f"a sample rate of {sample_rate!r} makes no sense: give a whole number of "
            "Hz from 1000 to 192000"
        )


def check_wave(
    wave: Tensor,
    sample_rate: int = SAMPLE_RATE,
    *,
    expected_rate: int | None = None,
    min_seconds: float = 0.0,
    batched: bool = False,
    allow_silent: bool = False,
) -> Tensor:
    """Return the wave unchanged if it is one; otherwise say what is wrong.

    Args:
        wave: [T], or also [B, T] where `batched`.
        sample_rate: its rate in Hz.
        expected_rate: the rate that the caller needs, in Hz.
        min_seconds: the shortest duration that the caller can use.
        batched: whether [B, T] is accepted.
        allow_silent: whether a wave of zeros is accepted.

    Raises:
        AudioError: no tensor, wrong dtype, wrong shape (stereo), empty, too short,
            wrong rate, NaN or infinite, beyond [-1, 1], or silent.
    """
    check_rate(sample_rate)
    if not isinstance(wave, Tensor):
        raise AudioError(
            f"a wave is a torch tensor, not {type(wave).__name__}: convert it with "
            "torch.as_tensor(wave, dtype=torch.float32)"
        )
    if wave.dtype != torch.float32:
        raise AudioError(_dtype_remedy(wave.dtype))
    if wave.ndim != 1 and not (batched and wave.ndim == 2):
        raise AudioError(_shape_remedy(wave, batched))
    if wave.numel() == 0:
        raise AudioError(
            f"the wave is empty (shape {list(wave.shape)}): check the recording, or "
            "the slice that made it"
        )
    if expected_rate is not None and sample_rate != expected_rate:
        raise AudioError(
            f"the wave is at {sample_rate} Hz and {expected_rate} Hz is needed: call "
            f"audio.resample(wave, {sample_rate}, {expected_rate})"
        )
    seconds = wave.shape[-1] / sample_rate
    if seconds < min_seconds:
        raise AudioError(
            f"the wave lasts {seconds:.3f} s and {min_seconds:g} s is needed: use a "
            "longer recording, or pad it with zeros"
        )
    low, high = (float(value) for value in torch.aminmax(wave.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~wave.isfinite()).sum())
        raise AudioError(
            f"{bad} of {wave.numel()} samples are NaN or infinite: repair what made "
            "them, or replace them with torch.nan_to_num(wave)"
        )
    peak = max(-low, high)
    if peak > 1:
        raise AudioError(
            f"samples reach {peak:g}, beyond [-1, 1]: divide by wave.abs().max(), or, "
            "if these were integers, by their full scale (32768 for 16 bits)"
        )
    if peak == 0 and not allow_silent:
        raise AudioError(
            "the wave is silent (every sample is 0): check the microphone, the "
            "channel, or the slice that made it"
        )
    return wave


def _dtype_remedy(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.bool or dtype.is_complex:
        return f"{name} values are no samples: give a float32 wave in [-1, 1]"
    if dtype.is_floating_point:
        return f"the wave is {name} and float32 is needed: call wave.float()"
    bits = torch.iinfo(dtype).bits
    if dtype == torch.uint8:
        return "the wave is uint8: convert it with (wave.float() - 128) / 128"
    return f"the wave is {name}: convert it with wave.float() / {2 ** (bits - 1)}"


def _shape_remedy(wave: Tensor, batched: bool) -> str:
    wanted = "[T] or [B, T]" if batched else "one mono wave [T]"
    problem = f"the shape is {list(wave.shape)} and {wanted} is needed"
    if wave.ndim == 0:
        return f"{problem}: give more than one number"
    if wave.ndim == 2:
        axis = 0 if wave.shape[0] <= wave.shape[1] else 1
        return f"{problem}: for stereo take wave.mean({axis}); take a batch one by one"
    return f"{problem}: average the channels, or call squeeze() where a size is 1"
