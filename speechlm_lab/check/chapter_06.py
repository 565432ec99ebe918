"""Checkers of chapter 06: Snake, DAC's codes both ways, codes packed into bytes."""

from collections.abc import Callable

import numpy as np
import scipy.spatial.distance
import torch

from speechlm_lab.check.core import checker, equal, require

__all__ = ["decode_factorised", "encode_factorised", "pack", "snake"]


@checker
def snake(learner: Callable) -> str:
    """Checks snake(x [C, T], alpha [C]) -> [C, T]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5)) * 2
    alpha = np.array([0.5, 1.5, 4.0])
    a = alpha[:, None]
    right = x + np.sin(a * x) ** 2 / a
    equal(
        learner(_tensor(x), _tensor(alpha)),
        right,
        "snake(x, alpha)",
        {
            "not divided": (
                x + np.sin(a * x) ** 2,
                "The wave is not divided by alpha. Without it, a large alpha would "
                "make a steep function: the slope is to stay between 0 and 2.",
            ),
            "sine of the square": (
                x + np.sin((a * x) ** 2) / a,
                "You take the sine of the square. Take the square of the sine.",
            ),
            "sine not squared": (
                x + np.sin(a * x) / a,
                "The sine is not squared.",
            ),
            "x left out": (
                np.sin(a * x) ** 2 / a,
                "Only the wave is left. Add x itself, so that the function climbs.",
            ),
            "alpha outside only": (
                x + np.sin(x) ** 2 / a,
                "alpha is missing within the sine: it decides how fast it waves.",
            ),
            "one alpha for all": (
                x + np.sin(alpha[0] * x) ** 2 / alpha[0],
                "You use the first alpha for every channel. Each has its own: "
                "alpha[:, None].",
            ),
        },
    )
    return "It climbs and it waves, each channel at its own pace."


@checker
def pack(learner: Callable) -> str:
    """Checks pack(codes, bits) -> bytes."""
    for codes, bits in (
        ([300, 0, 511, 7, 257], 9),
        ([5, 1], 3),
        ([1, 1023, 512, 3], 10),
        (list(range(0, 512, 13)), 9),
    ):
        places = np.arange(bits)
        digits = np.array(codes)[:, None] >> places[::-1] & 1
        right = np.packbits(digits.ravel())
        fill = -digits.size % 8
        got = learner(list(codes), bits)
        require(
            isinstance(got, (bytes, bytearray)),
            f"You return a {type(got).__name__}. Return bytes: bytes(numbers) makes "
            "them of a list, number.to_bytes(length, 'big') of one long number.",
            "no bytes",
        )
        wide = {np.array(codes, f"{order}u2").tobytes() for order in "<>"}
        require(
            bytes(got) not in wide,
            f"You spend 16 bits on a code, as a .dac file does. Spend {bits}: the "
            "next code begins in the middle of a byte.",
            "16 bits a code",
        )
        equal(
            list(got),
            right,
            f"list(pack({codes}, {bits}))",
            {
                "lowest bit first": (
                    np.packbits(digits[:, ::-1].ravel()),
                    "You write each code from its lowest bit. Begin with the highest.",
                ),
                "zeros in front": (
                    np.packbits(np.pad(digits.ravel(), (fill, 0))),
                    "You fill up in front, so every code is shifted. The zeros belong "
                    "to the end.",
                ),
                "zeros left out": (
                    np.packbits([int(d) for code in codes for d in f"{code:b}"]),
                    "You leave out the zeros in front of small codes. Each code takes "
                    f"{bits} bits, or nobody knows where the next one begins.",
                ),
                "not filled up": (
                    [*right[:-1], right[-1] >> fill],
                    "The last byte holds its bits at the low end. Zeros go behind "
                    "them: shift them up.",
                ),
                "a byte too many": (
                    [*right, 0],
                    "You add a whole byte of zeros where the codes end at a byte "
                    "already.",
                ),
                "last codes lost": (
                    right[: digits.size // 8],
                    "The last byte is missing: fill it up with zeros, do not drop it.",
                ),
            },
        )
    return "Nine bits for nine bits: the file keeps what the bit rate promised."


@checker
def decode_factorised(learner: Callable) -> str:
    """Checks decode_factorised(codes, entries, weights, biases) -> [F, D]."""
    rng = np.random.default_rng(1)
    levels, frames, size, width, inner = 3, 7, 6, 5, 2
    codes = rng.integers(0, size, (levels, frames))
    entries = rng.standard_normal((levels, size, inner))
    weights = rng.standard_normal((levels, width, inner))
    biases = rng.standard_normal((levels, width))

    def made(k: int, q: int | None = None, bias: bool = True) -> np.ndarray:
        """What level k makes of the codes of level q: [F, D]."""
        row = codes[k if q is None else q]
        out = np.einsum("fd,wd->fw", entries[k][row], weights[k])
        return out + biases[k] * bias

    right = sum(made(k) for k in range(levels))
    got = learner(torch.from_numpy(codes), *map(_tensor, (entries, weights, biases)))
    require(
        np.shape(got) != right.T.shape,
        "You return [D, F]. Return frames first: [F, D].",
        "transposed",
    )
    equal(
        got,
        right,
        "decode_factorised(codes, entries, weights, biases)",
        {
            "no biases": (
                sum(made(k, bias=False) for k in range(levels)),
                "The biases are missing: each level adds its own.",
            ),
            "one bias": (
                sum(made(k, bias=k == 0) for k in range(levels)),
                "You add the bias of the first level only. Each level adds its own.",
            ),
            "last level only": (
                made(levels - 1),
                "That is the last level alone. Add up what all levels make.",
            ),
            "first level only": (
                made(0),
                "That is the first level alone. Add up what all levels make.",
            ),
            "one list for all": (
                sum(
                    entries[0][codes[k]] @ weights[k].T + biases[k]
                    for k in range(levels)
                ),
                "You look every code up in the first list. Level k has entries[k].",
            ),
            "one matrix for all": (
                sum(
                    entries[k][codes[k]] @ weights[0].T + biases[k]
                    for k in range(levels)
                ),
                "You project every level by the first matrix. Level k has weights[k].",
            ),
            "unit entries": (
                sum(
                    (entries[k] / np.linalg.norm(entries[k], axis=1, keepdims=True))[
                        codes[k]
                    ]
                    @ weights[k].T
                    + biases[k]
                    for k in range(levels)
                ),
                "You normalise the entries. Only the search ignores their length; what "
                "is decoded is the entry as it is.",
            ),
            "mean": (
                right / levels,
                "You take the mean over levels. They are corrections: add them.",
            ),
        },
    )
    return "Look up, project, add: that is all that a decoder of codes does."


@checker
def encode_factorised(learner: Callable) -> str:
    """Checks encode_factorised(z, down, entries, up) -> codes [K, F]."""
    rng = np.random.default_rng(2)
    levels, frames, size, width, inner = 3, 60, 8, 6, 2
    z = rng.standard_normal((frames, width))
    down = rng.standard_normal((levels, inner, width))
    lengths = rng.uniform(0.3, 3, (levels, size, 1))
    entries = rng.standard_normal((levels, size, inner)) * lengths
    up = rng.standard_normal((levels, width, inner)) * 0.3

    def encode(metric: str = "cosine", subtract: str = "entry") -> np.ndarray:
        left, codes = z, []
        for k in range(levels):
            inside = left @ down[k].T
            distance = scipy.spatial.distance.cdist(inside, entries[k], metric)
            codes.append(distance.argmin(1))
            chosen = entries[k][codes[-1]]
            if subtract == "unit":
                chosen = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
            if subtract == "added":
                chosen = -chosen
            if subtract != "nothing":
                left = left - chosen @ up[k].T
        return np.stack(codes)

    right = encode()
    products, left = [], z
    for k in range(levels):
        products.append((left @ down[k].T @ entries[k].T).argmax(1))
        left = left - entries[k][products[-1]] @ up[k].T
    axis, left = [], z
    for k in range(levels):
        across = entries[k] / np.linalg.norm(entries[k], axis=0)
        axis.append((left @ down[k].T @ across.T).argmax(1))
        left = left - entries[k][axis[-1]] @ up[k].T
    axis = np.stack(axis)
    got = learner(*map(_tensor, (z, down, entries, up)))
    require(
        np.shape(got) != right.T.shape,
        "You return [F, K]. Return levels first: torch.stack(codes) gives [K, F].",
        "transposed",
    )
    equal(
        got,
        right,
        "encode_factorised(z, down, entries, up)",
        {
            "distance": (
                encode("euclidean"),
                "You take the nearest entry. DAC takes the one that points most nearly "
                "in the same direction: normalise the entries.",
            ),
            "long entries win": (
                np.stack(products),
                "You take the largest product with the entries as they are, so long "
                "entries win. Normalise them for the search.",
            ),
            "wrong axis": (
                axis,
                "You normalise across the entries. Each entry's own length is to "
                "become 1: dim=-1.",
            ),
            "nothing subtracted": (
                encode(subtract="nothing"),
                "Every level gets the same latents. Subtract what a level made before "
                "you go on to the next.",
            ),
            "added": (
                encode(subtract="added"),
                "You add what the level made. Subtract it: the next level works on "
                "what is left.",
            ),
            "unit entries subtracted": (
                encode(subtract="unit"),
                "You subtract the normalised entry. The search ignores length; what is "
                "subtracted, and decoded, is the entry as it is.",
            ),
        },
        tolerance=1e-9,
    )
    return "The package's search, in five lines."


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float32))
