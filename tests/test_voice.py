"""Pitch, pulses and noise: the sources of the codec's voice."""

import librosa
import numpy as np
import pytest
import torch

from speechlm_lab.codec.blocks import Spectra
from speechlm_lab.codec.voice import (
    REFERENCE,
    PitchTracker,
    Voice,
    detuned,
    evened,
    loudness,
    pulses,
    segments,
    steady_noise,
    turns,
)
from speechlm_lab.corpus import tiny_voices
from speechlm_lab.spectral import mel_filterbank

RATE, HOP = 16_000, 160
TRACKER = PitchTracker(RATE, HOP)


def train(pitch, samples=16_000):
    """A train of pulses with formant-like tilt, by adding up its harmonics."""
    time = torch.arange(samples) / RATE
    count = int(7_500 / pitch)
    return sum(torch.cos(2 * np.pi * k * pitch * time) / k for k in range(1, count + 1))


def hertz(voice):
    return REFERENCE * 2**voice.octaves


@pytest.mark.parametrize("pitch", [70, 100, 143, 220, 330, 450])
def test_the_pitch_of_a_train_of_pulses(pitch):
    voice = TRACKER(0.1 * train(pitch)[None])
    inner = slice(5, -5)
    assert voice.octaves.shape == (1, 100)
    assert torch.allclose(
        hertz(voice)[:, inner], torch.tensor(float(pitch)), rtol=0.012
    )
    assert voice.strength[:, inner].min() > 0.9


def test_noise_and_silence_have_no_pitch():
    noise = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    assert TRACKER(noise).strength.median() < 0.5
    silence = TRACKER(torch.zeros(1, 1_600))
    assert silence.strength.max() == 0
    assert silence.octaves.isfinite().all()


@pytest.mark.parametrize("speaker", [1, 2, 5])
def test_on_speech_it_agrees_with_librosa(speaker):
    item = tiny_voices.speak("We were away a year ago, you know.", speaker=speaker)
    wave = item.wave[: len(item.wave) // HOP * HOP]
    voice = TRACKER(wave[None])
    theirs, voiced, _ = librosa.pyin(
        wave.numpy(), fmin=60, fmax=500, sr=RATE, frame_length=1024, hop_length=HOP
    )
    # ours is centred in the hop, theirs at its start: half a hop is nothing here
    ours = hertz(voice)[0].numpy()
    both = voiced[: len(ours)] & (voice.strength[0].numpy() > 0.8)
    off = np.abs(np.log2(ours[both] / theirs[: len(ours)][both]))
    assert both.sum() > 40
    assert np.mean(off < 0.06) > 0.85


def test_loudness_does_not_count():
    wave = 0.2 * train(150)[None]
    quiet, loud = TRACKER(0.05 * wave), TRACKER(wave)
    assert torch.allclose(quiet.octaves, loud.octaves, atol=0.02)


def test_sharp_and_flat_are_both_out_of_tune_as_far_as_there_is_a_pitch():
    voice = Voice(torch.zeros(1, 2), torch.tensor([[1.0, 0.5]]))
    off = detuned(torch.tensor([[2 * REFERENCE, REFERENCE / 2]]), voice)
    assert off.item() == pytest.approx((1 * 1 + 1 * 0.5**2) / 2)  # an octave each


def test_likeness_is_the_autocorrelation_over_that_of_the_window():
    tracker = PitchTracker(16_000, 160, candidates=40)
    wave = torch.randn(1, 480, generator=torch.Generator().manual_seed(0))
    shape = np.hanning(1025)[:-1]
    cut = segments(wave, 1024, 160)[0, 1].numpy() * shape

    def at(x, lag):
        return np.dot(x[lag:], x[: len(x) - lag]) / np.dot(x, x)

    for k, hertz in enumerate(np.geomspace(60, 500, 40)):
        lag = 16_000 / hertz
        below, part = int(lag), lag % 1  # between two samples in proportion
        both = [at(cut, n) / at(shape, n) for n in (below, below + 1)]
        found = tracker.likeness(wave)[0, 1, k].item()
        assert found == pytest.approx(np.dot(both, (1 - part, part)), abs=1e-4)


def test_segments_are_centred_in_their_hops():
    wave = torch.arange(640.0)[None]
    cut = segments(wave, 4, 2)
    assert cut.shape == (1, 320, 4)
    assert cut[0, 10].tolist() == [19, 20, 21, 22]  # hop 10 is samples 20 and 21


def test_pulses_are_a_sum_of_cosines():
    pitch = torch.full((1, 20), 200.0)
    ours = pulses(pitch, pitch[:, 0], torch.zeros(1, dtype=torch.float64), HOP, RATE)
    time = torch.arange(1, 20 * HOP + 1, dtype=torch.float64) / RATE
    count = int(0.47 * RATE / 200)
    theirs = sum(
        torch.cos(2 * np.pi * k * 200 * time) for k in range(1, count + 1)
    ) * np.sqrt(2 / count)  # fmt: skip
    assert torch.allclose(ours[0].double(), theirs, atol=2e-2)
    assert ours.square().mean().item() == pytest.approx(1, rel=0.02)


def test_pulses_go_on_where_they_stopped():
    pitch = 100 + 200 * torch.rand(2, 30, generator=torch.Generator().manual_seed(0))
    before = pitch[:, 0]
    phase = torch.zeros(2, dtype=torch.float64)
    whole = pulses(pitch, before, phase, HOP, RATE)
    passed = turns(pitch[:, :11], before, HOP, RATE).sum(1)
    first = pulses(pitch[:, :11], before, phase, HOP, RATE)
    rest = pulses(pitch[:, 11:], pitch[:, 10], phase + passed, HOP, RATE)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-4)


