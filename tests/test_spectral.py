"""Spectra and codes: exact inverses, and agreement with librosa and scipy."""

import ast
import inspect
import math
import textwrap
import warnings

import librosa
import numpy as np
import pytest
import scipy.optimize
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm_lab import mu_law, spectral

few = settings(max_examples=30, deadline=None)


def noise(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=dtype) - 0.5


def vowel(seconds=1.0, pitch=120.0, rate=16_000):
    """A buzz that glides, through two resonances: something like a voice."""
    time = np.arange(int(seconds * rate)) / rate
    cycles = np.cumsum(pitch * (1 + 0.2 * np.sin(6 * time))) / rate
    buzz = np.diff(np.floor(cycles), prepend=0)
    for hz, width in [(700, 90), (1200, 110)]:
        radius = math.exp(-math.pi * width / rate)
        pole = -2 * radius * math.cos(2 * math.pi * hz / rate)
        buzz = scipy.signal.lfilter([1], [1, pole, radius**2], buzz)
    return torch.from_numpy(0.5 * buzz / np.abs(buzz).max()).float()


# Quantising samples


@few
@given(st.integers(2, 70_000), st.integers(0, 99))
def test_uniform_error_is_half_a_step(levels, seed):
    wave = 2 * noise(500, seed=seed)
    codes = spectral.quantize_uniform(wave, levels)
    back = spectral.dequantize_uniform(codes, levels)
    assert codes.dtype == torch.int64 and back.dtype == torch.float32
    assert 0 <= codes.min() and codes.max() < levels
    assert (back - wave).abs().max() <= 1 / (levels - 1) + 1e-6


@few
@given(st.integers(2, 1024), st.integers(0, 99))
def test_mu_law_error_grows_with_the_sample(levels, seed):
    wave = 2 * noise(500, seed=seed)
    codes = spectral.mu_law_encode(wave, levels)
    back = spectral.mu_law_decode(codes, levels).double()
    assert 0 <= codes.min() and codes.max() < levels
    # half a step on the squeezed scale, times the steepest slope back on the way
    mu = levels - 1
    edge = (1 + mu) ** (1 / mu)
    slope = math.log(1 + mu) / mu * (1 + mu * wave.abs()) * edge
    assert ((back - wave).abs() <= slope / mu + 1e-6).all()


@few
@given(st.integers(2, 5_000))
def test_every_code_stands_for_itself(levels):
    codes = torch.arange(levels)
    for encode, decode in [
        (spectral.quantize_uniform, spectral.dequantize_uniform),
        (spectral.mu_law_encode, spectral.mu_law_decode),
    ]:
        samples = decode(codes, levels)
        assert torch.equal(encode(samples, levels), codes)
        assert (samples.diff() > 0).all()  # monotonic
        assert torch.allclose(samples, -samples.flip(0), atol=1e-6)  # and odd
        assert samples[0] == pytest.approx(-1) and samples[-1] == pytest.approx(1)


def test_mu_law_agrees_with_librosa():
    wave = 2 * noise(1_000)
    squeezed = spectral.mu_law_compress(wave)
    expected = librosa.mu_compress(wave.numpy(), mu=255, quantize=False)
    assert np.allclose(squeezed, expected, atol=1e-12)
    assert torch.allclose(spectral.mu_law_expand(squeezed), wave, atol=1e-12)
    expected = librosa.mu_expand(expected, mu=255, quantize=False)
    assert np.allclose(spectral.mu_law_expand(squeezed), expected, atol=1e-12)


def test_mu_law_by_hand():
    # 3 levels: mu = 2; 0.5 becomes ln 2 / ln 3 = 0.63, nearer to 1 than to 0
    assert spectral.mu_law_encode(torch.tensor([-1, 0.5, 0.1, 0.0]), 3).tolist() == [
        0,
        2,
        1,
        1,
    ]
    assert spectral.mu_law_decode(torch.tensor([0, 1, 2]), 3).tolist() == [-1, 0, 1]


def test_mu_law_favours_quiet_sound():
    quiet = 0.02 * vowel()
    error = {}
    for name, encode, decode in [
        ("uniform", spectral.quantize_uniform, spectral.dequantize_uniform),
        ("mu-law", spectral.mu_law_encode, spectral.mu_law_decode),
    ]:
        error[name] = (decode(encode(quiet)) - quiet).square().mean()
    assert error["mu-law"] < 0.01 * error["uniform"]


