"""Which phones are heard in a wave: a small recogniser, to measure intelligibility.

    log-mel, 100 frames a second -> two convolutions -> ConvNeXt at 50 Hz -> CTC

Speech that went through a codec or came from a language model is intelligible as far as
its phones can be told. The recogniser was trained on TinyVoices under noise, filters
and echo, never on what a codec of this project decodes: it judges them, so it must not
have learned their faults.

Phones are eSpeak's, folded to 41 (`PHONES`) by `fold`: marks of length and stress are
dropped, a vowel with r or l becomes two phones (ɑːɹ: ɑ, ɹ), reduced vowels join the
full ones that they sound like (ɐ: ə, ᵻ: ɪ), ɜː joins ɚ, the glottal stop t.

It is for TinyVoices. It never learned real speech, and gets most phones of FSDD's
digits wrong. For recordings there is `phone_disagreement`, which compares with what it
hears in the original, mistakes included: good for ranking codecs, not an error rate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.audio import check_wave
from speechlm_lab.codec.blocks import ConvNeXtBlock
from speechlm_lab.corpus.items import Span
from speechlm_lab.shipped import Pretrained, load_shipped
from speechlm_lab.spectral import log_mel

SHORTEST = 0.1  # s
BLANK = 0  # CTC's class for "no new phone"; phone i of PHONES is class i + 1

PHONES = tuple(
    "p b t d k ɡ tʃ dʒ f v θ ð s z ʃ ʒ h m n ŋ l ɹ w j ɾ "
    "i ɪ ɛ æ ɑ ɔ ʊ u ʌ ə ɚ eɪ aɪ ɔɪ oʊ aʊ".split()
)
_FOLDED = {
    "ɐ": ("ə",), "ᵻ": ("ɪ",), "ɜ": ("ɚ",), "ʔ": ("t",), "n̩": ("ə", "n"),
    "əl": ("ə", "l"), "iə": ("i", "ə"), "aɪə": ("aɪ", "ə"), "aɪɚ": ("aɪ", "ɚ"),
    "ɑɹ": ("ɑ", "ɹ"), "ɔɹ": ("ɔ", "ɹ"), "oɹ": ("ɔ", "ɹ"), "ɛɹ": ("ɛ", "ɹ"),
    "ɪɹ": ("ɪ", "ɹ"), "ʊɹ": ("ʊ", "ɹ"), "o": ("oʊ",), "e": ("eɪ",), "a": ("æ",),
    "r": ("ɹ",), "x": ("k",), "ɬ": ("l",), "ɲ": ("n", "j"), "ɫ": ("l",),
}  # fmt: skip


def fold(labels: Iterable[str | Span]) -> list[str]:
    """Phones of PHONES for phones as eSpeak names them, such as an item's `phones`.

    Raises ValueError for a label that is no English phone of eSpeak's.
    """
    folded: list[str] = []
    for label in labels:
        name = label.label if isinstance(label, Span) else label
        bare = name.translate(_MARKS)
        if bare not in _FOLDED and bare not in PHONES:
            raise ValueError(
                f"no phone {name!r}: give eSpeak's phones of English, one a string, as "
                "in the `phones` of a TinyVoices item"
            )
        folded += _FOLDED.get(bare, (bare,))
    return folded


_MARKS = str.maketrans("", "", "ˈˌːʲ")


@dataclass(frozen=True)
class RecogniserConfig:
    """Sizes of a `Recogniser`."""

    window: int = 512  # samples under one spectrum
    hop: int = 160  # samples from one spectrum to the next; a frame is two of them
    bands: int = 80  # mel bands
    width: int = 176  # channels
    layers: int = 6  # ConvNeXt blocks
    kernel: int = 11  # frames that a block sees, odd


class Recogniser(
    nn.Module,
    Pretrained,
    coders={RecogniserConfig: (vars, lambda values: RecogniserConfig(**values))},
):
    """Phones of a wave at 16 kHz."""

    def __init__(self, config: RecogniserConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or RecogniserConfig()
        self.read = nn.Conv1d(c.bands, c.width, 5, padding=2)
        self.halve = nn.Conv1d(c.width, c.width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            *[ConvNeXtBlock(c.width, c.kernel) for _ in range(c.layers)]
        )
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, 1 + len(PHONES))

    def features(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Log-mel spectra `[B, bands, 1 + T // hop]` of waves `[B, T]` at one level.

        Each wave is first brought to a root mean square of 0.1 over its `lengths` `[B]`
        samples (all when None), so that loudness counts for nothing. Scaled so that
        most values of speech lie between -2 and 2.
        """
        count = wave.shape[1] if lengths is None else lengths[:, None]
        rms = (wave.square().sum(1, keepdim=True) / count).sqrt()
        level = wave * (0.1 / rms.clamp(min=1e-6))
        c = self.config
        db = log_mel(level, -70, n_fft=c.window, hop=c.hop, n_mels=c.bands)
        return (db + 40) / 15

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities `[B, F, 1 + phones]` of `features`, 50 frames a second."""
        x = nnf.gelu(self.read(features))
        x = self.blocks(nnf.gelu(self.halve(x)))
        return self.head(self.norm(x.transpose(1, 2))).log_softmax(2)

    def frames(self, samples: Tensor) -> Tensor:
        """Frames that `forward` makes of numbers of samples."""
        return (samples // self.config.hop) // 2 + 1

    @torch.no_grad()
    def phones(self, wave: Tensor) -> list[str] | list[list[str]]:
        """The phones heard in a wave `[T]`, or for each wave of a batch `[B, T]`.

        Greedy: in each frame the likeliest class, repetitions joined, blanks dropped.

        Args:
            wave: float32 in [-1, 1] at 16 kHz, at least 0.1 s.

        Raises:
            AudioError: not such a wave (too short, stereo, one of them silent ...).
        """
        check_wave(wave, min_seconds=SHORTEST, batched=True)
        batch = wave if wave.ndim == 2 else wave[None]
        for row in batch:
            check_wave(row)
        was_training = self.training
        best = self.eval()(self.features(batch)).argmax(2)
        self.train(was_training)
        heard = [
            [PHONES[c - 1] for c in row.unique_consecutive().tolist() if c != BLANK]
            for row in best
        ]
        return heard if wave.ndim == 2 else heard[0]


@cache
def load_recogniser() -> Recogniser:
    """The recogniser whose checkpoint comes with the package, ready to use.

    Raises FileNotFoundError when it is not there.
    """
    return load_shipped(Recogniser, "recogniser")


# Counting errors


@dataclass(frozen=True)
class PhoneErrors:
    """Errors against a reference; add them up with `sum(errors, PhoneErrors())`."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    length: int = 0  # phones of the reference

    def __add__(self, other: "PhoneErrors") -> "PhoneErrors":
        return PhoneErrors(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.length + other.length,
        )

    @property
    def rate(self) -> float:
        """Errors over phones of the reference: 0 and up, 1 is possible and more too.

        Raises ValueError when there is no phone in the reference.
        """
        if self.length == 0:
            raise ValueError(
                "an error rate needs at least one phone in the reference: leave out "
                "recordings in which nothing is said"
            )
        return (self.substitutions + self.insertions + self.deletions) / self.length


