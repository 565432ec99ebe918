"""How good is a decoded wave, and what did it cost? The field's standard measures.

Measures of quality take `(wave, reference, sample_rate)`: the wave to judge, and the
one it should be, both [T], float32 in [-1, 1], of one length, in time with each
other, and not silent. Otherwise they raise `AudioError`, which says what to do.
They return a plain float.

| measure | unit, range | better | what it hears |
|---|---|---|---|
| `mel_distance` | dB, 0 and up | lower | spectrum, no phase |
| `si_sdr` | dB, any | higher | every sample, even where the ear does not |
| `stoi` | about 0 to 1 | higher | intelligibility |
| `pesq` | 1.0 to 4.64 | higher | quality, as listeners graded telephone speech |
"""

import importlib
import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from pystoi import stoi as pystoi
from torch import Tensor

from speechlm_lab.audio import SAMPLE_RATE, AudioError, check_wave
from speechlm_lab.spectral import log_mel

MEL_WINDOW = 1024  # samples
MEL_HOP = 256  # samples
MEL_BANDS = 80
MEL_FLOOR = -60.0  # dB; in most recordings the room's noise is below it


def _check_pair(wave: Tensor, reference: Tensor, sample_rate: int) -> None:
    """Raise AudioError unless both are waves with sound in them, of one length."""
    check_wave(reference, sample_rate)
    check_wave(wave, sample_rate)
    if len(wave) != len(reference):
        raise AudioError(
            f"the wave has {len(wave)} samples and its reference {len(reference)}: "
            "line them up in time, then cut both to one length"
        )


def mel_distance(
    wave: Tensor, reference: Tensor, sample_rate: int = SAMPLE_RATE
) -> float:
    """Mean absolute difference of two log-mel spectrograms, in dB.

    The mean of |20 log10 m(wave) - 20 log10 m(reference)| over 80 mel bands and all
    frames, where m sums STFT magnitudes (Hann window of 1024 samples, hop 256) by
    Slaney's filters from 0 Hz to half the rate, and whatever is under -60 dB counts as
    -60 dB, so that noise nobody hears does not decide. For the same reason the value
    depends on level: bring clips to one first, such as a root mean square of 0.1.

    Args:
        wave: [T], the wave to judge.
        reference: [T], what it should be.
        sample_rate: of both, in Hz. Values at different rates do not compare.

    Returns:
        dB, 0 (the same magnitudes) and up. Phase does not count.

    Raises:
        AudioError: no waves, silent, or of different lengths.
    """
    _check_pair(wave, reference, sample_rate)
    one, other = (
        log_mel(
            x,
            floor=MEL_FLOOR,
            sample_rate=sample_rate,
            n_fft=MEL_WINDOW,
            hop=MEL_HOP,
            n_mels=MEL_BANDS,
        )
        for x in (wave.detach().cpu(), reference.detach().cpu())
    )
    return float((one - other).abs().mean())


def si_sdr(wave: Tensor, reference: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Scale-invariant signal-to-distortion ratio, in dB.

    With s the reference and e the wave (Le Roux, Wisdom, Erdogan & Hershey 2019,
    arXiv 1811.02508, equations 4 and 5):

        a = <e, s> / <s, s>,  10 log10(|a s|^2 / |a s - e|^2)

    so that loudness does not count, but every sample does. The mean is not removed: a
    constant offset is a distortion.

    Args:
        wave: [T], the wave to judge.
        reference: [T], what it should be.
        sample_rate: of both, in Hz. It changes nothing.

    Returns:
        dB; inf for a copy, beyond 100 for a scaled one, -inf for a wave that has
        nothing of the reference in it.

    Raises:
        AudioError: no waves, silent, or of different lengths.
    """
    _check_pair(wave, reference, sample_rate)
    e, s = wave.detach().cpu().double(), reference.detach().cpu().double()
    target = (e @ s) / (s @ s) * s
    error = target - e
    ratio = target.square().sum() / error.square().sum()
    return float(10 * torch.log10(ratio))


def stoi(wave: Tensor, reference: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Short-time objective intelligibility, by the `pystoi` library.

    The correlation of the two waves' envelopes in 15 third-octave bands (150 Hz to
    about 4.3 kHz), over stretches of 384 ms, pauses left out (Taal, Hendriks, Heusdens
    & Jensen 2011). Computed at 10 kHz, whatever the rate.

    Args:
        wave: [T], the wave to judge.
        reference: [T], what it should be.
        sample_rate: of both, in Hz, at least 10,000.

    Returns:
        1 for a copy, near 0 for unrelated waves (a little below it can happen).

    Raises:
        AudioError: no waves, silent, of different lengths, below 10 kHz, or with
            less than 0.4 s of sound in the reference.
    """
    _check_pair(wave, reference, sample_rate)
    if sample_rate < 10_000:
        raise AudioError(
            f"STOI reads frequencies up to 5 kHz, which {sample_rate} Hz does not "
            "hold: measure at the rate of the original recording"
        )
    with warnings.catch_warnings():
        # pystoi warns, and returns 1e-5, where there are too few frames
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi(_samples(reference), _samples(wave), sample_rate))
        except RuntimeWarning as warning:
            raise AudioError(
                "STOI needs 0.4 s of sound besides the pauses: use a longer recording"
            ) from warning


