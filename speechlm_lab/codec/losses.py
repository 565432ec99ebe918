"""What the codec is trained on: how far two waves are apart, as the ear hears it."""

import torch
from torch import Tensor, nn

from speechlm_lab.spectral import mel_filterbank, stft

# (window in samples, mel bands): long windows tell pitch, short ones tell onsets
SCALES = ((2048, 160), (1024, 80), (512, 80), (256, 40))


class SpectralLoss(nn.Module):
    """Mean absolute difference of two waves' log10 mel magnitudes.

    Takes waves `[B, T]`, returns a scalar, averaged over `SCALES` (hop: a quarter of
    the window). 0.05 is one decibel. It knows nothing of phase: the phase of a wave
    is tied only by the overlap of its windows. Magnitudes under `floor` count as
    `floor`.
    """

    def __init__(self, sample_rate: int = 16_000, floor: float = 1e-4) -> None:
        super().__init__()
        self.floor = floor
        for window, bands in SCALES:
            bank = mel_filterbank(sample_rate, window, bands)
            self.register_buffer(f"mel_{window}", bank, persistent=False)

    def log_mel(self, wave: Tensor, window: int) -> Tensor:
        """log10 mel magnitudes `[B, bands, frames]` of `wave` `[B, T]`."""
        spectrum = stft(wave, window, window // 4)
        # the root has no gradient at 0, where digital silence is
        power = spectrum.real.square() + spectrum.imag.square()
        bands = self.get_buffer(f"mel_{window}") @ (power + 1e-10).sqrt()
        return bands.clamp(min=self.floor).log10()

    def forward(self, wave: Tensor, target: Tensor) -> Tensor:
        if wave.shape != target.shape:
            raise ValueError(
                f"waves must have one shape, got {list(wave.shape)} and "
                f"{list(target.shape)}"
            )
        differences = [
            (self.log_mel(wave, window) - self.log_mel(target, window)).abs().mean()
            for window, _ in SCALES
        ]
        return torch.stack(differences).mean()
