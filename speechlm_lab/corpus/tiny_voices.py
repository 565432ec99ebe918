"""TinyVoices: an endless speech world with exact labels, made on the reader's machine.

What TinyStories is for text, a world simple enough that a tiny model is fluent in it,
TinyVoices is for speech. Sentences come from a grammar and from looser text, speakers
and emotions are sampled, laughs and sighs are placed by tags such as [laugh], sounds
such as rain lie behind the voice. Who speaks, how, what, and when each word, phoneme
and sound begins and ends is known, because all of it was decided beforehand.

The voices are made by eSpeak NG, a formant synthesiser. It is free software under the
GNU General Public License, version 3 or later. The `espeakng-loader` wheel brings it as
a separate shared library, which is loaded at run time; see `corpus.espeak`. No
recording of any person is in it.

An item is a pure function of its arguments. Samples are rounded to 16 bits, so that an
item written to a 16-bit file is read back unchanged.
"""

import operator
from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch.utils.data import Dataset

from . import espeak
from .emotions import EMOTIONS, Prosody, express, sample_prosody
from .items import Item, Span
from .sentences import sentence, test_sentences
from .text import read_text
from .voices import HELD_OUT, Voice, sample_voice, voice_lines

SAMPLE_RATE = 16_000  # Hz
SPLITS = ("train", "held-out", "test")
LEVEL = -24.0  # dBFS, RMS of the voice in neutral speech
_PEAK = 0.9  # no sample goes beyond
_WORDS_PER_MINUTE = 175
_SPEAK, _DATASET = 1, 2  # streams of random numbers


def speak(
    text: str,
    speaker: int | str = 17,
    emotion: str = "neutral",
    seed: int = 0,
    scene: str | None = None,
) -> Item:
    """Speak any English text.

    text: words, punctuation, numbers and tags: [laugh] [sigh] [cough] [breath]
        [hesitation].
    speaker: 0, 1, 2 ... or "held-out:0", "held-out:1" ...
    emotion: one of EMOTIONS.
    seed: another seed gives another way of saying the same.
    scene: name of a sound behind the voice, None for a quiet room.
    Returns an `Item` with `wave` float32 [T] at 16 kHz in [-0.9, 0.9].
    Raises TextError, SpeakerError, EmotionError, SceneError, each a ValueError that
    says what is allowed.
    """
    parts = read_text(text)
    rng = np.random.default_rng([_SPEAK, operator.index(seed)])
    voice = sample_voice(speaker)
    prosody = sample_prosody(emotion, rng)
    voice = express(voice, prosody)
    pieces, words, phones, events = [], [], [], []
    cursor = 0.0  # s
    for i, (kind, said) in enumerate(parts):
        if kind == "speech":
            said = said.rstrip()
            if i + 1 < len(parts) and said[-1].isalnum():
                said += ","  # the sentence goes on after the sound
            wave, its_words, its_phones = _say(said, voice, prosody, rng)
            words += _shift(its_words, cursor)
            phones += _shift(its_phones, cursor)
        else:
            raise NotImplementedError(kind)
        pieces.append(wave)
        cursor += len(wave) / espeak.NATIVE_RATE
    wave = soxr.resample(np.concatenate(pieces), espeak.NATIVE_RATE, SAMPLE_RATE)
    wave = _level(wave, LEVEL + prosody.gain)
    pcm = np.rint(wave * 32768).astype(np.float32) / 32768
    return Item(
        wave=torch.from_numpy(pcm),
        sample_rate=SAMPLE_RATE,
        text=text,
        speaker=voice.speaker,
        emotion=emotion,
        scene=scene,
        words=tuple(words),
        phones=tuple(phones),
        events=tuple(events),
    )


def phonemes(text: str) -> str:
    """The phonemes of a text in IPA, with stress marks, as the voices speak them.

    Tags are left out. Raises TextError for a text that cannot be spoken.
    """
    said = [words.strip() for kind, words in read_text(text) if kind == "speech"]
    return espeak.ipa(" ".join(said)) if said else ""


def _say(
    text: str, voice: Voice, prosody: Prosody, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[Span, ...], tuple[Span, ...]]:
    """One stretch of speech, silence cut to a short margin on both sides."""
    lines = voice_lines(voice)
    if prosody.rising:
        lines += "intonation 4\n"
    rate = round(_WORDS_PER_MINUTE * voice.speed)
    speech = espeak.synthesize(text, lines, rate, seed=int(rng.integers(2**31)))
    margin = 0.03  # s
    begin = max(speech.phones[0].start - margin, 0.0)
    end = speech.phones[-1].end + margin
    first, last = (round(t * espeak.NATIVE_RATE) for t in (begin, end))
    begin = first / espeak.NATIVE_RATE
    wave = speech.wave[first:last]
    return wave, _shift(speech.words, -begin), _shift(speech.phones, -begin)


def _shift(spans: Sequence[Span], seconds: float) -> tuple[Span, ...]:
    return tuple(Span(s.label, s.start + seconds, s.end + seconds) for s in spans)


def _level(wave: np.ndarray, level: float) -> np.ndarray:
    """Scale to `level` dBFS RMS, or less where a peak would be too high."""
    rms = np.sqrt(np.mean(wave**2)) + 1e-9
    gain = 10 ** (level / 20) / rms
    return wave * min(gain, _PEAK / (np.abs(wave).max() + 1e-9))


class TinyVoices(Dataset):
    """TinyVoices as a data set: item i is the same for ever.

    split: "train", "held-out" (the same sentences, speakers never used in training),
        or "test" (training speakers, sentences never used in training).
    seed: another seed gives another data set.
    size: number of items; there is no limit.
    emotions: the emotions to draw from.
    speakers: how many different speakers to draw from.
    `dataset[i]` for 0 <= i < size gives an `Item`; otherwise IndexError.
    """

    def __init__(
        self,
        split: str = "train",
        seed: int = 0,
        size: int = 10_000,
        emotions: Sequence[str] = EMOTIONS,
        speakers: int = 1_000,
    ):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}: choose from {', '.join(SPLITS)}")
        self.split = split
        self.seed = operator.index(seed)
        self.size = size
        self.emotions = tuple(emotions)
        self.speakers = speakers

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Item:
        index = operator.index(index)
        if not 0 <= index < self.size:
            raise IndexError(f"item {index} of a data set of {self.size}")
        stream = SPLITS.index(self.split)
        rng = np.random.default_rng([_DATASET, stream, self.seed, index])
        number = int(rng.integers(self.speakers))
        emotion = self.emotions[rng.integers(len(self.emotions))]
        if self.split == "test":
            text = test_sentences()[rng.integers(len(test_sentences()))]
        else:
            text = sentence(rng)
        return speak(
            text,
            speaker=f"{HELD_OUT}{number}" if self.split == "held-out" else number,
            emotion=emotion,
            seed=int(rng.integers(2**63)),
        )
