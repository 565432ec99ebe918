"""The classic neural codec: strided convolutions over the waveform.

    wave -> conv -> [residual units, strided conv] x n -> conv -> ResidualVQ
    wave <- conv <- [residual units <- transposed conv] x n <- conv <-

SoundStream (Zeghidour et al. 2021, arXiv 2107.03312, sections III-A and III-B) is built
this way, and after it EnCodec (Défossez et al. 2022, arXiv 2210.13438, section 3.1,
which adds an LSTM) and DAC (Kumar et al. 2023, arXiv 2306.06546, section 3.1, which
brings in Snake). This one is small, is meant to be trained without a discriminator, and
learns far more slowly than `codec.Codec`. In return it can be causal, and then streams.

Its convolutions have no biases. With them, the first hundreds of steps go into one mean
spectrum, said whatever the latents are. Without, and with an activation that has no
scale of its own (`leaky`), a louder wave is a louder decoded wave from the start.
"""

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from speechlm_lab.codec.base import BaseCodec, Coded
from speechlm_lab.codec.streaming import ACTIVATIONS, Conv, Memory, Stream, UpConv
from speechlm_lab.quantize import ResidualVQ, VQConfig
from speechlm_lab.shipped import Pretrained


@dataclass(frozen=True)
class StridedConfig:
    """Sizes of a `StridedCodec`.

    `widths` and `units` belong to the rates that the strides pass through, from that
    of the samples to that of the frames.
    """

    sample_rate: int = 16_000  # Hz
    strides: tuple[int, ...] = (5, 4, 4, 4)  # their product is hop
    widths: tuple[int, ...] = (8, 32, 64, 128, 192)  # channels at each rate
    units: tuple[int, ...] = (0, 1, 2, 2, 1)  # residual units; dilations 1, 3, 9, ...
    kernel: int = 7  # steps that a residual unit spans, before its dilation
    activation: str = "leaky"  # or "elu" (SoundStream, EnCodec), "snake" (DAC)
    causal: bool = False  # True: nothing depends on later frames, so it can stream
    latent: int = 64  # D, width of the quantized latents
    codebooks: int = 8  # K, levels of the residual quantizer
    codebook_size: int = 512  # V, codes a level
    dropout: float = 0.5  # share of training items that are decoded from fewer levels
    vq: VQConfig = field(default_factory=VQConfig)  # how each level is searched, learns

    def __post_init__(self) -> None:
        # JSON, in which a checkpoint keeps it, has neither tuples nor dataclasses
        for name in ("strides", "widths", "units"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.vq, dict):
            object.__setattr__(self, "vq", VQConfig(**self.vq))
        rates = len(self.strides) + 1
        if len(self.widths) != rates or len(self.units) != rates:
            raise ValueError(
                f"{len(self.strides)} strides pass through {rates} rates: give {rates} "
                f"widths and units, not {len(self.widths)} and {len(self.units)}"
            )
        if not self.strides or min(self.strides) < 2:
            raise ValueError(f"strides must be 2 or more, got {self.strides}")
        if min(self.widths) < 1 or min(self.units) < 0:
            raise ValueError(
                f"widths must be 1 or more and units 0 or more, got {self.widths} and "
                f"{self.units}"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is one of {tuple(ACTIVATIONS)}, not {self.activation!r}"
            )

    @property
    def hop(self) -> int:
        """Samples from one frame of codes to the next."""
        return math.prod(self.strides)

    @property
    def frame_rate(self) -> float:
        """Frames a second, Hz."""
        return self.sample_rate / self.hop


class ResidualUnit(nn.Module):
    """A dilated and a pointwise convolution beside a skip connection.

    SoundStream, section III-A. Maps `[B, C, n]` to `[B, C, n]`.
    """

    def __init__(
        self, width: int, kernel: int, dilation: int, *, act: str, causal: bool
    ) -> None:
        super().__init__()
        self.wide = Conv(
            width, width, kernel, dilation=dilation, act=act, causal=causal
        )
        self.point = Conv(width, width, 1, act=act, causal=causal)
        with torch.no_grad():
            self.point.conv.weight.mul_(0.3)  # starts near the identity

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        return x + self.point(self.wide(x, memory), memory)


