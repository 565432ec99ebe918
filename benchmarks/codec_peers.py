"""Classical speech codecs to compare with: Opus and Codec 2, by their own programs.

    python benchmarks/codec_peers.py FILE ...

prints a table of what they cost and how well they do on the sound files given.
The programs come from the Debian packages `opus-tools` and `codec2`.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechlm_lab import metrics
from speechlm_lab.audio import SAMPLE_RATE, check_wave, load, resample, save

PACKAGES = {
    "opusenc": "opus-tools",
    "opusdec": "opus-tools",
    "c2enc": "codec2",
    "c2dec": "codec2",
}
CODEC2_RATE = 8_000  # Hz; the only one it has
CODEC2_FRAME = 320  # samples; 40 ms, a whole number of frames in either mode
# Samples at 8 kHz; Codec 2 makes up its phases, so that no correlation of waves tells
# it. This is where STOI is highest, in both modes (measured on 8 Barista clips).
CODEC2_DELAY = 160
FARTHEST = 0.1  # seconds; no delay is longer


class ProgramMissing(RuntimeError):
    """A codec's program is not installed; the message says how to get it."""


class Decoded(NamedTuple):
    """What came back from a codec."""

    wave: Tensor  # [T], as long as the original, in time with it
    bitrate: float  # bit/s of the coded frames, counted in the file; no headers


