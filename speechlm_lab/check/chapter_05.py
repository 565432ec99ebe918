"""Checkers of chapter 05: periods, harmonics, components, two filters."""

from collections.abc import Callable

import numpy as np
import scipy.signal
import torch

from speechlm_lab.check.core import Wrong, as_array, checker, equal, require

__all__ = ["components_for", "harmonics", "period_of", "split_level"]


@checker
def period_of(learner: Callable) -> str:
    """Checks period_of(like [N], shortest, longest) -> lag, of nearly the highest."""
    cases = (
        # (period, height of its peak, of the one at two periods), loudness, range
        (100, 0.95, 1.0, 1.0, 24, 260),
        (61, 1.0, 0.93, 0.4, 24, 260),
        (80, 0.5, 1.0, 1.0, 24, 260),  # half a period's peak is too low: 160 it is
        (100, 0.95, 1.0, 1.0, 100, 260),  # the peak is at the very edge
    )
    for period, first, second, scale, low, high in cases:
        like = _likeness(period, first, second, scale)
        inside = like[low : high + 1]
        peaks = [p for p in scipy.signal.find_peaks(like)[0] if low <= p <= high]
        good = [p for p in peaks if like[p] > 0.9 * inside.max()]
        highest = low + int(inside.argmax())
        above = low + int((inside > 0.9 * inside.max()).argmax())
        over = [p for p in peaks if like[p] > 0.9]
        within = [p for p in good if p > low]
        try:
            got = learner(torch.tensor(like, dtype=torch.float32), low, high)
        except Wrong:  # nothing came back
            require(
                scale == 1,
                "You find nothing where no likeness reaches 0.9. Compare with 0.9 "
                "times the highest one in the range, not with 0.9 itself.",
                "absolute",
            )
            raise
        equal(
            got, good[0], f"period_of(like, {low}, {high})",
            {
                "edge left out": (
                    within[0],
                    "The peak at `shortest` itself counts: compare it with the lag "
                    "before, which is outside the range.",
                ),
                "highest": (
                    highest,
                    "You take the highest peak. Two periods can be a hair more alike "
                    "than one: take the shortest of those that are nearly as high.",
                ),
                "no peak": (
                    above,
                    "That lag is high enough, but no peak: the likeness still rises "
                    "after it.",
                ),
                "range not added": (
                    good[0] - low,
                    "You count from the start of the range. Add `shortest` again.",
                ),
                "longest": (good[-1], "The longest good peak; take the shortest."),
                "any peak": (
                    peaks[0],
                    "The first peak of all. It must be higher than 0.9 times the "
                    "highest, too.",
                ),
                "lag 0": (
                    0,
                    "Everything is like itself at lag 0. Begin at `shortest`.",
                ),
                "absolute": (
                    over[0] if over else -1,
                    "You compare with 0.9 itself. Compare with 0.9 times the highest "
                    "likeness in the range.",
                ),
            },
        )  # fmt: skip
    edges = (
        # likeness, shortest, longest, the period
        ([1.0, 0.1, 0.3, 0.2, 0.9, 0.1], 2, 4, 4),  # the peak is at `longest`
        ([1.0, 0.1, 0.2, 0.9, 0.9, 0.3], 2, 4, 3),  # two lags as high: the first
        ([1.0, 0.9, 0.9, 0.2, 0.85, 0.1], 2, 4, 4),  # 2 is no higher than 1
        ([1.0, 0.1, 0.9, 0.1, 0.2, 0.85, 0.1], 4, 5, 5),  # 2 is outside
    )
    for like, low, high, period in edges:
        got = learner(torch.tensor(like), low, high)
        equal(got, period, f"period_of({like}, {low}, {high})")
    return "Of the nearly highest peaks the shortest, so no octave is lost."


