"""Speakers: a number becomes a voice.

A speaker of TinyVoices is nothing but a sampled set of numbers: how long the vocal
tract is (it scales all formants), how each formant deviates from that, how high the
voice is, how rough, how breathy, how fast. The numbers are drawn with the speaker's own
seed, so there are as many speakers as anybody wants. Two ranges never meet: speakers
0, 1, 2 ... are for training, "held-out:0", "held-out:1" ... are for tests with voices
that a model has never heard.
"""

import re
from dataclasses import dataclass

import numpy as np

HELD_OUT = "held-out:"
_SEEDS = {False: 0x7147, True: 0x0E1D}  # one stream for each range
# vocal tracts: share of speakers; F0 in Hz (mean of log2, deviation in octaves);
# scale of the formants (mean, deviation)
_KINDS = {
    "low": (0.44, 105.0, 0.24, 1.00, 0.045),
    "high": (0.44, 190.0, 0.20, 1.14, 0.05),
    "child": (0.12, 250.0, 0.14, 1.27, 0.05),
}


class SpeakerError(ValueError):
    """There is no such speaker."""


@dataclass(frozen=True)
class Voice:
    """The numbers that make a speaker; `voice_lines` writes them for eSpeak NG."""

    speaker: str  # "17" or "held-out:3"
    kind: str  # "low", "high" or "child"
    pitch: float  # Hz, the floor of the intonation
    pitch_ratio: float  # top of the intonation over its floor
    tract: float  # scale of all formants, 1: eSpeak's own voice
    formants: tuple[float, ...]  # scale of formants 0..8 beside `tract`
    strengths: tuple[float, ...]  # of formants 0..8, 1: as it is
    widths: tuple[float, ...]  # of formants 0..8, 1: as it is
    roughness: int  # 0..7
    flutter: float  # 0..8, trembling of the pitch
    breath: float  # 0..12, noise in the voice
    voicing: float  # 0..1.3, strength of the tone
    consonants: float  # 0.6..1.4, strength of noise in consonants
    tilt: float  # dB from low to high harmonics, beside eSpeak's own
    speed: float  # 1: 175 words a minute


def parse_speaker(speaker: int | str) -> tuple[bool, int]:
    """(held out, number) of a speaker given as 17, "17" or "held-out:3".

    Raises SpeakerError for anything else.
    """
    text = str(speaker) if not isinstance(speaker, bool) else ""
    match = re.fullmatch(rf"({HELD_OUT})?(\d{{1,15}})", text, re.ASCII)
    if match is None:
        raise SpeakerError(
            f"no speaker {speaker!r}: give a number from 0 on, such as 17, or "
            f'"{HELD_OUT}3" for a speaker of the held-out range'
        )
    return match[1] is not None, int(match[2])


def sample_voice(speaker: int | str) -> Voice:
    """The voice of a speaker; the same speaker has the same voice for ever.

    Raises SpeakerError where `parse_speaker` does.
    """
    held_out, number = parse_speaker(speaker)
    rng = np.random.default_rng([_SEEDS[held_out], number])
    shares = [row[0] for row in _KINDS.values()]
    kind = list(_KINDS)[rng.choice(len(_KINDS), p=shares)]
    _, pitch, pitch_spread, tract, tract_spread = _KINDS[kind]

    def around(spread: float, size: int) -> tuple[float, ...]:
        return tuple(np.exp(rng.normal(0, spread, size).clip(-2 * spread, 2 * spread)))

    return Voice(
        speaker=f"{HELD_OUT if held_out else ''}{number}",
        kind=kind,
        pitch=float(np.clip(pitch * 2 ** rng.normal(0, pitch_spread), 65, 330)),
        pitch_ratio=float(rng.uniform(1.15, 1.65)),
        tract=float(np.clip(rng.normal(tract, tract_spread), 0.88, 1.40)),
        formants=around(0.04, 9),
        strengths=around(0.22, 9),
        widths=around(0.22, 9),
        roughness=int(rng.choice(6, p=[0.2, 0.25, 0.25, 0.15, 0.1, 0.05])),
        flutter=float(rng.uniform(0.5, 5)),
        breath=float(rng.choice([0.0, rng.uniform(1, 6)])),
        voicing=float(rng.uniform(0.8, 1.2)),
        consonants=float(rng.uniform(0.75, 1.25)),
        tilt=float(rng.uniform(-5, 5)),
        speed=float(rng.uniform(0.85, 1.2)),
    )


def voice_lines(voice: Voice) -> str:
    """The voice as attributes of an eSpeak NG voice file."""
    # the library shifts the formants with the pitch by itself: undo that, so that
    # the tract belongs to the speaker and the pitch to the moment
    shift = 1 + (round(voice.pitch) - 82) / 82 / 4
    lines = [
        f"pitch {round(voice.pitch)} {round(voice.pitch * voice.pitch_ratio)}",
        f"roughness {voice.roughness}",
        f"flutter {round(voice.flutter)}",
        f"voicing {round(100 * voice.voicing)}",
        f"consonants {round(90 * voice.consonants)} {round(100 * voice.consonants)}",
    ]
    for i in range(9):
        frequency = 100 * voice.tract * voice.formants[i] / shift
        strength = 100 * voice.strengths[i]
        if i == 0 and voice.voicing < 0.4:
            strength = 0  # a whisper has no fundamental
        width = 100 * voice.widths[i]
        lines.append(f"formant {i} {round(frequency)} {round(strength)} {round(width)}")
    if voice.breath > 0:
        weights = np.array([0.8, 1.0, 1.0, 0.9, 0.6, 0.5]) * voice.breath
        lines.append("breath " + " ".join(str(round(w)) for w in weights))
        lines.append("breathw 150 180 220 300 400 400")
    # harmonic weights at four frequencies; 128 changes nothing
    heights = np.array([170, 135, 110, 110]) * 10 ** (
        voice.tilt * np.array([-0.5, 0, 0.4, 0.5]) / 20
    )
    points = zip((600, 1200, 2000, 3500), heights.clip(20, 255), strict=True)
    lines.append("tone " + " ".join(f"{hz} {round(h)}" for hz, h in points))
    return "\n".join(lines) + "\n"