def pesq(wave: Tensor, reference: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Perceptual evaluation of speech quality, by the optional `pesq` library.

    ITU-T P.862.2 (wideband) at 16 kHz, P.862 with P.862.1's scale (narrowband) at
    8 kHz; their values do not compare. It lines up delays by itself and takes no heed
    of loudness.

    Args:
        wave: [T], the wave to judge.
        reference: [T], what it should be.
        sample_rate: of both, in Hz: 16,000 or 8,000.

    Returns:
        A predicted mean opinion score: from 1.04 to 4.64 (wideband), from 1.02 to 4.55
        (narrowband).

    Raises:
        AudioError: no waves, silent, of different lengths, shorter than 0.25 s, another
            rate, or no speech found.
        ImportError: the library is not installed.
    """
    modes = {16_000: "wb", 8_000: "nb"}
    _check_pair(wave, reference, sample_rate)
    if sample_rate not in modes:
        raise AudioError(
            f"PESQ is defined at 16000 and 8000 Hz, not at {sample_rate}: call "
            f"audio.resample(wave, {sample_rate}, 16000) on both waves"
        )
    check_wave(wave, sample_rate, min_seconds=0.25)
    try:
        library = importlib.import_module("pesq")
    except ImportError as error:
        raise ImportError(
            "PESQ needs the `pesq` package, which is compiled on installation: run "
            "`pip install -e .[compiled]` with a C compiler at hand"
        ) from error
    try:
        return float(
            library.pesq(
                sample_rate, _samples(reference), _samples(wave), modes[sample_rate]
            )
        )
    except library.PesqError as error:
        raise AudioError(
            f"PESQ found no speech to grade ({error!r}): use a longer recording, or a "
            "louder one"
        ) from error


def _samples(wave: Tensor) -> np.ndarray:
    return wave.detach().cpu().double().numpy()


# What the codes cost, and how well they are used


def bitrate(frame_rate: float, levels: int, codebook_size: int) -> float:
    """Bits a second of a stream of codes: frame_rate * levels * log2(codebook_size).

    Args:
        frame_rate: frames a second, Hz.
        levels: K, codes in a frame.
        codebook_size: V, values that a code can have.

    Returns:
        bit/s. What an entropy coder could save is not counted.

    Raises:
        ValueError: frame_rate not above 0, levels below 1, or codebook_size below 2.
    """
    if not frame_rate > 0 or levels < 1 or codebook_size < 2:
        raise ValueError(
            "a bit rate needs frame_rate > 0, levels >= 1 and codebook_size >= 2, got "
            f"{frame_rate}, {levels} and {codebook_size}"
        )
    return frame_rate * levels * math.log2(codebook_size)


class CodebookUse(NamedTuple):
    """How evenly codes spread over their codebooks, level by level."""

    share: Tensor  # [K], part of the entries that occur at all, in (0, 1]
    perplexity: Tensor  # [K], entries' worth of use: 1 (one entry) to V (all alike)


def codebook_use(codes: Tensor, codebook_size: int) -> CodebookUse:
    """Share of each codebook's entries in use, and the perplexity of their use.

    Perplexity is 2 to the entropy in bits of how often each entry occurs (van den Oord
    et al. 2017 watch it for collapse). N codes can show at most N entries: give some
    20 codes for each entry, or both values come out too low.

    Args:
        codes: [B, K, F], integers from 0 to codebook_size - 1.
        codebook_size: V, entries in each codebook.

    Returns:
        `CodebookUse`, float64.

    Raises:
        ValueError: no codes, another shape or type, or codes out of range.
    """
    if codes.ndim != 3 or codes.numel() == 0 or codes.is_floating_point():
        raise ValueError(
            "codes must be integers [B, K, F], got "
            f"{codes.dtype} {list(codes.shape)}: one level needs codes[:, None]"
        )
    low, high = (int(value) for value in torch.aminmax(codes))
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"codes run from {low} to {high}, but a codebook of {codebook_size} has "
            f"codes from 0 to {codebook_size - 1}: check codebook_size"
        )
    levels = codes.long().cpu().transpose(0, 1).flatten(1)  # [K, B * F]
    count = torch.stack([level.bincount(minlength=codebook_size) for level in levels])
    part = count.double() / levels.shape[1]
    entropy = torch.special.entr(part).sum(1)  # in nats; 0 log 0 = 0
    return CodebookUse((count > 0).double().mean(1), entropy.exp())
