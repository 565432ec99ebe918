"""The checkers of chapter 06: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests
from torch.nn import functional as nnf

from speechlm_lab.check import chapter_06


def snake(x, alpha):
    a = alpha[:, None]
    return x + torch.sin(a * x) ** 2 / a


def exact(budget, sample_rate, strides, V):
    return budget / (sample_rate / math.prod(strides) * math.log2(V))


def levels(*args):
    return int(exact(*args))


def decode(codes, entries, weights, biases):
    return sum(
        entries[k][row] @ weights[k].T + biases[k] for k, row in enumerate(codes)
    )


def encode(z, down, entries, up, unit=True, kept=lambda e: e, sign=1.0):
    codes = []
    for k in range(len(entries)):
        score = nnf.normalize(entries[k]) if unit else entries[k]
        codes.append((z @ down[k].T @ score.T).argmax(1))
        z = z - sign * kept(entries[k][codes[-1]]) @ up[k].T
    return torch.stack(codes)


def encode_near(z, down, entries, up):
    codes = []
    for k in range(len(entries)):
        codes.append(torch.cdist(z @ down[k].T, entries[k]).argmin(1))
        z = z - entries[k][codes[-1]] @ up[k].T
    return torch.stack(codes)


RIGHT = {
    "snake": snake,
    "levels_within": levels,
    "decode_factorised": decode,
    "encode_factorised": encode,
}
MISTAKES = [
    ("snake", lambda x, a: x + torch.sin(a[:, None] * x) ** 2, "not divided"),
    (
        "snake",
        lambda x, a: x + torch.sin((a[:, None] * x) ** 2) / a[:, None],
        "sine of the square",
    ),
    (
        "snake",
        lambda x, a: x + torch.sin(a[:, None] * x) / a[:, None],
        "sine not squared",
    ),
    ("snake", lambda x, a: snake(x, a) - x, "x left out"),
    ("snake", lambda x, a: x + torch.sin(x) ** 2 / a[:, None], "alpha outside only"),
    ("snake", lambda x, a: snake(x, a[:1]), "one alpha for all"),
    ("levels_within", exact, "not a whole number"),
    ("levels_within", lambda *a: math.ceil(exact(*a)), "rounded up"),
    (
        "levels_within",
        lambda b, r, s, V: int(b / (r / sum(s) * math.log2(V))),
        "strides added",
    ),
    (
        "levels_within",
        lambda b, r, s, V: int(b / (r / math.prod(s) * math.log(V))),
        "natural logarithm",
    ),
    (
        "levels_within",
        lambda b, r, s, V: int(b / (r / math.prod(s) * V)),
        "V bits a code",
    ),
    (
        "levels_within",
        lambda b, r, s, V: int(b / (r * math.log2(V))),
        "a code a sample",
    ),
    ("decode_factorised", lambda *a: decode(*a).T, "transposed"),
    ("decode_factorised", lambda c, e, w, b: decode(c, e, w, b * 0), "no biases"),
    (
        "decode_factorised",
        lambda c, e, w, b: decode(c, e, w, b * torch.tensor([[1.0], [0], [0]])),
        "one bias",
    ),
    ("decode_factorised", lambda *a: decode(*(x[-1:] for x in a)), "last level only"),
    ("decode_factorised", lambda *a: decode(*(x[:1] for x in a)), "first level only"),
    (
        "decode_factorised",
        lambda c, e, w, b: decode(c, e[:1].expand_as(e), w, b),
        "one list for all",
    ),
    ("decode_factorised", lambda *a: decode(*a) / 3, "mean"),
    ("encode_factorised", lambda *a: encode(*a).T, "transposed"),
    ("encode_factorised", encode_near, "distance"),
    ("encode_factorised", lambda *a: encode(*a, unit=False), "long entries win"),
    ("encode_factorised", lambda *a: encode(*a, sign=0.0), "nothing subtracted"),
    ("encode_factorised", lambda *a: encode(*a, sign=-1.0), "added"),
    (
        "encode_factorised",
        lambda *a: encode(*a, kept=nnf.normalize),
        "unit entries subtracted",
    ),
]


TestCheckers = checker_tests(chapter_06, RIGHT, MISTAKES)
