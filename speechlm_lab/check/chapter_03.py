"""Checkers of chapter 03: bits in use, gradients, starts, directions, grids."""

from collections.abc import Callable

import numpy as np
import scipy.spatial.distance
import scipy.stats
import torch

from speechlm_lab.check.core import checker, equal, require

__all__ = [
    "codebook_gradient",
    "grid_point",
    "nearest_direction",
    "spread_start",
    "useful_bits",
]


@checker
def useful_bits(learner: Callable) -> str:
    """Checks useful_bits(codes [F], V, frame_rate) -> bits a second."""
    for codes, size, frame_rate in (
        ([0, 0, 0, 1, 1, 2, 2, 2, 2, 2], 4, 50.0),
        ([3, 1, 3, 3, 5, 5, 0, 1, 3, 3, 3, 3], 8, 62.5),
    ):
        share = np.bincount(codes, minlength=size) / len(codes)
        bits = scipy.stats.entropy(share, base=2)
        got = learner(torch.tensor(codes), size, frame_rate)
        require(
            not np.isnan(float(got)),
            "You get NaN: an entry that never occurs has share 0, and 0 · log 0 is "
            "NaN in floating point. It should count as 0.",
            "unused entries",
        )
        equal(
            float(got),
            frame_rate * bits,
            f"useful_bits(codes, {size}, {frame_rate:g})",
            {
                "nats": (
                    frame_rate * scipy.stats.entropy(share),
                    "That is the entropy in nats. For bits divide by ln 2.",
                ),
                "all entries alike": (
                    frame_rate * np.log2(size),
                    "log2 V is what a code costs. What it tells is the entropy of "
                    "how often each occurs.",
                ),
                "entries in use alike": (
                    frame_rate * np.log2((share > 0).sum()),
                    "Used entries are not all used equally often: take the entropy.",
                ),
                "perplexity": (
                    frame_rate * 2**bits,
                    "That is the perplexity, 2 to the entropy. Stop one step before.",
                ),
                "frame rate forgotten": (
                    bits,
                    "That is bits a code. There are frame_rate codes in a second.",
                ),
            },
        )
    return "Entropy times frame rate: what the codes really tell."


