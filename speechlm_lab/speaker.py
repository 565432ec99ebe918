"""Whose voice is it? A small speaker embedding, to judge cloned voices by.

    log-mel, 100 frames a second -> two convolutions -> ConvNeXt at 25 Hz
    -> mean and deviation over time, weighted by attention -> 128 numbers of length 1

Two recordings of one voice have embeddings that point the same way, whatever is said
and in whatever mood; those of two voices do not. `similarity` is the cosine between.

The encoder was trained to tell apart the voices of TinyVoices under noise, filters and
echo, never on what a codec of this project decodes and never with a speech model: it
judges them, so it must not have learned their faults. The pooling is that of Okabe,
Koshinaka & Shinoda 2018 (arXiv 1803.10963).

It is for TinyVoices. A similarity has no meaning of its own: compare it with those of
the same voice again and of other voices, as its card does.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.audio import check_wave
from speechlm_lab.codec.blocks import ConvNeXtBlock, start_weights
from speechlm_lab.shipped import Pretrained, load_shipped
from speechlm_lab.spectral import log_mel

SHORTEST = 0.5  # s; below 2 s or so it is less sure


@dataclass(frozen=True)
class SpeakerConfig:
    """Sizes of a `SpeakerEncoder`."""

    window: int = 512  # samples under one spectrum
    hop: int = 160  # samples from one spectrum to the next; a frame is four of them
    bands: int = 80  # mel bands
    width: int = 160  # channels
    layers: int = 4  # ConvNeXt blocks
    kernel: int = 7  # frames that a block sees, odd
    attention: int = 64  # channels inside the attention
    dims: int = 128  # D, numbers in an embedding


class AttentivePooling(nn.Module):
    """Mean and deviation over time, each channel by its own weights over the frames.

    The weights are computed from the frame and from the clip's plain mean and
    deviation, so that what counts can depend on the clip. Maps `[B, C, F]` to
    `[B, 2 C]`.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.Conv1d(3 * width, hidden, 1)
        self.score = nn.Conv1d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        even = torch.full_like(x, 1 / x.shape[2])
        whole = torch.cat([v.unsqueeze(2).expand_as(x) for v in _moments(x, even)], 1)
        hidden = self.read(torch.cat([x, whole], 1)).tanh()
        return torch.cat(_moments(x, self.score(hidden).softmax(2)), 1)


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation `[B, C]` of `x` `[B, C, F]`."""
    mean = (weight * x).sum(2)
    variance = (weight * (x - mean[:, :, None]).square()).sum(2)
    return mean, (variance + 1e-4).sqrt()


class SpeakerEncoder(
    nn.Module,
    Pretrained,
    coders={SpeakerConfig: (vars, lambda values: SpeakerConfig(**values))},
):
    """A voice as D numbers of length 1, from a wave at 16 kHz."""

    def __init__(self, config: SpeakerConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SpeakerConfig()
        self.read = nn.Conv1d(c.bands, c.width, 5, stride=2, padding=2)
        self.halve = nn.Conv1d(c.width, c.width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            *[ConvNeXtBlock(c.width, c.kernel) for _ in range(c.layers)]
        )
        self.pool = AttentivePooling(c.width, c.attention)
        # what all voices share must go, or all embeddings point the same way
        self.norm = nn.BatchNorm1d(2 * c.width)
        self.head = nn.Linear(2 * c.width, c.dims)
        self.centre = nn.BatchNorm1d(c.dims, affine=False)
        self.apply(start_weights)

    def features(self, wave: Tensor) -> Tensor:
        """Log-mel spectra `[B, bands, 1 + T // hop]` of waves `[B, T]` at one level.

        Each wave is first brought to a root mean square of 0.1, so that loudness counts
        for nothing. Scaled so that most values of speech lie between -2 and 2.
        """
        rms = wave.square().mean(1, keepdim=True).sqrt()
        level = wave * (0.1 / rms.clamp(min=1e-6))
        c = self.config
        db = log_mel(level, -70, n_fft=c.window, hop=c.hop, n_mels=c.bands)
        return (db + 40) / 15

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings `[B, D]`, each of length 1, of `features` `[B, bands, S]`."""
        x = nnf.gelu(self.read(features))
        x = self.blocks(nnf.gelu(self.halve(x)))
        found = self.head(self.norm(self.pool(x)))
        return nnf.normalize(self.centre(found), dim=1)

    @torch.no_grad()
    def embed(self, wave: Tensor) -> Tensor:
        """The voice of a wave `[T]` as `[D]`, or of each of `[B, T]` as `[B, D]`.

        Args:
            wave: float32 in [-1, 1] at 16 kHz, at least 0.5 s; 3 s are better. Loudness
                counts for nothing. No padding with zeros: it would count as silence.

        Returns:
            Numbers of length 1, to be compared by `similarity`.

        Raises:
            AudioError: not such a wave (too short, stereo, one of them silent ...).
        """
        check_wave(wave, min_seconds=SHORTEST, batched=True)
        batch = wave if wave.ndim == 2 else wave[None]
        for row in batch:
            check_wave(row)
        was_training = self.training
        found = self.eval()(self.features(batch))
        self.train(was_training)
        return found if wave.ndim == 2 else found[0]


@cache
def load_speaker_encoder() -> SpeakerEncoder:
    """The speaker encoder whose checkpoint comes with the package, ready to use.

    Raises FileNotFoundError when it is not there.
    """
    return load_shipped(SpeakerEncoder, "speaker").float()


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between embeddings: 1 for the same, near 0 for unrelated.

    Args:
        a, b: [..., D], such as two of [D], or [B, D] and [D]. For all pairs of two
            sets give `a[:, None]` and `b[None]`.

    Returns:
        [...], from -1 to 1. Two of [D] give one number, `float(similarity(a, b))`.

    Raises:
        ValueError: shapes that do not go together.
    """
    try:
        shape = torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError:
        shape = torch.Size()
    if not shape or a.shape[-1:] != b.shape[-1:]:
        raise ValueError(
            f"embeddings of shapes {list(a.shape)} and {list(b.shape)} do not go "
            "together: give [..., D] and [..., D] as `embed` returns them, and for all "
            "pairs a[:, None] and b[None]"
        )
    return nnf.cosine_similarity(a, b, dim=-1)
