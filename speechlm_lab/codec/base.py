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


def check_waves(wave: Tensor) -> None:
    """Raise ValueError for what is no batch of waves, with the remedy."""
    if wave.ndim != 2 or wave.numel() == 0 or not wave.is_floating_point():
        raise ValueError(
            "the codec takes float waves [B, T] with T > 0, got "
            f"{wave.dtype} {list(wave.shape)}: a single wave needs wave[None]"
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
        check_waves(wave)
        return nnf.pad(wave, (0, -wave.shape[1] % self.hop))

    def latents(self, wave: Tensor) -> Tensor:
        """Latents `[B, F, D]` of `wave` `[B, T]`, before quantization."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, wave: Tensor, levels: int | None = None) -> Tensor:
        """Codes `[B, k, F]` of `wave` `[B, T]`, F = ceil(T / hop).

        Those of the first `levels` codebooks (all when None). The end is padded with
        zeros to a whole frame.
        """
        return self.quantizer.encode(self.latents(wave), levels)

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
