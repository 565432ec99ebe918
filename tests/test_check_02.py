"""The checkers of chapter 02: right answers pass, planted mistakes are named."""

import random

import numpy as np
import pytest
import torch

from speechlm_lab import check
from speechlm_lab.check import chapter_02
from speechlm_lab.corpus.emotions import EMOTIONS

# right answers, written differently from the chapter's solutions where that is easy


def mix(voice, background, snr_db):
    gain = voice.norm() / background.norm() * 10 ** (-snr_db / 20)
    return voice + gain * background


def labels(spans, frames, hop, sample_rate):
    result = [""] * frames
    for span in spans:
        for f in range(frames):
            if span.start <= f * hop / sample_rate < span.end:
                result[f] = span.label
    return result


def pitch(wave, sample_rate):
    wave = wave * torch.hann_window(len(wave))
    power = torch.fft.rfft(wave, 2 * len(wave)).abs() ** 2
    likeness = torch.fft.irfft(power)
    shortest = sample_rate // 400
    return sample_rate / (
        shortest + int(likeness[shortest : sample_rate // 60].argmax())
    )


def coefficients(frequency, bandwidth, sample_rate):
    c = -np.exp(-2 * np.pi * bandwidth / sample_rate)
    b = 2 * np.exp(-np.pi * bandwidth / sample_rate)
    b *= np.cos(2 * np.pi * frequency / sample_rate)
    return 1 - b - c, b, c


def undo(wave, frequency, bandwidth, sample_rate):
    a, b, c = coefficients(frequency, bandwidth, sample_rate)
    before = torch.cat([wave.new_zeros(2), wave])
    return (before[2:] - b * before[1:-1] - c * before[:-2]) / a


def draw(seed, index):
    rng = np.random.default_rng([seed, index])
    return int(rng.integers(1000)), EMOTIONS[rng.integers(len(EMOTIONS))]


RIGHT = {
    "mix_at_snr": mix,
    "frame_labels": labels,
    "pitch_of": pitch,
    "undo_formant": undo,
    "draw_item": draw,
}


def test_every_checker_is_tested():
    assert set(RIGHT) == set(chapter_02.__all__)


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_answer_passes(name):
    report = getattr(check, name)(RIGHT[name])
    assert report.passed, report


def stub(*args):
    """Nothing yet."""


def raising(*args):
    raise NotImplementedError


def failing(*args):
    return 1 / 0


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("answer", [stub, raising, failing, 3, lambda *a: "text"])
def test_no_answer_makes_a_checker_raise(name, answer):
    report = getattr(check, name)(answer)
    assert not report.passed
    assert report.message


# planted mistakes


def mean_before_square(voice, background, snr_db):
    ratio = voice.mean() ** 2 / background.mean() ** 2
    return voice + (ratio / 10 ** (snr_db / 10)).sqrt() * background


def labels_at_16_khz(spans, frames, hop, sample_rate):
    return labels(spans, frames, hop, 16_000)


def first_lag_forgotten(wave, sample_rate):
    return sample_rate / (
        round(sample_rate / pitch(wave, sample_rate)) - sample_rate // 400
    )


def wrong_signs(wave, frequency, bandwidth, sample_rate):
    a, b, c = coefficients(frequency, bandwidth, sample_rate)
    before = torch.cat([wave.new_zeros(2), wave])
    return (before[2:] + b * before[1:-1] + c * before[:-2]) / a


def digits_glued(seed, index):
    rng = np.random.default_rng(int(f"{seed}{index}"))
    return int(rng.integers(1000)), EMOTIONS[rng.integers(len(EMOTIONS))]


def same_dice_twice(seed, index):
    speaker = np.random.default_rng([seed, index]).integers(1000)
    emotion = np.random.default_rng([seed, index]).integers(len(EMOTIONS))
    return int(speaker), EMOTIONS[emotion]


@pytest.mark.parametrize(
    "checker, answer, mistake",
    [
        ("mix_at_snr", mean_before_square, "mean before square"),
        ("frame_labels", labels_at_16_khz, "sample rate fixed"),
        ("pitch_of", first_lag_forgotten, "first lag forgotten"),
        ("undo_formant", wrong_signs, "wrong signs"),
        ("draw_item", digits_glued, "digits glued together"),
        ("draw_item", same_dice_twice, "same dice twice"),
    ],
)
def test_mistakes_that_readers_made(checker, answer, mistake):
    report = getattr(check, checker)(answer)
    assert not report.passed
    assert report.mistake == mistake, report


def power_for_amplitude(voice, background, snr_db):
    ratio = voice.square().mean() / background.square().mean()
    return voice + ratio / 10 ** (snr_db / 10) * background


def wrong_sign(voice, background, snr_db):
    return mix(voice, background, -snr_db)


def voice_scaled(voice, background, snr_db):
    gain = background.norm() / voice.norm() * 10 ** (snr_db / 20)
    return gain * voice + background


def level_ignored(voice, background, snr_db):
    return voice + background * 10 ** (-snr_db / 20)


def ten_for_twenty(voice, background, snr_db):
    return voice + voice.norm() / background.norm() * background * 10 ** (-snr_db / 10)


def gaps_filled(spans, frames, hop, sample_rate):
    result, last = [], ""
    for label in labels(spans, frames, hop, sample_rate):
        last = label or last
        result.append(last)
    return result


def end_included(spans, frames, hop, sample_rate):
    result = [""] * frames
    for span in reversed(spans):
        for f in range(frames):
            if span.start <= f * hop / sample_rate <= span.end:
                result[f] = span.label
    return result


def half_a_frame_late(spans, frames, hop, sample_rate):
    shifted = labels(spans, 2 * frames, hop // 2, sample_rate)
    return shifted[1::2]


def samples_for_seconds(spans, frames, hop, sample_rate):
    return labels(spans, frames, hop, 1)


def lag_for_pitch(wave, sample_rate):
    return sample_rate / pitch(wave, sample_rate)


def strongest_harmonic(wave, sample_rate):
    spectrum = torch.fft.rfft(wave).abs()
    return float(spectrum.argmax()) * sample_rate / len(wave)


def octave_low(wave, sample_rate):
    return pitch(wave, sample_rate) / 2


def fixed_rate(wave, sample_rate):
    return pitch(wave, sample_rate) * 16_000 / sample_rate


def not_divided(wave, frequency, bandwidth, sample_rate):
    a, _, _ = coefficients(frequency, bandwidth, sample_rate)
    return a * undo(wave, frequency, bandwidth, sample_rate)


def resonates_again(wave, frequency, bandwidth, sample_rate):
    a, b, c = coefficients(frequency, bandwidth, sample_rate)
    y = [0.0, 0.0]
    for sample in wave.tolist():
        y.append(a * sample + b * y[-1] + c * y[-2])
    return torch.tensor(y[2:])


def own_output(wave, frequency, bandwidth, sample_rate):
    a, b, c = coefficients(frequency, bandwidth, sample_rate)
    x = [0.0, 0.0]
    for sample in wave.tolist():
        x.append((sample - b * x[-1] - c * x[-2]) / a)
    return torch.tensor(x[2:], dtype=torch.float64)


def wraps_around(wave, frequency, bandwidth, sample_rate):
    a, b, c = coefficients(frequency, bandwidth, sample_rate)
    return torch.stack(
        [(wave[t] - b * wave[t - 1] - c * wave[t - 2]) / a for t in range(len(wave))]
    )


def global_generator(seed, index):
    np.random.seed(1000 * seed + index)
    return np.random.randint(1000), EMOTIONS[np.random.randint(len(EMOTIONS))]


def unseeded(seed, index):
    rng = np.random.default_rng()
    return int(rng.integers(1000)), EMOTIONS[rng.integers(len(EMOTIONS))]


def python_global(seed, index):
    return random.randrange(1000), random.choice(EMOTIONS)


def seed_plus_index(seed, index):
    return draw(0, seed + index)


def seed_times_index(seed, index):
    return draw(seed * index, seed + index)


def seed_thousands(seed, index):
    return draw(0, 1000 * seed + index)


def seed_ignored(seed, index):
    return draw(0, index)


def index_ignored(seed, index):
    return draw(seed, 0)


@pytest.mark.parametrize(
    ("name", "answer", "mistake"),
    [
        ("mix_at_snr", power_for_amplitude, "power for amplitude"),
        ("mix_at_snr", ten_for_twenty, "ten for twenty"),
        ("mix_at_snr", wrong_sign, "sign"),
        ("mix_at_snr", voice_scaled, "voice scaled"),
        ("mix_at_snr", level_ignored, "level ignored"),
        ("frame_labels", gaps_filled, "gaps filled"),
        ("frame_labels", end_included, "end included"),
        ("frame_labels", half_a_frame_late, "half a frame late"),
        ("frame_labels", samples_for_seconds, "samples for seconds"),
        ("pitch_of", lag_for_pitch, "lag for pitch"),
        ("pitch_of", strongest_harmonic, "an octave high"),
        ("pitch_of", octave_low, "an octave low"),
        ("pitch_of", fixed_rate, "sample rate fixed"),
        ("pitch_of", lambda wave, rate: rate / 1.0, "lags near zero"),
        ("pitch_of", lambda wave, rate: float("inf"), "lags near zero"),
        ("undo_formant", wraps_around, "wraps around"),
        ("undo_formant", not_divided, "not divided by A"),
        ("undo_formant", resonates_again, "resonates again"),
        ("undo_formant", own_output, "uses its own output"),
        ("draw_item", global_generator, "global generator"),
        ("draw_item", python_global, "global generator"),
        ("draw_item", unseeded, "not repeatable"),
        ("draw_item", seed_plus_index, "seed plus index"),
        ("draw_item", seed_times_index, "seed plus index"),
        ("draw_item", seed_thousands, "seed times a number plus index"),
        ("draw_item", seed_ignored, "seed ignored"),
        ("draw_item", index_ignored, "index ignored"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, mistake):
    report = getattr(check, name)(answer)
    assert not report.passed
    assert report.mistake == mistake, report


def test_small_differences_are_told_by_numbers():
    report = check.pitch_of(lambda wave, rate: 1.1 * pitch(wave, rate))
    assert not report.passed
    assert "110" in report.message


def test_a_wrong_label_is_pointed_at():
    def other(spans, frames, hop, sample_rate):
        found = labels(spans, frames, hop, sample_rate)
        found[7] = "x"
        return found

    assert "Frame 7" in check.frame_labels(other).message