def _units(config: StridedConfig, rate: int) -> list[nn.Module]:
    return [
        ResidualUnit(
            config.widths[rate], config.kernel, 3**i,
            act=config.activation, causal=config.causal,
        )
        for i in range(config.units[rate])
    ]  # fmt: skip


class Encoder(nn.Module):
    """Wave `[B, T]`, T a multiple of hop, to latents `[B, F, D]`."""

    def __init__(self, config: StridedConfig) -> None:
        super().__init__()
        widths, kind = config.widths, {"causal": config.causal}
        layers = [Conv(1, widths[0], 7, **kind)]
        with torch.no_grad():
            layers[0].conv.weight.mul_(10)  # speech is near 0.1
        kind["act"] = config.activation
        for i, s in enumerate(config.strides):
            layers += _units(config, i)
            layers += [Conv(widths[i], widths[i + 1], 2 * s, stride=s, **kind)]
        layers += _units(config, -1)
        layers += [Conv(widths[-1], config.latent, 3, **kind)]
        self.layers = nn.ModuleList(layers)

    def forward(self, wave: Tensor, memory: Memory | None = None) -> Tensor:
        """With a `memory`: of the next block, any number of whole frames."""
        memory = {} if memory is None else memory
        x = wave[:, None]
        for layer in self.layers:
            x = layer(x, memory)
        return x.transpose(1, 2)


class Decoder(nn.Module):
    """Latents `[B, F, D]` to wave `[B, F * hop]`."""

    def __init__(self, config: StridedConfig) -> None:
        super().__init__()
        widths, kind = config.widths, {"causal": config.causal}
        layers = [Conv(config.latent, widths[-1], 7, **kind)]
        kind["act"] = config.activation
        layers += _units(config, -1)
        for i, s in reversed(list(enumerate(config.strides))):
            layers += [UpConv(widths[i + 1], widths[i], s, **kind)]
            layers += _units(config, i)
        layers += [Conv(widths[0], 1, 7, **kind)]
        with torch.no_grad():
            layers[-1].conv.weight.mul_(0.1)  # back to the scale of speech
        self.layers = nn.ModuleList(layers)

    def forward(self, latents: Tensor, memory: Memory | None = None) -> Tensor:
        """With a `memory`: of the next block, any number of frames."""
        memory = {} if memory is None else memory
        x = latents.transpose(1, 2)
        for layer in self.layers:
            x = layer(x, memory)
        return x[:, 0]


class StridedCodec(
    BaseCodec,
    Pretrained,
    coders={StridedConfig: (asdict, lambda values: StridedConfig(**values))},
):
    """Encode waves to codes, decode codes to waves; `codec.Codec`'s interface.

    Waves are float tensors `[B, T]` in [-1, 1] at `sample_rate`; codes are int64
    tensors `[B, K, F]` with F = ceil(T / hop).
    """

    def __init__(self, config: StridedConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StridedConfig()
        self.encoder = Encoder(config)
        self.quantizer = ResidualVQ(
            config.codebooks,
            config.codebook_size,
            config.latent,
            config.dropout,
            config.vq,
        )
        self.decoder = Decoder(config)

    @torch.no_grad()
    def start(self, wave: Tensor, generator: torch.Generator | None = None) -> None:
        """Place the codebooks by k-means on the latents of clips `[B, T]` of speech.

        Not before a hundred steps or so with `quantize` False: what an untrained
        encoder says is not worth quantizing, and the first codebook collapses.
        """
        self.quantizer.start(self.latents(wave), generator)

    def latents(self, wave: Tensor) -> Tensor:
        return self.encoder(self._padded(wave))

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

    def stream(self) -> Stream:
        """A new stream: encodes and decodes block by block. For causal codecs."""
        return Stream(self)
