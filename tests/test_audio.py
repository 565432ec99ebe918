"""Sound in and out: round trips, agreement with the libraries, clear errors."""

import contextlib
import math
import os
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import soundfile
import soxr
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechlm_lab import audio
from speechlm_lab.audio import AudioError

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000]
few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def noise(length, seed=0, level=0.5):
    generator = torch.Generator().manual_seed(seed)
    return level * (2 * torch.rand(length, generator=generator) - 1)


def sine(hz, seconds=1.0, rate=16_000, level=0.5):
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    return (level * torch.sin(2 * math.pi * hz * time)).float()


# Files


@few
@given(
    length=st.integers(1, 5_000),
    seed=st.integers(0, 9),
    rate=st.sampled_from(RATES),
    extension=st.sampled_from([".wav", ".flac", ".FLAC"]),
)
def test_16_bit_files_round_to_the_nearest_step(
    tmp_path, length, seed, rate, extension
):
    wave = noise(length, seed, level=1.0)
    wave[0] = -1.0
    audio.save(tmp_path / f"x{extension}", wave, rate)
    back = audio.load(tmp_path / f"x{extension}", rate)
    assert back.shape == wave.shape and back.dtype == torch.float32
    assert (back - wave)[wave < 1 - 1 / 32768].abs().max() <= 0.5 / 32768
    assert (back - wave).abs().max() <= 1 / 32768
    audio.save(tmp_path / f"y{extension}", back, rate)
    assert torch.equal(audio.load(tmp_path / f"y{extension}", rate), back)


def test_full_scale_is_not_wrapped_round(tmp_path):
    wave = torch.tensor([1.0, -1.0, 1.0, 0.0])
    audio.save(tmp_path / "x.wav", wave)
    back = audio.load(tmp_path / "x.wav")
    assert back.tolist() == [32767 / 32768, -1.0, 32767 / 32768, 0.0]


def test_load_agrees_with_soundfile(tmp_path):
    samples = noise((20_000, 2)).numpy()
    soundfile.write(tmp_path / "stereo.wav", samples, 16_000, subtype="FLOAT")
    expected = samples.astype(np.float64).mean(axis=1)
    assert np.abs(audio.load(tmp_path / "stereo.wav").numpy() - expected).max() < 1e-7


def test_load_resamples_like_soxr(tmp_path):
    samples = noise(30_001).numpy()
    soundfile.write(tmp_path / "x.wav", samples, 44_100, subtype="FLOAT")
    wave = audio.load(tmp_path / "x.wav")
    assert np.array_equal(wave.numpy(), soxr.resample(samples, 44_100, 16_000))


def test_ogg_keeps_the_sound(tmp_path):
    wave = sine(440, 12.0)  # long enough for several blocks
    audio.save(tmp_path / "x.ogg", wave)
    back = audio.load(tmp_path / "x.ogg")
    assert back.shape == wave.shape
    assert (back - wave).square().mean() < 1e-3 * wave.square().mean()


def test_mp3_and_overshoot(tmp_path):
    square = scipy.signal.square(np.arange(16_000) / 40)
    soundfile.write(tmp_path / "x.mp3", square, 16_000)
    assert np.abs(soundfile.read(tmp_path / "x.mp3")[0]).max() > 1
    assert audio.load(tmp_path / "x.mp3").abs().max() == 1


def test_long_file(tmp_path):
    wave = noise(16_000 * 300)
    audio.save(tmp_path / "long.flac", wave)
    assert torch.allclose(audio.load(tmp_path / "long.flac"), wave, atol=0.5 / 32768)


def test_saving_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    audio.save(path, noise(1000))
    first = path.read_bytes()
    with pytest.raises(AudioError):
        audio.save(path, noise(1000) * 9)

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "write", fail)
        with pytest.raises(OSError, match="disk full"):
            audio.save(path, noise(2000))
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]
    audio.save(path, noise(2000))
    assert len(audio.load(path)) == 2000
    other = tmp_path / "plain"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_wave_with_gradient_is_saved(tmp_path):
    audio.save(tmp_path / "x.wav", noise(100).requires_grad_())
    assert len(audio.load(tmp_path / "x.wav")) == 100


