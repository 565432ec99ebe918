"""The checkers of chapter 03: right answers pass, planted mistakes are named."""

import math

import numpy as np
import pytest
import torch
from elements import checker_tests
from torch.nn import functional as nnf

from speechlm_lab import check
from speechlm_lab.check import chapter_03
from speechlm_lab.quantize import count_and_sum, nearest


def entropy(codes, V):
    share = torch.bincount(codes, minlength=V).double() / len(codes)
    return float(torch.special.entr(share).sum() / math.log(2))


def bits(codes, V, frame_rate):
    return frame_rate * entropy(codes, V)


def bits_nan(codes, V, frame_rate):
    share = torch.bincount(codes, minlength=V) / len(codes)
    return -frame_rate * (share * share.log2()).sum()


def gradient(latents, codebook):
    codebook = codebook.clone().requires_grad_()
    codes = torch.cdist(latents, codebook).argmin(1)
    (latents - codebook[codes]).square().mean().backward()
    return codebook.grad


def pulls(latents, codebook):
    codes = nearest(latents, codebook)
    return codes, 2 * (codebook[codes] - latents) / latents.numel()  # [N, D]


def last_pull(latents, codebook):
    codes, each = pulls(latents, codebook)
    gradient = torch.zeros_like(codebook)
    for v, pull in zip(codes, each, strict=True):
        gradient[v] = pull
    return gradient


def divided_by_count(latents, codebook):
    codes = nearest(latents, codebook)
    count, total = count_and_sum(latents, codes, len(codebook))
    return 2 * (codebook - total / count[:, None]) / latents.numel()


def count_forgotten(latents, codebook):
    codes = nearest(latents, codebook)
    _, total = count_and_sum(latents, codes, len(codebook))
    return 2 * (codebook - total) / latents.numel()


def spread(points, size, score=lambda d: d.min(1).values.argmax()):
    chosen = [0]
    while len(chosen) < size:
        chosen.append(int(score(torch.cdist(points, points[chosen]))))
    return points[chosen]


def farthest_from_first(points, size):
    distance = torch.cdist(points, points[:1])[:, 0]
    distance[0] = 1e9
    return points[distance.argsort(descending=True)[:size]]


def direction(latents, codebook):
    unit = nnf.normalize(codebook, dim=1)
    return (nnf.normalize(latents, dim=1) @ unit.T).argmax(1)


def grid(codes, levels):
    digits = np.stack(np.unravel_index(codes.numpy(), levels), 1)
    return torch.tensor(2 * digits / (np.array(levels) - 1) - 1)


def share_of_v(codes, V, frame_rate):
    share = torch.bincount(codes, minlength=V).double() / V
    share = share[share > 0]
    return -frame_rate * (share * share.log2()).sum()


def not_weighted(codes, V, frame_rate):
    share = torch.bincount(codes, minlength=V).double() / len(codes)
    return -frame_rate * share[share > 0].log2().mean()


def nothing_taken_off(codes, levels):
    places = [2 * (codes % base) / (base - 1) - 1 for base in levels]
    return torch.stack(places, 1)


RIGHT = {
    "useful_bits": bits,
    "codebook_gradient": gradient,
    "spread_start": spread,
    "nearest_direction": direction,
    "grid_point": grid,
}
MISTAKES = [
    ("useful_bits", bits_nan, "unused entries"),
    ("useful_bits", lambda c, V, r: r * entropy(c, V) * math.log(2), "nats"),
    ("useful_bits", lambda c, V, r: r * math.log2(V), "all entries alike"),
    ("useful_bits", lambda c, V, r: r * 2 ** entropy(c, V), "perplexity"),
    ("useful_bits", lambda c, V, r: entropy(c, V), "frame rate forgotten"),
    ("useful_bits", lambda c, V, r: -bits(c, V, r), "minus forgotten"),
    ("useful_bits", share_of_v, "shares of V"),
    ("useful_bits", not_weighted, "not weighted"),
    ("useful_bits", lambda c, V, r: torch.bincount(c) / len(c), "not summed"),
    ("codebook_gradient", lambda z, e: pulls(z, e)[1], "a row for each latent"),
    ("codebook_gradient", last_pull, "last one only"),
    ("codebook_gradient", divided_by_count, "unused entry"),
    ("codebook_gradient", count_forgotten, "count forgotten"),
    ("codebook_gradient", lambda z, e: -gradient(z, e), "sign"),
    ("codebook_gradient", lambda z, e: gradient(z, e) * z.numel(), "not divided"),
    ("codebook_gradient", lambda z, e: gradient(z, e) * 3, "divided by N only"),
    ("codebook_gradient", lambda z, e: gradient(z, e) / 2, "two forgotten"),
    (
        "codebook_gradient",
        lambda z, e: 2 * (len(z) * e - z.sum(0)) / z.numel(),
        "every entry",
    ),
    (
        "spread_start",
        lambda p, n: spread(p, n, lambda d: d[:, -1].argmax()),
        "farthest from the last",
    ),
    (
        "spread_start",
        lambda p, n: spread(p, n, lambda d: d.sum(1).argmax()),
        "farthest on average",
    ),
    ("spread_start", lambda p, n: torch.arange(n), "indices"),
    ("spread_start", lambda p, n: list(range(n)), "indices"),
    ("spread_start", lambda p, n: spread(p.flip(0), n), "another first point"),
    ("spread_start", farthest_from_first, "all from the first"),
    (
        "spread_start",
        lambda p, n: spread(p, n, lambda d: d.min(1).values.argmin()),
        "nearest",
    ),
    (
        "nearest_direction",
        lambda z, e: torch.cdist(z, e).argmin(1),
        "distance",
    ),
    ("nearest_direction", lambda z, e: (z @ e.T).argmax(1), "long entries win"),
    ("nearest_direction", lambda z, e: direction(z, e).float(), "no whole numbers"),
    ("nearest_direction", lambda z, e: direction(-z, e), "opposite"),
    ("nearest_direction", lambda z, e: z @ nnf.normalize(e, dim=1).T, "scores"),
    (
        "nearest_direction",
        lambda z, e: (z @ nnf.normalize(e, dim=0).T).argmax(1),
        "wrong axis",
    ),
    ("grid_point", lambda c, n: grid(c, n).T, "transposed"),
    ("grid_point", nothing_taken_off, "nothing taken off"),
    ("grid_point", lambda c, n: grid(c, n).flip(1), "columns reversed"),
    ("grid_point", lambda c, n: (grid(c, n) + 1) / 2, "from 0 to 1"),
    (
        "grid_point",
        lambda c, n: (grid(c, n) + 1) * (torch.tensor(n) - 1) / torch.tensor(n) - 1,
        "largest digit below 1",
    ),
]


TestCheckers = checker_tests(chapter_03, RIGHT, MISTAKES)


@pytest.mark.parametrize(
    "name, answer, words",
    [
        ("codebook_gradient", lambda z, e: 7 * gradient(z, e), "of 40 latents, gives"),
        ("spread_start", lambda p, n: p[:n], "Choice 1, counted from 0, gives"),
        ("nearest_direction", lambda z, e: direction(z, e) + 1, "Latent 0 gives 8;"),
        ("grid_point", lambda c, n: grid(c, n) / 2, "Code 0 gives [-0.5, "),
    ],
)
def test_an_unknown_mistake_is_told_by_its_first_row(name, answer, words):
    report = getattr(check, name)(answer)
    assert not report.passed and report.mistake is None
    assert words in report.message, report
