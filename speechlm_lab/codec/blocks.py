"""Building blocks of the codec: a residual block over time, and spectra."""

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.spectral import overlap_add


def start_weights(module: nn.Module) -> None:
    """Draw weights that keep the variance of what passes, and no bias.

    torch's default shrinks it in each layer and adds constants, under which the
    latents get lost: the decoder then spends hundreds of steps on the mean spectrum.
    """
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        nn.init.zeros_(module.bias)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then two pointwise layers; a residual block.

    Liu et al. 2022, arXiv 2201.03545, in one dimension as in Vocos. The last layer
    is scaled by `scale`, which starts small, so that the block starts near identity.
    Maps `[B, C, F]` to `[B, C, F]`; a `causal` one sees no later frame.
    """

    def __init__(
        self, width: int, kernel: int = 7, expansion: int = 2, causal: bool = False
    ) -> None:
        super().__init__()
        padding = kernel - 1 if causal else kernel // 2  # on both sides
        self.depthwise = nn.Conv1d(width, width, kernel, padding=padding, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        # a causal one has padded too much on the right: cut off
        y = self.depthwise(x)[..., : x.shape[-1]].transpose(1, 2)
        y = self.down(nnf.gelu(self.up(self.norm(y))))
        return x + (self.scale * y).transpose(1, 2)


class Spectra(nn.Module):
    """Short-time spectra, one each `hop` samples, and their inverse.

    Windows are centred in their hop, so that T samples make exactly T / hop spectra.
    """

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.pad = (window - hop) // 2
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Complex spectra `[B, window/2 + 1, T/hop]` of `wave` `[B, T]`."""
        padded = nnf.pad(wave, (self.pad, self.pad))
        frames = padded.unfold(1, len(self.window), self.hop)  # [B, T/hop, window]
        return torch.fft.rfft(frames * self.window).transpose(1, 2)

    def inverse(self, spectra: Tensor) -> Tensor:
        """Wave `[B, T]` of `spectra`: windowed overlap-add, divided by the overlap."""
        size = len(self.window)
        frames = torch.fft.irfft(spectra.transpose(1, 2), n=size) * self.window
        squares = self.window.square().expand(frames.shape[1], size)
        wave = overlap_add(frames, self.hop)
        wave = wave / overlap_add(squares, self.hop).clamp(min=1e-8)
        return wave[:, self.pad : wave.shape[1] - self.pad]
