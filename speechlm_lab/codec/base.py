"""What our codecs share: sizes, checks, and the way from waves to codes and back."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf


class Coded(NamedTuple):
    """What the `forward` of a codec returns."""

    wave: Tensor  # [B, T], decoded
    codes: Tensor | None  # [B, K, F]; None where nothing was quantized
    commitment: Tensor  # scalar, the quantizer's loss; 0 where nothing was quantized
    detuned: Tensor | None = (
        None  # scalar, octaves by which the pitch is off, where there is one
    )
    phones: Tensor | None = (
        None  # [B, F, phones], scores by the semantic level, if there is
    )


_LOUDEST = 10.0  # beyond [-1, 1], but not yet what 16-bit numbers are


def check_waves(wave: Tensor, dtype: torch.dtype) -> None:
    """Raise ValueError for what is no batch of waves of `dtype`, with the remedy."""
    if not isinstance(wave, Tensor):
        raise ValueError(
            f"the codec takes a tensor, got {type(wave).__name__}: use torch.as_tensor"
        )
    if wave.ndim != 2 or wave.numel() == 0:
        raise ValueError(
            "the codec takes waves [B, T] with T > 0, got "
            f"{list(wave.shape)}: a single wave needs wave[None]"
        )
    if wave.dtype != dtype:
        raise ValueError(
            f"this codec takes {dtype} samples in [-1, 1], got {wave.dtype}: use "
            f"wave.to({dtype}), and divide whole numbers by their full scale"
        )


def check_samples(wave: Tensor) -> None:
    """Raise ValueError for samples that are no sound, with the remedy."""
    peak = float(wave.abs().max())
    if not peak <= _LOUDEST:  # NaN is not, either
        raise ValueError(
            f"the wave holds samples up to {peak:g}, far beyond [-1, 1]: repair what "
            "made them, or divide by full scale (32768 for 16 bits)"
        )


def check_length(length: int | None, samples: int) -> None:
    """Raise ValueError for a `length` that `samples` decoded ones do not hold."""
    if length is not None and not 0 < length <= samples:
        raise ValueError(
            f"these codes hold {samples} samples: ask for a length from 1 to that, "
            f"not {length}"
        )


class BaseCodec(nn.Module):
    """Encode waves to codes, decode codes to waves. Use a subclass.

    It sets `config`, `encoder`, `quantizer` and `decoder`, and defines `latents`.
    """

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.config.sample_rate

    @property
    def hop(self) -> int:
        """Samples in a frame."""
        return self.config.hop

    @property
    def frame_rate(self) -> float:
        """Frames a second, Hz."""
        return self.config.frame_rate

    def bitrate(self, levels: int | None = None) -> float:
        """Bits a second that `levels` codebooks cost (all when None)."""
        levels = self.config.codebooks if levels is None else levels
        if not 1 <= levels <= self.config.codebooks:
            raise ValueError(
                f"levels must lie in 1..{self.config.codebooks}, got {levels}"
            )
        return self.frame_rate * levels * math.log2(self.config.codebook_size)

    def _padded(self, wave: Tensor) -> Tensor:
        """`wave` `[B, T]`, checked, with zeros up to a whole frame."""
        check_waves(wave, next(self.parameters()).dtype)
        return nnf.pad(wave, (0, -wave.shape[1] % self.hop))

    def latents(self, wave: Tensor) -> Tensor:
        """Latents `[B, F, D]` of `wave` `[B, T]`, before quantization."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, wave: Tensor, levels: int | None = None) -> Tensor:
        """Codes `[B, k, F]` of `wave` `[B, T]`, F = ceil(T / hop).

        Those of the first `levels` codebooks (all when None). The end is padded with
        zeros to a whole frame. Raises ValueError for what is no wave.
        """
        latents = self.latents(wave)  # which has looked at the shape
        check_samples(wave)
        return self.quantizer.encode(latents, levels)

    @torch.no_grad()
    def decode(
        self, codes: Tensor, levels: int | None = None, length: int | None = None
    ) -> Tensor:
        """Wave `[B, F * hop]` of `codes` `[B, k, F]`, k <= K, clipped to [-1, 1].

        Uses the first `levels` codebooks (all that are given when None) and cuts the
        wave to `length` samples when it is given. Raises ValueError for codes without
        a frame, and for levels or a length that they do not have.
        """
        latents = self.quantizer.decode(codes, levels)
        if latents.shape[1] == 0:
            raise ValueError("these codes hold no frame: decode [B, k, F] with F > 0")
        check_length(length, latents.shape[1] * self.hop)
        return self.render(latents)[:, :length]

    @torch.no_grad()
    def render(self, latents: Tensor) -> Tensor:
        """Wave `[B, F * hop]` of latents `[B, F, D]`, clipped to [-1, 1]."""
        return self.decoder(latents).clamp(-1, 1)