def program(name: str) -> str:
    """Path of a program; raises ProgramMissing where it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise ProgramMissing(
            f"{name} is not installed: run `apt-get install {PACKAGES[name]}`"
        )
    return path


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"{Path(command[0]).name} failed: {' '.join(words[-1:])}")


def ogg_packets(data: bytes) -> list[int]:
    """Sizes in bytes of the packets in an Ogg file of one stream (RFC 3533).

    Raises ValueError where the data are no Ogg pages.
    """
    sizes, open_packet, place = [], 0, 0
    while place < len(data):
        if data[place : place + 4] != b"OggS" or len(data) < place + 27:
            raise ValueError(f"no Ogg page at byte {place}")
        laces = data[place + 27 : place + 27 + data[place + 26]]
        for lace in laces:  # a lace of 255 says that the packet goes on
            open_packet += lace
            if lace < 255:
                sizes.append(open_packet)
                open_packet = 0
        place += 27 + len(laces) + sum(laces)
    return sizes


def delay(wave: Tensor, reference: Tensor) -> int:
    """Samples by which `wave` `[T]` lags `reference` `[T]`; negative if it leads.

    Where their cross-correlation is highest, within `FARTHEST`; both at 16 kHz.
    """
    size = len(wave) + len(reference)  # so that the ends do not wrap around
    spectrum = torch.fft.rfft(wave.double(), size)
    product = spectrum * torch.fft.rfft(reference.double(), size).conj()
    correlation = torch.fft.irfft(product, size)
    most = min(int(FARTHEST * SAMPLE_RATE), len(wave) - 1, len(reference) - 1)
    lags = torch.arange(-most, most + 1)
    return int(lags[correlation[lags].argmax()])


def shift(wave: Tensor, lag: int, length: int) -> Tensor:
    """Take `wave` `[T]` forward by `lag` samples, to `length`; zeros fill it up."""
    wave = wave[lag:] if lag > 0 else torch.nn.functional.pad(wave, (-lag, 0))
    return torch.nn.functional.pad(wave, (0, max(0, length - len(wave))))[:length]


def opus(wave: Tensor, kbits: float, frame: int) -> Decoded:
    """Code a wave by Opus (RFC 6716) at a hard constant bit rate, and decode it.

    Args:
        wave: [T] at 16 kHz.
        kbits: kbit/s; 6 is the least.
        frame: milliseconds: 20 or 60. The longer one spends less on each frame's start,
            and delays more.

    Raises:
        ProgramMissing: opus-tools is not installed.
    """
    check_wave(wave)
    encoder, decoder = program("opusenc"), program("opusdec")
    with tempfile.TemporaryDirectory() as folder:
        original, coded, back = (Path(folder) / n for n in ("a.wav", "a.opus", "b.wav"))
        save(original, wave)
        options = ["--bitrate", str(kbits), "--hard-cbr", "--framesize", str(frame)]
        _run(encoder, "--quiet", *options, original, coded)
        _run(decoder, "--quiet", "--rate", str(SAMPLE_RATE), coded, back)
        decoded = load(back)
        # two of header first; the last may be of a shorter frame
        packets = ogg_packets(coded.read_bytes())[2:-1]
    lag = delay(decoded, wave)
    bitrate = 8 * sum(packets) / (len(packets) * frame / 1000)
    return Decoded(shift(decoded, lag, len(wave)), bitrate)


def codec2(wave: Tensor, bits: int) -> Decoded:
    """Code a wave by Codec 2 (Rowe), a vocoder, at 8 kHz, and decode it.

    Args:
        wave: [T] at 16 kHz.
        bits: bit/s: 3200 or 1200.

    Raises:
        ProgramMissing: codec2 is not installed.
    """
    check_wave(wave)
    encoder, decoder = program("c2enc"), program("c2dec")
    narrow = resample(wave, SAMPLE_RATE, CODEC2_RATE)
    # to whole frames, and one more to flush the delay
    extra = CODEC2_FRAME + -len(narrow) % CODEC2_FRAME
    narrow = torch.nn.functional.pad(narrow, (0, extra))
    with tempfile.TemporaryDirectory() as folder:
        original, coded, back = (Path(folder) / n for n in ("a.raw", "a.bin", "b.raw"))
        (narrow * 32767).round().numpy().astype("<i2").tofile(original)
        _run(encoder, str(bits), original, coded)
        _run(decoder, str(bits), coded, back)
        samples = np.fromfile(back, "<i2").astype(np.float32) / 32768
        size = coded.stat().st_size
    decoded = torch.from_numpy(samples)[CODEC2_DELAY:]
    decoded = resample(decoded, CODEC2_RATE, SAMPLE_RATE)
    bitrate = 8 * size / (len(narrow) / CODEC2_RATE)
    return Decoded(shift(decoded, 0, len(wave)), bitrate)


PEERS: dict[str, Callable[[Tensor], Decoded]] = {
    "Opus 6 kbit/s, 20 ms": lambda wave: opus(wave, 6, 20),
    "Opus 6 kbit/s, 60 ms": lambda wave: opus(wave, 6, 60),
    "Opus 12 kbit/s, 20 ms": lambda wave: opus(wave, 12, 20),
    "Opus 12 kbit/s, 60 ms": lambda wave: opus(wave, 12, 60),
    "Codec 2 3200 bit/s": lambda wave: codec2(wave, 3200),
    "Codec 2 1200 bit/s": lambda wave: codec2(wave, 1200),
}


def level(wave: Tensor, rms: float) -> Tensor:
    """Scale a wave `[T]` to a root mean square; peaks beyond 1 are clipped."""
    return (wave * (rms / wave.square().mean().sqrt())).clamp(-1, 1)


def judge(decoded: Tensor, wave: Tensor) -> tuple[float, ...]:
    """STOI, PESQ (nan without its library) and mel distance in dB."""
    try:
        pesq = metrics.pesq(decoded, wave)
    except ImportError:
        pesq = float("nan")
    return metrics.stoi(decoded, wave), pesq, metrics.mel_distance(decoded, wave)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="sound files")
    parser.add_argument("--rms", type=float, default=0.1, help="level of the clips")
    args = parser.parse_args()
    waves = [level(load(file), args.rms) for file in args.files]
    print(f"| {len(waves)} clips | bit/s | STOI | PESQ-wb | mel dB |")
    print("|---|---|---|---|---|")
    for name, run in PEERS.items():
        rows = []
        for wave in waves:
            decoded = run(wave)
            rows.append((decoded.bitrate, *judge(decoded.wave, wave)))
        bits, stoi, pesq, mel = (
            statistics.mean(column) for column in zip(*rows, strict=True)
        )
        print(f"| {name} | {bits:.0f} | {stoi:.3f} | {pesq:.2f} | {mel:.2f} |")


if __name__ == "__main__":
    main()
