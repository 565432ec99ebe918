"""Sound in and out: load, save, resample, measure loudness.

A wave is a float32 torch tensor of samples in [-1, 1], of shape [T], or [B, T]
for a batch. What a function here returns keeps to that, and what it is given is
checked: `AudioError` says in one sentence what is wrong and what to do about it.
"""

import contextlib
import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyloudnorm
import soundfile
import soxr
import torch
from torch import Tensor

from speechlm_lab.waveform import (
    SAMPLE_RATE,
    AudioError,
    check_rate,
    check_wave,
)
from speechlm_lab.whole_files import check_source, replacing

__all__ = [
    "SAMPLE_RATE",
    "AudioError",
    "check_rate",
    "check_wave",
    "load",
    "loudness",
    "normalize_loudness",
    "resample",
    "save",
]

_BLOCK = 65_536  # samples read or written at a time
_SYSTEM = 2  # libsndfile's code for what the operating system refused
_GATE = 0.4  # seconds; the block over which ITU-R BS.1770 measures
# extension: (format, subtype) as libsndfile names them
_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
}


def load(
    path: str | os.PathLike,
    sample_rate: int = SAMPLE_RATE,
    *,
    allow_silent: bool = False,
) -> Tensor:
    """Read a sound file as one mono wave.

    Reads whatever libsndfile reads (wav, flac, ogg, mp3, aiff and others), averages
    the channels, and resamples. The file is read in blocks, so that beside the mono
    wave a long file needs no memory. Samples beyond full scale, which lossy
    decoders produce, are clipped to [-1, 1].

    Args:
        path: the file.
        sample_rate: rate of the result in Hz.
        allow_silent: accept a file whose samples are all zero.

    Returns:
        [T], float32 in [-1, 1].

    Raises:
        AudioError: the file is missing, a folder, empty, no sound, cut short,
            silent, or holds NaN, infinite or unscaled samples. A cut Ogg file
            cannot be told from a short one.
    """
    path = Path(path)
    check_rate(sample_rate)
    check_source(path)
    try:
        samples, file_rate = _read_mono(path)
    except (soundfile.SoundFileError, TypeError) as error:
        raise AudioError(
            f"{path} could not be read as sound ({str(error).rstrip('.')}): download "
            "it again, or convert it, for example with ffmpeg -i FILE out.wav"
        ) from error
    peak = np.abs(samples).max(initial=0)
    if np.isfinite(peak):  # anything else is for check_wave to report
        if peak > 2:
            raise AudioError(
                f"{path} holds samples up to {peak:g}, far beyond [-1, 1]: it was "
                "written unscaled, so divide by full scale (32768 for 16 bits) first"
            )
        samples = samples.clip(-1, 1)
    wave = torch.from_numpy(samples)
    try:
        check_wave(wave, file_rate, allow_silent=allow_silent)
        return resample(wave, file_rate, sample_rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None


def _read_mono(path: Path) -> tuple[np.ndarray, int]:
    """The channels' mean, [T] float32, and the file's rate in Hz."""
    with soundfile.SoundFile(path) as file:
        blocks = []
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block.mean(axis=1))
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        promised, present = file.frames, len(samples)
        # libsndfile quietly shortens a cut wav or aiff; only its log (in bytes) tells
        cut = re.search(r"(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", file.extra_info)
        # a size near the largest number marks a streamed file of unknown length
        if cut and int(cut[1]) < 0x7FFF0000:
            promised, present = int(cut[1]), int(cut[2])
        if present < promised:
            raise AudioError(
                f"{path} ends after {present / promised:.0%} of what its header "
                "promises: download or copy it again"
            )
        return samples, file.samplerate


def save(path: str | os.PathLike, wave: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a wave to a file: 16-bit .wav or .flac, or Vorbis .ogg.

    The file appears whole or not at all: it is written beside its place and then
    moved there. A sample x is stored in 16 bits as round(32768 x), at most 32767,
    so what `load` gives back differs by at most 1/65536 (1/32768 at x = 1).

    Args:
        path: where to; the extension chooses the format.
        wave: [T], float32 in [-1, 1].
        sample_rate: its rate in Hz.

    Raises:
        AudioError: an unknown extension, a missing folder, a device or a pipe, a rate
            that the format cannot hold, or a wave that `check_wave` refuses (silence
            is accepted).
    """
    check_wave(wave, sample_rate, allow_silent=True)
    with writing(path, sample_rate) as file:
        samples = wave.detach().cpu().numpy()
        for start in range(0, len(samples), _BLOCK):
            file.write(samples[start : start + _BLOCK])


def check_format(path: Path) -> None:
    """Raise AudioError for a name that tells no format."""
    if path.suffix.lower() not in _FORMATS:
        raise AudioError(
            f"cannot tell a format from the name {path.name!r}: "
            "end it in .wav, .flac or .ogg"
        )


class SoundWriter:
    """A sound file that is being written; see `writing`."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file, self.samples = file, 0

    def write(self, samples: np.ndarray) -> None:
        """Add float32 samples `[t]` in [-1, 1]."""
        self.samples += len(samples)
        if self._file.subtype == "PCM_16":  # by hand: libsndfile would scale by 32767
            samples = np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)
        self._file.write(samples)


