"""Marks that say "made by a machine": one to be heard, one to be measured.

`announce` puts a chime, or a spoken notice, in front of a wave. Everybody hears it, and
anybody can cut it off.

`embed` hides a pattern in the whole wave: each cell of the spectrogram, 31 Hz by 96 ms,
is made a little louder or a little softer, as a key says. No ear follows that, but who
has the key can add up thousands of cells, and what is chance in one is certain in all:

    score = sum of sign * level / root of the sum of level^2

where `level` is how much louder a cell is than its neighbours above and below. This is
spread-spectrum watermarking (Cox, Kilian, Leighton & Shamoon 1997, IEEE Transactions
on Image Processing 6(12)), with multiplied spectra in place of their added numbers,
and, other than there, without the original at hand. Learned marks such as AudioSeal
(San Roman et al. 2024, arXiv 2401.17264) are stronger.

Under a wrong key, or in a wave without a mark, the signs have nothing to do with the
levels, whatever these are: the score is a sum of many small terms of random sign, with
mean 0 and variance 1, close to a normal distribution. `Detection.chance` is computed
from that. It holds for keys that nobody chose with the wave in hand.

Noise, resampling, another level and cutting weaken the mark. A change of pitch or
speed, and any codec that keeps only what speech is made of, destroy it.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab.audio import SAMPLE_RATE, AudioError, check_wave
from speechlm_lab.spectral import istft, stft, to_db

WINDOW = 1024  # samples under one spectrum
HOP = 256  # samples from one spectrum to the next
LOWEST = 8  # bins below are left alone: 125 Hz
BANDS = 208  # cells above one another, up to 6.6 kHz
WIDE = 2  # bins in a cell
LONG = 6  # frames in a cell
PERIOD = 32  # cells after one another, until the pattern begins again: 3.1 s
STRENGTH = 1.0  # dB by which a cell is louder or softer
SHORTEST = 0.5  # s
MOST = 6.0  # dB; beyond, a cell counts no more, so that none decides alone
RANGE = (70.0, 30.0)  # dB below the loudest cell: where cells count nothing, and fully


class Detection(NamedTuple):
    """How surely a wave carries a key's mark."""

    score: float  # deviations above what is expected without the mark
    chance: float  # probability of such a score, or a higher one, without the mark


