"""Scenes: what is to be heard behind a voice, made of noise, tones and clicks.

Each scene is a function (length, rng) -> [length] at 16 kHz, of any level, and a few
ways to say in words what is to be heard.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

RATE = 16_000  # Hz
_LOUDEST = 8.0  # peak of a scene over its level
SNR_RANGE = (5.0, 20.0)  # dB, level of the voice over that of the scene


class SceneError(ValueError):
    """There is no such scene."""


def make_scene(name: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples of a scene at 16 kHz, of an `active_level` near 1.

    Raises SceneError, which lists the scenes, for an unknown name.
    """
    if name not in _SCENES:
        raise SceneError(f"no scene {name!r}: choose from {', '.join(SCENES)}")
    # make more of it and start anywhere, so that not all begin alike
    spare = 2 * RATE
    whole = _SCENES[name][0](length + spare, rng)
    whole = whole / (active_level(whole, RATE) + 1e-9)
    begin = int(rng.integers(spare))
    wave = whole[begin : begin + length]
    if active_level(wave, RATE) < 0.5:  # between two bell strokes: go to the loudest
        loudest = int(np.abs(whole).argmax())
        begin = min(max(loudest - int(length * rng.random()), 0), spare)
        wave = whole[begin : begin + length]
    return _LOUDEST * np.tanh(wave / _LOUDEST)  # tames single clicks


def scene_caption(name: str, rng: np.random.Generator) -> str:
    """A clause that says what is to be heard: "rain is falling"."""
    captions = _SCENES[name][1]
    return captions[rng.integers(len(captions))]


def active_level(wave: np.ndarray, sample_rate: int) -> float:
    """RMS over the frames (25 ms) that lie within 30 dB of the loudest one.

    Silence between words or bell strokes does not count, so that a voice and a bell
    can be compared. Returns 0 for silence.
    """
    frame = sample_rate // 40
    padded = np.pad(wave, (0, -len(wave) % frame))
    power = np.mean(padded.reshape(-1, frame) ** 2, axis=1)
    return float(np.sqrt(np.mean(power[power >= power.max() * 1e-3])))