def write(path, samples, rate=16_000, subtype=None):
    soundfile.write(path, np.asarray(samples, dtype=np.float64), rate, subtype)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def make_bad_files(folder):
    (folder / "folder").mkdir()
    (folder / "zero.wav").touch()
    (folder / "text.wav").write_text("no sound at all\n" * 99)
    (folder / "bytes.raw").write_bytes(b"123" * 99)
    write(folder / "no_samples.wav", [])
    write(folder / "silent.wav", np.zeros(999))
    write(folder / "nan.wav", [0.0, np.nan, 0.5], subtype="FLOAT")
    write(folder / "inf.wav", [0.0, -np.inf, 0.5], subtype="FLOAT")
    write(folder / "unscaled.wav", [0.0, 12_000.0], subtype="FLOAT")
    write(folder / "one.wav", [0.5], rate=48_000)
    for name in ["cut.wav", "cut.aiff", "cut.flac", "cut.mp3"]:
        write(folder / name, noise(50_000))
        cut(folder / name, 0.5)


@pytest.mark.parametrize(
    "name, message",
    [
        ("missing.wav", "there is no file .*check the path"),
        ("folder", "is a folder: name one sound file"),
        ("zero.wav", "0 bytes.*: record or download"),
        ("text.wav", "could not be read as sound .*ffmpeg"),
        ("bytes.raw", "could not be read as sound .*ffmpeg"),
        ("no_samples.wav", "is empty .*: check"),
        ("silent.wav", "is silent .*: check the microphone"),
        ("nan.wav", "1 of 3 samples are NaN or infinite: repair"),
        ("inf.wav", "1 of 3 samples are NaN or infinite: repair"),
        ("unscaled.wav", "up to 12000, .*divide by full scale"),
        ("one.wav", "leave none at 16000 Hz: use a longer"),
        ("cut.wav", "ends after 50% .*: download or copy it again"),
        ("cut.aiff", "ends after 50% .*: download or copy it again"),
        ("cut.flac", "could not be read as sound .*download it again"),
        ("cut.mp3", "ends after .*: download or copy it again"),
    ],
)
def test_bad_files_are_named_with_a_remedy(tmp_path, name, message):
    make_bad_files(tmp_path)
    with pytest.raises(AudioError, match=message) as error:
        audio.load(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_silence_and_streams_can_be_loaded(tmp_path):
    audio.save(tmp_path / "silent.flac", torch.zeros(500))
    wave = audio.load(tmp_path / "silent.flac", allow_silent=True)
    assert torch.equal(wave, torch.zeros(500))
    audio.save(tmp_path / "stream.wav", noise(500))
    data = bytearray((tmp_path / "stream.wav").read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)  # as written into a pipe
    (tmp_path / "stream.wav").write_bytes(data)
    assert len(audio.load(tmp_path / "stream.wav")) == 500


@pytest.mark.parametrize(
    "name, wave, rate, message",
    [
        ("x.mp4", noise(9), 16_000, r"'x.mp4': end it in .wav, .flac or .ogg"),
        ("x", noise(9), 16_000, r"end it in .wav, .flac or .ogg"),
        ("none/x.wav", noise(9), 16_000, "no folder .*: create it"),
        ("folder.wav", noise(9), 16_000, "is a folder: choose another name"),
        ("x.wav", noise(9) * 4, 16_000, r"beyond \[-1, 1\]: divide"),
        ("x.wav", noise(9), 16_000.0, "whole number"),
        ("x.ogg", noise(9), 1_000_000, "whole number"),  # crashes libsndfile
        ("x.flac", noise(9), 100_001, "could not be written at 100001 Hz.*resample"),
    ],
)
def test_bad_saves(tmp_path, name, wave, rate, message):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=message):
        audio.save(tmp_path / name, wave, rate)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.wav"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_device_or_a_pipe_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    for path in (tmp_path / "x.wav", os.devnull):
        with pytest.raises(AudioError, match="no regular file .*: choose another"):
            audio.save(path, noise(9))
    assert stat.S_ISFIFO((tmp_path / "x.wav").stat().st_mode)


# Resampling