def pattern(key: str) -> Tensor:
    """The signs of a key: +1 or -1, float32 `[BANDS, PERIOD]`.

    The bits of SHAKE-256 of the key: the same everywhere, and of no use for finding the
    key.
    """
    if not isinstance(key, str) or not key:
        raise ValueError(f"a key is a text such as 'my secret', not {key!r}")
    raw = hashlib.shake_256(key.encode()).digest(BANDS * PERIOD // 8)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(BANDS, PERIOD)
    return torch.from_numpy(2.0 * bits.astype(np.float32) - 1)


def embed(wave: Tensor, key: str, strength: float = STRENGTH) -> Tensor:
    """The wave with the mark of `key`.

    Args:
        wave: `[T]`, float32 in [-1, 1] at 16 kHz, 0.5 s or more; longer waves carry a
            stronger mark, as the root of their length.
        key: any text. Keep it: without it the mark cannot be found; and secret: with it
            the mark can be taken out.
        strength: dB by which cells are louder or softer; 0 changes nothing.

    Returns:
        `[T]`, in [-1, 1].

    Raises:
        AudioError: not such a wave.
        ValueError: an empty key, or a strength outside 0 to 6 dB.
    """
    check_wave(wave, SAMPLE_RATE, min_seconds=SHORTEST)
    if not 0 <= strength <= 6:
        raise ValueError(f"strength is 0 to 6 dB, not {strength}; above 2 it is heard")
    spectrum = stft(wave, WINDOW, HOP)
    cell = torch.arange(spectrum.shape[1]) // LONG % PERIOD
    gain = torch.zeros(spectrum.shape)
    signs = pattern(key)[:, cell].repeat_interleave(WIDE, 0)
    gain[LOWEST : LOWEST + BANDS * WIDE] = strength * signs
    marked = istft(spectrum * 10 ** (gain / 20), HOP, len(wave))
    return marked.clamp(-1, 1)


def levels(wave: Tensor) -> Tensor:
    """What a detector adds up: `[BANDS, N]`, dB, a cell from each of N frames on.

    Level beside the mean of the cells above and below, at most 6 dB either way, and
    weighted: cells far below the loudest one are the first that noise covers.
    """
    level = to_db(stft(wave, WINDOW, HOP).abs())[LOWEST : LOWEST + BANDS * WIDE]
    level = level.view(BANDS, WIDE, -1).mean(1)
    level = nnf.avg_pool1d(level[None], LONG, stride=1)[0]
    sides = nnf.pad(level[None], (0, 0, 1, 1), mode="replicate")[0]
    beside = (level - (sides[:-2] + sides[2:]) / 2).clamp(-MOST, MOST)
    none, full = RANGE
    return beside * ((level - level.max() + none) / (none - full)).clamp(0, 1)


def detect(wave: Tensor, key: str) -> Detection:
    """Look for the mark of `key` in a wave, at every place where it may begin.

    A wave may be cut out of a longer one, so the pattern is tried at LONG * PERIOD
    offsets; the best score counts, and its chance is multiplied by their number, which
    is never too small.

    Raises:
        AudioError: no wave `[T]` of 0.5 s or more at 16 kHz.
        ValueError: an empty key.
    """
    check_wave(wave, SAMPLE_RATE, min_seconds=SHORTEST)
    scores = offset_scores(levels(wave), pattern(key))
    best = float(scores.max())
    return Detection(best, min(1.0, scores.numel() * float(ndtr(-best))))


def offset_scores(found: Tensor, signs: Tensor) -> Tensor:
    """Score of signs `[BANDS, PERIOD]` at each offset: `[LONG, PERIOD]`.

    found: `[BANDS, N]` as `levels` returns it. Entry (f, p) is for cells that begin at
    frames f, f + LONG ... of which the first one has the signs of column p.
    """
    rows = []
    spectrum = torch.fft.rfft(signs)
    for first in range(LONG):
        cells = found[:, first::LONG]
        fold = nnf.pad(cells, (0, -cells.shape[1] % PERIOD))
        fold = fold.view(BANDS, -1, PERIOD).sum(1)  # what meets the same sign
        match = torch.fft.irfft(spectrum * torch.fft.rfft(fold).conj(), PERIOD).sum(0)
        rows.append(match / fold.square().sum().sqrt().clamp(min=1e-9))
    return torch.stack(rows)


def announce(wave: Tensor, notice: Tensor | None = None) -> Tensor:
    """The wave with a notice in front of it that nobody can miss.

    Args:
        wave: `[T]`, in [-1, 1] at 16 kHz.
        notice: `[N]`, such as a spoken "This voice is synthetic."; None: a chime of two
            falling tones, 0.4 s, as loud as the wave.

    Returns:
        `[N + pause + T]`: notice, 0.2 s of silence, wave.

    Raises:
        AudioError: no waves.
    """
    check_wave(wave, SAMPLE_RATE)
    if notice is None:
        loud = min(float(wave.square().mean().sqrt()), 0.2)
        notice = torch.cat([_tone(880.0), _tone(587.0)])
        notice = notice * loud / notice.square().mean().sqrt()
    else:
        try:
            check_wave(notice, SAMPLE_RATE)
        except AudioError as error:
            raise AudioError(f"the notice: {error}") from None
    return torch.cat([notice, torch.zeros(round(0.2 * SAMPLE_RATE)), wave])


def _tone(pitch: float, seconds: float = 0.2) -> Tensor:
    """A tone of `pitch` Hz that swells for 10 ms and dies away."""
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    swell = (time / 0.01).clamp(max=1) * torch.exp(-time / (seconds / 4))
    return torch.sin(2 * torch.pi * pitch * time) * swell
