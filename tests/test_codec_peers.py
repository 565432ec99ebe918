"""The benchmark's helpers for Opus and Codec 2, as far as they need no program."""

import importlib.util
import math
import shutil
import struct
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).parents[1] / "benchmarks" / "codec_peers.py"
SPEC = importlib.util.spec_from_file_location("codec_peers", SOURCE)
peers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(peers)


def noise(samples=8000):
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(samples, generator=generator)


def page(laces, body):
    """One Ogg page (RFC 3533): 27 bytes, the laces, the body."""
    header = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 1, 0, 0, len(laces))
    return header + bytes(laces) + b"x" * body


def test_ogg_packets_are_counted_without_headers():
    data = page([19], 19) + page([15, 15, 10], 40)
    assert peers.ogg_packets(data) == [19, 15, 15, 10]


def test_an_ogg_packet_may_span_laces_and_pages():
    data = page([255, 3, 255], 513) + page([255, 0], 255)
    assert peers.ogg_packets(data) == [258, 510]


def test_other_data_are_no_ogg():
    with pytest.raises(ValueError, match="byte 0"):
        peers.ogg_packets(b"RIFF" * 10)
    with pytest.raises(ValueError, match="byte 47"):
        peers.ogg_packets(page([19], 19) + b"OggS")


@pytest.mark.parametrize("lag", [-300, -1, 0, 1, 640])
def test_a_delay_is_found_and_undone(lag):
    wave = noise()
    late = peers.shift(wave, -lag, len(wave))
    assert peers.delay(late, wave) == lag
    back = peers.shift(late, lag, len(wave))
    inside = slice(700, -700)
    assert torch.equal(back[inside], wave[inside])
    assert back.shape == wave.shape


def test_shift_fills_and_cuts_to_the_length():
    wave = torch.arange(1.0, 5)
    assert peers.shift(wave, 1, 5).tolist() == [2, 3, 4, 0, 0]
    assert peers.shift(wave, -1, 3).tolist() == [0, 1, 2]


def test_level_sets_the_root_mean_square():
    wave = peers.level(noise(), 0.05)
    assert wave.square().mean().sqrt().item() == pytest.approx(0.05)
    assert peers.level(noise(), 10).abs().max() == 1


def test_a_missing_program_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(peers.ProgramMissing, match="apt-get install opus-tools"):
        peers.opus(noise(), 6, 20)
    with pytest.raises(peers.ProgramMissing, match="apt-get install codec2"):
        peers.codec2(noise(), 3200)


def test_judge_goes_without_pesq(monkeypatch):
    def absent(*_):
        raise ImportError

    monkeypatch.setattr(peers.metrics, "pesq", absent)
    wave = noise(16_000)
    stoi, pesq, mel = peers.judge(wave, wave)
    assert (stoi, mel) == (pytest.approx(1), 0)
    assert math.isnan(pesq)


@pytest.mark.skipif(
    not shutil.which("opusenc"), reason="optional: apt-get install opus-tools"
)
@pytest.mark.parametrize("kbits, frame", [(6, 20), (6, 60), (12, 20)])
def test_opus_keeps_its_bit_rate_and_the_time(kbits, frame):
    wave = torch.sin(torch.arange(20_001) ** 1.5 / 400) * 0.3
    decoded = peers.opus(wave, kbits, frame)
    assert decoded.bitrate == pytest.approx(1000 * kbits)
    assert decoded.wave.shape == wave.shape
    assert abs(peers.delay(decoded.wave, wave)) <= 1


@pytest.mark.skipif(
    not shutil.which("c2enc"), reason="optional: apt-get install codec2"
)
@pytest.mark.parametrize("bits", [3200, 1200])
def test_codec2_keeps_its_bit_rate_and_the_length(bits):
    wave = noise(20_001)
    decoded = peers.codec2(wave, bits)
    assert decoded.bitrate == pytest.approx(bits)
    assert decoded.wave.shape == wave.shape
    assert decoded.wave.abs().max() > 0
