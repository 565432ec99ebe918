"""Checkers of chapter 04, the second part: pairs that are not found by greed."""

from collections.abc import Callable

import numpy as np
import scipy.spatial.distance
import torch

from speechlm_lab.check.core import checker, equal, require

__all__ = ["best_pair"]


@checker
def best_pair(learner: Callable) -> str:
    """Checks best_pair(latents [F, D], first [V, D], second [W, D]) -> [2, F]."""
    rng = np.random.default_rng(5)
    latents = rng.standard_normal((300, 3)) * 2
    first = rng.standard_normal((5, 3)) * 2
    second = rng.standard_normal((4, 3))
    distance = np.stack(
        [scipy.spatial.distance.cdist(latents - e, second) for e in first]
    )  # [V, F, W]
    flat = distance.transpose(1, 0, 2).reshape(len(latents), -1)
    right = np.stack(np.unravel_index(flat.argmin(1), (5, 4)))
    # the number of the best pair, where the first list runs fastest
    other = distance.transpose(1, 2, 0).reshape(len(latents), -1).argmin(1)
    near = scipy.spatial.distance.cdist
    one = near(latents, first).argmin(1)
    two = near(latents - first[one], second).argmin(1)
    back = near(latents, second).argmin(1)
    forth = near(latents - second[back], first).argmin(1)
    got = learner(
        *(torch.tensor(x, dtype=torch.float32) for x in (latents, first, second))
    )
    require(
        tuple(getattr(got, "shape", ())) != (len(latents), 2),
        "Your table is [F, 2]. Return codes as [2, F], a level a row.",
        "transposed",
    )
    require(
        tuple(getattr(got, "shape", ())) != (len(latents),),
        "You return one number for each pair, [F]. Split it into the two codes: whole "
        "part and remainder on dividing by W.",
        "not split",
    )
    equal(
        got,
        right,
        "best_pair(latents, first, second)",
        {
            "greedy": (
                np.stack([one, two]),
                "That is what RVQ does: the nearest entry first. Let every entry of "
                "the first list try its best partner.",
            ),
            "second list first": (
                np.stack([forth, back]),
                "You are greedy from the second list on. Try all pairs.",
            ),
            "each by itself": (
                np.stack([one, back]),
                "You took the nearest entry of each list to the latent itself. It is "
                "the sum of the two that should be near.",
            ),
            "rows exchanged": (right[::-1], "The two rows are exchanged."),
            "divided by V": (
                np.stack([flat.argmin(1) // 5, flat.argmin(1) % 5]),
                "You split the number of the pair by V. The second list runs fastest: "
                "divide by its length, W.",
            ),
            "first fastest": (
                np.stack([other // 4, other % 4]),
                "Your sums run through the first list fastest, your split through the "
                "second.",
            ),
            "farthest": (
                np.stack(np.unravel_index(flat.argmax(1), (5, 4))),
                "You return the farthest pair: take the smallest distance.",
            ),
        },
        tolerance=0,
    )
    return (
        "The best of all pairs, which greed often misses. (If you take all differences "
        "at once, the next cell needs 10 GB: make the sums first.)"
    )
