"""TinyVoices: an endless speech world with exact labels, made on the reader's machine.

What TinyStories is for text, a world simple enough that a tiny model is fluent in it,
TinyVoices is for speech. Sentences come from a grammar and from looser text, speakers
and emotions are sampled, laughs and sighs are placed by tags such as [laugh], sounds
such as rain lie behind the voice. Who speaks, how, what, and when each word, phoneme
and sound begins and ends is known, because all of it was decided beforehand.

The voices are made by eSpeak NG, a formant synthesiser. It is free software under the
GNU General Public License, version 3 or later. The `espeakng-loader` wheel brings it as
a separate shared library, which is loaded at run time; see `corpus.espeak`. Vowels
and voiced sounds are computed; for voiceless consonants such as s and sh it plays short
recordings of its own, the same for every speaker.

An item is a pure function of its arguments. Samples are rounded to 16 bits, so that an
item written to a 16-bit file is read back unchanged.
"""

import operator
from collections.abc import Sequence

import numpy as np
import soxr
import torch
from scipy.signal import butter, sosfilt
from torch.utils.data import Dataset

from . import espeak
from .captions import describe
from .emotions import EMOTIONS, Prosody, express, sample_prosody
from .items import Item, Span
from .scenes import SCENES, SNR_RANGE, active_level, make_scene
from .sentences import sentence, test_sentences
from .sounds import make_sound
from .text import TAGS, read_text, spoken_parts
from .voices import HELD_OUT, Voice, sample_voice, voice_lines

SAMPLE_RATE = 16_000  # Hz
SPLITS = ("train", "held-out", "test")
LEVEL = -24.0  # dBFS, RMS of the voice in neutral speech
PEAK = 0.9  # no sample goes beyond
_NO_RUMBLE = butter(2, 40, "highpass", fs=SAMPLE_RATE, output="sos")
_HISS = (-50.0, -35.0)  # dB beside the voice, noise of the quiet room
_WORDS_PER_MINUTE = 175
_VOICE, _SCENE, _DATASET = 1, 2, 3  # streams of random numbers