def phone_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> PhoneErrors:
    """The fewest errors that turn the reference into the hypothesis (Levenshtein).

    Where several ways are equally short, the one with most substitutions is counted.
    """
    # best[j]: (errors, -substitutions, insertions, deletions) from the reference so far
    # to hypothesis[:j]
    best = [(j, 0, j, 0) for j in range(len(hypothesis) + 1)]
    for i, wanted in enumerate(reference, 1):
        row = [(i, 0, 0, i)]
        for j, heard in enumerate(hypothesis, 1):
            e, s, n, d = best[j - 1]
            same = best[j - 1] if wanted == heard else (e + 1, s - 1, n, d)
            e, s, n, d = row[-1]
            inserted = (e + 1, s, n + 1, d)
            e, s, n, d = best[j]
            row.append(min(same, inserted, (e + 1, s, n, d + 1)))
        best = row
    _, s, n, d = best[-1]
    return PhoneErrors(-s, n, d, len(reference))


def phone_error_rate(
    reference: Sequence[str] | Sequence[Sequence[str]],
    hypothesis: Sequence[str] | Sequence[Sequence[str]],
) -> float:
    """Phone error rate: (substitutions + insertions + deletions) / phones.

    Args:
        reference: the phones that were spoken, one string a phone (`fold` them first);
            or a list of such lists, whose errors and phones are then summed.
        hypothesis: the phones that were heard, as `Recogniser.phones` returns them.

    Raises:
        ValueError: no phone in the reference, one string instead of a list of phones,
            or lists of different lengths.
    """
    if isinstance(reference, str) or isinstance(hypothesis, str):
        raise ValueError("give lists of phones, such as ['h', 'aɪ'], not one string")
    nested = [bool(x) and not isinstance(x[0], str) for x in (reference, hypothesis)]
    if not any(nested):
        return phone_errors(reference, hypothesis).rate
    if not all(nested) or len(reference) != len(hypothesis):
        raise ValueError(
            f"{len(reference)} references and {len(hypothesis)} hypotheses do not "
            "pair up: give one list of phones for each"
        )
    pairs = zip(reference, hypothesis, strict=True)
    return sum((phone_errors(*pair) for pair in pairs), PhoneErrors()).rate


def phone_disagreement(
    decoded: Tensor, original: Tensor, recogniser: Recogniser | None = None
) -> PhoneErrors:
    """How the phones heard in a decoded wave differ from those heard in the original.

    For recordings without labels. Not a phone error rate: the reference is itself what
    the recogniser hears, and on real speech, which it never learned, it hears many
    phones wrongly. It is sensitive to changes that no listener minds, and it says
    nothing of errors that both waves share. Compare codecs by it, on the same clips.

    Args:
        decoded, original: [T], as `Recogniser.phones` takes them. Their lengths may
            differ, since phones have no times here.
        recogniser: the shipped one when None.

    Returns:
        Counts; `.rate` of their sum over a set is the disagreement.
    """
    recogniser = recogniser or load_recogniser()
    return phone_errors(recogniser.phones(original), recogniser.phones(decoded))