def _band(wave: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep the band low..high in Hz; 0 and 8000 leave that side open."""
    if low <= 0:
        sos = butter(2, high, "lowpass", fs=RATE, output="sos")
    elif high >= RATE / 2:
        sos = butter(2, low, "highpass", fs=RATE, output="sos")
    else:
        sos = butter(1, (low, high), "bandpass", fs=RATE, output="sos")
    return sosfilt(sos, wave)


def _slow(length: int, rng: np.random.Generator, per_second: float) -> np.ndarray:
    """A smooth random curve [length] in 0..1 with so many turns a second."""
    count = int(length / RATE * per_second) + 3
    points = rng.uniform(0, 1, count)
    return np.interp(np.linspace(0, count - 1, length), np.arange(count), points)


def _at(length: int, starts: np.ndarray, sound: Callable[[], np.ndarray]) -> np.ndarray:
    """Add a fresh sound at each start (s)."""
    wave = np.zeros(length)
    for start in (np.asarray(starts) * RATE).astype(int):
        if 0 <= start < length:
            part = sound()[: length - start]
            wave[start : start + len(part)] += part
    return wave


def _every(
    length: int, rng: np.random.Generator, period: float, spread: float
) -> np.ndarray:
    """Start times (s) about `period` apart, from a random first one."""
    count = int(length / RATE / period) + 2
    gaps = period * (1 + spread * rng.uniform(-1, 1, count))
    return np.cumsum(gaps) - period * rng.uniform(0.3, 1)


def _ring(frequencies: tuple[float, ...], seconds: float, decay: float) -> np.ndarray:
    """Partials (Hz) that die away, the higher the faster; decay in s."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = np.zeros_like(t)
    for i, frequency in enumerate(frequencies):
        if frequency < RATE / 2:
            fade = np.exp(-t * (1 + 0.6 * i) / decay) / (1 + 0.5 * i)
            wave += fade * np.sin(2 * np.pi * frequency * t)
    return wave


def _rain(length: int, rng: np.random.Generator) -> np.ndarray:
    noise = _band(rng.standard_normal(length), rng.uniform(800, 2000), 8000)
    drops = rng.standard_normal(length) * (rng.random(length) < rng.uniform(2e-3, 8e-3))
    return noise + 6 * _band(drops, 1500, 6000)


def _wind(length: int, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(length)
    gust = _slow(length, rng, 1.0)
    low = _band(noise, 100, rng.uniform(250, 400))
    high = _band(noise, 500, rng.uniform(700, 1000))
    return (0.3 + gust) * ((1 - gust) * low + 1.5 * gust * high)


def _waves(length: int, rng: np.random.Generator) -> np.ndarray:
    period = rng.uniform(2.5, 5) * RATE
    phase = np.arange(length) / period + rng.random()
    swell = np.sin(np.pi * (phase % 1)) ** 2 * (1 + 0.4 * _slow(length, rng, 0.5))
    noise = rng.standard_normal(length)
    surf, roar = _band(noise, 600, 5000), _band(noise, 0, 400)
    return swell**2 * surf + 0.6 * (0.3 + swell) * roar


def _thunder(length: int, rng: np.random.Generator) -> np.ndarray:
    def clap() -> np.ndarray:
        t = np.arange(int(3.5 * RATE)) / RATE
        fade = (1 - np.exp(-t / 0.02)) * np.exp(-t / rng.uniform(0.5, 1.0))
        rolling = 0.4 + _slow(len(t), rng, 9)
        return _band(rng.standard_normal(len(t)), 0, rng.uniform(150, 350)) * (
            fade * rolling
        )

    rain = 0.02 * _band(rng.standard_normal(length), 1500, 8000)
    return 3 * _at(length, _every(length, rng, 2.0, 0.3), clap) + rain


def _birds(length: int, rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(2500, 4500)  # Hz
    bend = rng.choice([-1.0, 1.0]) * rng.uniform(300, 1200)

    def chirp() -> np.ndarray:
        t = np.linspace(0, 1, int(rng.uniform(0.05, 0.14) * RATE))
        pitch = base + bend * t + 150 * np.sin(2 * np.pi * t * 3)
        return np.sin(np.pi * t) * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)

    phrases = _every(length, rng, rng.uniform(0.7, 1.2), 0.4)
    notes = [p + 0.16 * k for p in phrases for k in range(rng.integers(1, 5))]
    air = 0.02 * rng.standard_normal(length)
    return _at(length, np.array(notes), chirp) + air


def _crickets(length: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(length) / RATE
    pitch, pulse, chirp = (
        rng.uniform(3800, 5200),
        rng.uniform(24, 40),
        rng.uniform(2, 4),
    )
    pulses = np.clip(np.sin(2 * np.pi * pulse * t), 0, 1)
    gate = ((t * chirp + rng.random()) % 1) < rng.uniform(0.35, 0.6)
    return np.sin(2 * np.pi * pitch * t) * pulses * lfilter([0.02], [1, -0.98], gate)


def _fire(length: int, rng: np.random.Generator) -> np.ndarray:
    cracks = rng.uniform(-1, 1, length) * (rng.random(length) < 1.5e-3)
    cracks = _band(cracks, 1200, 7000)
    return 20 * cracks + 0.5 * _band(rng.standard_normal(length), 0, 300)


def _bell(length: int, rng: np.random.Generator) -> np.ndarray:
    strike = rng.uniform(350, 800)  # Hz
    partials = tuple(strike * r for r in (0.5, 1.0, 1.2, 1.5, 2.0, 2.7, 4.1))
    starts = _every(length, rng, rng.uniform(0.9, 1.6), 0.03)
    stroke = _ring(partials, 2.5, 0.9)
    return _at(length, starts, lambda: stroke)


def _siren(length: int, rng: np.random.Generator) -> np.ndarray:
    low, high = rng.uniform(450, 700), rng.uniform(1000, 1500)  # Hz
    t = np.arange(length) / RATE * rng.uniform(0.25, 0.7) + rng.random()
    kind = rng.integers(3)
    if kind == 0:  # wail
        x = 0.5 - 0.5 * np.cos(2 * np.pi * t)
    elif kind == 1:  # yelp
        x = (t * 5) % 1
    else:  # two tones
        x = ((t * 1.5) % 1 < 0.5).astype(float)
    phase = 2 * np.pi * np.cumsum(low + (high - low) * x) / RATE
    return np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.15 * np.sin(3 * phase)


def _footsteps(length: int, rng: np.random.Generator) -> np.ndarray:
    thud = rng.uniform(150, 400)  # Hz

    def step() -> np.ndarray:
        t = np.arange(int(0.16 * RATE)) / RATE
        heel, toe = np.exp(-t / 0.015), np.exp(-np.clip(t - 0.06, 0, 1) / 0.012)
        hit = rng.standard_normal(len(t)) * (heel + 0.4 * toe * (t > 0.06))
        return 3 * _band(hit, 0, thud) + 0.5 * _band(hit, 1000, 4000)

    starts = _every(length, rng, rng.uniform(0.42, 0.65), 0.05)
    return _at(length, starts, step) + 3e-3 * rng.standard_normal(length)


def _phone(length: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(length) / RATE + rng.uniform(0, 1)
    a, b = rng.uniform(400, 1200) * np.array([1, rng.uniform(1.1, 1.4)])
    warble = np.sin(2 * np.pi * rng.uniform(14, 24) * t) > 0
    tone = np.where(warble, np.sin(2 * np.pi * a * t), np.sin(2 * np.pi * b * t))
    cycle = rng.uniform(1.4, 2.2)
    return np.tanh(2 * tone) * ((t % cycle) < 0.6 * cycle)


def _clock(length: int, rng: np.random.Generator) -> np.ndarray:
    tick, tock = rng.uniform(2200, 3500), rng.uniform(1300, 2100)  # Hz
    beats = _every(length, rng, rng.choice([0.25, 0.5]), 0.0)
    on = _at(length, beats[::2], lambda: _ring((tick, 1.7 * tick), 0.06, 0.008))
    off = _at(length, beats[1::2], lambda: _ring((tock, 1.6 * tock), 0.06, 0.009))
    return on + off + 1e-3 * rng.standard_normal(length)


def _engine(length: int, rng: np.random.Generator) -> np.ndarray:
    speed = rng.uniform(28, 60) * (1 + 0.08 * _slow(length, rng, 1.5))  # Hz
    cycle = np.cumsum(speed) / RATE
    firing = (cycle % 1) ** 4 + 0.5 * ((cycle * 0.5) % 1) ** 6 - 0.3
    return _band(firing + 0.3 * rng.standard_normal(length), 40, rng.uniform(400, 1200))


def _train(length: int, rng: np.random.Generator) -> np.ndarray:
    def clack() -> np.ndarray:
        t = np.arange(int(0.12 * RATE)) / RATE
        return _band(rng.standard_normal(len(t)) * np.exp(-t / 0.03), 200, 1500)

    pairs = _every(length, rng, rng.uniform(0.6, 0.9), 0.02)
    starts = np.concatenate([pairs, pairs + 0.14])
    return 2 * _at(length, starts, clack) + 0.3 * _band(
        rng.standard_normal(length), 0, 250
    )


def _typing(length: int, rng: np.random.Generator) -> np.ndarray:
    def key() -> np.ndarray:
        t = np.arange(int(0.05 * RATE)) / RATE
        click = rng.standard_normal(len(t)) * np.exp(-t / rng.uniform(0.004, 0.009))
        return rng.uniform(0.5, 1) * _band(click, 1000, 6000)

    starts = _every(length, rng, rng.uniform(0.11, 0.2), 0.7)
    return _at(length, starts, key) + 2e-3 * rng.standard_normal(length)


def _knocking(length: int, rng: np.random.Generator) -> np.ndarray:
    hollow = rng.uniform(180, 320)  # Hz

    knock = _ring((hollow, 2.3 * hollow, 3.9 * hollow), 0.15, 0.025)
    groups = _every(length, rng, rng.uniform(1.1, 1.6), 0.1)
    starts = np.array([g + 0.2 * k for g in groups for k in range(3)])
    return _at(length, starts, lambda: knock) + 2e-3 * rng.standard_normal(length)


def _alarm(length: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(length) / RATE + rng.uniform(0, 1)
    beep = (t * rng.uniform(6, 9)) % 1 < 0.5
    group = (t % 1.0) < rng.uniform(0.5, 0.75)
    return np.sin(2 * np.pi * rng.uniform(1800, 3000) * t) * beep * group


_SCENES: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "rain": (_rain, ("rain is falling", "it is raining", "rain hits a roof")),
    "wind": (_wind, ("the wind is blowing", "wind howls around a house")),
    "waves": (_waves, ("waves roll onto a beach", "the sea is heard")),
    "thunder": (_thunder, ("thunder is rolling", "there is a thunderstorm")),
    "birds": (_birds, ("birds are singing", "a bird is chirping")),
    "crickets": (_crickets, ("crickets are chirping", "crickets sing at night")),
    "fire": (_fire, ("a fire is crackling", "wood burns in a fireplace")),
    "bell": (_bell, ("a bell is ringing", "a church bell tolls")),
    "siren": (_siren, ("a siren is wailing", "an ambulance passes")),
    "footsteps": (_footsteps, ("someone is walking", "footsteps are heard")),
    "phone": (_phone, ("a phone is ringing", "nobody answers a phone")),
    "clock": (_clock, ("a clock is ticking", "the ticking of a clock is heard")),
    "engine": (_engine, ("an engine is running", "a car is idling")),
    "train": (_train, ("a train is passing", "a train rattles over the rails")),
    "typing": (_typing, ("someone is typing", "keys click on a keyboard")),
    "knocking": (_knocking, ("someone knocks at a door", "there is a knocking")),
    "alarm": (_alarm, ("an alarm is beeping", "an alarm clock goes off")),
}
SCENES = tuple(_SCENES)
