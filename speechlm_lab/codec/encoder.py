"""The codec's encoder: log-mel and pitch to latents."""

import torch
from torch import Tensor, nn

from speechlm_lab.codec.blocks import ConvNeXtBlock, Spectra
from speechlm_lab.codec.config import DECIBEL, OCTAVE, STRENGTH, CodecConfig
from speechlm_lab.codec.voice import PitchTracker, Voice
from speechlm_lab.spectral import mel_filterbank


class Encoder(nn.Module):
    """Wave `[B, T]`, T a multiple of hop, to latents `[B, F, D]`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.spectra = Spectra(config.window, config.fine_hop)
        self.tracker = PitchTracker(config.sample_rate, config.fine_hop)
        bank = mel_filterbank(config.sample_rate, config.window, config.bands)
        self.register_buffer("mel", bank, persistent=False)
        self.basis = nn.Linear(config.fold * config.bands, config.spectrum)
        self.join = nn.Conv1d(
            config.fold * (config.bands + 2), config.width, 3, padding=1
        )
        self.blocks = nn.Sequential(
            *[ConvNeXtBlock(config.width) for _ in range(config.encoder_layers)]
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.spectrum + config.semantic)

    def features(self, wave: Tensor) -> tuple[Tensor, Voice]:
        """What the encoder sees: log-mel `[B, T/fine_hop, bands]`, and the pitch.

        The log-mel is shifted and scaled so that speech has mean 0 and standard
        deviation 1, nearly.
        """
        mel = self.mel @ self.spectra(wave).abs()
        mel = 20 * DECIBEL * (mel.clamp(min=1e-4).log10() + 3.2)
        return mel.transpose(1, 2), self.tracker(wave)

    def forward(self, mel: Tensor, voice: Voice) -> Tensor:
        """Latents `[B, F, D]` of `features`."""
        c = self.config
        frames = (len(mel), mel.shape[1] // c.fold, -1)
        mel = mel.reshape(frames)  # fold: [B, F, fold * bands]
        voice = torch.cat(
            [OCTAVE * voice.octaves.reshape(frames),
             STRENGTH * voice.strength.reshape(frames)], -1
        )  # fmt: skip
        x = self.join(torch.cat([mel, voice], -1).transpose(1, 2))
        x = self.out(self.norm(self.blocks(x).transpose(1, 2)))
        spectrum, semantic = x.split([c.spectrum, c.semantic], -1)
        return torch.cat([self.basis(mel) + spectrum, voice, semantic], -1)
