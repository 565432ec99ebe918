"""Source and filter: the pitch of a wave, and the sounds that a filter shapes.

Chapter 02's model of a voice, for the codec: the folds make pulses, turbulence makes
noise, the mouth is a filter over both. `PitchTracker` measures how often the pulses
come; `pulses` and `steady_noise` make the two sources anew.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.codec.blocks import Spectra

REFERENCE = 100.0  # Hz; pitch is counted in octaves above it
_NOISE = 65_536  # samples until the steady noise comes again; 4 s


class Voice(NamedTuple):
    """Pitch, one value each `hop` samples."""

    octaves: Tensor  # [B, N], above REFERENCE; goes on smoothly where nothing sounds
    strength: Tensor  # [B, N], 0 (no period) to 1 (each period like the one before)


def segments(wave: Tensor, size: int, hop: int) -> Tensor:
    """Stretches `[B, T/hop, size]` of `wave` `[B, T]`, each centred in its hop."""
    before = (size - hop) // 2
    padded = nnf.pad(wave, (before, size - hop - before))
    return padded.unfold(1, size, hop)


class PitchTracker(nn.Module):
    """Pitch by autocorrelation: how much is a wave like itself a period later?

    Boersma (1993): the autocorrelation of a windowed stretch, divided by that of the
    window, so that long periods do not lose. Of the peaks that are nearly the highest
    the shortest period is taken, since two periods are a period too. A second pass
    prefers periods near the average of the half second around, which repairs most
    jumps by an octave.
    """

    def __init__(
        self, sample_rate: int, hop: int, lowest: float = 60.0, highest: float = 500.0,
        candidates: int = 160, window: int = 1024,
    ) -> None:  # fmt: skip
        """sample_rate, lowest, highest: Hz; hop, window: samples."""
        super().__init__()
        self.hop = hop
        hertz = torch.logspace(math.log10(lowest), math.log10(highest), candidates)
        shape = torch.hann_window(window)
        near = torch.hann_window(int(0.5 * sample_rate / hop) | 1, periodic=False)
        tables = {
            "octaves": (hertz / REFERENCE).log2(),  # [C]
            "shape": shape,  # [window]
            "waves": _autocorrelation(shape, sample_rate / hertz),
            "near": (near / near.sum())[None, None],
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def likeness(self, wave: Tensor) -> Tensor:
        """Autocorrelation `[B, N, C]` at each candidate's period, 1 for a copy."""
        size = len(self.shape)
        cut = segments(wave, size, self.hop) * self.shape
        power = torch.fft.rfft(cut, 2 * len(self.waves) - 2).abs().square()
        # each segment's own energy comes last; the small constant keeps silence at 0
        like = power @ self.waves
        return like[..., :-1] / (like[..., -1:] + 1e-5)

    def _best(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Octaves `[B, N]` of the highest candidate with nearly the highest peak.

        And its index. What is not a number stays so: `codec.chunked` measures by it
        how far the encoder looks.
        """
        left, right = nnf.pad(like, (1, 0))[..., :-1], nnf.pad(like, (0, 1))[..., 1:]
        most = like.max(-1).values
        good = (like > left) & (like >= right) & (like > 0.88 * most[..., None])
        index = torch.arange(like.shape[-1], device=like.device)
        found = torch.where(good, index, -1).max(-1).values
        found = torch.where(found < 0, like.argmax(-1), found)
        nothing = 0 * like.gather(-1, found[..., None])[..., 0]
        return self.octaves[found] + nothing, found

    def _around(self, octaves: Tensor, weight: Tensor) -> Tensor:
        """Average of `octaves` `[B, N]` over half a second, by `weight` `[B, N]`."""
        side = self.near.shape[-1] // 2

        def blur(x: Tensor) -> Tensor:
            padded = nnf.pad(x[:, None], (side, side), mode="replicate")
            return nnf.conv1d(padded, self.near)[:, 0]

        return blur(octaves * weight) / blur(weight)

    @torch.no_grad()
    def forward(self, wave: Tensor) -> Voice:
        """Pitch of `wave` `[B, T]`, T a multiple of hop; N = T / hop."""
        like = self.likeness(wave).clamp(0, 1)
        octaves, _ = self._best(like)
        around = self._around(octaves, like.max(-1).values ** 6 + 1e-3)
        away = (self.octaves - around[..., None]) / 0.35  # octaves
        likely = 0.3 + 0.7 * torch.exp(-0.5 * away.square())
        octaves, best = self._best(like * likely)
        strength = like.gather(-1, best[..., None])[..., 0]
        around = self._around(octaves, strength**6 + 1e-3)
        sure = ((strength - 0.4) / 0.35).clamp(0, 1)
        return Voice(sure * octaves + (1 - sure) * around, strength)


def _autocorrelation(shape: Tensor, lags: Tensor) -> Tensor:
    """The matrix `[bins, C + 1]` from a power spectrum to what it is at `lags` `[C]`.

    Wiener and Khinchin: the autocorrelation is the power spectrum's Fourier transform,
    here only at the lags that are asked for, between two samples in proportion, and
    divided by that of the window `shape`; in the last column at lag 0.
    """
    size = 3 * len(shape) // 2  # zeros enough that half a window's lag does not wrap
    bins = size // 2 + 1
    weight = torch.full((bins, 1), 2 / size, dtype=torch.float64)
    weight[0] = weight[-1] = 1 / size
    at = torch.arange(size // 3, dtype=torch.float64)
    angle = 2 * math.pi / size * torch.arange(bins, dtype=torch.float64)[:, None] * at
    waves = weight * angle.cos()  # [bins, lags]
    spread = torch.fft.rfft(shape.double(), size).abs().square() @ waves
    # of lags so long that little of the window overlaps, less is made
    even = waves / (spread / spread[0]).clamp(min=0.05)
    below = lags.floor().long()
    part = lags - below
    columns = even[:, below] * (1 - part) + even[:, below + 1] * part
    return torch.cat([columns, waves[:, :1]], dim=1).float()


def detuned(pitch: Tensor, voice: Voice) -> Tensor:
    """Octaves by which `pitch` `[B, N]`, Hz, is off, on average, where there is one."""
    off = (pitch / REFERENCE).log2() - voice.octaves
    return (off.abs() * voice.strength.square()).mean()


def turns(pitch: Tensor, before: Tensor, hop: int, sample_rate: int) -> Tensor:
    """Periods `[B, N]` that pass in each hop, float64.

    pitch: `[B, N]`, Hz, reached at the end of each hop; before: `[B]`, pitch at the
    start. In between it goes straight from one to the next.
    """
    start = torch.cat([before[:, None], pitch[:, :-1]], 1).double()
    return (start * (hop - 1) + pitch.double() * (hop + 1)) / 2 / sample_rate


def pulses(
    pitch: Tensor, before: Tensor, phase: Tensor, hop: int, sample_rate: int
) -> Tensor:
    """A train of pulses `[B, N * hop]` of power 1: equal harmonics up to the limit.

    The sum of cos(k x) for k = 1 .. n is (sin((2n + 1) x / 2) / sin(x / 2) - 1) / 2,
    Dirichlet's kernel. n is chosen so that no harmonic is above 0.94 of half the rate.

    pitch, before: as in `turns`; phase: `[B]`, periods passed at the start.
    """
    start = torch.cat([before[:, None], pitch[:, :-1]], 1)
    way = torch.arange(1, hop + 1, device=pitch.device) / hop
    hertz = start[..., None] + (pitch - start)[..., None] * way  # [B, N, hop]
    # in float64, and only the part of a turn: minutes of it stay in tune
    passed = turns(pitch, before, hop, sample_rate)
    first = (phase[:, None] + passed.cumsum(1) - passed).remainder(1)
    inside = hertz.double().cumsum(2) / sample_rate
    half = (math.pi * (first[..., None] + inside).remainder(1)).float()
    count = (0.47 * sample_rate / hertz).floor().clamp(min=1)
    low = half.sin()
    small = low.abs() < 1e-4  # there the kernel is at its peak
    kernel = ((2 * count + 1) * half).sin() / torch.where(small, 1.0, low)
    # at x = 0 and at x = 2 pi, where both sines change sign, it is 2n + 1
    kernel = torch.where(small, 2 * count + 1, kernel)
    return ((kernel - 1) / 2 * (2 / count).sqrt()).flatten(1)


def steady_noise(first: int, samples: int) -> Tensor:
    """White noise `[samples]` of power 1, the same at the same place every time.

    first: place of the first sample. It comes again after four seconds, which nobody
    hears, and makes decoding repeatable, whole or in pieces.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_NOISE, generator=generator)
    return noise[(first + torch.arange(samples)) % _NOISE]