@few
@given(
    length=st.integers(2, 3_000),
    rates=st.tuples(st.sampled_from(RATES), st.sampled_from(RATES)),
    seed=st.integers(0, 9),
)
def test_resample_length_range_and_batch(length, rates, seed):
    batch = noise((3, length), seed, level=1.0)
    expected = math.floor(length * rates[1] / rates[0] + 0.5)
    if expected == 0:
        with pytest.raises(AudioError, match="leave none"):
            audio.resample(batch, *rates)
        return
    result = audio.resample(batch, *rates)
    assert result.shape == (3, expected) and result.dtype == torch.float32
    assert result.abs().max() <= 1
    for wave, row in zip(batch, result, strict=True):
        assert torch.allclose(audio.resample(wave, *rates), row, atol=1e-6)


@few
@given(
    rates=st.tuples(st.sampled_from(RATES), st.sampled_from(RATES)),
    share=st.floats(0.02, 0.8),
)
def test_resample_keeps_a_sine(rates, share):
    hz = share * min(rates) / 2
    result = audio.resample(sine(hz, 1.0, rates[0]), *rates)
    expected = sine(hz, 1.0, rates[1])
    inside = slice(rates[1] // 10, -rates[1] // 10)  # the ends ring
    assert (result - expected)[inside].abs().max() < 1e-3
    spectrum = np.abs(np.fft.rfft(result.numpy() * np.hanning(len(result))))
    assert abs(spectrum.argmax() * rates[1] / len(result) - hz) <= 1


def test_resample_removes_what_the_new_rate_cannot_hold():
    result = audio.resample(sine(6_000), 16_000, 8_000)
    assert result[400:-400].abs().max() < 1e-3


def test_resample_agrees_with_scipy():
    wave = sine(300) + 0.3 * sine(1_700)
    expected = scipy.signal.resample_poly(wave.numpy(), 3, 2)
    result = audio.resample(wave, 16_000, 24_000).numpy()
    assert np.abs(result - expected)[500:-500].max() < 0.01


def test_resample_at_equal_rates_changes_nothing():
    wave = noise(100)
    assert torch.equal(audio.resample(wave, 8_000, 8_000), wave)


# Loudness


def test_loudness_of_the_reference_tone():
    # BS.1770: a full-scale sine of 997 Hz in one channel reads -3.01 LKFS
    tone = sine(997, 3.0, 48_000, level=1.0)
    assert audio.loudness(tone, 48_000) == pytest.approx(-3.01, abs=0.1)


@few
@given(st.floats(0.01, 1.0), st.integers(0, 9), st.sampled_from([16_000, 44_100]))
def test_loudness_agrees_with_pyloudnorm_and_counts_decibels(gain, seed, rate):
    wave = noise(rate, seed)
    expected = pyloudnorm.Meter(rate).integrated_loudness(wave.double().numpy())
    assert audio.loudness(wave, rate) == pytest.approx(expected, abs=1e-6)
    change = audio.loudness(wave * gain, rate) - expected
    assert change == pytest.approx(20 * math.log10(gain), abs=1e-3)


def test_loudness_ignores_pauses():
    wave = noise(32_000)
    paused = torch.cat([wave, torch.zeros(64_000)])
    assert audio.loudness(paused) == pytest.approx(audio.loudness(wave), abs=0.5)


@few
@given(st.floats(-60, -13), st.integers(0, 9))
def test_normalize_reaches_its_target(target, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = audio.normalize_loudness(noise(16_000, seed, 0.1), target)
    assert audio.loudness(result) == pytest.approx(target, abs=1e-3)


def test_normalize_never_clips_and_says_so():
    wave = noise(16_000, level=0.02)
    wave[5_000] = 0.9  # a click
    with pytest.warns(UserWarning, match="would clip.*limited") as caught:
        result = audio.normalize_loudness(wave, -20.0)
    assert result.abs().max() == 1
    ratio = result / wave
    assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-5)
    assert f"{audio.loudness(result):.1f} LUFS" in str(caught[0].message)


@pytest.mark.parametrize(
    "wave, message",
    [
        (noise(6_399), "0.400 s is too short.*wave.repeat"),
        (torch.zeros(16_000), "is silent"),
        (noise(16_000) * 1e-5, "below -70 LUFS.*: record it louder"),
        (noise((2, 16_000)), r"wave.mean\(0\)"),
    ],
)
def test_loudness_errors(wave, message):
    for measure in (audio.loudness, audio.normalize_loudness):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(AudioError, match=message):
                measure(wave)


def test_the_remedy_for_a_short_wave_works():
    wave = sine(200, 0.3)
    longer = audio.loudness(sine(200, 3.0))
    assert audio.loudness(wave.repeat(2)) == pytest.approx(longer, abs=0.3)


@pytest.mark.parametrize("target", [0.0, 3.0, -71.0, math.nan])
def test_senseless_targets(target):
    with pytest.raises(AudioError, match="target"):
        audio.normalize_loudness(noise(16_000), target)


# Checks


@pytest.mark.parametrize(
    "wave, message",
    [
        (noise(9).numpy(), "not ndarray: convert it with torch.as_tensor"),
        ([0.1, 0.2], "not list"),
        (noise(9).double(), r"is float64 and float32 is needed: call wave.float\(\)"),
        (noise(9).half(), "is float16"),
        (torch.ones(9, dtype=torch.int16), r"wave.float\(\) / 32768"),
        (torch.ones(9, dtype=torch.int32), r"wave.float\(\) / 2147483648"),
        (torch.ones(9, dtype=torch.uint8), r"\(wave.float\(\) - 128\) / 128"),
        (torch.ones(9, dtype=torch.bool), "bool values are no samples"),
        (torch.ones(9, dtype=torch.complex64), "complex64 values are no samples"),
        (noise((2, 900)), r"one mono wave \[T\] .*wave.mean\(0\)"),
        (noise((900, 2)), r"wave.mean\(1\)"),
        (noise((1, 1, 900)), "squeeze"),
        (torch.tensor(0.5), "more than one number"),
        (torch.zeros(0), "is empty .*: check"),
        (torch.tensor([0.1, math.nan]), "1 of 2 samples are NaN or infinite: repair"),
        (torch.tensor([0.1, -math.inf]), "1 of 2 samples are NaN or infinite"),
        (torch.tensor([0.1, -1.5]), r"reach 1.5, beyond \[-1, 1\]: divide by"),
        (torch.tensor([32_767.0, -32_768.0]), "32768 for 16 bits"),
        (torch.zeros(9), "is silent .*: check the microphone"),
    ],
)
def test_what_is_no_wave(wave, message):
    with pytest.raises(AudioError, match=message):
        audio.check_wave(wave)


@pytest.mark.parametrize(
    "rate", [0, -8_000, 44.1, 16_000.0, "16000", None, True, 16, 10**6]
)
def test_senseless_rates(rate):
    with pytest.raises(AudioError, match="give a whole number of Hz"):
        audio.check_wave(noise(9), rate)
    with pytest.raises(AudioError, match="give a whole number of Hz"):
        audio.resample(noise(9), 16_000, rate)


def test_what_a_caller_asks_for():
    wave = noise(8_000)
    assert audio.check_wave(wave, 8_000) is wave
    assert audio.check_wave(torch.tensor([1.0, -1.0])).tolist() == [1, -1]
    audio.check_wave(noise((4, 9)), batched=True)
    audio.check_wave(torch.zeros(9), allow_silent=True)
    audio.check_wave(wave, 8_000, min_seconds=1.0)
    with pytest.raises(AudioError, match="1.000 s and 1.5 s is needed: use a longer"):
        audio.check_wave(wave, 8_000, min_seconds=1.5)
    with pytest.raises(AudioError, match=r"resample\(wave, 8000, 16000\)"):
        audio.check_wave(wave, 8_000, expected_rate=16_000)
    with pytest.raises(AudioError, match=r"\[T\] or \[B, T\]"):
        audio.check_wave(noise((1, 1, 9)), batched=True)


def test_remedies_for_wrong_types_work():
    steps = (noise(900) * 32768).to(torch.int16)
    audio.check_wave(steps.float() / 32768)
    audio.check_wave(noise((2, 900)).mean(0))
    audio.check_wave(noise((900, 2)).mean(1))
    audio.check_wave(torch.as_tensor(noise(9).double().numpy(), dtype=torch.float32))


def test_relative_paths_and_strings(tmp_path):
    with contextlib.chdir(tmp_path):
        audio.save("x.wav", noise(9))
        assert len(audio.load(Path("x.wav"))) == 9
        with pytest.raises(AudioError, match="no file y.wav"):
            audio.load("y.wav")