def _likeness(period: int, first: float, second: float, scale: float) -> np.ndarray:
    """A likeness with peaks at one and two periods and a small bump."""
    lags = np.arange(400)
    like = np.zeros(400)
    bumps = ((0, 1.6), (period // 2, 0.3), (period, first), (2 * period, second))
    for centre, height in bumps:
        like += height * np.exp(-0.5 * ((lags - centre) / 6) ** 2)
    return scale * like


@checker
def harmonics(learner: Callable) -> str:
    """Checks harmonics(pitch [T], count, sample_rate) -> wave [T]."""
    rate = 8_000
    steady = np.full(400, 150.0)
    rising = np.linspace(300.0, 900.0, 400)
    for pitch, count in ((rising, 8), (rising[::-1].copy(), 8), (steady, 3)):
        seconds = pitch / rate
        phase = np.cumsum(seconds)
        number = np.arange(1, count + 1)[:, None]

        def total(
            phase: np.ndarray, wave: Callable = np.cos,
            number: np.ndarray = number, heard: np.ndarray | float = 1.0,
        ) -> np.ndarray:  # fmt: skip
            return (heard * wave(2 * np.pi * number * phase)).sum(0)

        heard = number * pitch < rate / 2
        right = total(phase, heard=heard)
        time = np.arange(len(pitch)) / rate
        after = np.arange(1, len(pitch) + 1) / rate
        got = learner(torch.tensor(pitch, dtype=torch.float32), count, rate)
        what = "harmonics(pitch, count, 8000)"
        require(
            np.shape(got) != (count, len(pitch)),
            "You return each harmonic by itself. Add them up: [T].",
            "not summed",
        )
        equal(
            as_array(got, what), right, what,
            {
                "pitch times time": (
                    total(pitch * after, heard=heard),
                    "You multiply pitch by time. Where the pitch changes, that also "
                    "shifts all periods that have passed: add up pitch / sample_rate.",
                ),
                "pitch times time, from 0": (
                    total(pitch * time, heard=heard),
                    "You multiply pitch by time. Where the pitch changes, that also "
                    "shifts all periods that have passed: add up pitch / sample_rate.",
                ),
                "aliasing": (
                    total(phase),
                    "Harmonics at half the sample rate and above come back as tones "
                    "that are not there. Leave them out, sample by sample.",
                ),
                "phase stops": (
                    total(
                        1.0, number=(heard * number * seconds).cumsum(1), heard=heard
                    ),
                    "While a harmonic is silent its phase must go on: when it comes "
                    "back it has to peak with the others.",
                ),
                "left out for good": (
                    total(phase, heard=heard.all(1, keepdims=True)),
                    "A harmonic is silent only while it is too high. You leave it out "
                    "of the whole wave.",
                ),
                "one sample late": (
                    total(phase - seconds, heard=heard),
                    "Your sum leaves out the sample itself: up to and with it.",
                ),
                "sines": (
                    total(phase, np.sin, heard=heard),
                    "Those are sines. Cosines all peak together, and make a pulse.",
                ),
                "periods for radians": (
                    total(phase / (2 * np.pi), heard=heard),
                    "The phase is in periods; a cosine wants 2 pi for each.",
                ),
                "from 0": (
                    total(phase, number=number - 1, heard=(number - 1) * pitch < 4000),
                    "You begin at harmonic 0, which is a constant. Begin at 1.",
                ),
                "mean": (right / count, "Add them up; you return the mean."),
            },
            tolerance=2e-3,
        )  # fmt: skip
    return "In tune while the pitch glides, and nothing folds back."


@checker
def components_for(learner: Callable) -> str:
    """Checks components_for(rows [N, D], share) -> 1 to D."""
    rng = np.random.default_rng(2)
    mix = rng.standard_normal((12, 12))
    strong = 6 * 0.75 ** np.arange(12)
    rows = (rng.standard_normal((300, 12)) * strong) @ np.linalg.qr(mix)[0]
    rows = rows + 10.0 + 3.0 * np.arange(12)  # each column has a mean of its own
    variance = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    around_zero = np.linalg.eigvalsh(rows.T @ rows)[::-1]
    shares = (0.3, 0.5, 0.8, 0.95, 0.99)

    def counts(values: np.ndarray) -> np.ndarray:
        kept = values.cumsum() / values.sum()
        return np.array([(kept < share).sum() + 1 for share in shares])

    right, what = counts(variance), f"components_for(rows, share), shares {shares},"
    got = []
    for share in shares:
        number = as_array(learner(torch.tensor(rows, dtype=torch.float32), share), what)
        require(number.size == 1, "Return how many: one number.", "not a number")
        got.append(number.item())
    equal(
        got, right, what,
        {
            "not centred": (
                counts(around_zero),
                "You forgot to subtract the mean: the first component then points at "
                "it and takes nearly all.",
            ),
            "not squared": (
                counts(np.sqrt(variance)),
                "Singular values are spreads. Variance is their square.",
            ),
            "one too few": (
                right - 1,
                "One too few: `kept < share` counts those that do not yet do.",
            ),
            "one too many": (right + 1, "One too many."),
            "smallest first": (
                counts(variance[::-1]),
                "You begin with the smallest. `eigvalsh` sorts upwards.",
            ),
        },
    )  # fmt: skip
    return "As many as it takes, and not one more."


@checker
def split_level(learner: Callable) -> str:
    """Checks split_level(level [N] in dB, share [N]) -> two amplitudes [N]."""
    level = np.array([0.0, -6.0, 20.0, -40.0, -12.0])
    share = np.array([0.5, 0.1, 0.75, 1.0, 0.0])
    amplitude = 10 ** (level / 20)
    given = [torch.tensor(x, dtype=torch.float32) for x in (level, share)]
    got = learner(*given)
    require(
        isinstance(got, (tuple, list, torch.Tensor)) and len(got) == 2,
        "Return two things: amplitudes of the pulses, and of the noise.",
        "not two",
    )
    got = np.stack([as_array(part, "each of the two") for part in got])

    def two(whole: np.ndarray, power: float, share: np.ndarray = share) -> np.ndarray:
        return np.stack([whole * share**power, whole * (1 - share) ** power])

    equal(
        got, two(amplitude, 0.5), "split_level(level, share)",
        {
            "amplitudes split": (
                two(amplitude, 1),
                "You split the amplitude. Two sounds that have nothing to do with each "
                "other add by power, so the amplitudes are roots: share.sqrt().",
            ),
            "powers": (
                two(amplitude**2, 1),
                "Those are powers. An amplitude is the root of a power.",
            ),
            "dB of power": (
                two(amplitude**2, 0.5),
                "Decibels are 20 log10 of an amplitude: divide by 20, not by 10.",
            ),
            "swapped": (
                two(amplitude, 0.5)[::-1],
                "The two are swapped: `share` is the part of the pulses.",
            ),
            "squares": (
                two(amplitude, 2),
                "You square the shares. From power to amplitude it is the root.",
            ),
            "dB left": (
                two(level, 0.5),
                "The level is still in dB: 10 ** (level / 20) is the amplitude.",
            ),
        },
    )  # fmt: skip
    return "Their powers add up to the level."
