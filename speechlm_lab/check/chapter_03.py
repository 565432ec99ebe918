"""Checkers of chapter 03: bits in use, gradients, starts, directions, grids."""

from collections.abc import Callable

import numpy as np
import scipy.spatial.distance
import scipy.stats
import torch

from speechlm_lab.check.core import (
    checker,
    equal,
    equal_rows,
    require,
    whole_numbers,
)

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
        part = len(codes) / size  # makes a share of the codes a share of V
        got = torch.as_tensor(learner(torch.tensor(codes), size, frame_rate))
        require(
            got.numel() == 1,
            f"You return {got.numel()} numbers. The entropy is their sum over the "
            "entries: one number.",
            "not summed",
        )
        require(
            not np.isnan(float(got)),
            "You get NaN: an entry that never occurs has share 0, and 0 · log 0 is "
            "NaN in floating point. It should count as 0.",
            "unused entries",
        )
        equal(
            float(got), frame_rate * bits, f"useful_bits(codes, {size}, {frame_rate})",
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
                "minus forgotten": (
                    -frame_rate * bits,
                    "Only the sign is wrong: log2 of a share is negative, so the "
                    "entropy is -sum(share * log2(share)).",
                ),
                "shares of V": (
                    -frame_rate * np.sum(share * part * np.log2(share * part + 1e-12)),
                    "A share is a count over the number of codes, len(codes), not "
                    "over V. The shares add up to 1.",
                ),
                "not weighted": (
                    -frame_rate * np.log2(share[share > 0]).mean(),
                    "An entry that comes often counts often: weight each -log2 by "
                    "its share instead of taking the plain mean.",
                ),
                "frame rate forgotten": (
                    bits,
                    "That is bits a code. There are frame_rate codes in a second.",
                ),
            },
        )  # fmt: skip
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
    last = np.zeros_like(codebook)
    last[chosen] = 2 * (codebook[chosen] - latents) / latents.size
    got = learner(_tensor(latents), _tensor(codebook))
    shape = tuple(getattr(got, "shape", ()))
    require(
        shape != latents.shape,
        "That is one row for each latent: what the latents get, or not yet added up. "
        "Each entry gets the sum over the latents that chose it, [V, D].",
        "a row for each latent",
    )
    require(
        not bool(torch.as_tensor(got)[-1:].isnan().any()),
        "The row of an entry that nobody chose is NaN: you divide 0 by 0. Its "
        "gradient is 0.",
        "unused entry",
    )
    equal_rows(
        got, right, "codebook_gradient(latents, codebook)",
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
            "last one only": (
                last,
                "With out[codes] = ... each latent overwrites the one before it. Add "
                "up: index_add_, count_and_sum, or a loop with +=.",
            ),
            "count forgotten": (
                (2 * codebook * (1 - count) + total) / latents.size,
                "Each latent that chose an entry brings the entry once: multiply the "
                "entry by its count.",
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
        lambda v: f"Entry {v}, chosen by {count[v, 0]} of {len(latents)} latents,",
    )  # fmt: skip
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
    require(
        np.shape(got) != (size,),
        "You return the numbers of the points. Return the points: points[chosen].",
        "indices",
    )
    require(
        np.shape(got) != (size, 2) or np.allclose(got[0], points[0], atol=1e-5),
        "The first row is not points[0]: begin with the first point.",
        "another first point",
    )
    from_first = scipy.spatial.distance.cdist(points, points[:1])[:, 0]
    equal_rows(
        got, points[right], "spread_start(points, 5)",
        {
            "all from the first": (
                points[np.append(0, from_first.argsort()[:-size:-1])],
                "You take the points farthest from the first one, all at once. Measure "
                "again after each choice, from all chosen so far.",
            ),
            "nearest": (
                points[choose(lambda d: d.min(1).argmin())],
                "You take the point that is nearest to a chosen one, which is that "
                "point itself, again and again: argmax, not argmin.",
            ),
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
        lambda v: f"Choice {v}, counted from 0,",
    )  # fmt: skip
    return "The first point, then always the loneliest one."


@checker
def nearest_direction(learner: Callable) -> str:
    """Checks nearest_direction(latents [N, D], codebook [V, D]) -> codes [N]."""
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((200, 4)) * rng.uniform(0.1, 5, (200, 1))
    codebook = rng.standard_normal((9, 4)) * rng.uniform(0.1, 5, (9, 1))
    cosine = 1 - scipy.spatial.distance.cdist(latents, codebook, "cosine")
    columns = codebook / np.linalg.norm(codebook, axis=0)
    got = learner(_tensor(latents), _tensor(codebook))
    require(
        np.shape(got) != cosine.shape,
        "That is a score for each entry. Return the number of the best: argmax(1).",
        "scores",
    )
    whole_numbers(got)
    equal_rows(
        got, cosine.argmax(1), "nearest_direction(latents, codebook)",
        {
            "wrong axis": (
                (latents @ columns.T).argmax(1),
                "You scale the columns to length 1. An entry is a row: normalize(..., "
                "dim=1).",
            ),
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
        lambda i: f"Latent {i}",
    )  # fmt: skip
    return "By direction alone, whatever the lengths."


@checker
def grid_point(learner: Callable) -> str:
    """Checks grid_point(codes [N], levels) -> points [N, d] in [-1, 1]."""
    for levels in ((3, 5, 2), (8, 5)):
        codes = np.arange(np.prod(levels))
        digits = np.stack(np.unravel_index(codes, levels), axis=1)  # [N, d]
        other = np.stack(np.unravel_index(codes, levels, order="F"), axis=1)
        base = np.array(levels)
        got = learner(torch.from_numpy(codes), levels)
        require(
            np.shape(got) != digits.T.shape,
            "You return [d, N]. A row is one point: torch.stack(..., dim=1).",
            "transposed",
        )
        equal_rows(
            got, 2 * digits / (base - 1) - 1, f"grid_point(codes, {levels})",
            {
                "nothing taken off": (
                    2 * (codes[:, None] % base) / (base - 1) - 1,
                    "You take each digit from the whole code. After each digit go on "
                    "with codes // base.",
                ),
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
            lambda i: f"Code {i}",
        )  # fmt: skip
    return "Every code is back at its place on the grid."


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
