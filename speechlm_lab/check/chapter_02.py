"""Checkers of chapter 02: source and filter, labels, mixing, pure items."""

from collections.abc import Callable

import numpy as np
import scipy.signal
import torch

from speechlm_lab.check.core import Wrong, as_array, checker, equal, require
from speechlm_lab.check.pure_items import draw_item
from speechlm_lab.corpus.items import Span

__all__ = ["draw_item", "frame_labels", "mix_at_snr", "pitch_of", "undo_formant"]


@checker
def mix_at_snr(learner: Callable) -> str:
    """Checks mix(voice [T], background [T], snr_db) against the definition of SNR."""
    rng = np.random.default_rng(0)
    for snr_db, level in ((10.0, 0.02), (0.0, 0.3), (-6.0, 0.1)):
        voice = 0.1 * rng.standard_normal(4_000)
        background = level * rng.standard_normal(4_000)
        ratio = np.mean(voice**2) / np.mean(background**2)  # of powers, as it is
        gain = np.sqrt(ratio / 10 ** (snr_db / 10))
        louder_voice = np.sqrt(10 ** (snr_db / 10) / ratio)
        equal(
            learner(_tensor(voice), _tensor(background), snr_db),
            voice + gain * background,
            f"mix(voice, background, {snr_db:g})",
            {
                "power for amplitude": (
                    voice + gain**2 * background,
                    "You scale the background by a ratio of powers. Power goes with "
                    "the square of the amplitude: take the square root.",
                ),
                "ten for twenty": (
                    voice + np.sqrt(ratio) * 10 ** (-snr_db / 10) * background,
                    "Your ratio is one of amplitudes, and you turn decibels into it "
                    "as if it were one of powers. For amplitudes: 10 ** (dB / 20).",
                ),
                "sign": (
                    voice + gain * 10 ** (snr_db / 10) * background,
                    "A higher SNR makes your background louder. It should make it "
                    "quieter: look at the sign of snr_db.",
                ),
                "level ignored": (
                    voice + 10 ** (-snr_db / 20) * background,
                    "The powers of voice and background belong into the gain.",
                ),
                "mean before square": (
                    voice
                    + np.sqrt(
                        np.mean(voice) ** 2
                        / np.mean(background) ** 2
                        / 10 ** (snr_db / 10)
                    )
                    * background,
                    "You square the mean. Square the samples first, then take the "
                    "mean: a wave's own mean is near 0.",
                ),
                "voice scaled": (
                    louder_voice * voice + background,
                    "You scaled the voice. Leave it, and scale the background.",
                ),
            },
            tolerance=1e-3,
        )
    return "The background lies as many dB under the voice as asked."


