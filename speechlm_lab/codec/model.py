"""The toy codec: wave to codes to wave, by way of spectra.

    wave -> spectra -> fold -> ConvNeXt -> ResidualVQ -> ConvNeXt -> unfold -> iSTFT

No layer works on samples. The encoder reads log-mel spectra and folds a few of them
into one frame; the decoder predicts complex spectra, and one inverse STFT makes the
wave (Vocos: Siuzdak 2023, arXiv 2306.00814). That is several times faster on a CPU
than strided convolutions over the waveform.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.quantize import ResidualVQ
from speechlm_lab.spectral import mel_filterbank, overlap_add


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of a `Codec`."""

    sample_rate: int = 16_000  # Hz
    hop: int = 320  # samples from one frame of codes to the next
    fine_hop: int = 160  # samples from one spectrum to the next; divides hop
    window: int = 640  # samples under one spectrum
    bands: int = 80  # mel bands the encoder reads
    width: int = 256  # channels at frame rate
    fine_width: int = 160  # channels at the rate of the spectra
    encoder_layers: int = 2  # ConvNeXt blocks, at frame rate
    decoder_layers: int = 4  # ConvNeXt blocks, at frame rate
    fine_layers: int = 2  # ConvNeXt blocks of the decoder, at the rate of the spectra
    latent: int = 64  # D, width of the quantized latents
    codebooks: int = 8  # K, levels of the residual quantizer
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


class Coded(NamedTuple):
    """What `Codec.forward` returns."""

    wave: Tensor  # [B, T], decoded
    codes: Tensor | None  # [B, K, F]; None where nothing was quantized
    commitment: Tensor  # scalar, the quantizer's loss; 0 where nothing was quantized


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
    Maps `[B, C, F]` to `[B, C, F]`.
    """

    def __init__(self, width: int, kernel: int = 7, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).transpose(1, 2)
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


class Encoder(nn.Module):
    """Wave `[B, T]`, T a multiple of hop, to latents `[B, F, D]`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.fold = config.fold
        self.spectra = Spectra(config.window, config.fine_hop)
        self.register_buffer(
            "mel",
            mel_filterbank(config.sample_rate, config.window, config.bands),
            persistent=False,
        )
        self.read = nn.Linear(config.bands, config.fine_width)
        self.join = nn.Conv1d(config.fold * config.fine_width, config.width, 3, 1, 1)
        self.blocks = nn.Sequential(
            *[ConvNeXtBlock(config.width) for _ in range(config.encoder_layers)]
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.latent)

    def features(self, wave: Tensor) -> Tensor:
        """What the encoder sees: log-mel, `[B, T/fine_hop, bands]`.

        Shifted and scaled so that speech has mean 0 and standard deviation 1, nearly.
        With a large constant in it, the latents would carry little else.
        """
        mel = self.mel @ self.spectra(wave).abs()
        return 1.6 * (mel.clamp(min=1e-4).log10() + 3.2).transpose(1, 2)

    def forward(self, wave: Tensor) -> Tensor:
        x = nnf.gelu(self.read(self.features(wave)))  # [B, F * fold, fine_width]
        x = x.reshape(len(x), -1, self.fold * x.shape[-1])  # fold: [B, F, ...]
        x = self.blocks(self.join(x.transpose(1, 2)))
        return self.out(self.norm(x.transpose(1, 2)))


class Decoder(nn.Module):
    """Latents `[B, F, D]` to wave `[B, F * hop]`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.fine_width = config.fine_width
        self.join = nn.Conv1d(config.latent, config.width, 7, padding=3)
        self.blocks = nn.Sequential(
            *[ConvNeXtBlock(config.width) for _ in range(config.decoder_layers)]
        )
        self.unfold = nn.Linear(config.width, config.fold * config.fine_width)
        self.fine_blocks = nn.Sequential(
            *[ConvNeXtBlock(config.fine_width) for _ in range(config.fine_layers)]
        )
        self.norm = nn.LayerNorm(config.fine_width)
        self.head = nn.Linear(config.fine_width, config.window + 2)
        self.spectra = Spectra(config.window, config.fine_hop)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.blocks(self.join(latents.transpose(1, 2))).transpose(1, 2)
        x = self.unfold(x)  # [B, F, fold * fine_width]
        x = x.reshape(len(x), -1, self.fine_width)  # [B, F * fold, fine_width]
        x = self.fine_blocks(x.transpose(1, 2)).transpose(1, 2)
        log_magnitude, phase = self.head(self.norm(x)).transpose(1, 2).chunk(2, dim=1)
        # a bound on the magnitude, so that one bad step cannot make the loss infinite
        spectra = torch.polar(log_magnitude.clamp(max=6).exp(), phase)
        return self.spectra.inverse(spectra)


class Codec(
    nn.Module,
    PyTorchModelHubMixin,
    coders={CodecConfig: (vars, lambda values: CodecConfig(**values))},
):
    """Encode waves to codes, decode codes to waves.

    Waves are float tensors `[B, T]` in [-1, 1] at `sample_rate`; codes are int64
    tensors `[B, K, F]` with F = ceil(T / hop).
    """

    def __init__(self, config: CodecConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CodecConfig()
        self.encoder = Encoder(config)
        self.quantizer = ResidualVQ(
            config.codebooks, config.codebook_size, config.latent
        )
        self.decoder = Decoder(config)
        self.apply(start_weights)
        nn.init.normal_(self.decoder.head.weight, std=0.3 * config.fine_width**-0.5)

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
        bits = torch.tensor(float(self.config.codebook_size)).log2().item()
        return self.frame_rate * (levels or self.config.codebooks) * bits

    def _padded(self, wave: Tensor) -> Tensor:
        if wave.ndim != 2 or wave.shape[1] == 0 or not wave.is_floating_point():
            raise ValueError(
                "the codec takes float waves [B, T] with T > 0, got "
                f"{wave.dtype} {list(wave.shape)}: a single wave needs wave[None]"
            )
        return nnf.pad(wave, (0, -wave.shape[1] % self.hop))

    def latents(self, wave: Tensor) -> Tensor:
        """Latents `[B, F, D]` of `wave` `[B, T]`, before quantization."""
        return self.encoder(self._padded(wave))

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """Codes `[B, K, F]` of `wave` `[B, T]`, F = ceil(T / hop).

        The end is padded with zeros to a whole frame.
        """
        return self.quantizer.encode(self.latents(wave))

    @torch.no_grad()
    def decode(
        self, codes: Tensor, levels: int | None = None, length: int | None = None
    ) -> Tensor:
        """Wave `[B, F * hop]` of `codes` `[B, k, F]`, k <= K.

        Uses the first `levels` codebooks (all that are given when None) and cuts the
        wave to `length` samples when it is given.
        """
        return self.decoder(self.quantizer.decode(codes, levels))[:, :length]

    def forward(self, wave: Tensor, quantize: bool = True) -> Coded:
        """Encode and decode `wave` `[B, T]` for training; returns T samples.

        With `quantize` False the latents go straight to the decoder, which is how a
        training begins.
        """
        latents = self.latents(wave)
        if quantize:
            latents, codes, commitment = self.quantizer(latents)
        else:
            codes, commitment = None, latents.new_zeros(())
        return Coded(self.decoder(latents)[:, : wave.shape[1]], codes, commitment)