def test_beyond_full_scale_is_clipped():
    wave = torch.tensor([-7.0, 7.0])
    assert spectral.quantize_uniform(wave).tolist() == [0, 255]
    assert spectral.mu_law_encode(wave).tolist() == [0, 255]


def test_codes_refuse_nonsense():
    with pytest.raises(ValueError, match="2 levels and a float wave"):
        spectral.quantize_uniform(torch.zeros(3), 1)
    with pytest.raises(ValueError, match="2 levels and a float wave"):
        spectral.quantize_uniform(torch.zeros(3, dtype=torch.int16))
    with pytest.raises(ValueError, match="float wave in"):
        spectral.mu_law_encode(torch.zeros(3, dtype=torch.int16))
    with pytest.raises(ValueError, match="2 levels and a float wave"):
        spectral.mu_law_encode(torch.zeros(3), 1)
    for codes in ([256], [-1], [0.5]):
        with pytest.raises(ValueError, match="integers in 0 .. 255"):
            spectral.mu_law_decode(torch.tensor(codes))


# STFT

SIZES = [(64, 16), (512, 128), (1024, 256), (400, 160), (30, 7)]


@pytest.mark.parametrize("n_fft, hop", SIZES)
@pytest.mark.parametrize("length", [1, 63, 4_096, 5_001])
def test_stft_agrees_with_librosa_and_torch(n_fft, hop, length):
    wave = noise(length)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa: n_fft is long for this wave
        expected = librosa.stft(wave.numpy(), n_fft=n_fft, hop_length=hop)
    result = spectral.stft(wave, n_fft, hop)
    assert result.shape == (n_fft // 2 + 1, spectral.frame_count(length, hop))
    assert np.abs(result.numpy() - expected).max() < 1e-10
    expected = torch.stft(
        wave,
        n_fft,
        hop,
        window=torch.hann_window(n_fft, dtype=torch.float64),
        pad_mode="constant",
        return_complex=True,
    )
    assert (result - expected).abs().max() < 1e-10


def test_stft_agrees_with_scipy():
    wave = noise(8_000)
    _, _, expected = scipy.signal.stft(
        wave.numpy(), nperseg=512, noverlap=512 - 128, padded=False
    )
    result = spectral.stft(wave, 512, 128)
    assert np.abs(result.numpy() / 256 - expected).max() < 1e-12  # 256: window's sum


def test_sine_stands_in_its_bin():
    time = torch.arange(16_000) / 16_000
    magnitude = spectral.stft(0.8 * torch.sin(2 * math.pi * 1000 * time)).abs()
    inside = magnitude[:, 4:-4]
    assert (inside.argmax(dim=0) == 64).all()  # 1000 Hz * 1024 / 16,000 Hz
    assert torch.allclose(inside[64], torch.tensor(0.8 * 1024 / 4), rtol=1e-4)


@few
@given(
    half=st.integers(2, 300),
    hop_share=st.floats(0, 1),
    length=st.integers(1, 3_000),
    seed=st.integers(0, 9),
)
def test_istft_gives_the_wave_back(half, hop_share, length, seed):
    hop = max(1, round(hop_share * half))  # up to n_fft // 2
    wave = noise(2, length, seed=seed)
    spectrum = spectral.stft(wave, 2 * half, hop)
    back = spectral.istft(spectrum, hop, length)
    assert back.shape == wave.shape
    assert (back - wave).abs().max() < 1e-7


@pytest.mark.parametrize("n_fft, hop", SIZES)
@pytest.mark.parametrize("length", [16_000, 9_999, 1_025])
def test_istft_in_single_precision(n_fft, hop, length):
    wave = noise(length, dtype=torch.float32)
    back = spectral.istft(spectral.stft(wave, n_fft, hop), hop, length)
    assert back.dtype == torch.float32
    assert (back - wave).abs().max() < 1e-5
    short = spectral.istft(spectral.stft(wave, n_fft, hop), hop)
    assert torch.equal(short, back[: length // hop * hop])


def test_istft_of_any_spectrum_is_the_nearest_wave():
    # least squares over all waves, solved with a matrix
    n_fft, hop, length = 16, 4, 40
    spectrum = torch.complex(noise(9, 11), noise(9, 11, seed=1))
    spectrum[[0, -1]] = spectrum[[0, -1]].real + 0j

    def columns(spectra):  # full spectrum, so that every bin counts as often
        both = torch.cat([spectra, spectra[..., 1:-1, :].flip(-2).conj()], dim=-2)
        return torch.view_as_real(both).flatten(-3)

    matrix = columns(spectral.stft(torch.eye(length).double(), n_fft, hop)).T
    best = torch.linalg.lstsq(matrix, columns(spectrum)[:, None]).solution[:, 0]
    assert torch.allclose(spectral.istft(spectrum, hop, length), best, atol=1e-9)


def test_istft_agrees_with_librosa():
    spectrum = torch.complex(noise(257, 30), noise(257, 30, seed=1))
    expected = librosa.istft(spectrum.numpy(), hop_length=128)
    assert np.abs(spectral.istft(spectrum, 128).numpy() - expected).max() < 1e-10


def test_overlap_add_by_hand():
    frames = torch.tensor([[1.0, 2, 3], [10, 20, 30]])
    assert spectral.overlap_add(frames, 2).tolist() == [1, 2, 13, 20, 30]
    assert spectral.overlap_add(frames, 4).tolist() == [1, 2, 3, 0, 10, 20, 30]


@pytest.mark.parametrize("n_fft, hop", [(5, 2), (0, 1), (8, 0), (8, -2)])
def test_stft_refuses_nonsense(n_fft, hop):
    with pytest.raises(ValueError, match="n_fft must be even and hop at least 1"):
        spectral.stft(noise(99), n_fft, hop)


def test_istft_refuses_nonsense():
    spectrum = spectral.stft(noise(1_000), 64, 16)
    for hop, length in [(48, None), (16, 900), (16, 1_008), (8, 1_000)]:
        with pytest.raises(ValueError, match="does not belong"):
            spectral.istft(spectrum, hop, length)


# Mel


def test_mel_scale_agrees_with_librosa():
    hz = torch.linspace(0, 24_000, 999, dtype=torch.float64)
    mel = spectral.hz_to_mel(hz)
    assert np.allclose(mel, librosa.hz_to_mel(hz.numpy()), atol=1e-9)
    assert torch.allclose(spectral.mel_to_hz(mel), hz, atol=1e-8)
    assert spectral.hz_to_mel(1000).item() == 15


BANKS = [
    (16_000, 1024, 80, 0, None),
    (16_000, 512, 40, 50, 7_600),
    (22_050, 1024, 80, 0, 8_000),
    (8_000, 256, 23, 100, 3_800),
    (44_100, 2048, 128, 0, None),
]


@pytest.mark.parametrize("rate, n_fft, n_mels, low, high", BANKS)
def test_filterbank_agrees_with_librosa(rate, n_fft, n_mels, low, high):
    bank = spectral.mel_filterbank(rate, n_fft, n_mels, low, high)
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=low, fmax=high
    )
    assert bank.dtype == torch.float32 and bank.shape == expected.shape
    assert np.abs(bank.numpy() - expected).max() < 1e-7 * expected.max() + 1e-9


@pytest.mark.parametrize("rate, n_fft, n_mels, low, high", BANKS)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_mel_spectrogram_agrees_with_librosa(rate, n_fft, n_mels, low, high, power):
    wave = vowel()
    hop = n_fft // 4
    result = spectral.mel_spectrogram(wave, rate, n_fft, hop, n_mels, low, high, power)
    expected = librosa.feature.melspectrogram(
        y=wave.numpy(),
        sr=rate,
        n_fft=n_fft,
        hop_length=hop,
        n_mels=n_mels,
        fmin=low,
        fmax=high,
        power=power,
    )
    assert np.abs(result.numpy() - expected).max() < 1e-5 * expected.max()


def test_empty_filters_and_bad_edges_are_told():
    with pytest.warns(UserWarning, match="holds no bin: lower n_mels or raise n_fft"):
        spectral.mel_filterbank(16_000, 128, 80)
    for low, high in [(-1, 4_000), (4_000, 300), (0, 9_000), (8_000, None)]:
        with pytest.raises(ValueError, match="0 <= low < high <= sample_rate / 2"):
            spectral.mel_filterbank(16_000, 512, 20, low, high)


def test_decibels_agree_with_librosa():
    magnitude = torch.tensor([0.0, 1e-9, 1e-5, 0.1, 1.0, 20.0])
    db = spectral.to_db(magnitude)
    expected = librosa.amplitude_to_db(magnitude.numpy(), amin=1e-5, top_db=None)
    assert np.allclose(db, expected, atol=1e-4)
    assert spectral.to_db(magnitude, floor=-60).min() == pytest.approx(-60)
    assert torch.allclose(spectral.from_db(db)[2:], magnitude[2:], rtol=1e-5)


def test_log_mel_is_the_mel_in_decibels():
    wave = vowel()
    expected = 20 * spectral.mel_spectrogram(wave, hop=320).clamp(min=1e-4).log10()
    result = spectral.log_mel(wave, floor=-80.0, hop=320)
    assert torch.allclose(result, expected, atol=1e-4)
    assert spectral.log_mel(torch.zeros(4_000)).unique().tolist() == [-100.0]
    louder = spectral.log_mel(2 * wave, floor=-200.0)
    change = louder - spectral.log_mel(wave, floor=-200.0)
    assert torch.allclose(change, torch.tensor(20 * math.log10(2)), atol=1e-3)


# The way back


def test_mel_to_magnitude_fits_as_well_as_librosa():
    wave = vowel()
    magnitude = spectral.stft(wave).abs()
    mel = spectral.mel_spectrogram(wave)
    result = spectral.mel_to_magnitude(mel)
    assert result.shape == magnitude.shape and result.min() >= 0
    again = spectral.mel_filterbank() @ result
    assert spectral.spectral_convergence(again, mel) < 0.01
    expected = librosa.feature.inverse.mel_to_stft(
        mel.numpy(), sr=16_000, n_fft=1024, power=1.0
    )
    ours = spectral.spectral_convergence(result, magnitude)
    theirs = spectral.spectral_convergence(torch.from_numpy(expected), magnitude)
    assert ours < theirs * 1.02


def test_mel_to_magnitude_reaches_the_least_squares():
    bank = spectral.mel_filterbank(16_000, 64, 12).double()
    mel = noise(12, 1) + 0.5
    mel[1] = 0
    _, best = scipy.optimize.nnls(bank.numpy(), mel[:, 0].numpy())
    assert best > 0.04  # no spectrum fits exactly
    result = spectral.mel_to_magnitude(mel, n_fft=64)
    error = torch.linalg.norm(bank @ result - mel)
    assert best * (1 - 1e-9) <= error <= best * 1.001


def test_griffin_lim_converges():
    wave = vowel()
    target = spectral.stft(wave).abs()

    def convergence(steps, momentum):
        found = spectral.griffin_lim(target, steps=steps, momentum=momentum, seed=1)
        return spectral.spectral_convergence(spectral.stft(found).abs(), target).item()

    plain = [convergence(steps, 0.0) for steps in (0, 1, 2, 4, 8, 16, 32, 64)]
    assert all(
        later < earlier for earlier, later in zip(plain, plain[1:], strict=False)
    )
    fast = [convergence(steps, 0.99) for steps in (0, 8, 32)]
    assert fast[0] == plain[0]
    assert fast[0] > 2 * fast[1] > 2 * fast[2]
    assert fast[2] < plain[6]  # momentum pays at 32 steps


@pytest.mark.parametrize("n_fft, hop", [(1024, 256), (512, 128)])
@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_is_as_good_as_librosa(n_fft, hop, momentum):
    target = spectral.stft(vowel(), n_fft, hop).abs()
    ours, theirs = [], []
    for seed in range(3):
        found = spectral.griffin_lim(target, hop, 32, momentum, seed=seed)
        expected = librosa.griffinlim(
            target.numpy(),
            n_iter=32,
            hop_length=hop,
            momentum=momentum,
            random_state=seed,
        )
        for wave, scores in [(found, ours), (torch.from_numpy(expected), theirs)]:
            magnitude = spectral.stft(wave, n_fft, hop).abs()
            scores.append(spectral.spectral_convergence(magnitude, target).item())
    assert np.mean(ours) < 1.1 * np.mean(theirs) + 0.005


def test_griffin_lim_is_seeded_and_keeps_the_length():
    target = spectral.stft(vowel()[:9_001], 512, 128).abs()
    first = spectral.griffin_lim(target, 128, 4, length=9_001, seed=3)
    assert first.shape == (9_001,)
    again = spectral.griffin_lim(target, 128, 4, length=9_001, seed=3)
    assert torch.equal(first, again)
    other = spectral.griffin_lim(target, 128, 4, length=9_001, seed=4)
    assert not torch.allclose(first, other, atol=0.01)


def test_griffin_lim_of_silence():
    assert torch.equal(spectral.griffin_lim(torch.zeros(257, 9)), torch.zeros(2048))


def test_spectral_convergence():
    target = noise(2, 5, 7).abs()
    assert spectral.spectral_convergence(target, target).tolist() == [0, 0]
    assert torch.allclose(
        spectral.spectral_convergence(0 * target, target), torch.ones(2).double()
    )
    expected = np.linalg.norm(target[1].numpy() * 0.3) / np.linalg.norm(target[1])
    found = spectral.spectral_convergence(target * 1.3, target)[1]
    assert found == pytest.approx(expected)


# All together


def chain(wave):
    mel = spectral.mel_spectrogram(wave, 16_000, 128, 32, 10)
    magnitude = spectral.mel_to_magnitude(mel, 16_000, 128, steps=5)
    return {
        "codes": spectral.mu_law_encode(wave),
        "samples": spectral.mu_law_decode(spectral.mu_law_encode(wave)),
        "stft": spectral.stft(wave, 128, 32),
        "istft": spectral.istft(spectral.stft(wave, 128, 32), 32),
        "mel": mel,
        "log mel": spectral.log_mel(wave, n_fft=128, hop=32, n_mels=10),
        "magnitude": magnitude,
        "griffin_lim": spectral.griffin_lim(magnitude, 32, 3),
        "convergence": spectral.spectral_convergence(magnitude, magnitude + 1),
    }


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1,)])
def test_a_batch_equals_a_loop(shape):
    batch = noise(*shape, 700)
    results = chain(batch)
    for index in np.ndindex(*shape):
        for name, expected in chain(batch[index]).items():
            assert torch.allclose(results[name][index], expected, atol=1e-9), name


