"""The codec's decoder: latents to filters over pulses and noise."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.codec.blocks import ConvNeXtBlock, Spectra
from speechlm_lab.codec.config import DECIBEL, OCTAVE, STRENGTH, CodecConfig
from speechlm_lab.codec.voice import (
    REFERENCE,
    evened,
    loudness,
    pulses,
    steady_noise,
    turns,
)
from speechlm_lab.spectral import mel_filterbank

_FRAMES = 400  # spectra until the noise comes again; 4 s, as a rule


class Controls(NamedTuple):
    """What a decoder asks its sources and filters for, one value each fine_hop."""

    pitch: Tensor  # [B, N], Hz
    pulses: Tensor  # [B, N, bands], natural logarithm of the filter over the pulses
    noise: Tensor  # [B, N, bands], the same over the noise
    hold: Tensor  # [B, N, bands], 0 to 2: how far each band is held to that loudness


class State(NamedTuple):
    """Where a rendering goes on."""

    pitch: Tensor  # [B], Hz, at the end of what was rendered
    phase: Tensor  # [B], periods passed, float64
    samples: int  # rendered


class Decoder(nn.Module):
    """Latents `[B, F, D]` to wave `[B, F * hop]`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        bands, fine = config.bands, config.fine_width
        self.basis = nn.Linear(config.spectrum, config.fold * bands)
        self.join = nn.Conv1d(config.latent, config.width, 7, padding=3)
        self.blocks = nn.Sequential(
            *[
                ConvNeXtBlock(config.width, causal=config.causal)
                for _ in range(config.decoder_layers)
            ]
        )
        self.unfold = nn.Linear(config.width, config.fold * fine)
        self.read = nn.Linear(bands + 2, fine)
        self.fine_blocks = nn.Sequential(
            *[
                ConvNeXtBlock(fine, causal=config.causal)
                for _ in range(config.fine_layers)
            ]
        )
        self.norm = nn.LayerNorm(fine)
        self.head = nn.Linear(fine, 3 * bands + 1)
        self.spectra = Spectra(config.window, config.fine_hop)
        bank = mel_filterbank(config.sample_rate, config.window, bands)
        spread = bank / bank.sum(0).clamp(min=1e-8)  # from bands to frequencies
        spread[0, bank.sum(0) == 0] = 1  # 0 Hz lies in no band
        spread[-1, -1], spread[0, -1] = 1, 0
        self.register_buffer("spread", spread.T.contiguous(), persistent=False)
        self.register_buffer("bank", bank, persistent=False)
        white = steady_noise(0, _FRAMES * config.fine_hop)
        unit = (bank @ self.spectra(white[None]).abs()).log().mean(2)[0]  # [bands]
        self.register_buffer("unit", unit, persistent=False)
        even = evened(white, self.spectra, bank, self.spread, unit)
        self.register_buffer("even", even, persistent=False)

    def controls(self, latents: Tensor) -> Controls:
        """Pitch and filters; each depends on a few frames before and after."""
        c = self.config
        spectrum, voice, _ = c.split(latents)
        fine = (len(latents), latents.shape[1] * c.fold, -1)
        octaves, strength = (v.reshape(*fine[:2]) for v in voice.split(c.fold, dim=-1))
        mel = self.basis(spectrum).reshape(fine)
        known = torch.cat([mel, octaves[..., None], strength[..., None]], -1)
        x = self.blocks(self.join(latents.transpose(1, 2))).transpose(1, 2)
        x = self.unfold(x).reshape(fine) + self.read(known)
        x = self.norm(self.fine_blocks(x.transpose(1, 2)).transpose(1, 2))
        level, share, hold, tune = self.head(x).split([c.bands] * 3 + [1], -1)
        # as loud as the spectrum says, behind a source whose level is `unit`
        level = ((mel + level) / (20 * DECIBEL) - 3.2) * math.log(10) - self.unit
        # which part of it has a pitch: more where the voice is strong, and low down
        share = share + 12 * (strength / STRENGTH - 0.6)[..., None]
        share = share - torch.linspace(0, 3, c.bands, device=share.device)
        octaves = octaves / OCTAVE + 0.3 * tune[..., 0]
        return Controls(
            REFERENCE * 2 ** octaves.clamp(-1.0, 2.4),
            level + nnf.logsigmoid(share) / 2,
            level + nnf.logsigmoid(-share) / 2,
            2 * hold.sigmoid(),
        )

    def start(self, controls: Controls) -> State:
        """The state before the first sample."""
        pitch = controls.pitch[:, 0].detach()
        return State(pitch, pitch.new_zeros(len(pitch), dtype=torch.float64), 0)

    def after(self, controls: Controls, state: State) -> State:
        """The state after `controls` `[B, N]`, N at least 1."""
        c = self.config
        passed = turns(controls.pitch, state.pitch, c.fine_hop, c.sample_rate).sum(1)
        samples = state.samples + controls.pitch.shape[1] * c.fine_hop
        return State(controls.pitch[:, -1], state.phase + passed, samples)

    def render(self, controls: Controls, state: State) -> Tensor:
        """Wave `[B, N * fine_hop]`: pulses and noise, each through its filter.

        Then each band is brought towards the loudness that was asked for. Without this
        it is off by some dB: how much of a train of pulses falls into a band depends on
        the pitch, and what pulses and noise make together on how they happen to meet.
        """
        c = self.config
        # pitch is taught by comparison; through the pulses its gradient is chaos
        pitch = controls.pitch.detach()
        voiced = pulses(pitch, state.pitch, state.phase, c.fine_hop, c.sample_rate)
        total = 0
        for source, gain in (
            (voiced, controls.pulses),
            (self._noise(voiced, state), controls.noise),
        ):
            # a bound, so that one bad step cannot make the loss infinite
            gain = (self.spread @ gain.mT).clamp(max=6).exp()
            total = total + gain * self.spectra(source)
        asked = torch.logaddexp(2 * controls.pulses, 2 * controls.noise) / 2 + self.unit
        lack = (asked.mT - loudness(self.bank, total)).clamp(-3, 3)  # up to 26 dB
        total = total * (self.spread @ (controls.hold.mT * lack)).exp()
        return self.spectra.inverse(total)

    def _noise(self, like: Tensor, state: State) -> Tensor:
        """The noise beside a source `[B, T]`; each time the same, but in training."""
        at = state.samples + torch.arange(like.shape[1], device=like.device)
        if self.training:
            frames = torch.randint(_FRAMES, (len(like), 1), device=like.device)
            at = at + frames * self.config.fine_hop
        return self.even[at % len(self.even)].expand_as(like)

    def forward(self, latents: Tensor) -> Tensor:
        controls = self.controls(latents)
        return self.render(controls, self.start(controls))