@checker
def frame_labels(learner: Callable) -> str:
    """Checks frame_labels(spans, frames, hop, sample_rate) -> list of F labels."""
    # 250 / 16,000 is 1/64 s: every time below is exact in binary
    hop, sample_rate, frames = 250, 16_000, 22
    spans = [
        Span("h", 2 / 64, 5 / 64),
        Span("aɪ", 5 / 64, 11 / 64),
        Span("ð", 12.5 / 64, 15.5 / 64),
        Span("ɛ", 15.5 / 64, 19 / 64),
    ]
    got = learner(spans, frames, hop, sample_rate)
    require(
        isinstance(got, list | tuple) and all(isinstance(x, str) for x in got),
        "Return a list of strings, one label a frame.",
    )
    require(len(got) == frames, f"You return {len(got)} labels for {frames} frames.")

    def at(time: Callable[[int], float], inside: Callable) -> list[str]:
        return [
            next((s.label for s in spans if inside(s, time(f))), "")
            for f in range(frames)
        ]

    def centre(f: int) -> float:
        return f / 64

    right = at(centre, lambda s, t: s.start <= t < s.end)
    if list(got) == right:
        require(
            list(learner(spans, frames, hop // 2, sample_rate // 2)) == right,
            "Right at 16 kHz only: use the sample_rate that you are given.",
            "sample rate fixed",
        )
        return "Each frame has the label of its centre, and silence has none."
    filled, last = [], ""
    for label in right:
        last = label or last
        filled.append(last)
    known = {
        "gaps filled": (
            filled,
            "Frames between two phones carry the label before them. Where no span "
            'lies, the label is "".',
        ),
        "end included": (
            at(centre, lambda s, t: s.start <= t <= s.end),
            "A frame on the boundary of two spans goes to the first one. A span "
            "begins at its start and ends just before its end: start <= t < end.",
        ),
        "half a frame late": (
            at(lambda f: (f + 0.5) / 64, lambda s, t: s.start <= t < s.end),
            "You are half a hop late: frame f is centred on sample f * hop, not on "
            "the middle between two frames.",
        ),
        "samples for seconds": (
            at(lambda f: f * hop, lambda s, t: s.start <= t < s.end),
            "No frame finds a label: spans are in seconds, f * hop in samples.",
        ),
    }
    for name, (labels, message) in known.items():
        if list(got) == labels:
            raise Wrong(message, name)
    f = next(f for f in range(frames) if got[f] != right[f])
    raise Wrong(
        f"Frame {f} is centred on {f / 64:.4f} s and you label it {got[f]!r}; "
        f"{right[f]!r} is right."
    )


@checker
def pitch_of(learner: Callable) -> str:
    """Checks pitch_of(wave [T], sample_rate) in Hz on harmonic tones of known pitch."""
    for pitch, sample_rate in ((100.0, 16_000), (211.0, 16_000), (133.0, 8_000)):
        t = np.arange(int(0.25 * sample_rate)) / sample_rate
        # harmonics as in a vowel: the first one is not the strongest
        strengths = (0.4, 1.0, 0.7, 0.3, 0.2, 0.1)
        wave = sum(
            a * np.cos(2 * np.pi * k * pitch * t + k)
            for k, a in enumerate(strengths, 1)
        )
        got = learner(_tensor(0.2 * wave), sample_rate)
        require(
            np.ndim(got) > 0 or not np.isinf(float(got)),
            "You divide by a lag of 0, where a wave is always like itself. "
            "Search lags from sample_rate / 400 to sample_rate / 60 only.",
            "lags near zero",
        )
        got = as_array(got, "The pitch")
        require(got.size == 1, "Return one number, the pitch in Hz.")
        got = float(got.reshape(()))
        period = sample_rate / pitch
        mistakes = {
            "lag for pitch": (
                period,
                "That is the period in samples. A period of n samples is a pitch of "
                "sample_rate / n.",
            ),
            "sample rate fixed": (
                pitch * 16_000 / sample_rate,
                "Right at 16 kHz only: use the sample_rate that you are given.",
            ),
            "first lag forgotten": (
                sample_rate / max(1.0, round(period) - sample_rate // 400),
                "Your list begins with the shortest lag, not with lag 0: add it to "
                "the place of the largest entry.",
            ),
            "an octave low": (
                pitch / 2,
                "An octave too low: the wave repeats after two periods as well.",
            ),
            "an octave high": (
                pitch * 2,
                "An octave too high: you found a harmonic, not the period.",
            ),
        }
        for name, (value, message) in mistakes.items():
            if abs(got - value) <= 0.02 * value and abs(value - pitch) > 0.02 * pitch:
                raise Wrong(message, name)
        require(
            got < sample_rate / 20,
            f"You find {got:.0f} Hz: a wave is always like itself at lags near 0. "
            "Search lags from sample_rate / 400 to sample_rate / 60 only.",
            "lags near zero",
        )
        require(
            abs(got - pitch) <= 0.02 * pitch,
            f"A tone of {pitch:.0f} Hz at {sample_rate} Hz comes out as {got:.1f} Hz.",
        )
    return "Three tones, three pitches, within 2 percent."


@checker
def undo_formant(learner: Callable) -> str:
    """Checks undo_formant(wave [T], frequency, bandwidth, sample_rate) -> [T]."""
    rng = np.random.default_rng(1)
    for frequency, bandwidth, sample_rate in (
        (700.0, 80.0, 16_000),
        (1_200.0, 150.0, 8_000),
    ):
        # Klatt (1980): y[t] = A x[t] + B y[t-1] + C y[t-2]
        decay = np.exp(-np.pi * bandwidth / sample_rate)
        b = 2 * decay * np.cos(2 * np.pi * frequency / sample_rate)
        c = -(decay**2)
        a = 1 - b - c
        wave = rng.uniform(-0.3, 0.3, 16)  # short: a wrong filter may blow up
        zeros, poles = [1.0, -b, -c], [1.0]
        # index -1 is the last sample
        wrapped = (wave - b * np.roll(wave, 1) - c * np.roll(wave, 2)) / a
        equal(
            learner(_tensor(wave), frequency, bandwidth, sample_rate),
            scipy.signal.lfilter(zeros, a, wave),
            f"undo_formant(wave, {frequency:g}, {bandwidth:g}, {sample_rate})",
            {
                "not divided by A": (
                    scipy.signal.lfilter(zeros, poles, wave),
                    "The shape is right and the level is not: solve the resonator's "
                    "equation for x[t], and A ends up under everything.",
                ),
                "wrong signs": (
                    scipy.signal.lfilter([1.0, b, c], a, wave),
                    "Look at the signs: on the other side of the equation B y[t-1] "
                    "and C y[t-2] are taken away.",
                ),
                "resonates again": (
                    scipy.signal.lfilter([a], zeros, wave),
                    "You add the formant a second time. To take it away, solve "
                    "y[t] = A x[t] + B y[t-1] + C y[t-2] for x[t].",
                ),
                "uses its own output": (
                    scipy.signal.lfilter([1.0], [a, b, c], wave),
                    "You feed back your own output. x[t] needs the samples before "
                    "it of the wave you were given, y[t-1] and y[t-2].",
                ),
                "wraps around": (
                    wrapped,
                    "The first two samples are wrong: in Python wave[-1] is the last "
                    "sample, not the one before the first. There, use 0.",
                ),
            },
            tolerance=1e-3,
        )
    return "Resonator, then your filter: the source is back, sample by sample."


def _tensor(samples: np.ndarray) -> torch.Tensor:
    return torch.tensor(samples, dtype=torch.float32)
