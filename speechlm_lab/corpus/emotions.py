"""Emotions as prosody and voice quality.

Each emotion shifts many measures a little: pitch, the range of the pitch, rate,
loudness, the balance of high and low frequencies, breath, roughness. Every utterance
draws its own shifts, and the draws of the emotions overlap, so that no single measure
gives an emotion away; together they do. The directions follow the survey of Juslin and
Laukka (2003), "Communication of emotions in vocal expression and music performance",
Psychological Bulletin 129(5), 770-814.
"""

from dataclasses import dataclass, replace

import numpy as np

from .voices import Voice

# Means and deviations of the draws. Units: pitch in semitones, range and rate as log
# factors, gain and tilt in dB, breath and rough as added to the voice's values,
# smile as log factor on the formants.
_TABLE = {
    #             pitch        range         rate          gain       tilt
    "neutral": ((0.0, 1.2), (0.00, 0.20), (0.00, 0.08), (0.0, 2.0), (0.0, 2.0)),
    "happy": ((3.0, 1.6), (0.35, 0.25), (0.08, 0.08), (1.0, 2.0), (2.0, 2.0)),
    "sad": ((-1.5, 1.4), (-0.50, 0.25), (-0.18, 0.09), (-1.8, 2.0), (-3.5, 2.0)),
    "angry": ((1.5, 1.8), (0.15, 0.25), (0.10, 0.09), (2.2, 2.0), (3.5, 2.0)),
    "surprised": ((4.0, 2.0), (0.60, 0.30), (-0.02, 0.09), (0.8, 2.0), (1.0, 2.0)),
    "whispered": ((0.0, 1.2), (-0.10, 0.25), (-0.08, 0.09), (-4.0, 2.2), (0.0, 2.0)),
}
EMOTIONS = tuple(_TABLE)


class EmotionError(ValueError):
    """There is no such emotion."""


@dataclass(frozen=True)
class Prosody:
    """One utterance's way of speaking."""

    emotion: str
    pitch: float  # semitones above the speaker's own
    range: float  # factor on the width of the intonation
    rate: float  # factor on the speed
    gain: float  # dB on the level
    tilt: float  # dB from low to high harmonics
    breath: float  # added to the voice's breath
    roughness: int  # added to the voice's roughness
    smile: float  # factor on the formants
    voicing: float  # factor on the tone
    tension: float  # factor on the noise of the consonants
    rising: bool  # the end of the sentence rises


def sample_prosody(emotion: str, rng: np.random.Generator) -> Prosody:
    """Draw one way of speaking with `emotion`.

    Raises EmotionError, which lists the emotions, for an unknown one.
    """
    if emotion not in _TABLE:
        raise EmotionError(f"no emotion {emotion!r}: choose from {', '.join(EMOTIONS)}")
    pitch, span, rate, gain, tilt = (rng.normal(*row) for row in _TABLE[emotion])
    draw = rng.uniform(0, 1, 3)  # always the same number, whatever the emotion
    breath, rough, smile, voicing, tension, rising = 0.0, 0, 1.0, 1.0, 1.0, False
    if emotion == "happy":
        smile = 1 + 0.05 * draw[0]
        rising = draw[1] < 0.2
    elif emotion == "sad":
        breath = 8 * draw[0]
        smile = 1 - 0.03 * draw[1]
        tension = 1 - 0.3 * draw[2]
    elif emotion == "angry":
        rough = int(3 * draw[0])
        tension = 1 + 0.5 * draw[1]
    elif emotion == "surprised":
        breath = 3 * draw[0]
        rising = draw[1] < 0.6
    elif emotion == "whispered":
        if draw[1] < 0.6:
            breath, voicing = 35 + 40 * draw[0], 0.0
        else:  # some people murmur where others whisper
            breath, voicing = 10 + 20 * draw[0], 0.2 + 0.4 * draw[2]
    return Prosody(
        emotion=emotion,
        pitch=pitch,
        range=float(np.exp(span)),
        rate=float(np.exp(rate)),
        gain=gain,
        tilt=tilt,
        breath=breath,
        roughness=rough,
        smile=smile,
        voicing=voicing,
        tension=tension,
        rising=rising,
    )


def express(voice: Voice, prosody: Prosody) -> Voice:
    """The voice as it sounds with this prosody, within the library's limits."""
    semitones = 12 * np.log2(voice.pitch_ratio) * prosody.range
    return replace(
        voice,
        pitch=float(np.clip(voice.pitch * 2 ** (prosody.pitch / 12), 50, 420)),
        pitch_ratio=float(2 ** (min(semitones, 18) / 12)),
        tract=voice.tract * prosody.smile,
        roughness=min(voice.roughness + prosody.roughness, 7),
        breath=voice.breath + prosody.breath,
        voicing=voice.voicing * prosody.voicing,
        consonants=voice.consonants * prosody.tension,
        tilt=voice.tilt + prosody.tilt,
        speed=voice.speed * prosody.rate,
    )
