"""Does a model say what it was asked, to the end, once, and in the right voice?

`metrics` compares a decoded wave with its original, sample by sample or frame by frame.
Speech that a model makes has no original of the same timing: these measures compare
what was said.

| measure | unit, range | better | what it hears |
|---|---|---|---|
| `word_error_rate` | share, 0 and up | lower | words of two texts |
| `character_error_rate` | share, 0 and up | lower | their characters |
| `aligned_mel_distance` | dB, 0 and up | lower | spectrum, at any tempo |
| `count_failures` | clips | fewer | the faults of models that go on by themselves |

How alike two voices are is `speaker.similarity`; phones heard wrongly,
`recogniser.phone_error_rate`.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields

import jiwer
import librosa
import numpy as np
import torch
from torch import Tensor

from speechlm_lab.audio import SAMPLE_RATE, check_wave
from speechlm_lab.metrics import MEL_BANDS, MEL_FLOOR, MEL_HOP, MEL_WINDOW
from speechlm_lab.speaker import similarity
from speechlm_lab.spectral import log_mel

RUN = 4  # phones in a row that make a skipped or a repeated stretch
LEVEL = 0.1  # root mean square to which clips are brought before they are compared
_STEPS = np.array([[1, 1], [0, 1], [1, 0]])

# Words


def normalise(text: str) -> str:
    """A text as the error rates compare it.

    Tags such as [laugh] go; letters become lower case; dashes, hyphens and slashes
    become spaces; all other punctuation is dropped, so that "don't" is "dont"; runs of
    white space become one space. Numbers stay as they are written.
    """
    text = re.sub(r"\[[^\]]*\]", " ", unicodedata.normalize("NFKC", text)).lower()
    kinds = ((c, "/" if c == "/" else unicodedata.category(c)) for c in text)
    kept = [" " if k in ("Pd", "/") else c for c, k in kinds if _kept(k)]
    return " ".join("".join(kept).split())


def _kept(kind: str) -> bool:
    return kind in ("Pd", "/") or not kind.startswith("P")


def word_error_rate(
    reference: str | Sequence[str], hypothesis: str | Sequence[str]
) -> float:
    """(substitutions + insertions + deletions) / words, by the `jiwer` library.

    Both texts go through `normalise` first.

    Args:
        reference: the text that was asked for; or several, whose errors and words are
            then summed.
        hypothesis: the text that was heard, in the same number.

    Returns:
        0 (every word right) and up; beyond 1 where much was added.

    Raises:
        ValueError: no word in the reference, or numbers of texts that do not pair up.
    """
    return float(jiwer.wer(*_pair(reference, hypothesis)))


def character_error_rate(
    reference: str | Sequence[str], hypothesis: str | Sequence[str]
) -> float:
    """As `word_error_rate`, of characters; a space between words is one, too."""
    return float(jiwer.cer(*_pair(reference, hypothesis)))


def _pair(
    reference: str | Sequence[str], hypothesis: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    given = [[x] if isinstance(x, str) else list(x) for x in (reference, hypothesis)]
    if len(given[0]) != len(given[1]):
        raise ValueError(
            f"{len(given[0])} references and {len(given[1])} hypotheses do not pair "
            "up: give one text for each, an empty one where nothing was heard"
        )
    asked, heard = ([normalise(text) for text in texts] for texts in given)
    if not any(asked):
        raise ValueError(
            "an error rate needs at least one word in the reference: leave out "
            "recordings in which nothing is said"
        )
    return asked, heard


# Spectra


def aligned_mel_distance(
    decoded: Tensor, truth: Tensor, sample_rate: int = SAMPLE_RATE
) -> float:
    """Mean absolute difference of two log-mel spectrograms once lined up in time, dB.

    The spectrograms are those of `metrics.mel_distance`, of both clips brought to a
    root mean square of 0.1. Dynamic time warping (`librosa.sequence.dtw`) finds the way
    through both, frame by frame, on which they differ least; a step that goes on in
    both counts twice (Sakoe & Chiba 1978, the symmetric form), so that the length of
    the way has no part in it and the order of the two clips none either.

    Tempo and pauses count for nothing then, nor does loudness; pitch and voice do. A
    word that is left out costs little: count words for that.

    Args:
        decoded: [T], the wave to judge.
        truth: [T'], the same words in the same voice, of any length.
        sample_rate: of both, in Hz. Values at different rates do not compare.

    Returns:
        dB, 0 (the same spectra in the same order) and up; lower is better.

    Raises:
        AudioError: no waves, or silent.
    """
    spectra = []
    for wave in (decoded, truth):
        check_wave(wave, sample_rate)
        level = wave.detach().cpu()
        level = level * (LEVEL / level.square().mean().sqrt())
        spectra.append(
            log_mel(
                level,
                floor=MEL_FLOOR,
                sample_rate=sample_rate,
                n_fft=MEL_WINDOW,
                hop=MEL_HOP,
                n_mels=MEL_BANDS,
            )
        )
    one, other = spectra
    cost = torch.cdist(one.T, other.T, p=1).div(MEL_BANDS).double().numpy()
    total = librosa.sequence.dtw(
        C=cost,
        step_sizes_sigma=_STEPS,
        weights_add=np.zeros(3),
        weights_mul=np.array([2.0, 1.0, 1.0]),
        backtrack=False,
    )
    # the first pair of frames is a step in both, too
    return float((total[-1, -1] + cost[0, 0]) / sum(cost.shape))


# Failures


@dataclass(frozen=True)
class Failures:
    """How many clips failed in which way; add them up with `sum(..., Failures())`.

    A clip can fail in several ways, and counts once in each.
    """

    clips: int = 0  # judged
    failed: int = 0  # in one way or more
    no_end: int = 0  # the model went on until it was stopped
    skipped: int = 0  # RUN phones or more in a row were asked for and not said
    repeated: int = 0  # RUN or more in a row were said and not asked for
    wrong_voice: int = 0  # nearer to another voice than to the one asked for

    def __add__(self, other: "Failures") -> "Failures":
        names = [f.name for f in fields(self)]
        return Failures(*(getattr(self, n) + getattr(other, n) for n in names))

    @property
    def rate(self) -> float:
        """Share of clips that failed in one way or more.

        Raises ValueError when no clip was judged.
        """
        if self.clips == 0:
            raise ValueError("no clip was judged: add up failures of one or more")
        return self.failed / self.clips


def count_failures(
    heard: Sequence[str],
    asked: Sequence[str],
    ended: bool = True,
    voice: Tensor | None = None,
    voices: Tensor | None = None,
    wanted: int = 0,
    run: int = RUN,
) -> Failures:
    """How one spoken clip failed; `sum(..., Failures())` of several counts a set.

    Phones are lined up as `longest_runs` says. What is repeated is not asked twice:
    a stretch that was said and not asked for counts, whatever it is.

    The judges err, too: among many voices a true recording is now and then nearest to
    another (the card of the speaker encoder says how often), so count the failures of
    recordings of the same voices beside those of the model.

    Args:
        heard: the phones heard in the clip, as `Recogniser.phones` returns them.
        asked: the phones that were to be said, by `recogniser.fold`.
        ended: whether the model ended by itself, not by its limit of length.
        voice: [D], the clip's embedding by `SpeakerEncoder.embed`; None: not judged.
        voices: [N, D], embeddings of the voices that it could be mistaken for, and of
            the one asked for.
        wanted: which of `voices` was asked for.
        run: phones in a row that make a skipped or repeated stretch.

    Returns:
        Counts of one clip, each 0 or 1.

    Raises:
        ValueError: strings instead of lists, no phone asked for, or a voice without
            voices to choose from.
    """
    if isinstance(heard, str) or isinstance(asked, str):
        raise ValueError("give lists of phones, such as ['h', 'aɪ'], not one string")
    if len(asked) == 0:
        raise ValueError("no phone was asked for: leave such clips out")
    missing, extra = longest_runs(asked, heard)
    wrong = voice is not None and _wrong_voice(voice, voices, wanted)
    found = [not ended, missing >= run, extra >= run, wrong]
    return Failures(1, int(any(found)), *map(int, found))


def _wrong_voice(voice: Tensor, voices: Tensor | None, wanted: int) -> bool:
    if voices is None or voices.ndim != 2 or not 0 <= wanted < len(voices):
        raise ValueError(
            "a voice needs others to be compared with: give `voices` [N, D] and the "
            f"row that was `wanted`, from 0 to N - 1 (got {wanted})"
        )
    scores = similarity(voice, voices)
    return bool((scores > scores[wanted]).any())


def longest_runs(asked: Sequence[str], heard: Sequence[str]) -> tuple[int, int]:
    """Longest run of phones left out, and longest of phones added: (missing, extra).

    The alignment is one with the fewest errors (Levenshtein); among these, one with the
    fewest runs, since what is skipped or repeated is one stretch, not phones here and
    there that happen to fit.
    """
    # costs are (errors, runs); state 0: last a pair, 1: a phone missing, 2: one extra
    none = (len(asked) + len(heard) + 1, 0)
    table = [[[none] * 3 for _ in range(len(heard) + 1)] for _ in range(len(asked) + 1)]
    came = {}
    table[0][0][0] = (0, 0)
    for i in range(len(asked) + 1):
        for j in range(len(heard) + 1):
            if i and j:
                wrong = int(asked[i - 1] != heard[j - 1])
                (e, r), state = _best(table[i - 1][j - 1], new_run=None)
                table[i][j][0], came[i, j, 0] = (e + wrong, r), state
            if i:
                (e, r), state = _best(table[i - 1][j], new_run=1)
                table[i][j][1], came[i, j, 1] = (e + 1, r), state
            if j:
                (e, r), state = _best(table[i][j - 1], new_run=2)
                table[i][j][2], came[i, j, 2] = (e + 1, r), state
    i, j, longest, length = len(asked), len(heard), [0, 0, 0], 0
    (_, state) = _best(table[i][j], new_run=None)
    while i or j:
        before = came[i, j, state]
        length += 1
        longest[state] = max(longest[state], length)
        i, j = i - (state != 2), j - (state != 1)
        if before != state:
            length = 0
        state = before
    return longest[1], longest[2]


def _best(
    costs: list[tuple[int, int]], new_run: int | None
) -> tuple[tuple[int, int], int]:
    """The cheapest of three states, where entering `new_run` from another costs one."""
    options = [
        ((e, r + (new_run is not None and state != new_run)), state)
        for state, (e, r) in enumerate(costs)
    ]
    return min(options)