def speak(
    text: str,
    speaker: int | str = 17,
    emotion: str = "neutral",
    seed: int = 0,
    scene: str | None = None,
    snr: float | None = None,
) -> Item:
    """Speak any English text.

    text: words, punctuation, numbers and tags: [laugh] [sigh] [cough] [breath]
        [hesitation].
    speaker: 0, 1, 2 ... or "held-out:0", "held-out:1" ...
    emotion: one of EMOTIONS.
    seed: another seed gives another way of saying the same.
    scene: one of SCENES, a sound behind the voice; None: a quiet room.
    snr: level of the voice over that of the scene in dB, drawn from 5 to 20 if not
        given. The levels are those of `scenes.active_level`.
    Returns an `Item` with `wave` float32 [T] at 16 kHz in [-0.9, 0.9]; its `text` is
    what was asked for.
    Raises TextError, SpeakerError, EmotionError, SceneError, each a ValueError that
    says what is allowed.
    """
    parts = spoken_parts(text)
    seed = operator.index(seed) & (2**64 - 1)
    rng = np.random.default_rng([_VOICE, seed])
    # streams of their own: with or without a scene, the voice is the same
    scene_rng = np.random.default_rng([_SCENE, seed])
    prosody = sample_prosody(emotion, rng)
    voice = express(sample_voice(speaker), prosody)
    take = _Take()
    for kind, said in parts:
        if kind == "speech":
            take.add_speech(*_say(said, voice, prosody, rng))
        else:
            take.add_sound(kind, make_sound(kind, voice, rng), rng)
    wave = take.mix(rng) * 10 ** ((LEVEL + prosody.gain) / 20)
    if scene is not None:
        behind = make_scene(scene, len(wave), scene_rng)
        drawn = scene_rng.uniform(*SNR_RANGE)
        below = LEVEL + prosody.gain - (drawn if snr is None else snr)
        wave = wave + 10 ** (below / 20) * behind
    wave = wave * min(1, PEAK / np.abs(wave).max())
    pcm = np.rint(wave * 32768).astype(np.float32) / 32768
    return Item(
        wave=torch.from_numpy(pcm),
        sample_rate=SAMPLE_RATE,
        text=text,
        speaker=voice.speaker,
        emotion=emotion,
        scene=scene,
        caption=describe(voice, emotion, [kind for kind, _ in parts], scene, scene_rng),
        words=tuple(take.words),
        phones=tuple(take.phones),
        events=tuple(take.events),
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
    by = float(seconds)
    return tuple(Span(s.label, s.start + by, s.end + by) for s in spans)


class _Take:
    """A recording in the making: pieces one after the other, and their labels."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []  # at NATIVE_RATE
        self.spoken: list[bool] = []
        self.words: list[Span] = []
        self.phones: list[Span] = []
        self.events: list[Span] = []
        self.length = 0  # samples at NATIVE_RATE

    @property
    def seconds(self) -> float:
        return self.length / espeak.NATIVE_RATE

    def _append(self, wave: np.ndarray, spoken: bool) -> None:
        self.pieces.append(wave)
        self.spoken.append(spoken)
        self.length += len(wave)

    def add_speech(
        self, wave: np.ndarray, words: tuple[Span, ...], phones: tuple[Span, ...]
    ) -> None:
        self.words += _shift(words, self.seconds)
        self.phones += _shift(phones, self.seconds)
        self._append(wave, spoken=True)

    def add_sound(self, kind: str, wave: np.ndarray, rng: np.random.Generator) -> None:
        before, after = (rng.uniform(0.04, 0.15, 2) * espeak.NATIVE_RATE).astype(int)
        self._append(np.zeros(before), spoken=False)
        begin = self.seconds
        self._append(wave, spoken=False)
        self.events.append(Span(kind, begin, self.seconds))
        self._append(np.zeros(after), spoken=False)

    def mix(self, rng: np.random.Generator) -> np.ndarray:
        """One wave at SAMPLE_RATE, the voice at level 1, with quiet around it."""
        both = zip(self.pieces, self.spoken, strict=True)
        voice = [piece for piece, spoken in both if spoken]
        level = 1.0
        if voice:
            level = active_level(np.concatenate(voice), espeak.NATIVE_RATE)
        both = zip(self.pieces, self.spoken, strict=True)
        wave = np.concatenate([p / level if spoken else p for p, spoken in both])
        wave = soxr.resample(wave, espeak.NATIVE_RATE, SAMPLE_RATE)
        wave = sosfilt(_NO_RUMBLE, wave)
        before, after = (rng.uniform(0.05, 0.2, 2) * SAMPLE_RATE).astype(int)
        for spans in (self.words, self.phones, self.events):
            spans[:] = _shift(spans, before / SAMPLE_RATE)
        wave = np.pad(wave, (before, after))
        # the noise of a quiet room: no recording is digital silence
        hiss = 10 ** (rng.uniform(*_HISS) / 20)
        return wave + hiss * rng.standard_normal(len(wave))


class TinyVoices(Dataset):
    """TinyVoices as a data set: item i is the same for ever.

    split: "train", "held-out" (the same sentences, speakers never used in training),
        or "test" (training speakers, sentences never used in training).
    seed: another seed gives another data set.
    size: number of items; there is no limit.
    emotions: the emotions to draw from.
    sounds: probability that a sentence holds a non-verbal sound.
    scenes: probability that there is a scene behind the voice.
    speakers: how many different speakers to draw from.
    `dataset[i]` for 0 <= i < size gives an `Item`; otherwise IndexError.
    """

    def __init__(
        self,
        split: str = "train",
        seed: int = 0,
        size: int = 10_000,
        emotions: Sequence[str] = EMOTIONS,
        sounds: float = 0.1,
        scenes: float = 0.1,
        speakers: int = 1_000,
    ):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}: choose from {', '.join(SPLITS)}")
        unknown = set(emotions) - set(EMOTIONS)
        if unknown or not emotions:
            raise ValueError(
                f"emotions {sorted(unknown)} do not exist: choose from {EMOTIONS}"
                if unknown
                else "no emotion to draw from"
            )
        if not (0 <= sounds <= 1 and 0 <= scenes <= 1):
            raise ValueError("sounds and scenes are probabilities from 0 to 1")
        if size < 0 or speakers < 1:
            raise ValueError("size must be 0 or more, speakers 1 or more")
        self.split = split
        self.seed = operator.index(seed) & (2**64 - 1)
        self.size = size
        self.emotions = tuple(emotions)
        self.sounds = sounds
        self.scenes = scenes
        self.speakers = speakers

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Item:
        return speak(**self.request(index))

    def request(self, index: int) -> dict:
        """The arguments of `speak` that make item `index`; costs next to nothing."""
        index = operator.index(index)
        if not 0 <= index < self.size:
            raise IndexError(f"no item {index} in a data set of {self.size}")
        stream = SPLITS.index(self.split)
        rng = np.random.default_rng([_DATASET, stream, self.seed, index])
        number = int(rng.integers(self.speakers))
        emotion = self.emotions[rng.integers(len(self.emotions))]
        wants_sound, wants_scene = rng.random(2) < (self.sounds, self.scenes)
        scene = SCENES[rng.integers(len(SCENES))]
        if self.split == "test":
            text = test_sentences()[rng.integers(len(test_sentences()))]
        else:
            text = sentence(rng)
        return {
            "text": _with_tag(text, rng) if wants_sound else text,
            "speaker": f"{HELD_OUT}{number}" if self.split == "held-out" else number,
            "emotion": emotion,
            "seed": int(rng.integers(2**63)),
            "scene": scene if wants_scene else None,
        }


def _with_tag(text: str, rng: np.random.Generator) -> str:
    """Put one tag, at times two, between any two words, before or after them."""
    words = text.split()
    for _ in range(1 + (rng.random() < 0.2)):
        tag = TAGS[rng.integers(len(TAGS))]
        words.insert(int(rng.integers(len(words) + 1)), f"[{tag}]")
    return " ".join(words)
