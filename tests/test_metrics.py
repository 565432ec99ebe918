"""Measures of quality and of cost, against closed forms and other libraries."""

import math
import sys
from types import ModuleType

import librosa
import numpy as np
import pytest
import torch
from scipy.stats import entropy

from speechlm_lab.audio import AudioError, resample
from speechlm_lab.codec.descript import import_dac
from speechlm_lab.metrics import (
    bitrate,
    codebook_use,
    mel_distance,
    pesq,
    si_sdr,
    stoi,
)

QUALITY = [mel_distance, si_sdr, stoi, pesq]


def noise(seconds=1.0, seed=0, level=0.05, sample_rate=16_000):
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(int(seconds * sample_rate), generator=generator)
    return (level * wave).clamp(-1, 1)


def syllables(seconds=2.0, seed=0):
    """Noise whose loudness rises and falls four times a second, as in speech."""
    wave = noise(seconds, seed, 0.1)
    time = torch.arange(len(wave)) / 16_000
    return wave * (1.05 - torch.cos(2 * math.pi * 4 * time)) / 2.05


@pytest.mark.parametrize(
    "measure, best", [(mel_distance, 0), (si_sdr, math.inf), (stoi, 1)]
)
def test_a_copy_has_the_best_value(measure, best):
    wave = syllables()
    assert measure(wave, wave) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("measure", [mel_distance, si_sdr, stoi])
def test_more_noise_is_worse(measure):
    wave = syllables()
    values = [measure(wave + noise(2, 1, level), wave) for level in (0.003, 0.03, 0.1)]
    assert values == sorted(values, reverse=measure is not mel_distance)
    assert len(set(values)) == 3


def test_mel_distance_of_a_gain_is_that_gain():
    wave = noise()
    gain = 20 * math.log10(2)
    assert mel_distance(wave / 2, wave) == pytest.approx(gain, abs=1e-3)


def test_mel_distance_is_deaf_below_its_floor():
    wave = noise(level=1e-5)
    assert mel_distance(wave / 2, wave) == 0


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_mel_distance_agrees_with_librosa(rate):
    waves = noise(seed=1), syllables(1.0, seed=2)

    def db(wave):
        mel = librosa.feature.melspectrogram(
            y=wave.numpy(),
            sr=rate,
            n_fft=1024,
            hop_length=256,
            n_mels=80,
            power=1,
            pad_mode="constant",
        )
        return 20 * np.log10(np.maximum(mel, 1e-3))

    expected = np.abs(db(waves[0]) - db(waves[1])).mean()
    assert mel_distance(*waves, rate) == pytest.approx(expected, rel=1e-4)


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_the_powers():
    time = torch.arange(16_000) / 16_000
    wave = 0.5 * torch.sin(2 * math.pi * 200 * time)
    other = 0.05 * torch.sin(2 * math.pi * 300 * time)
    assert si_sdr(wave + other, wave) == pytest.approx(20, abs=1e-3)
    assert si_sdr(0.1 * (wave + other), wave) == pytest.approx(20, abs=1e-3)
    assert si_sdr(-wave, wave) > 100  # the sign is a scale, too


def test_si_sdr_agrees_with_a_least_squares_fit():
    wave, reference = syllables(seed=1) + noise(2, 2), syllables(seed=1)
    e, s = wave.double().numpy(), reference.double().numpy()
    scale, residual, *_ = np.linalg.lstsq(s[:, None], e, rcond=None)
    power = np.square(scale * s).sum()
    expected = 10 * np.log10(power / residual[0])
    assert si_sdr(wave, reference) == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*sinc_interpolation")
def test_stoi_agrees_with_another_implementation():
    import_dac()  # torch_stoi imports torchaudio, too
    from torch_stoi import NegSTOILoss

    reference = syllables(3.0)
    wave = reference + noise(3, 1, 0.05)
    other = NegSTOILoss(sample_rate=16_000, use_vad=False)
    expected = -other(wave[None], reference[None]).item()
    assert 0.3 < expected < 0.95
    assert stoi(wave, reference) == pytest.approx(expected, abs=0.01)


def test_stoi_is_deaf_above_its_bands_at_any_rate():
    reference = resample(syllables(3.0), 16_000, 24_000)
    time = torch.arange(len(reference)) / 24_000
    whistle = 0.3 * torch.sin(2 * math.pi * 6_000 * time)
    assert stoi(reference + whistle, reference, 24_000) > 0.99


@pytest.mark.parametrize("measure", QUALITY)
def test_waves_that_cannot_be_compared_are_refused(measure):
    wave = noise()
    with pytest.raises(AudioError, match="cut both to one length"):
        measure(wave[:-1], wave)
    with pytest.raises(AudioError, match="silent"):
        measure(torch.zeros_like(wave), wave)
    with pytest.raises(AudioError, match="silent"):
        measure(wave, torch.zeros_like(wave))
    with pytest.raises(AudioError, match="one mono wave"):
        measure(wave[None], wave[None])


