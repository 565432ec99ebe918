"""The checkers of chapter 05: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests

from speechlm_lab import check
from speechlm_lab.check import chapter_05


def period(like, low, high, share=0.9, absolute=False, peak=True, last=False):
    highest = 1.0 if absolute else like[low : high + 1].max()
    good = [
        lag
        for lag in range(low, high + 1)
        if like[lag] > share * highest
        and (not peak or like[lag - 1] < like[lag] >= like[lag + 1])
    ]
    return good[-1 if last else 0] if good else -1


def tones(pitch, count, rate, wave=torch.cos, turn=2 * math.pi, first=1, limit=True):
    phase = (pitch.double() / rate).cumsum(0)
    k = torch.arange(first, first + count)[:, None]
    heard = k * pitch < rate / 2 if limit else 1.0
    return (heard * wave(turn * k * phase)).sum(0)


def by_time(pitch, count, rate, start=1):
    time = torch.arange(start, len(pitch) + start, dtype=torch.double) / rate
    k = torch.arange(1, count + 1)[:, None]
    heard = k * pitch < rate / 2
    return (heard * torch.cos(2 * math.pi * k * pitch * time)).sum(0)


def late(pitch, count, rate):
    phase = (pitch.double() / rate).cumsum(0) - pitch / rate
    k = torch.arange(1, count + 1)[:, None]
    return ((k * pitch < rate / 2) * torch.cos(2 * math.pi * k * phase)).sum(0)


def left_out(pitch, count, rate):
    phase = (pitch.double() / rate).cumsum(0)
    k = torch.arange(1, count + 1)[:, None]
    heard = (k * pitch < rate / 2).all(1, keepdim=True)
    return (heard * torch.cos(2 * math.pi * k * phase)).sum(0)


def each(pitch, count, rate):
    phase = (pitch.double() / rate).cumsum(0)
    k = torch.arange(1, count + 1)[:, None]
    return torch.cos(2 * math.pi * k * phase)


def components(rows, share, centre=True, power=2):
    rows = rows - rows.mean(0) if centre else rows
    values = torch.linalg.svdvals(rows) ** power
    return int((values.cumsum(0) / values.sum() < share).sum()) + 1


def from_the_smallest(rows, share):
    values = torch.linalg.eigvalsh(torch.cov(rows.T))
    return int((values.cumsum(0) / values.sum() < share).sum()) + 1


def split(level, share, decibel=20, power=0.5):
    amplitude = 10 ** (level / decibel)
    return amplitude * share**power, amplitude * (1 - share) ** power


RIGHT = {
    "period_of": period,
    "harmonics": tones,
    "components_for": components,
    "split_level": split,
}


def stopping(pitch, count, rate):
    k = torch.arange(1, count + 1)[:, None]
    heard = k * pitch < rate / 2
    phase = (heard * k * pitch.double() / rate).cumsum(1)
    return (heard * torch.cos(2 * math.pi * phase)).sum(0)


MISTAKES = [
    (
        "period_of",
        lambda x, a, b: next(
            (p for p in range(a, b + 1) if x[p - 1] < x[p] >= x[p + 1] and x[p] > 0.9),
            None,
        ),
        "absolute",
    ),
    ("period_of", lambda x, a, b: a + int(x[a : b + 1].argmax()), "highest"),
    ("period_of", lambda x, a, b: period(x, a, b, peak=False), "no peak"),
    ("period_of", lambda x, a, b: period(x, a, b) - a, "range not added"),
    ("period_of", lambda x, a, b: period(x, a, b, last=True), "highest"),
    ("period_of", lambda x, a, b: period(x, a, b, share=0), "any peak"),
    ("period_of", lambda x, a, b: int(x.argmax()), "lag 0"),
    ("period_of", lambda x, a, b: period(x, a, b, absolute=True), "absolute"),
    ("period_of", lambda x, a, b: period(x, a + 1, b), "edge left out"),
    ("harmonics", by_time, "pitch times time"),
    ("harmonics", lambda p, n, r: by_time(p, n, r, 0), "pitch times time, from 0"),
    ("harmonics", lambda p, n, r: tones(p, n, r, limit=False), "aliasing"),
    ("harmonics", left_out, "left out for good"),
    ("harmonics", stopping, "phase stops"),
    ("harmonics", late, "one sample late"),
    ("harmonics", lambda p, n, r: tones(p, n, r, torch.sin), "sines"),
    ("harmonics", lambda p, n, r: tones(p, n, r, turn=1), "periods for radians"),
    ("harmonics", lambda p, n, r: tones(p, n, r, first=0), "from 0"),
    ("harmonics", lambda p, n, r: tones(p, n, r) / n, "mean"),
    ("harmonics", each, "not summed"),
    ("components_for", lambda x, s: components(x, s, centre=False), "not centred"),
    ("components_for", lambda x, s: components(x, s, power=1), "not squared"),
    ("components_for", lambda x, s: components(x, s) - 1, "one too few"),
    ("components_for", lambda x, s: components(x, s) + 1, "one too many"),
    ("components_for", from_the_smallest, "smallest first"),
    ("components_for", lambda x, s: x[0], "not a number"),
    ("split_level", lambda x, s: split(x, s, power=1), "amplitudes split"),
    ("split_level", lambda x, s: split(x, s, decibel=10, power=1), "powers"),
    ("split_level", lambda x, s: split(x, s, decibel=10), "dB of power"),
    ("split_level", lambda x, s: split(x, s)[::-1], "swapped"),
    ("split_level", lambda x, s: split(x, s, power=2), "squares"),
    ("split_level", lambda x, s: (x * s.sqrt(), x * (1 - s).sqrt()), "dB left"),
    ("split_level", lambda x, s: x, "not two"),
]


TestCheckers = checker_tests(chapter_05, RIGHT, MISTAKES)


def test_two_rows_of_a_tensor_are_two_things():
    assert check.split_level(lambda x, s: torch.stack(split(x, s))).passed
