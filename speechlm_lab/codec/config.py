"""Sizes of the codec, and what its latents are made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

DECIBEL = 0.08  # latents count spectra in units of 12.5 dB: speech has about 1 of them
OCTAVE = 16.0  # latents count pitch in 1/16 octaves: an ear hears less than that
STRENGTH = 3.0  # and strength in thirds


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of a `Codec`."""

    sample_rate: int = 16_000  # Hz
    hop: int = 320  # samples from one frame of codes to the next
    fine_hop: int = 160  # samples from one spectrum to the next; divides hop
    window: int = 640  # samples under one spectrum
    bands: int = 80  # mel bands of spectra and filters
    width: int = 256  # channels at frame rate
    fine_width: int = 160  # channels at the rate of the spectra
    encoder_layers: int = 2  # ConvNeXt blocks, at frame rate
    decoder_layers: int = 4  # ConvNeXt blocks, at frame rate
    fine_layers: int = 2  # ConvNeXt blocks of the decoder, at the rate of the spectra
    causal: bool = False  # True: the decoder's blocks see no later frames
    spectrum: int = 60  # latent dimensions for the spectrum
    semantic: int = 0  # latent dimensions for what is said; 0: no semantic level
    phones: int = 42  # classes that a semantic level is taught, silence among them
    codebooks: int = 13  # K, levels of the residual quantizer
    codebook_size: int = 512  # V, codes a level

    def __post_init__(self) -> None:
        if self.hop % self.fine_hop:
            raise ValueError(
                f"hop {self.hop} must be a multiple of fine_hop {self.fine_hop}"
            )
        if self.window < self.fine_hop or (self.window - self.fine_hop) % 2:
            raise ValueError(
                f"window {self.window} must exceed fine_hop {self.fine_hop} by an "
                "even number of samples"
            )

    @property
    def fold(self) -> int:
        """Spectra in one frame."""
        return self.hop // self.fine_hop

    @property
    def frame_rate(self) -> float:
        """Frames a second, Hz."""
        return self.sample_rate / self.hop

    @property
    def latent(self) -> int:
        """D, width of the latents: spectrum, then voice, then semantic."""
        return self.spectrum + 2 * self.fold + self.semantic

    def split(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents `[..., D]` in their parts: spectrum, voice, semantic."""
        return latents.split([self.spectrum, 2 * self.fold, self.semantic], dim=-1)

    def weights(self) -> Tensor:
        """What each level listens to, `[K, D]`.

        The first one to the spectrum and to what is said, the second to the voice, the
        others to spectrum and voice.
        """
        weights = torch.ones(self.codebooks, self.latent)
        spectrum, voice, semantic = self.split(weights)
        voice[0] = 0
        semantic[1:] = 0
        spectrum[1:2] = 0
        return weights
