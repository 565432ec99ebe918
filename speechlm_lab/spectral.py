"""From wave to spectrogram and back: STFT, mel, Griffin-Lim.

Everything works on torch tensors of shape [..., T], treats each wave of a batch
alone, and lets gradients through. Time is the last axis: a spectrum is
[..., bins, F] with bins = n_fft // 2 + 1, a mel spectrogram [..., n_mels, F].

Frames: frame f is centred on sample f * hop, zeros stand beyond both ends, and
T samples make F = 1 + T // hop frames (`frame_count`).

Units: the STFT is not scaled. A sine of amplitude a at the centre of a bin has
there the magnitude a * n_fft / 4 (half the sum of the Hann window).
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from speechlm_lab.audio import SAMPLE_RATE
from speechlm_lab.mu_law import (  # noqa: F401, so that chapter 01 needs one name
    dequantize_uniform,
    mu_law_compress,
    mu_law_decode,
    mu_law_encode,
    mu_law_expand,
    quantize_uniform,
)

# The short-time Fourier transform and its inverse


def frame_count(samples: int, hop: int) -> int:
    """Frames that `stft` makes of a number of samples: 1 + samples // hop."""
    return 1 + samples // hop


def stft(wave: Tensor, n_fft: int = 1024, hop: int = 256) -> Tensor:
    """Short-time Fourier transform: a spectrum of every windowed frame.

    Frame f covers n_fft samples centred on sample f * hop, under a periodic Hann
    window; zeros stand beyond the ends. Not scaled.

    Args:
        wave: [..., T].
        n_fft: length of a frame in samples, even.
        hop: step from frame to frame in samples, at least 1.

    Returns:
        [..., n_fft // 2 + 1, 1 + T // hop], complex. Bin k is the frequency
        k * sample_rate / n_fft.

    Raises:
        ValueError: n_fft odd or below 2, or hop below 1.
    """
    if n_fft < 2 or n_fft % 2 or hop < 1:
        raise ValueError("n_fft must be even and hop at least 1")
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
    padded = F.pad(wave, (n_fft // 2, n_fft // 2))
    frames = padded.unfold(-1, n_fft, hop)  # [..., F, n_fft]
    return torch.fft.rfft(frames * window).mT


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Lay frames hop samples apart and add them up.

    Args:
        frames: [..., F, size].
        hop: step from frame to frame in samples.

    Returns:
        [..., (F - 1) * hop + size].
    """
    *batch, count, size = frames.shape
    place = hop * torch.arange(count)[:, None] + torch.arange(size)
    wave = frames.new_zeros(*batch, (count - 1) * hop + size)
    place = place.flatten().to(frames.device)
    return wave.index_add(-1, place, frames.flatten(-2))


def istft(
    spectrum: Tensor,
    hop: int = 256,
    length: int | None = None,
) -> Tensor:
    """Inverse of `stft`: the wave whose STFT is nearest to a spectrum.

    Each frame is windowed once more, the frames are overlapped and added, and the
    sum is divided by the sum of the squared windows. Of an STFT this returns the
    wave itself; of any other spectrum, the wave whose STFT differs from it least
    in the squared sense (Griffin & Lim 1984, equation 6).

    Args:
        spectrum: [..., n_fft // 2 + 1, F], complex.
        hop: step in samples, at most n_fft // 2, since beyond that samples are
            lost. Up to n_fft // 4 the division is well behaved at the end, too.
        length: samples wanted, T of the wave before the STFT; by default
            (F - 1) * hop, which forgets the up to hop - 1 samples after the last
            frame's centre.

    Returns:
        [..., length].

    Raises:
        ValueError: hop too long, or a length that does not make F frames.
    """
    n_fft, count = 2 * (spectrum.shape[-2] - 1), spectrum.shape[-1]
    length = (count - 1) * hop if length is None else length
    if hop > n_fft // 2 or count != frame_count(length, hop):
        raise ValueError("hop or length does not belong to this spectrum")
    frames = torch.fft.irfft(spectrum.mT, n_fft)
    window = torch.hann_window(n_fft, dtype=frames.dtype, device=frames.device)
    wave = overlap_add(frames * window, hop)
    weight = overlap_add(window.square().expand(count, n_fft), hop)
    inside = slice(n_fft // 2, n_fft // 2 + length)
    return wave[..., inside] / weight[inside]


# The mel scale


def hz_to_mel(hz: Tensor | float) -> Tensor:
    """Frequency in Hz to mel, on Slaney's scale (Auditory Toolbox, 1998).

    Straight up to 1 kHz (3 mel are 200 Hz), logarithmic above (27 mel are a factor of
    6.4). There are other mel scales, such as O'Shaughnessy's 2595 log10(1 + f / 700) in
    HTK; this one is the default of librosa, so that spectrograms here and there agree.
    """
    hz = torch.as_tensor(hz, dtype=torch.float64)
    above = 15 + 27 * torch.log(hz.clamp(min=1000) / 1000) / math.log(6.4)
    return torch.where(hz < 1000, hz * 3 / 200, above)


def mel_to_hz(mel: Tensor | float) -> Tensor:
    """Mel to frequency in Hz, the inverse of `hz_to_mel`; float64."""
    mel = torch.as_tensor(mel, dtype=torch.float64)
    above = 1000 * torch.exp((mel.clamp(min=15) - 15) / 27 * math.log(6.4))
    return torch.where(mel < 15, mel * 200 / 3, above)


def mel_filterbank(
    sample_rate: int = SAMPLE_RATE,
    n_fft: int = 1024,
    n_mels: int = 80,
    low: float = 0.0,
    high: float | None = None,
) -> Tensor:
    """Triangular filters, evenly spaced in mel, that sum a spectrum into bands.

    Filter m rises from the centre of filter m - 1 to its own and falls to that of
    m + 1. Each is scaled to an area of 1 in Hz, so that white noise is equally strong
    in narrow and wide bands.

    Args:
        sample_rate: in Hz.
        n_fft: frame length of the spectrum in samples.
        n_mels: number of filters.
        low, high: lower edge of the first filter and upper edge of the last, in Hz;
            `high` is sample_rate / 2 by default.

    Returns:
        [n_mels, n_fft // 2 + 1], float32.

    Raises:
        ValueError: unless 0 <= low < high <= sample_rate / 2. A filter so narrow
            that it holds no bin gives a warning, since its band would always be 0.
    """
    high = sample_rate / 2 if high is None else high
    if not 0 <= low < high <= sample_rate / 2:
        raise ValueError("need 0 <= low < high <= sample_rate / 2")
    lowest, highest = hz_to_mel(low).item(), hz_to_mel(high).item()
    mels = torch.linspace(lowest, highest, n_mels + 2, dtype=torch.float64)
    left, centre, right = mel_to_hz(mels).unfold(0, 3, 1).T[:, :, None]
    hz = torch.arange(n_fft // 2 + 1).double() * sample_rate / n_fft
    rising = (hz - left) / (centre - left)
    falling = (right - hz) / (right - centre)
    bank = torch.minimum(rising, falling).clamp(min=0)
    if not bank.any(dim=1).all():
        warnings.warn(
            "a mel filter holds no bin: lower n_mels or raise n_fft",
            stacklevel=2,
        )
    return (bank * 2 / (right - left)).float()


def mel_spectrogram(
    wave: Tensor,
    sample_rate: int = SAMPLE_RATE,
    n_fft: int = 1024,
    hop: int = 256,
    n_mels: int = 80,
    low: float = 0.0,
    high: float | None = None,
    power: float = 1.0,
) -> Tensor:
    """Mel bands of the STFT's magnitude (power 1) or power (power 2).

    Args:
        wave: [..., T].
        sample_rate: in Hz.
        n_fft, hop: frame and step in samples, as in `stft`.
        n_mels, low, high: as in `mel_filterbank`.
        power: exponent on the magnitude before the bands are summed.

    Returns:
        [..., n_mels, 1 + T // hop], at least 0.
    """
    magnitude = stft(wave, n_fft, hop).abs() ** power
    bank = mel_filterbank(sample_rate, n_fft, n_mels, low, high)
    return bank.to(magnitude) @ magnitude


def to_db(magnitude: Tensor, floor: float = -100.0) -> Tensor:
    """Magnitude to decibels, 20 log10(magnitude), nothing below the floor (in dB).

    0 dB is a magnitude of 1. The floor also keeps the logarithm of 0 away; below
    it the gradient is 0.
    """
    return 20 * torch.log10(magnitude.clamp(min=10 ** (floor / 20)))


def from_db(db: Tensor) -> Tensor:
    """Decibels to magnitude, 10^(db / 20): the inverse of `to_db` above its floor."""
    return 10 ** (db / 20)


def log_mel(wave: Tensor, floor: float = -100.0, **options) -> Tensor:
    """Mel spectrogram in decibels, `to_db(mel_spectrogram(wave, **options), floor)`.

    Args:
        wave: [..., T].
        floor: lowest value in dB, where 0 dB is a mel magnitude of 1.
        options: of `mel_spectrogram`, save power (the bands sum magnitudes).

    Returns:
        [..., n_mels, 1 + T // hop], in dB.
    """
    return to_db(mel_spectrogram(wave, **options, power=1.0), floor)


# The way back


def mel_to_magnitude(
    mel: Tensor,
    sample_rate: int = SAMPLE_RATE,
    n_fft: int = 1024,
    low: float = 0.0,
    high: float | None = None,
    steps: int = 100,
) -> Tensor:
    """A magnitude spectrum, at least 0, whose mel bands come close to those given.

    There are fewer bands than bins, so many spectra fit. This starts from the bands
    spread over their bins and takes multiplicative steps towards the least squared
    error (Lee & Seung 2001, with the filters fixed), which never leave the positive.

    Args:
        mel: [..., n_mels, F] magnitudes (power 1, not dB).
        sample_rate, n_fft, low, high: as they were for `mel_spectrogram`.
        steps: how many steps.

    Returns:
        [..., n_fft // 2 + 1, F]. Bins that no filter covers are 0.
    """
    bank = mel_filterbank(sample_rate, n_fft, mel.shape[-2], low, high).to(mel)
    wanted = bank.T @ mel
    magnitude = wanted
    for _ in range(steps):
        reached = bank.T @ (bank @ magnitude)
        magnitude = magnitude * wanted / reached.clamp(min=1e-20)
    return magnitude


def griffin_lim(
    magnitude: Tensor,
    hop: int = 256,
    steps: int = 32,
    momentum: float = 0.99,
    length: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Find a wave with the given STFT magnitude, guessing the phase step by step.

    From a random phase: back to a wave, forth to its spectrum, keep that
    spectrum's phase and put the given magnitude on it (Griffin & Lim 1984).
    Momentum carries each spectrum on in the direction of the last change, which
    gets further in as many steps (Perraudin, Balazs & Sondergaard 2013, "fast
    Griffin-Lim"; momentum is their alpha, and 0 is the plain algorithm).

    Args:
        magnitude: [..., n_fft // 2 + 1, F], at least 0.
        hop: step in samples, as it was in the STFT; best at most n_fft // 4.
        steps: how often to go back and forth.
        momentum: 0 or more; 0.99 is the paper's choice.
        length: samples wanted, by default (F - 1) * hop; as in `istft`.
        seed: of the first phase, which all waves of a batch share.

    Returns:
        [..., length]. Its level follows the magnitude; it may pass [-1, 1].
    """
    n_fft = 2 * (magnitude.shape[-2] - 1)
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(magnitude.shape[-2:], generator=generator)
    phase = (2 * math.pi * phase).to(magnitude).expand_as(magnitude)
    before = torch.zeros_like(magnitude)
    for _ in range(steps):
        wave = istft(torch.polar(magnitude, phase), hop, length)
        after = stft(wave, n_fft, hop)
        phase = (after + momentum * (after - before)).angle()
        before = after
    return istft(torch.polar(magnitude, phase), hop, length)


def spectral_convergence(magnitude: Tensor, target: Tensor) -> Tensor:
    """How far a magnitude is from its target: ||magnitude - target|| / ||target||.

    The measure by which Griffin-Lim is usually judged (Sturmel & Daudet 2011). 0 is
    equal; multiplied by 20 log10 it is in dB.

    Args:
        magnitude, target: [..., bins, F], at least 0.

    Returns:
        [...], one number a wave (Frobenius norms over bins and frames).
    """
    difference = torch.linalg.matrix_norm(magnitude - target)
    return difference / torch.linalg.matrix_norm(target)
