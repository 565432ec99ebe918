"""`encode` and `decode` on the command line."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from speechlm_lab import audio, cli, environment
from speechlm_lab.codec import Codec, CodecConfig, load_shipped
from speechlm_lab.codec.files import choose_levels, decode_file, encode_file, load_codec
from speechlm_lab.corpus import tiny_voices
from speechlm_lab.shipped import CHECKPOINTS

SMALL = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip


@pytest.fixture(autouse=True)
def ready(monkeypatch):
    monkeypatch.setattr(environment, "ensure", lambda arguments: None)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a small codec of random weights."""
    folder = tmp_path_factory.mktemp("codec")
    torch.manual_seed(0)
    Codec(SMALL).save_pretrained(folder)
    return folder


def write_noise(path, samples, rate=16_000, channels=1):
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.3, 0.3, (samples, channels)), rate)
    return path


def refused(arguments, capsys):
    """Standard error of a command that must fail with one line."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{arguments[0]}: ")
    assert captured.err.count("\n") == 1 and not captured.out
    return captured.err


def test_there_and_back_with_the_shipped_codec(tmp_path, capsys):
    item = tiny_voices.speak("a small red house", seed=1)
    audio.save(tmp_path / "in.wav", item.wave)
    names = [str(tmp_path / name) for name in ("in.wav", "x.codes", "out.wav")]
    assert cli.main(["encode", names[0], "-o", names[1], "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[0])
    codec, wave = load_shipped(), audio.load(names[0])
    assert len(lines) == 1
    assert report["bitrate"] == codec.bitrate()
    assert report["levels"] == codec.config.codebooks
    assert report["frame_rate"] == codec.frame_rate
    assert report["seconds"] == pytest.approx(len(wave) / 16_000)
    assert report["frames"] == -(-len(wave) // codec.hop)
    assert report["bytes"] == (tmp_path / "x.codes").stat().st_size
    body = report["bytes"] - 116
    assert body == pytest.approx(codec.bitrate() / 8 * report["seconds"], rel=0.03)

    assert cli.main(["decode", names[1], "-o", names[2]]) == 0
    assert "16000 Hz" in capsys.readouterr().out
    expected = codec.decode(codec.encode(wave[None]), length=len(wave))[0]
    assert torch.allclose(audio.load(names[2]), expected.clamp(-1, 1), atol=2e-5)


@pytest.mark.parametrize("samples", [1, 2, 319, 320, 321, 10_001])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_length_and_rate_come_back(tmp_path, small, samples, rate):
    source = write_noise(tmp_path / "in.flac", samples, rate, channels=2)
    codec = load_codec(small)
    encode_file(source, tmp_path / "x.codes", codec)
    decode_file(tmp_path / "x.codes", tmp_path / "a.wav", codec)
    decode_file(tmp_path / "x.codes", tmp_path / "b.wav", codec, original_rate=True)
    plain, original = (soundfile.info(tmp_path / f"{name}.wav") for name in "ab")
    assert (original.samplerate, original.frames) == (rate, samples)
    assert plain.samplerate == 16_000
    assert plain.frames == max(1, int(samples * 16_000 / rate + 0.5))


def test_nothing_is_made_up_above_what_was_recorded(tmp_path):
    wave = tiny_voices.speak("She sells six sea shells.", speaker=3).wave
    audio.save(tmp_path / "a.wav", audio.resample(wave, 16_000, 8_000), 8_000)
    encode_file(tmp_path / "a.wav", tmp_path / "x.codes")
    header = decode_file(tmp_path / "x.codes", tmp_path / "b.wav")
    data, rate = soundfile.read(tmp_path / "b.wav")
    assert (rate, len(data)) == (16_000, header.samples)
    power = np.square(np.abs(np.fft.rfft(data)))
    hertz = np.fft.rfftfreq(len(data), 1 / rate)
    assert power[hertz > 4_100].sum() < 1e-5 * power.sum()


def test_fewer_levels_are_the_first_ones(tmp_path, small, capsys):
    source = write_noise(tmp_path / "in.wav", 20_000)
    out = tmp_path / "x.codes"
    shared = ["encode", source, "-o", out, "--json", "--codec", small]
    sizes = []
    for options, levels in [
        (["--levels", 1], 1), (["--levels", 3], 3), ([], 3),
        (["--max-bitrate", 200], 1), (["--max-bitrate", 599.9], 2),
        (["--max-bitrate", 600], 3), (["--max-bitrate", "inf"], 3),
    ]:  # fmt: skip
        assert cli.main([str(part) for part in [*shared, *options]]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["levels"], report["bitrate"]) == (levels, 200 * levels)
        sizes.append(report["bytes"])
    assert sizes[1] - 116 == pytest.approx(3 * (sizes[0] - 116), abs=3)

    codec = load_codec(small)
    wave = audio.load(source)
    encode_file(source, out, codec, levels=2)
    decode_file(out, tmp_path / "out.wav", codec)
    expected = codec.decode(codec.encode(wave[None]), levels=2, length=len(wave))[0]
    heard = audio.load(tmp_path / "out.wav")
    assert torch.allclose(heard, expected.clamp(-1, 1), atol=2e-5)


def test_levels_that_fit_at_every_bitrate():
    codec = Codec(SMALL)  # 200 bit/s a level
    for bitrate in range(200, 900, 7):
        levels = choose_levels(codec, max_bitrate=bitrate)
        assert 200 * levels <= bitrate
        assert levels == 3 or 200 * (levels + 1) > bitrate


def test_silence_is_a_sound(tmp_path, small):
    audio.save(tmp_path / "in.wav", torch.zeros(5_000))
    codec = load_codec(small)
    assert encode_file(tmp_path / "in.wav", tmp_path / "x.codes", codec).frames == 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--levels", 0], "from 1 to 3"),
        (["--levels", 4], "from 1 to 3"),
        (["--max-bitrate", 199], "at least 200"),
        (["--max-bitrate", -5], "at least 200"),
        (["--max-bitrate", "nan"], "at least 200"),
    ],
)
def test_levels_that_there_are_not(tmp_path, small, capsys, options, words):
    source = write_noise(tmp_path / "in.wav", 2_000)
    out = tmp_path / "x.codes"
    command = ["encode", source, "-o", out, "--codec", small, *options]
    assert words in refused(command, capsys)
    assert not out.exists()


def test_levels_and_bitrate_exclude_one_another(capsys):
    with pytest.raises(SystemExit):
        cli.main(["encode", "a", "-o", "b", "--levels", "2", "--max-bitrate", "900"])
    assert "not allowed with" in capsys.readouterr().err


def test_sound_that_is_none(tmp_path, small, capsys):
    (tmp_path / "text.wav").write_text("hello")
    cut = write_noise(tmp_path / "cut.wav", 20_000)
    cut.write_bytes(cut.read_bytes()[:9_000])
    for name, words in [
        ("text.wav", "ffmpeg"),
        ("cut.wav", "ends after 22%"),
        ("missing.wav", "check the path"),
        ("", "folder"),
    ]:
        command = ["encode", tmp_path / name, "-o", tmp_path / "x.codes"]
        assert words in refused([*command, "--codec", small], capsys)
    assert not (tmp_path / "x.codes").exists()


def test_codes_that_are_none(tmp_path, small, capsys):
    source = write_noise(tmp_path / "in.wav", 20_000)
    codes, out = tmp_path / "x.codes", tmp_path / "out.wav"
    encode_file(source, codes, load_codec(small))
    data = codes.read_bytes()
    for content, words in [
        (b"", "empty"),
        (source.read_bytes(), "no .codes file"),
        (data[:-20], "cut short"),
        (data[:-5] + b"12345", "damaged"),
    ]:
        codes.write_bytes(content)
        command = ["decode", codes, "-o", out, "--codec", small]
        assert words in refused(command, capsys)
    codes.unlink()
    assert "check the path" in refused(["decode", codes, "-o", out], capsys)
    assert not out.exists()


def test_codes_of_another_codec(tmp_path, small, capsys):
    source = write_noise(tmp_path / "in.wav", 2_000)
    encode_file(source, tmp_path / "x.codes", load_codec(small))
    command = ["decode", tmp_path / "x.codes", "-o", tmp_path / "out.wav"]
    error = refused(command, capsys)
    assert "another codec" in error and "--codec" in error
    assert not (tmp_path / "out.wav").exists()


def test_a_folder_without_a_codec(tmp_path, capsys):
    source = write_noise(tmp_path / "in.wav", 2_000)
    command = ["encode", source, "-o", tmp_path / "x.codes", "--codec", tmp_path]
    assert "holds no Codec" in refused(command, capsys)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert "cannot be read" in refused(command, capsys)


def test_a_codec_that_lacks_weights_is_refused(tmp_path, small, capsys):
    source = write_noise(tmp_path / "in.wav", 2_000)
    for folder in (CHECKPOINTS / "lm", tmp_path / "cut"):
        if not folder.exists():  # that codec, less its last layer
            folder.mkdir()
            weights = load_file(small / "model.safetensors")
            rest = {n: w for n, w in weights.items() if "decoder.head" not in n}
            save_file(rest, folder / "model.safetensors")
            shutil.copy(small / "config.json", folder)
        command = ["encode", source, "-o", tmp_path / "x.codes", "--codec", folder]
        error = refused(command, capsys)
        assert str(folder) in error and "cannot be read" in error
        with pytest.raises((RuntimeError, TypeError)):
            Codec.from_pretrained(folder)
        capsys.readouterr()  # what the mixin prints
    assert not (tmp_path / "x.codes").exists()


def test_the_input_is_never_overwritten(tmp_path, small, capsys):
    source = write_noise(tmp_path / "in.wav", 2_000)
    link = tmp_path / "link.wav"
    link.symlink_to(source)
    before = source.read_bytes()
    for output in (source, link):
        command = ["encode", source, "-o", output, "--codec", small]
        assert "input itself" in refused(command, capsys)
    codes = tmp_path / "x.codes"
    encode_file(source, codes, load_codec(small))
    command = ["decode", codes, "-o", codes, "--codec", small]
    assert "input itself" in refused(command, capsys)
    assert source.read_bytes() == before


def test_an_output_survives_a_failure(tmp_path, small, capsys):
    cut = write_noise(tmp_path / "cut.wav", 20_000)
    cut.write_bytes(cut.read_bytes()[:9_000])
    out = tmp_path / "x.codes"
    out.write_text("old")
    refused(["encode", cut, "-o", out, "--codec", small], capsys)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.wav", "x.codes"]


PEAKS = """
import resource, sys
from speechlm_lab import cli, environment
environment.ensure = lambda arguments: None
codec, rate = sys.argv[1:3]
for name in sys.argv[3:]:
    assert cli.main(["encode", name, "-o", "x.codes", "--codec", codec]) == 0
    back = ["decode", "x.codes", "-o", "out.wav", "--codec", codec]
    assert cli.main([*back, *(["--original-rate"] if rate else [])]) == 0
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has kB on Linux only")
def test_memory_does_not_grow_with_length(tmp_path, small):
    rng = np.random.default_rng(0)
    second = rng.uniform(-0.3, 0.3, 22_050).astype(np.float32)
    names = []
    for seconds in (60, 600):
        names.append(tmp_path / f"{seconds}.wav")
        with soundfile.SoundFile(names[-1], "w", 22_050, 1) as file:
            for _ in range(seconds):
                file.write(second)
    command = [sys.executable, "-c", PEAKS, small, "yes", *names]
    root = str(environment.project_root())
    done = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peaks = [
        int(line.split()[1]) / 1024
        for line in done.stdout.splitlines()
        if line.startswith("peak")
    ]
    # the waves alone would take 34 MB more at 16 kHz, what the layers make far more
    assert peaks[1] - peaks[0] < 20, f"{peaks} MB"
    assert soundfile.info(tmp_path / "out.wav").frames == 600 * 22_050


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to be caught")
def test_ended_from_outside_nothing_half_written_is_left(tmp_path):
    source, target = write_noise(tmp_path / "in.wav", 20 * 60 * 16_000), "x.codes"
    (tmp_path / target).write_text("of before")
    command = [sys.executable, "-m", "speechlm_lab", "encode", source, "-o", target]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    while running.poll() is None and not list(tmp_path.glob(".saving-*")):
        time.sleep(0.05)
    running.terminate()
    assert running.wait() == 143, running.stderr.read()
    assert {file.name for file in tmp_path.iterdir()} == {"in.wav", target}
    assert (tmp_path / target).read_text() == "of before"