def test_turns_count_periods():
    pitch = torch.full((1, 100), 123.0)
    assert turns(pitch, pitch[:, 0], HOP, RATE).sum() == pytest.approx(123.0)


def test_noise_is_white_steady_and_placed():
    noise = steady_noise(0, 65_536)
    assert noise.square().mean().item() == pytest.approx(1, rel=0.02)
    power = torch.fft.rfft(noise).abs().square().reshape(-1)[1:].reshape(32, -1)
    assert (power.mean(1) / power.mean() - 1).abs().max() < 0.15
    assert torch.equal(steady_noise(1_000, 500), noise[1_000:1_500])
    assert torch.equal(steady_noise(65_536 + 7, 9), noise[7:16])


def test_evened_noise_is_as_loud_in_every_window():
    spectra, bank = Spectra(640, 160), mel_filterbank(RATE, 640, 80)
    spread = (bank / bank.sum(0).clamp(min=1e-8)).mT
    white = steady_noise(0, 16_000)
    unit = loudness(bank, spectra(white[None])).mean(2)[0]
    even = evened(white, spectra, bank, spread, unit)

    def off(wave: torch.Tensor) -> float:
        bands = loudness(bank, spectra(wave[None]))[..., 3:-3]
        return 8.69 * (bands - unit[:, None]).std().item()  # dB

    assert off(white) > 2.5
    assert off(even) < 0.8
    assert off(even.roll(8_000)) < 0.8, "the end meets the start"
    assert off(even.roll(80)) < 1.5, "between the windows, too"
    # still noise: as strong at all frequencies, to 1 dB, and of no period
    power = torch.fft.rfft(even).abs().square()[80:7_600].reshape(20, -1).mean(1)
    assert (power / power.mean()).log10().abs().max() < 0.11
    like = torch.fft.irfft(torch.fft.rfft(even).abs().square())
    assert like[40:8_000].abs().max() < 0.1 * like[0]


def test_loudness_is_the_logarithm_of_mel_magnitudes():
    spectra, bank = Spectra(640, 160), mel_filterbank(RATE, 640, 80)
    parts = spectra(steady_noise(0, 3_200)[None])
    assert torch.allclose(loudness(bank, parts), (bank @ parts.abs()).log(), atol=1e-4)
    silence = torch.zeros_like(parts).requires_grad_()
    loudness(bank, silence).sum().backward()
    assert silence.grad.isfinite().all()
