"""Sound files of any length, read and written block by block.

What `audio.load` and `audio.save` do with a whole wave, for recordings that do not fit
into memory: a few blocks of it are there at a time. Blocks are float32 tensors [t] in
[-1, 1], laid end to end; joined they are what `audio.load` returns, bit for bit.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from speechlm_lab.audio import SAMPLE_RATE, AudioError, writing
from speechlm_lab.whole_files import check_source

_BLOCK = 65_536  # samples read or written at a time
_WAV_LIMIT = 4_000_000_000  # bytes; what the sizes in a plain wav header can count


class BlockReader:
    """A sound file as mono blocks at one rate; use it with `with`, iterate it once.

    Reads whatever libsndfile reads, at whatever rate, averages the channels, clips what
    lossy decoders swing beyond full scale, resamples. Silence is accepted.

    Args:
        path: the file.
        sample_rate: rate of the blocks in Hz.

    Attributes:
        rate: the file's own rate in Hz.
        samples: of the file, at its own rate, that were read so far.

    Raises:
        AudioError: the file is missing, a folder, empty or no sound; while iterating
            also where it is cut short or holds NaN, infinite or unscaled samples.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int = SAMPLE_RATE) -> None:
        self.path = path = Path(path)
        check_source(path)
        try:
            self._file = soundfile.SoundFile(path)
        except (soundfile.SoundFileError, TypeError) as error:
            raise self._unreadable(error) from error
        self.rate = int(self._file.samplerate)
        self.samples = 0
        self._sample_rate = sample_rate

    def __enter__(self) -> "BlockReader":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Tensor]:
        return resample_blocks(self._read(), self.rate, self._sample_rate)

    def _read(self) -> Iterator[Tensor]:
        # at low rates fewer samples, since each becomes many
        size = max(1, min(_BLOCK, _BLOCK * self.rate // self._sample_rate))
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise self._unreadable(error) from error
            if not len(block):
                break
            self.samples += len(block)
            mono = block.mean(axis=1)
            self._check(mono)
            yield torch.from_numpy(mono.clip(-1, 1))
        self._check_end()

    def _check(self, mono: np.ndarray) -> None:
        if not np.isfinite(mono).all():
            raise AudioError(
                f"{self.path} holds samples that are NaN or infinite: repair what made "
                "them, or write it again as 16-bit wav"
            )
        peak = np.abs(mono).max()
        if peak > 2:
            raise AudioError(
                f"{self.path} holds samples up to {peak:g}, far beyond [-1, 1]: it was "
                "written unscaled, so divide by full scale (32768 for 16 bits) first"
            )

    def _check_end(self) -> None:
        promised, present = self._file.frames, self.samples
        # libsndfile quietly shortens a cut wav or aiff; only its log (in bytes) tells
        log = self._file.extra_info
        cut = re.search(r"(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", log)
        # a size near the largest number marks a streamed file of unknown length
        if cut and int(cut[1]) < 0x7FFF0000:
            promised, present = int(cut[1]), int(cut[2])
        if present < promised:
            raise AudioError(
                f"{self.path} ends after {present / promised:.0%} of what its header "
                "promises: download or copy it again"
            )
        if self.samples == 0:
            raise AudioError(f"{self.path} holds no samples: check the recording")

    def _unreadable(self, error: Exception) -> AudioError:
        return AudioError(
            f"{self.path} could not be read as sound ({str(error).rstrip('.')}): "
            "download it again, or convert it, for example with ffmpeg -i FILE out.wav"
        )


def resample_blocks(
    blocks: Iterable[Tensor], from_rate: int, to_rate: int
) -> Iterator[Tensor]:
    """Change the rate of a wave that comes in blocks `[t]`, as `audio.resample` does.

    soxr's filter keeps its state from block to block, so there are no seams: joined,
    the blocks are what soxr makes of the whole wave. Clipped to [-1, 1].
    """
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, quality="HQ")
    for block in blocks:
        yield torch.from_numpy(stream.resample_chunk(block.numpy()).clip(-1, 1))
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    yield torch.from_numpy(rest.clip(-1, 1))


def exactly(blocks: Iterable[Tensor], samples: int) -> Iterator[Tensor]:
    """Cut blocks `[t]` at `samples` in all; zeros follow where they are fewer."""
    for block in blocks:
        yield block[:samples]
        samples -= min(samples, len(block))
    while samples > 0:
        yield torch.zeros(min(samples, _BLOCK))
        samples -= _BLOCK


def save_blocks(
    path: str | os.PathLike,
    blocks: Iterable[Tensor],
    sample_rate: int,
    samples: int,
) -> None:
    """Write blocks `[t]` as one file, as `audio.save` writes a whole wave.

    16-bit .wav (RF64 beyond 4 GB, which a wav header cannot count) or .flac, or Vorbis
    .ogg, by the extension. The file appears whole or not at all. `samples` is how many
    the blocks hold in all.

    Raises:
        AudioError: as `audio.save` does.
    """
    large = 2 * samples > _WAV_LIMIT
    with writing(path, sample_rate, large) as file:
        for block in blocks:
            file.write(block.numpy())