def test_stoi_refuses_what_it_has_no_value_for():
    short = noise(0.3)
    with pytest.raises(AudioError, match="0.4 s"):
        stoi(short, short)
    with pytest.raises(AudioError, match="8000 Hz"):
        stoi(noise(), noise(), 8_000)
    assert stoi(noise(), noise(), 10_000) == pytest.approx(1), "the lowest rate"


def test_pesq_refuses_other_rates_and_short_waves():
    wave = noise()
    with pytest.raises(AudioError, match="16000 and 8000 Hz, not at 22050"):
        pesq(wave, wave, 22_050)
    with pytest.raises(AudioError, match="0.25 s"):
        pesq(wave[:3000], wave[:3000])


def test_pesq_names_the_remedy_when_its_library_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(ImportError, match=r"pip install -e \.\[compiled\]"):
        pesq(noise(), noise())


def test_pesq_hands_its_library_the_reference_first(monkeypatch):
    class PesqError(RuntimeError):
        pass

    calls = []

    def judge(rate, reference, wave, mode):
        calls.append((rate, float(reference[0]), float(wave[0]), mode))
        if len(calls) > 2:
            raise PesqError("No utterances detected")
        return np.float32(3.5)

    library = ModuleType("pesq")
    library.pesq, library.PesqError = judge, PesqError
    monkeypatch.setitem(sys.modules, "pesq", library)
    wave, reference = torch.full((8000,), 0.25), torch.full((8000,), 0.5)
    assert pesq(wave, reference) == 3.5
    assert pesq(wave, reference, 8_000) == 3.5
    assert calls == [(16_000, 0.5, 0.25, "wb"), (8_000, 0.5, 0.25, "nb")]
    with pytest.raises(AudioError, match="no speech"):
        pesq(wave, reference)


def test_pesq_of_the_real_library():
    pytest.importorskip("pesq", reason="optional: pip install -e .[compiled]")
    wave = syllables(3.0)
    assert pesq(wave, wave) == pytest.approx(4.644, abs=0.01)
    assert pesq(wave, wave, 8_000) == pytest.approx(4.549, abs=0.01)
    assert pesq(wave + noise(3, 1, 0.05), wave) < 3


def test_bitrate_of_published_codecs():
    # Defossez et al. 2022: 24 kHz, hop 320, 1024 entries; 8 codebooks are 6 kbit/s
    assert bitrate(24_000 / 320, 8, 1024) == 6_000
    # Defossez et al. 2024 (Moshi): Mimi, 12.5 Hz, 8 codebooks of 2048 are 1.1 kbit/s
    assert bitrate(12.5, 8, 2048) == 1_100
    assert bitrate(50, 1, 3) == pytest.approx(50 * math.log2(3))


@pytest.mark.parametrize("arguments", [(0, 8, 512), (50, 0, 512), (50, 8, 1)])
def test_bitrate_refuses_nonsense(arguments):
    with pytest.raises(ValueError, match="a bit rate needs"):
        bitrate(*arguments)


def test_codebook_use_of_extremes():
    all_alike = torch.arange(8).repeat(2, 3)  # [2, 24]: each of 8 entries three times
    one_entry = torch.full((2, 24), 5)
    half = torch.arange(4).repeat(2, 6)
    share, perplexity = codebook_use(torch.stack([all_alike, one_entry, half], 1), 8)
    assert share.tolist() == [1, 1 / 8, 1 / 2]
    assert perplexity.tolist() == pytest.approx([8, 1, 4])


def test_perplexity_agrees_with_scipy():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 20, (3, 2, 50), generator=generator)
    codes = codes * torch.randint(0, 2, codes.shape, generator=generator)
    perplexity = codebook_use(codes, 32).perplexity
    for level in range(2):
        counts = np.bincount(codes[:, level].flatten().numpy(), minlength=32)
        expected = 2 ** entropy(counts / counts.sum(), base=2)
        assert perplexity[level].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "codes, remedy",
    [
        (torch.zeros(2, 3, dtype=torch.long), "one level needs"),
        (torch.zeros(1, 2, 3), "integers"),
        (torch.zeros(1, 2, 0, dtype=torch.long), "integers"),
        (torch.tensor([[[8]]]), "codes from 0 to 7"),
        (torch.tensor([[[-1]]]), "codes from 0 to 7"),
    ],
)
def test_codebook_use_refuses_what_are_no_codes(codes, remedy):
    with pytest.raises(ValueError, match=remedy):
        codebook_use(codes, 8)