@contextlib.contextmanager
def writing(
    path: str | os.PathLike, sample_rate: int, large: bool = False
) -> Iterator[SoundWriter]:
    """A file for sound that appears whole or not at all, as `save` writes it.

    `large`: more than 4 GB, which the sizes in a plain wav header cannot count; it is
    RF64 then. Raises AudioError as `save` does, and where the disk is full.
    """
    path = Path(path)
    with replacing(path) as part:
        check_format(path)
        form, subtype = _FORMATS[path.suffix.lower()]
        if large and form == "WAV":
            form = "RF64"
        try:
            with soundfile.SoundFile(
                part, "w", int(sample_rate), 1, subtype, format=form
            ) as file:
                writer = SoundWriter(file)
                yield writer
            # what the last flush could not write, libsndfile does not tell
            if soundfile.info(part).frames != writer.samples:
                raise soundfile.SoundFileError("samples are missing at the end")
        except soundfile.SoundFileError as error:
            reason = str(error).rstrip(".")
            if getattr(error, "code", _SYSTEM) == _SYSTEM:
                raise AudioError(
                    f"{path} could not be written whole ({reason}): make room on the "
                    "disk, or choose another place"
                ) from error
            raise AudioError(
                f"{path.name} could not be written at {sample_rate} Hz ({reason}): "
                "resample it, save as .wav, or make room on the disk"
            ) from error


def resample(wave: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Change the sample rate, with soxr's band-limited filter (quality HQ).

    T samples become floor(T * to_rate / from_rate + 1/2). The filter can swing a
    little past a full-scale wave; that is clipped to [-1, 1]. Not differentiable.

    Args:
        wave: [T] or [B, T], float32 in [-1, 1].
        from_rate: its rate in Hz.
        to_rate: the rate wanted in Hz.

    Returns:
        [T'] or [B, T'], on the same device. At equal rates, the wave itself.

    Raises:
        AudioError: a bad rate, a wave that `check_wave` refuses (silence is
            accepted), or one too short to leave a sample.
    """
    check_rate(to_rate)
    check_wave(wave, from_rate, batched=True, allow_silent=True)
    if from_rate == to_rate:
        return wave
    # soxr wants channels last; each wave of a batch is one channel
    samples = wave.detach().cpu().numpy().T
    result = soxr.resample(samples, int(from_rate), int(to_rate), quality="HQ").T
    if result.shape[-1] == 0:
        raise AudioError(
            f"{wave.shape[-1]} sample(s) at {from_rate} Hz leave none at {to_rate} Hz: "
            "use a longer recording"
        )
    return torch.from_numpy(result.clip(-1, 1)).contiguous().to(wave.device)


def loudness(wave: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Loudness of the whole wave in LUFS, after ITU-R BS.1770-4.

    Frequencies are weighted as the ear weighs them, and pauses are left out
    (gating), so this is how loud the speech is, not how much of it there is.
    A full-scale 1 kHz sine is at about -3 LUFS; broadcast speech (EBU R 128) at -23.

    Args:
        wave: [T], at least 0.4 s.
        sample_rate: its rate in Hz.

    Raises:
        AudioError: shorter than 0.4 s, silent, below the gate of -70 LUFS, or
            refused by `check_wave`.
    """
    check_wave(wave, sample_rate)
    if len(wave) < _GATE * sample_rate:
        raise AudioError(
            f"{len(wave) / sample_rate:.3f} s is too short, loudness needs {_GATE} s: "
            "measure it repeated, as loudness(wave.repeat(n), sample_rate)"
        )
    samples = wave.detach().cpu().double().numpy()
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # log of a silent block
        value = float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples))
    if not math.isfinite(value):
        raise AudioError(
            "the wave is below -70 LUFS, which the standard counts as silence: "
            "record it louder, or scale it up first"
        )
    return value


def normalize_loudness(
    wave: Tensor, target: float = -23.0, sample_rate: int = SAMPLE_RATE
) -> Tensor:
    """Scale a wave to a loudness in LUFS, without ever clipping it.

    One gain for the whole wave. Where that gain would push a peak beyond full scale, a
    smaller one is used, which brings the highest peak to 1: the result is then quieter
    than `target`, and a warning says by how much.

    Args:
        wave: [T], at least 0.4 s, not silent.
        target: loudness in LUFS, below 0.
        sample_rate: rate of the wave in Hz.

    Returns:
        [T], in [-1, 1].

    Raises:
        AudioError: as `loudness`, or a target outside [-70, 0).
    """
    if not -70 <= target < 0:
        raise AudioError(
            f"a target of {target} LUFS makes no sense: choose one from -70 up to "
            "below 0, such as -23"
        )
    before = loudness(wave, sample_rate)
    gain = 10 ** ((target - before) / 20)
    limit = 1 / float(wave.detach().abs().max())
    if gain > limit:
        reached = before + 20 * math.log10(limit)
        warnings.warn(
            f"{target} LUFS would clip the peaks: the gain was limited, and the wave "
            f"is at {reached:.1f} LUFS",
            stacklevel=2,
        )
        gain = limit
    return (wave * gain).clamp(-1, 1)  # rounding may pass 1 by the last bit