def test_gradients():
    wave = noise(40).requires_grad_()

    def inverse(wave):  # of a spectrum that is no STFT
        return spectral.istft(spectral.stft(wave, 16, 4) ** 2, 4)

    def mel(wave):
        return spectral.log_mel(wave, n_fft=16, hop=4, n_mels=3)

    def magnitude(wave):
        mel = spectral.mel_spectrogram(wave, n_fft=16, hop=4, n_mels=3)
        return spectral.mel_to_magnitude(mel, n_fft=16, steps=3)

    for function in (
        lambda wave: spectral.stft(wave, 16, 4),
        inverse,
        mel,
        magnitude,
        spectral.mu_law_compress,
        spectral.mu_law_expand,
        lambda wave: spectral.griffin_lim(spectral.stft(wave, 16, 4).abs(), 4, 2),
        lambda wave: spectral.spectral_convergence(wave[None], torch.ones(1, 40)),
    ):
        assert torch.autograd.gradcheck(function, wave, atol=1e-4)


def test_gradients_at_silence_are_finite():
    wave = torch.zeros(400, requires_grad=True)
    spectral.log_mel(wave, n_fft=128, hop=32, n_mels=10).sum().backward()
    assert torch.equal(wave.grad, torch.zeros(400))


SHOWN = (
    "quantize_uniform dequantize_uniform mu_law_compress mu_law_expand mu_law_encode"
)
SHOWN += " mu_law_decode stft overlap_add istft hz_to_mel mel_to_hz mel_filterbank"
SHOWN += " mel_spectrogram to_db log_mel mel_to_magnitude griffin_lim"


@pytest.mark.parametrize("name", SHOWN.split())
def test_what_the_book_shows_fits_into_a_cell(name):
    source = textwrap.dedent(inspect.getsource(getattr(spectral, name)))
    docstring = ast.parse(source).body[0].body[0]
    lines = source.splitlines()
    del lines[docstring.lineno - 1 : docstring.end_lineno]
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 79
    assert getattr(mu_law, name, None) in (None, getattr(spectral, name))
