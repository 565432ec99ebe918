"""Sounds that a person makes without words: laugh, sigh, cough, breath, hesitation.

All but the last are made here with the same two parts that make speech, a source and
a filter. The source is a train of glottal pulses, breath noise, or a mixture of both;
the filter is a chain of resonators, one for each formant, scaled to the speaker's
vocal tract. A hesitation is the synthesiser saying "uh" or "um" in the speaker's own
voice.
"""

import numpy as np
from scipy.signal import lfilter

from .espeak import NATIVE_RATE, synthesize
from .voices import Voice, voice_lines

# Formants in Hz of an average adult; a voice scales them
_AH = (730, 1200, 2500, 3600, 4700)
_EH = (560, 1700, 2450, 3600, 4700)
_OH = (500, 1000, 2400, 3500, 4600)
_SCHWA = (540, 1450, 2500, 3600, 4700)
# Level in dB beside the voice: mean and deviation
_LEVELS = {
    "laugh": (-1.0, 1.5),
    "sigh": (-10.0, 2.0),
    "cough": (1.0, 1.5),
    "breath": (-15.0, 2.5),
    "hesitation": (-2.0, 1.5),
}
_WHISPER = 0.4  # a voice with less voicing than this is a whisper


def make_sound(kind: str, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """One sound of `kind`, one of `text.TAGS`, in this voice.

    Returns float [T] at NATIVE_RATE, without silence around it. An RMS of 1 stands for
    the level of the voice in speech; a breath is far below it, a cough above.
    """
    wave = _MAKERS[kind](voice, rng)
    level = rng.normal(*_LEVELS[kind])
    return wave * (10 ** (level / 20) / np.sqrt(np.mean(wave**2)))


def glottal_pulses(pitch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The flow through the glottis, differentiated, at a pitch given for each sample.

    pitch: [T] in Hz. Returns [T]. Each cycle opens slowly and closes fast (Rosenberg
    1971); a slow random walk of the pitch keeps it from sounding like a machine.
    """
    jitter = (
        1
        + 0.02
        * np.repeat(rng.standard_normal(len(pitch) // 200 + 1), 200)[: len(pitch)]
    )
    cycle = np.cumsum(pitch * jitter / NATIVE_RATE) % 1
    opening, closing = 0.4, 0.16  # shares of a cycle
    rise = np.sin(np.pi * cycle / opening) / opening
    fall = -np.sin(np.pi * (cycle - opening) / closing / 2) / closing
    return np.where(
        cycle < opening, rise, np.where(cycle < opening + closing, fall, 0.0)
    )


def resonate(
    source: np.ndarray, formants: tuple[float, ...], width: float = 1.0
) -> np.ndarray:
    """Send a source [T] through one resonator for each formant (Hz), in a chain."""
    for i, frequency in enumerate(formants):
        bandwidth = width * (60 + 40 * i)  # Hz
        radius = np.exp(-np.pi * bandwidth / NATIVE_RATE)
        b1 = 2 * radius * np.cos(2 * np.pi * frequency / NATIVE_RATE)
        b2 = -(radius**2)
        source = lfilter([1 - b1 - b2], [1, -b1, -b2], source)
    # the formants above these would lift the high frequencies a little
    return lfilter([1, -0.7], [1], source)


def _scaled(formants: tuple[float, ...], voice: Voice, factor: float = 1.0):
    return tuple(f * voice.tract * factor for f in formants)


def _seconds(duration: float) -> int:
    return max(int(duration * NATIVE_RATE), 8)


def _bump(length: int, attack: float) -> np.ndarray:
    """An envelope [length] that rises for the share `attack` and falls smoothly."""
    x = np.linspace(0, 1, length)
    rise = np.sin(np.pi / 2 * np.clip(x / attack, 0, 1))
    fall = np.cos(np.pi / 2 * np.clip((x - attack) / (1 - attack), 0, 1))
    return rise * fall


def _noise(length: int, rng: np.random.Generator) -> np.ndarray:
    # the radiation at the lips lifts the high frequencies
    return np.diff(rng.standard_normal(length + 1))


def _laugh(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Bursts of h and vowel, four to six a second, pitch and level falling."""
    count = int(rng.integers(3, 8))
    vowel = (_AH, _EH, _OH, _SCHWA)[rng.integers(4)]
    period = rng.uniform(0.16, 0.25)  # s
    lift = rng.uniform(1.2, 2.0)  # above the speaking pitch
    whisper = voice.voicing < _WHISPER
    bursts = []
    for i in range(count):
        length = _seconds(period * rng.uniform(0.85, 1.15))
        aspirated = int(length * rng.uniform(0.3, 0.45))
        voiced = int(length * rng.uniform(0.38, 0.5))
        x = np.linspace(0, 1, voiced)
        pitch = voice.pitch * lift * (1 - 0.3 * i / count) * (1.1 - 0.25 * x)
        breath = np.zeros(length)
        breath[: aspirated + voiced] = _noise(aspirated + voiced, rng) * _bump(
            aspirated + voiced, 0.4
        )
        source = 0.15 * breath
        if whisper:
            source *= 3
        else:
            pulses = glottal_pulses(pitch, rng) * _bump(voiced, 0.25)
            source[aspirated : aspirated + voiced] += 0.35 * pulses
        loud = rng.uniform(0.75, 1.1) * 0.9**i
        bursts.append(loud * source)
    source = np.concatenate(bursts)
    if rng.random() < 0.4:  # the gasp after it
        gasp = _noise(_seconds(rng.uniform(0.2, 0.35)), rng)
        gasp *= 0.06 * _bump(len(gasp), 0.6)
        source = np.concatenate([source, np.zeros(_seconds(0.05)), gasp])
    return resonate(source, _scaled(vowel, voice))


def _inhale(voice: Voice, rng: np.random.Generator, duration: float) -> np.ndarray:
    noise = _noise(_seconds(duration), rng) * _bump(_seconds(duration), 0.7)
    return resonate(noise, _scaled((1000, 1900, 3000, 4200), voice), width=4)


def _breath(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Air drawn in: noise that grows and stops."""
    return _inhale(voice, rng, rng.uniform(0.3, 0.7))


def _sigh(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Air let out: noise that fades, darker and darker, over a falling voice."""
    length = _seconds(rng.uniform(0.8, 1.5))
    x = np.linspace(0, 1, length)
    noise = _noise(length, rng)
    source = 0.3 * noise
    if voice.voicing >= _WHISPER:
        pitch = voice.pitch * rng.uniform(1.1, 1.5) * 2 ** (-0.8 * x)
        tone = rng.uniform(0.0, 0.25) * np.exp(-x * rng.uniform(3, 6))
        source = source + tone * glottal_pulses(pitch, rng)
    bright = resonate(source, _scaled(_AH, voice, 1.05), width=2)
    dark = resonate(source, _scaled(_SCHWA, voice, 0.75), width=2)
    wave = (bright * (1 - x) + dark * x) * _bump(length, 0.12)
    if rng.random() < 0.5:
        drawn = _inhale(voice, rng, rng.uniform(0.3, 0.5))
        drawn *= 0.5 * np.abs(wave).max() / np.abs(drawn).max()
        wave = np.concatenate([drawn, np.zeros(_seconds(0.06)), wave])
    return wave


def _cough(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """One to three explosions of air, each with a short hoarse tail."""
    coughs = []
    for i in range(int(rng.integers(1, 4))):
        length = _seconds(rng.uniform(0.22, 0.34))
        t = np.arange(length) / NATIVE_RATE
        noise = _noise(length, rng)
        blast = 2 * np.exp(-t / 0.02) + 0.6 * np.exp(-t / rng.uniform(0.05, 0.09))
        source = noise * blast * (1 - np.exp(-t / 0.002))
        if voice.voicing >= _WHISPER:
            pitch = voice.pitch * rng.uniform(0.9, 1.4) * (1 + 0.2 * noise / 3)
            tail = np.exp(-(((t - 0.12) / 0.05) ** 2))
            source += 0.15 * tail * glottal_pulses(np.abs(pitch), rng)
        burst = resonate(
            source, _scaled((750, 1500, 2700, 3800, 4800), voice), width=2.5
        )
        burst *= np.minimum(1, 20 * (1 - t / t[-1])) * rng.uniform(0.7, 1.0)
        if i:
            coughs.append(np.zeros(_seconds(rng.uniform(0.05, 0.15))))
        coughs.append(burst)
    return np.concatenate(coughs)


def _hesitation(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """A long, level "uh", "um" or "er" in the speaker's own voice."""
    spoken = ("[[V:]]", "[[V:m]]", "[[@:m]]", "[[3:]]")[rng.integers(4)]
    rate = int(rng.integers(80, 150))
    seed = int(rng.integers(2**31))
    speech = synthesize(spoken, voice_lines(voice), rate, seed=seed, phoneme_input=True)
    begin, end = speech.phones[0].start, speech.phones[-1].end
    return speech.wave[int(begin * NATIVE_RATE) : int(end * NATIVE_RATE)]


_MAKERS = {
    "laugh": _laugh,
    "sigh": _sigh,
    "cough": _cough,
    "breath": _breath,
    "hesitation": _hesitation,
}
