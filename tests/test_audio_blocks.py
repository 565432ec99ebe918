"""Sound files block by block: the same as whole, at any rate and length."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm_lab import audio, audio_blocks
from speechlm_lab.audio import AudioError
from speechlm_lab.audio_blocks import (
    BlockReader,
    exactly,
    resample_blocks,
    save_blocks,
)


def noise(length, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (length, channels)).astype(np.float32)


def read(path):
    with BlockReader(path) as sound:
        return torch.cat(list(sound)), sound


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_blocks_are_the_loaded_wave(tmp_path, rate, channels):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(150_001, channels), rate)
    wave, sound = read(path)
    assert torch.equal(wave, audio.load(path))
    assert (sound.rate, sound.samples) == (rate, 150_001)


@pytest.mark.parametrize("ending", [".flac", ".ogg", ".mp3"])
def test_other_formats(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    soundfile.write(path, noise(100_000), 44_100)
    assert torch.equal(read(path)[0], audio.load(path))


@pytest.mark.parametrize("rate", [1, 999, 384_000, 1_000_000])
def test_rates_beyond_those_of_sound_cards(tmp_path, rate):
    path = tmp_path / "x.wav"
    seconds = 40 if rate == 1 else 0.2
    soundfile.write(path, noise(int(seconds * rate)), rate)
    assert abs(len(read(path)[0]) - seconds * 16_000) <= 16_000 / rate


@given(
    lengths=st.lists(st.integers(0, 900), max_size=6),
    rates=st.sampled_from([(16_000, 44_100), (44_100, 16_000), (48_000, 16_000)]),
)
@settings(deadline=None)
def test_resampled_blocks_have_no_seams(lengths, rates):
    blocks = [torch.from_numpy(noise(n, seed=n)[:, 0]) for n in lengths]
    joined = torch.cat([*blocks, torch.zeros(5)])
    resampled = torch.cat(list(resample_blocks([*blocks, torch.zeros(5)], *rates)))
    assert torch.equal(resampled, audio.resample(joined, *rates))


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 40))
def test_exactly_cuts_or_fills(lengths, samples):
    blocks = [torch.ones(n) for n in lengths]
    result = torch.cat([torch.zeros(0), *exactly(blocks, samples)])
    kept = min(sum(lengths), samples)
    assert len(result) == samples
    assert (result[:kept] == 1).all() and (result[kept:] == 0).all()


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_saved_as_audio_saves(tmp_path, ending):
    wave = torch.from_numpy(noise(10_000)[:, 0]) * 2
    save_blocks(tmp_path / f"a{ending}", wave.split(999), 16_000, len(wave))
    audio.save(tmp_path / f"b{ending}", wave)
    ours, theirs = (soundfile.read(tmp_path / f"{n}{ending}")[0] for n in "ab")
    assert np.array_equal(ours, theirs)


def test_beyond_what_a_wav_header_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_blocks, "_WAV_LIMIT", 1_000)
    wave = torch.from_numpy(noise(10_000)[:, 0])
    save_blocks(tmp_path / "x.wav", wave.split(999), 16_000, len(wave))
    assert soundfile.info(tmp_path / "x.wav").format == "RF64"
    assert torch.allclose(read(tmp_path / "x.wav")[0], wave, atol=1 / 60_000)


def make_bad_files(folder):
    bad = {name: folder / f"{name}.wav" for name in ("nan", "loud", "cut", "none")}
    samples = noise(20_000)
    samples[19_000] = np.nan
    soundfile.write(bad["nan"], samples, 16_000, "FLOAT")
    soundfile.write(bad["loud"], 30_000 * noise(20_000), 16_000, "FLOAT")
    soundfile.write(bad["cut"], noise(20_000), 16_000)
    bad["cut"].write_bytes(bad["cut"].read_bytes()[:20_000])
    soundfile.write(bad["none"], noise(0), 16_000)
    bad |= {name: folder / f"{name}.wav" for name in ("text", "empty", "missing")}
    bad["text"].write_text("no sound at all")
    bad["empty"].write_bytes(b"")
    return bad | {"folder": folder}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "NaN"),
        ("loud", "unscaled"),
        ("cut", "ends after 50%"),
        ("none", "no samples"),
        ("text", "could not be read as sound"),
        ("empty", "0 bytes"),
        ("missing", "check the path"),
        ("folder", "one sound file"),
    ],
)
def test_bad_files_are_named_with_a_remedy(tmp_path, name, words):
    with pytest.raises(AudioError, match=words):
        read(make_bad_files(tmp_path)[name])


def test_formats_and_rates_that_are_none(tmp_path):
    with pytest.raises(AudioError, match=r"\.flac"):
        save_blocks(tmp_path / "x.mp4", [], 16_000, 0)
    with pytest.raises(AudioError, match="2000000 Hz"):
        save_blocks(tmp_path / "x.flac", [torch.zeros(9)], 2_000_000, 9)
    assert not list(tmp_path.iterdir())
