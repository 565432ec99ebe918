"""Real codecs behind the two verbs of our own: `encode` and `decode`.

An adapter wraps a model of another library. Its waves are float32 `[B, T]` in [-1, 1]
at its own `sample_rate`, its codes int64 `[B, K, F]`, just as for `codec.Codec`.
Nothing is added to the models: codes and waves are what their libraries make.

The classes of transformers are here; `codec.descript` has Descript's own package.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.codec.base import check_length, check_samples, check_waves
from speechlm_lab.codec.torchaudio_check import ensure_torchaudio

if TYPE_CHECKING:  # importing them takes seconds, so only where they are needed
    from transformers import DacModel, EncodecModel, MimiModel, XcodecModel

ensure_torchaudio()  # so that `from transformers import DacModel` works from here on


class CodecUnavailable(RuntimeError):
    """Weights that cannot be had; the message says what to do."""


class Adapter(nn.Module):
    """What all adapters share: sizes, checks, padding. Use a subclass.

    Args:
        model: the codec, any state; it is put into evaluation mode.
        sample_rate: Hz.
        hop: samples in a frame.
        codebooks: K, levels.
        codebook_size: V, codes a level.
    """

    def __init__(
        self,
        model: nn.Module,
        sample_rate: int,
        hop: int,
        codebooks: int,
        codebook_size: int,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.sample_rate = int(sample_rate)
        self.hop = int(hop)
        self.codebooks = int(codebooks)
        self.codebook_size = int(codebook_size)

    @property
    def frame_rate(self) -> float:
        """Frames a second, Hz."""
        return self.sample_rate / self.hop

    def bitrate(self, levels: int | None = None) -> float:
        """Bits a second that `levels` codebooks cost (all when None)."""
        levels = self._check_levels(levels, self.codebooks)
        return self.frame_rate * levels * math.log2(self.codebook_size)

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """Codes `[B, K, F]` of `wave` `[B, T]`, F = ceil(T / hop).

        The end is padded with zeros to a whole frame. Raises ValueError for another
        shape or type.
        """
        check_waves(wave, next(self.model.parameters()).dtype)
        check_samples(wave)
        padded = nnf.pad(wave, (0, -wave.shape[1] % self.hop))
        return self._encode(padded[:, None])

    @torch.no_grad()
    def decode(
        self, codes: Tensor, levels: int | None = None, length: int | None = None
    ) -> Tensor:
        """Wave `[B, F * hop]` of `codes` `[B, k, F]`, k <= K, clipped to [-1, 1].

        Uses the first `levels` codebooks (all that are given when None) and cuts the
        wave to `length` samples when it is given. Raises ValueError for codes that are
        not this codec's, or levels or a length that the codes do not have.
        """
        self._check_codes(codes)
        levels = self._check_levels(levels, codes.shape[1])
        samples = codes.shape[2] * self.hop
        check_length(length, samples)
        wave = self._decode(codes[:, :levels].long())
        # transposed convolutions with odd strides fall a few samples short
        wave = nnf.pad(wave, (0, max(0, samples - wave.shape[1])))
        return wave[:, : length or samples].clamp(-1, 1)

    def _check_levels(self, levels: int | None, most: int) -> int:
        if levels is None:
            return most
        if not 1 <= levels <= most:
            raise ValueError(f"levels must be from 1 to {most}, got {levels}")
        return levels

    def _check_codes(self, codes: Tensor) -> None:
        if codes.ndim != 3 or codes.numel() == 0 or codes.is_floating_point():
            raise ValueError(
                "codes must be integers [B, K, F] with F > 0, got "
                f"{codes.dtype} {list(codes.shape)}"
            )
        if codes.shape[1] > self.codebooks:
            raise ValueError(
                f"codes have {codes.shape[1]} levels and this codec has "
                f"{self.codebooks}: they come from another codec"
            )
        low, high = (int(value) for value in torch.aminmax(codes))
        if low < 0 or high >= self.codebook_size:
            raise ValueError(
                f"codes run from {low} to {high} and this codec has codes from 0 to "
                f"{self.codebook_size - 1}: they come from another codec"
            )

    def _encode(self, wave: Tensor) -> Tensor:
        """Codes `[B, K, F]` of `wave` `[B, 1, F * hop]`."""
        raise NotImplementedError

    def _decode(self, codes: Tensor) -> Tensor:
        """Wave `[B, about F * hop]` of `codes` `[B, k, F]`."""
        raise NotImplementedError


class DacAdapter(Adapter):
    """`transformers.DacModel`: the Descript Audio Codec (Kumar et al. 2023)."""

    def __init__(self, model: "DacModel") -> None:
        c = model.config
        super().__init__(
            model, c.sampling_rate, c.hop_length, c.n_codebooks, c.codebook_size
        )

    def _encode(self, wave: Tensor) -> Tensor:
        return self.model.encode(wave).audio_codes

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes=codes).audio_values


class EncodecAdapter(Adapter):
    """`transformers.EncodecModel` (Défossez et al. 2022), mono, unnormalised.

    That is the 24 kHz model. Raises ValueError for one like the 48 kHz model, which
    keeps a loudness beside the codes, and works in chunks that overlap.
    """

    def __init__(self, model: "EncodecModel") -> None:
        c = model.config
        if c.audio_channels != 1 or c.normalize or c.chunk_length_s is not None:
            raise ValueError(
                "this EnCodec is stereo, normalises, or works in chunks, so its codes "
                "alone do not hold the sound: use the 24 kHz model"
            )
        super().__init__(
            model, c.sampling_rate, c.hop_length, c.num_quantizers, c.codebook_size
        )

    def _encode(self, wave: Tensor) -> Tensor:
        most = self.model.config.target_bandwidths[-1]  # kbit/s; all levels
        return self.model.encode(wave, bandwidth=most).audio_codes[0]  # the one chunk

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None], [None]).audio_values[:, 0]


class MimiAdapter(Adapter):
    """`transformers.MimiModel` (Défossez et al. 2024, Moshi).

    Its first level is semantic, distilled from WavLM; the others are acoustic.
    """

    def __init__(self, model: "MimiModel") -> None:
        c = model.config
        hop = round(c.sampling_rate / c.frame_rate)
        super().__init__(model, c.sampling_rate, hop, c.num_quantizers, c.codebook_size)

    def _encode(self, wave: Tensor) -> Tensor:
        return self.model.encode(wave).audio_codes

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes).audio_values[:, 0]


class XcodecAdapter(Adapter):
    """`transformers.XcodecModel` (Ye et al. 2024): HuBERT's features in every level."""

    def __init__(self, model: "XcodecModel") -> None:
        c = model.config
        super().__init__(
            model, c.sample_rate, c.hop_length, c.num_quantizers, c.codebook_size
        )

    def _encode(self, wave: Tensor) -> Tensor:
        return self.model.encode(wave).audio_codes

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes).audio_values[:, 0]


