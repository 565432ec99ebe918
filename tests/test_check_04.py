"""The checkers of chapter 04: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests

from speechlm_lab.check import chapter_04


def budget(budget, frame_rate, V, K):
    return min(K, int(budget // (frame_rate * math.log2(V))))


def swap(codes_a, codes_b, k):
    F = min(codes_a.shape[1], codes_b.shape[1])
    mixed = codes_a[:, :F].clone()
    mixed[k - 1] = codes_b[k - 1, :F]
    return mixed


def up_to(codes_a, codes_b, k):
    F = min(codes_a.shape[1], codes_b.shape[1])
    return torch.cat([codes_b[:k, :F], codes_a[k:, :F]])


def uncut(codes_a, codes_b, k):
    F = min(codes_a.shape[1], codes_b.shape[1])
    mixed = codes_a.clone()
    mixed[k - 1, :F] = codes_b[k - 1, :F]
    return mixed


def share(K, p):
    return torch.tensor([1 - p + p * (K - k) / K for k in range(K)])


def number_of_levels(K, p):
    return torch.tensor([p / K] * (K - 1) + [p / K + 1 - p])


def left(latents, lists, subtract=1.0):
    sizes = []
    for entries in lists:
        step = entries[torch.cdist(latents, entries).argmin(1)]
        sizes.append((latents - step).square().mean())
        latents = latents - subtract * step
    return torch.stack(sizes)


def left_stale(latents, lists):
    sizes, residual = [], latents
    for entries in lists:
        residual = residual - entries[torch.cdist(latents, entries).argmin(1)]
        sizes.append(residual.square().mean())
    return torch.stack(sizes)


def left_added(latents, lists):
    sizes = []
    for entries in lists:
        latents = latents + entries[torch.cdist(latents, entries).argmin(1)]
        sizes.append(latents.square().mean())
    return torch.stack(sizes)


def left_before(latents, lists):
    return torch.cat([latents.square().mean()[None], left(latents, lists)[:-1]])


def pair_numbers(latents, first, second):
    sums = (first[:, None] + second).flatten(0, 1)
    return torch.cdist(latents, sums).argmin(1)


def pair(latents, first, second):
    both, W = pair_numbers(latents, first, second), len(second)
    return torch.stack([both // W, both % W])


def greedy(latents, first, second):
    one = torch.cdist(latents, first).argmin(1)
    two = torch.cdist(latents - first[one], second).argmin(1)
    return torch.stack([one, two])


def divided(latents, first, second):
    both, V = pair_numbers(latents, first, second), len(first)
    return torch.stack([both // V, both % V])


def first_fastest(latents, first, second):
    sums = (first + second[:, None]).flatten(0, 1)
    both, W = torch.cdist(latents, sums).argmin(1), len(second)
    return torch.stack([both // W, both % W])


def a_frame(codes_a, codes_b, k):
    F = min(codes_a.shape[1], codes_b.shape[1])
    mixed = codes_a[:, :F].clone()
    mixed[:, k - 1] = codes_b[:, k - 1]
    return mixed


RIGHT = {
    "levels_for": budget,
    "swap_level": swap,
    "level_share": share,
    "left_over": left,
    "best_pair": pair,
}
MISTAKES = [
    (
        "levels_for",
        lambda b, r, V, K: int(b // (r * math.log2(V))),
        "more than there are",
    ),
    (
        "levels_for",
        lambda b, r, V, K: min(K, math.ceil(b / (r * math.log2(V)))),
        "rounded up",
    ),
    ("levels_for", lambda b, r, V, K: max(1, budget(b, r, V, K)), "at least one"),
    ("levels_for", lambda b, r, V, K: min(K, b / (r * math.log2(V))), "not whole"),
    ("levels_for", lambda b, r, V, K: min(K, int(b // (r * math.log(V)))), "nats"),
    ("levels_for", lambda b, r, V, K: min(K, int(b // (r * V))), "entries as bits"),
    ("levels_for", lambda b, r, V, K: budget(b, 1, V, K), "frame rate forgotten"),
    (
        "levels_for",
        lambda b, r, V, K: int(b // (r * K * math.log2(V))),
        "all levels at once",
    ),
    ("levels_for", lambda b, r, V, K: budget(b - 0.01, r, V, K), "exact fit"),
    (
        "levels_for",
        lambda b, r, V, K: budget(b, r, 2 ** int(math.log2(V)), K),
        "bits cut off",
    ),
    (
        "levels_for",
        lambda b, r, V, K: budget(b, r, 2 ** math.ceil(math.log2(V)), K),
        "bits rounded up",
    ),
    ("levels_for", lambda b, r, V, K: budget(b, int(r), V, K), "frame rate cut off"),
    ("levels_for", lambda b, r, V, K: K, None),
    ("swap_level", lambda a, b, k: swap(a, b, k + 1), "counted from 0"),
    ("swap_level", lambda a, b, k: swap(b, a, k), "the wrong way round"),
    ("swap_level", up_to, "all levels up to k"),
    ("swap_level", uncut, "not cut"),
    ("swap_level", a_frame, "a frame"),
    ("swap_level", lambda a, b, k: swap(a, b, k).float(), "no whole numbers"),
    ("level_share", lambda K, p: share(K, 1.0), "dropout always"),
    ("level_share", lambda K, p: share(K, 1 - p), "p and 1 - p"),
    ("level_share", lambda K, p: share(K, p) - (1 - p), "without the rest"),
    ("level_share", lambda K, p: share(K, p).flip(0), "reversed"),
    ("level_share", lambda K, p: torch.full((K,), 1 - p + p / K), "exactly k"),
    ("level_share", lambda K, p: share(K, p) - p / K, "more than k"),
    ("level_share", number_of_levels, "number of levels"),
    (
        "level_share",
        lambda K, p: 1 - p + p * (K - torch.arange(1.0, K + 1)) / (K - 1),
        "never the last",
    ),
    ("left_over", lambda z, e: left(z, e, subtract=0.0), "latents every time"),
    ("left_over", left_added, "added"),
    ("left_over", left_stale, "chosen by the latents"),
    ("left_over", left_before, "before"),
    ("left_over", lambda z, e: left(z, e).sqrt(), "root"),
    ("left_over", lambda z, e: left(z, e) * z.shape[1], "sum over numbers"),
    ("left_over", lambda z, e: left(z, e)[-1], "last only"),
    ("best_pair", greedy, "greedy"),
    ("best_pair", lambda z, a, b: greedy(z, b, a).flip(0), "second list first"),
    ("best_pair", lambda z, a, b: pair(z, a, b).flip(0), "rows exchanged"),
    ("best_pair", lambda z, a, b: pair(z, a, b).T, "transposed"),
    ("best_pair", pair_numbers, "not split"),
    ("best_pair", divided, "divided by V"),
    ("best_pair", first_fastest, "first fastest"),
]


TestCheckers = checker_tests(chapter_04, RIGHT, MISTAKES)