def loudness(bank: Tensor, spectra: Tensor) -> Tensor:
    """Natural logarithm `[B, bands, N]` of the mel magnitudes of complex spectra."""
    # the root has no gradient at 0, where digital silence is
    power = spectra.real.square() + spectra.imag.square()
    return (bank @ (power + 1e-12).sqrt()).clamp(min=1e-6).log()


def evened(
    noise: Tensor, spectra: Spectra, bank: Tensor, spread: Tensor, unit: Tensor,
    rounds: int = 20,
) -> Tensor:  # fmt: skip
    """`noise` `[T]`, made as loud in every mel band of every spectrum as on average.

    White noise is so only in the long run: in a window of 40 ms its bands are off by
    3 dB, and a filter over it cannot know. Like Griffin and Lim (1984), by turns:
    scale the bands, make a wave of the spectra, look again. The end meets the start.

    Args:
        noise: T a multiple of the hop of `spectra`.
        spectra: of the filters that the noise is for.
        bank: mel bands of these spectra, `[bands, bins]`.
        spread: from bands back to frequencies, `[bins, bands]`.
        unit: natural logarithm of the mel magnitudes to reach, `[bands]`.
        rounds: after 20 of them the bands are off by .7 dB.
    """
    around = (len(spectra.window) // spectra.hop + 1) * spectra.hop  # over a window
    for _ in range(rounds):
        ring = torch.cat([noise[-around:], noise, noise[:around]])[None]
        parts = spectra(ring)
        lack = unit[:, None] - loudness(bank, parts)
        noise = spectra.inverse(parts * (spread @ lack).exp())[0, around:-around]
    return noise