_ADAPTERS: dict[str, type[Adapter]] = {
    "dac": DacAdapter,
    "encodec": EncodecAdapter,
    "mimi": MimiAdapter,
    "xcodec": XcodecAdapter,
}


def load_codec(source: str | Path, revision: str | None = None) -> Adapter:
    """Load a codec of one of transformers' classes, from a folder or from the Hub.

    Weights are read from safetensors only, so loading runs no code of theirs.

    Args:
        source: a folder that `save_pretrained` wrote, or a name on the Hub, such as
            "descript/dac_16khz", "facebook/encodec_24khz", "kyutai/mimi" or
            "hf-audio/xcodec-hubert-librispeech".
        revision: commit, tag or branch on the Hub.

    Raises:
        CodecUnavailable: no such folder or name, no network, no safetensors, or not all
            of them.
        ValueError: a model of another class.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel

    remedy = (
        f"cannot load {source}: it is no folder with config.json and "
        "model.safetensors, and the Hub did not give it. Without a network, fetch it "
        "once where there is one, and give the folder"
    )
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:  # ValueError: a folder without config.json
        raise CodecUnavailable(remedy) from error
    if config.model_type not in _ADAPTERS:
        raise ValueError(
            f"{source} is a {config.model_type!r} model; there are adapters for "
            f"{', '.join(_ADAPTERS)}"
        )
    try:
        model, found = AutoModel.from_pretrained(
            source, revision=revision, use_safetensors=True, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise CodecUnavailable(remedy) from error
    if found["missing_keys"]:  # transformers fills them with noise
        raise CodecUnavailable(
            f"{source} lacks {len(found['missing_keys'])} of its weights, such as "
            f"{min(found['missing_keys'])}: fetch or copy it again"
        )
    return _ADAPTERS[config.model_type](model)
