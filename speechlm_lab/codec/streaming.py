"""Convolutions that work while the sound is still arriving.

A causal convolution looks back and never ahead. So a block of sound can be worked off
at once, if the end of the block before it stands on its left:

    whole      0 0 0 0 | a b c d e f g h | i j k l
    1st block  0 0 0 0 | a b c d e f g h
    2nd block                    e f g h | i j k l
                         `past` = 4 steps, kept

That end is all that a layer has to remember. At the start of a recording there are
zeros in its place, just as when the recording is worked off whole: offline is one
block after an empty memory.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.codec.base import check_samples, check_waves

if TYPE_CHECKING:
    from speechlm_lab.codec.strided import StridedCodec

Memory = dict[nn.Module, Tensor]  # by layer, the end of its input so far
SLOPE = 0.1  # of the leaky activation, below 0
# By name, the gain that makes up for what an activation does to the mean square of
# noise of variance 1.
ACTIVATIONS = {"leaky": 1.41, "elu": 1.25, "snake": 0.87}


def with_past(layer: nn.Module, x: Tensor, past: int, memory: Memory) -> Tensor:
    """`x` `[B, C, n]` with the `past` steps before it, `[B, C, past + n]`.

    They come from `memory`, where the last `past` steps then wait for the next block.
    """
    if past == 0:
        return x
    if layer in memory:
        before = memory[layer]
    else:
        before = x.new_zeros(*x.shape[:2], past)
    x = torch.cat([before, x], dim=-1)
    memory[layer] = x[..., -past:].detach().clone()  # a view would keep all of x alive
    return x


class Snake(nn.Module):
    """x + sin^2(a x) / a, with an `a` for each channel: an activation that waves.

    Ziyin et al. 2020, arXiv 2006.08195; DAC, section 3.1. Maps `[B, C, n]` to that.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.zeros(width, 1))  # so that a stays above 0

    def forward(self, x: Tensor) -> Tensor:
        double = 2 * self.log_a.exp()
        # sin^2(y) = (1 - cos(2 y)) / 2, which needs less memory for its gradient
        return x + (1 - torch.cos(double * x)) / double


def activation(name: str | None, width: int) -> nn.Module:
    """The activation `name` for `[B, width, n]`; all of them map 0 to 0."""
    if name is None:
        return nn.Identity()
    if name == "snake":
        return Snake(width)
    return nn.ELU() if name == "elu" else nn.LeakyReLU(SLOPE)


class Conv(nn.Module):
    """An activation, then a convolution: `[B, in, n]` to `[B, out, n / stride]`.

    The zeros that keep the length, `pad` of them, go to both sides, or all to the left
    when it is `causal`: then step i depends on the inputs up to (i + 1) * stride.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *,
        stride: int = 1, dilation: int = 1, act: str | None = None, causal: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.activation = activation(act, inputs)
        self.conv = nn.Conv1d(
            inputs, outputs, kernel, stride, dilation=dilation, bias=False
        )
        self.pad = (kernel - 1) * dilation + 1 - stride
        self.causal = causal
        start_conv(self.conv, inputs * kernel, act)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        x = self.activation(x)
        if self.causal:
            return self.conv(with_past(self, x, self.pad, memory))
        left = self.pad // 2
        return self.conv(nnf.pad(x, (left, self.pad - left)))


class UpConv(nn.Module):
    """An activation, then a transposed convolution: `[B, in, n]` to `[B, out, n * s]`.

    Its kernel spans 2 s steps, so that neighbours overlap by s. Without the first and
    the last s / 2 steps the result is centred. Without the last s it is causal: each s
    steps then depend on one input and the one before it.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, *, act: str, causal: bool
    ) -> None:
        super().__init__()
        self.activation = activation(act, inputs)
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride, bias=False)
        self.stride = stride
        self.causal = causal
        start_conv(self.conv, 2 * inputs, act)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        x = self.activation(x)
        if self.causal:
            # the input before x completes the first s steps, and is then cut off
            y = self.conv(with_past(self, x, 1, memory))
            return y[..., self.stride : -self.stride]
        y = self.conv(x)
        left = self.stride // 2
        return y[..., left : y.shape[-1] - (self.stride - left)]


def start_conv(
    conv: nn.Conv1d | nn.ConvTranspose1d, fan_in: int, act: str | None
) -> None:
    """Weights that keep the mean square of what passes."""
    nn.init.normal_(conv.weight, std=ACTIVATIONS.get(act, 1.0) * fan_in**-0.5)


class Stream:
    """Encodes and decodes one recording (or a batch of them) block by block.

    What it returns is that of `codec.encode` and `codec.decode` on the whole, cut
    where the blocks end: a codec and a stream differ in nothing but the order of their
    sums, and so in the last bits of float32. Codes are the same, except where a latent
    lies as near to one code as to another within these bits.

    EnCodec streams the same way (Défossez et al. 2022, arXiv 2210.13438, section 3.1).

    Args:
        codec: a causal one, in evaluation mode or not. Its weights stay shared.
    """

    def __init__(self, codec: "StridedCodec") -> None:
        if not codec.config.causal:
            raise ValueError(
                "this codec looks ahead, so it cannot stream: train one with "
                "StridedConfig(causal=True), or encode whole recordings"
            )
        self.codec = codec
        self._heard: Memory = {}  # of the encoder
        self._said: Memory = {}  # of the decoder
        self._rest: Tensor | None = None  # [B, n], n < hop: samples of no whole frame
        self._finished = False

    @torch.no_grad()
    def encode(self, block: Tensor) -> Tensor:
        """Codes `[B, K, f]` of the f frames that `block` `[B, n]` completes.

        f is 0 where it completes none. Call `finish` after the last block.
        """
        check_waves(block, next(self.codec.parameters()).dtype)
        check_samples(block)
        if self._finished:
            raise ValueError(
                "this recording is finished: start another stream for another one"
            )
        if self._rest is not None:
            _check_batch(block, self._rest)
            block = torch.cat([self._rest, block], dim=1)
        whole = block.shape[1] - block.shape[1] % self.codec.hop
        self._rest = block[:, whole:]
        if whole == 0:
            shape = (len(block), self.codec.config.codebooks, 0)
            return torch.zeros(shape, dtype=torch.long, device=block.device)
        latents = self.codec.encoder(block[:, :whole], self._heard)
        return self.codec.quantizer.encode(latents)

    def finish(self) -> Tensor:
        """Codes `[B, K, f]` of what is left, padded with zeros to a frame; f is 0 or 1.

        Ends the encoding. Decoding has nothing left to say, and no end.
        """
        if self._rest is None:
            raise ValueError("nothing was encoded: call encode(block) before finish()")
        batch, left = self._rest.shape
        # where no sample is left, a single zero completes no frame, so f is 0
        zeros = self._rest.new_zeros(batch, self.codec.hop - left if left else 1)
        codes = self.encode(zeros)
        self._finished = True
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor, levels: int | None = None) -> Tensor:
        """Wave `[B, f * hop]` of the next codes `[B, k, f]`, k <= K, in [-1, 1]."""
        latents = self.codec.quantizer.decode(codes, levels)
        if codes.shape[2] == 0:
            return latents.new_zeros(len(codes), 0)
        if self._said:
            _check_batch(codes, next(iter(self._said.values())))
        return self.codec.decoder(latents, self._said).clamp(-1, 1)


def _check_batch(block: Tensor, before: Tensor) -> None:
    if len(block) != len(before):
        raise ValueError(
            f"a batch of {len(block)} cannot go on from a batch of {len(before)}: "
            "start another stream for another recording"
        )
