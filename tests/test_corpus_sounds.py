"""Non-verbal sounds and scenes, each by what makes it what it is."""

import numpy as np
import pytest

from speechlm_lab.corpus import scenes, sounds
from speechlm_lab.corpus.espeak import NATIVE_RATE
from speechlm_lab.corpus.text import TAGS
from speechlm_lab.corpus.voices import sample_voice


def rng(seed):
    return np.random.default_rng(seed)


def share(wave, rate, low, high):
    """Share of the energy between two frequencies (Hz)."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / rate)
    return power[(hertz >= low) & (hertz < high)].sum() / power.sum()


@pytest.mark.parametrize("kind", TAGS)
def test_sounds_repeat_and_vary(kind):
    voice = sample_voice(3)
    one, same, other = (sounds.make_sound(kind, voice, rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert len(one) != len(other) or not np.array_equal(one, other)
    for seed in range(20):
        wave = sounds.make_sound(kind, sample_voice(seed), rng(seed))
        assert np.isfinite(wave).all()
        assert 0.1 < len(wave) / NATIVE_RATE < 3.5
        assert abs(wave.mean()) < 0.2


def test_levels_beside_the_voice():
    level = {
        kind: np.mean(
            [
                np.sqrt(np.mean(sounds.make_sound(kind, sample_voice(i), rng(i)) ** 2))
                for i in range(15)
            ]
        )
        for kind in TAGS
    }
    assert level["breath"] < level["sigh"] < level["hesitation"] < 1.2
    assert level["cough"] > level["hesitation"]


def test_glottal_pulses_keep_the_pitch():
    pitch = np.full(NATIVE_RATE, 150.0)
    wave = sounds.glottal_pulses(pitch, rng(0))
    echo = np.fft.irfft(np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2)
    period = 60 + echo[60:400].argmax()
    assert abs(NATIVE_RATE / period - 150) < 3
    assert abs(wave.mean()) < 0.05


def test_resonate_lifts_its_formants():
    noise = rng(0).standard_normal(NATIVE_RATE)
    wave = sounds.resonate(noise, (700.0, 2500.0))
    peak = share(wave, NATIVE_RATE, 600, 800)
    assert peak > 4 * share(noise, NATIVE_RATE, 600, 800)
    assert share(wave, NATIVE_RATE, 2400, 2600) > share(wave, NATIVE_RATE, 1500, 1700)


def test_a_longer_tract_has_lower_formants():
    from dataclasses import replace

    voice = sample_voice(1)
    bright, dark = (
        sounds.make_sound("breath", replace(voice, tract=t), rng(3)) for t in (1.3, 0.9)
    )
    low = [share(w, NATIVE_RATE, 0, 1200) for w in (bright, dark)]
    assert low[1] > low[0]


def test_a_breath_grows_and_a_cough_bursts():
    breath = sounds.make_sound("breath", sample_voice(2), rng(1))
    third = len(breath) // 3
    assert np.mean(breath[third : 2 * third] ** 2) > np.mean(breath[:third] ** 2)
    cough = sounds.make_sound("cough", sample_voice(2), rng(1))
    start = int(0.05 * NATIVE_RATE)
    assert np.mean(cough[:start] ** 2) > np.mean(cough**2)


@pytest.mark.parametrize("name", scenes.SCENES)
def test_scenes(name):
    assert len(scenes.SCENES) >= 10
    for length in (4000, 16_000, 100_000):
        for seed in range(4):
            wave = scenes.make_scene(name, length, rng(seed))
            assert wave.shape == (length,) and np.isfinite(wave).all()
            assert np.abs(wave).max() <= 8
            # never only the quiet between two strokes
            assert 0.25 < scenes.active_level(wave, scenes.RATE) < 3
    assert np.array_equal(wave, scenes.make_scene(name, length, rng(seed)))
    assert not np.array_equal(wave, scenes.make_scene(name, length, rng(9)))
    captions = {scenes.scene_caption(name, rng(s)) for s in range(20)}
    assert len(captions) >= 2


def test_scenes_can_be_told_apart():
    def picture(wave):
        frames = wave.reshape(-1, 400)
        power = np.abs(np.fft.rfft(frames * np.hanning(400))) ** 2
        bands = power[:, 1:].reshape(len(power), 20, 10).sum(2) + 1e-6
        mean = np.log(bands.mean(0))
        loud = np.log(power.sum(1) + 1e-6)
        beats = np.abs(np.fft.rfft(loud - loud.mean()))[:25] / len(loud)
        return np.concatenate([mean, 8 * beats, [4 * loud.std()]])

    known = {
        n: [picture(scenes.make_scene(n, 48_000, rng(s))) for s in range(12)]
        for n in scenes.SCENES
    }
    right = []
    for name in scenes.SCENES:
        for seed in range(100, 104):
            new = picture(scenes.make_scene(name, 48_000, rng(seed)))
            near = {
                n: min(np.abs(new - p).mean() for p in ps) for n, ps in known.items()
            }
            right.append(min(near, key=near.get) == name)
    assert np.mean(right) > 0.7  # chance: 0.06


def test_active_level_ignores_silence():
    tone = np.sin(np.arange(16_000) * 0.3)
    assert abs(scenes.active_level(tone, 16_000) - 0.5**0.5) < 0.01
    padded = np.concatenate([np.zeros(32_000), tone, np.zeros(8000)])
    assert abs(scenes.active_level(padded, 16_000) - 0.5**0.5) < 0.01
    assert scenes.active_level(np.zeros(1000), 16_000) == 0


def test_unknown_scene_lists_the_scenes():
    with pytest.raises(scenes.SceneError, match="footsteps"):
        scenes.make_scene("disco", 100, rng(0))