@checker
def codebook_gradient(learner: Callable) -> str:
    """Checks codebook_gradient(latents [N, D], codebook [V, D]) -> [V, D]."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((40, 3))
    codebook = np.concatenate([rng.standard_normal((5, 3)), [[9.0, 9.0, 9.0]]])
    chosen = scipy.spatial.distance.cdist(latents, codebook).argmin(1)
    total = np.zeros_like(codebook)
    for z, v in zip(latents, chosen, strict=True):
        total[v] += 2 * (codebook[v] - z)
    right = total / latents.size
    count = np.bincount(chosen, minlength=len(codebook))[:, None]
    equal(
        learner(_tensor(latents), _tensor(codebook)),
        right,
        "codebook_gradient(latents, codebook)",
        {
            "sign": (-right, "The sign is wrong: the entry stands with a minus."),
            "not divided": (total, "A mean divides by N · D; you return the sum."),
            "divided by N only": (
                total / len(latents),
                "The mean is over all N · D numbers, not over the N latents.",
            ),
            "mean over the chosen": (
                total / np.maximum(count, 1) / codebook.shape[1],
                "You divide each row by its own count. The mean is over all N · D "
                "numbers, so an entry that is seldom chosen gets a small gradient.",
            ),
            "two forgotten": (
                right / 2,
                "Half of it: the derivative of a square brings a factor of 2.",
            ),
            "every entry": (
                2 * (len(latents) * codebook - latents.sum(0)) / latents.size,
                "You let every latent pull at every entry. Each chooses one.",
            ),
        },
    )
    return "Equal to the derivative, and zero for the entry that nobody chose."


@checker
def spread_start(learner: Callable) -> str:
    """Checks spread_start(points [N, D], size) -> [size, D], in order of choice."""
    rng = np.random.default_rng(3)
    points = rng.standard_normal((60, 2))
    size = 5

    def choose(score: Callable) -> np.ndarray:
        taken = [0]
        while len(taken) < size:
            distance = scipy.spatial.distance.cdist(points, points[taken])
            taken.append(int(score(distance)))
        return np.array(taken)

    right = choose(lambda d: d.min(1).argmax())
    got = learner(_tensor(points), size)
    shape = tuple(getattr(got, "shape", ()))
    require(
        shape != (size,),
        "You return the numbers of the points. Return the points: points[chosen].",
        "indices",
    )
    equal(
        got,
        points[right],
        "spread_start(points, 5)",
        {
            "farthest from the last": (
                points[choose(lambda d: d[:, -1].argmax())],
                "You look at the distance to the last chosen point only, and so jump "
                "to and fro. Look at the nearest of all chosen ones.",
            ),
            "farthest on average": (
                points[choose(lambda d: d.sum(1).argmax())],
                "You add up the distances to all chosen points. A point next to one of "
                "them can have a large sum: take the smallest distance of each.",
            ),
            "farthest from the farthest": (
                points[choose(lambda d: d.max(1).argmax())],
                "You take the distance to the farthest chosen point. What counts is "
                "the nearest chosen one: min before argmax.",
            ),
        },
    )
    return "The first point, then always the loneliest one."


@checker
def nearest_direction(learner: Callable) -> str:
    """Checks nearest_direction(latents [N, D], codebook [V, D]) -> codes [N]."""
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((200, 4)) * rng.uniform(0.1, 5, (200, 1))
    codebook = rng.standard_normal((9, 4)) * rng.uniform(0.1, 5, (9, 1))
    cosine = 1 - scipy.spatial.distance.cdist(latents, codebook, "cosine")
    equal(
        learner(_tensor(latents), _tensor(codebook)),
        cosine.argmax(1),
        "nearest_direction(latents, codebook)",
        {
            "distance": (
                scipy.spatial.distance.cdist(latents, codebook).argmin(1),
                "You compare places. Two vectors can point the same way and lie far "
                "apart: give both the length 1 first.",
            ),
            "long entries win": (
                (latents @ codebook.T).argmax(1),
                "In a plain product a long entry beats a short one that points "
                "better. Give the entries the length 1.",
            ),
            "opposite": (
                cosine.argmin(1),
                "You found the entries that point away: take the largest.",
            ),
            "either way": (
                np.abs(cosine).argmax(1),
                "An entry that points the opposite way is not near: no abs.",
            ),
        },
    )
    return "By direction alone, whatever the lengths."


@checker
def grid_point(learner: Callable) -> str:
    """Checks grid_point(codes [N], levels) -> points [N, d] in [-1, 1]."""
    for levels in ((3, 5, 2), (8, 5)):
        codes = np.arange(np.prod(levels))
        digits = np.stack(np.unravel_index(codes, levels), axis=1)  # [N, d]
        other = np.stack(np.unravel_index(codes, levels, order="F"), axis=1)
        base = np.array(levels)
        equal(
            learner(torch.from_numpy(codes), levels),
            2 * digits / (base - 1) - 1,
            f"grid_point(codes, {levels})",
            {
                "digits reversed": (
                    2 * other / (base - 1) - 1,
                    "You take the first digit as the one that counts least. In "
                    "join_digits it counts most.",
                ),
                "columns reversed": (
                    (2 * digits / (base - 1) - 1)[:, ::-1],
                    "The values are right, the columns are in reverse order.",
                ),
                "from 0 to 1": (
                    digits / (base - 1),
                    "Your points lie between 0 and 1: stretch them to -1 to 1.",
                ),
                "largest digit below 1": (
                    2 * digits / base - 1,
                    "The largest digit is base - 1: divide by that, and it is at 1.",
                ),
                "digits": (digits, "Those are the digits. Now place them in [-1, 1]."),
            },
        )
    return "Every code is back at its place on the grid."


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
