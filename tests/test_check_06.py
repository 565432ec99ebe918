"""The checkers of chapter 06: right answers pass, planted mistakes are named."""

import torch
from elements import checker_tests
from torch.nn import functional as nnf

from speechlm_lab import check
from speechlm_lab.check import chapter_06


def snake(x, alpha):
    a = alpha[:, None]
    return x + torch.sin(a * x) ** 2 / a


def pack(codes, bits, order=1, front=False, fill=True):
    digits = "".join(f"{code:0{bits}b}"[::order] for code in codes)
    zeros = "0" * (-len(digits) % 8) if fill else ""
    digits = zeros + digits if front else digits + zeros
    return bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits) - 7, 8))


def unshifted(codes, bits):
    digits = "".join(f"{code:0{bits}b}" for code in codes)
    return bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))


def one_at_most(codes, bits):
    buffer, n, out = 0, 0, []
    for code in codes:
        buffer, n = (buffer << bits) | code, n + bits
        if n >= 8:
            n -= 8
            out.append(buffer >> n & 255)
    return bytes(out + ([buffer << (8 - n) & 255] if n else []))


def decode(codes, entries, weights, biases):
    return sum(
        entries[k][row] @ weights[k].T + biases[k] for k, row in enumerate(codes)
    )


def encode(z, down, entries, up, unit=True, kept=lambda e: e, sign=1.0, axis=1):
    codes = []
    for k in range(len(entries)):
        score = nnf.normalize(entries[k], dim=axis) if unit else entries[k]
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
    "pack": pack,
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
    ("pack", lambda c, b: list(pack(c, b)), "no bytes"),
    ("pack", lambda c, b: pack(c, 16), "16 bits a code"),
    (
        "pack",
        lambda c, b: b"".join(x.to_bytes(2, "little") for x in c),
        "16 bits a code",
    ),
    ("pack", lambda c, b: pack(c, b, order=-1), "lowest bit first"),
    ("pack", lambda c, b: pack(c, b, front=True), "zeros in front"),
    ("pack", lambda c, b: pack(c, 1), "zeros left out"),
    ("pack", lambda c, b: pack(c, b, fill=False), "last codes lost"),
    ("pack", unshifted, "not filled up"),
    (
        "pack",
        lambda c, b: pack(c, b) + b"\0" * (len(c) * b % 8 == 0),
        "a byte too many",
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
    (
        "decode_factorised",
        lambda c, e, w, b: decode(c, nnf.normalize(e, dim=2), w, b),
        "unit entries",
    ),
    (
        "decode_factorised",
        lambda c, e, w, b: decode(c, e, w[:1].expand_as(w), b),
        "one matrix for all",
    ),
    ("decode_factorised", lambda *a: decode(*a) / 3, "mean"),
    ("encode_factorised", lambda *a: encode(*a).T, "transposed"),
    ("encode_factorised", encode_near, "distance"),
    ("encode_factorised", lambda *a: encode(*a, axis=0), "wrong axis"),
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


def test_one_byte_a_code_at_most_is_not_enough():
    """Nine bits a code: after eight codes there are two bytes to take."""
    report = check.pack(one_at_most)
    assert not report.passed
