"""Checkers of chapter 04: bits, levels, dropout, residuals; pairs are in `pairs_04`."""

from collections.abc import Callable

import numpy as np
import scipy.spatial.distance
import torch

from speechlm_lab.check.core import as_array, checker, equal, require, whole_numbers
from speechlm_lab.check.pairs_04 import best_pair

__all__ = ["best_pair", "left_over", "level_share", "levels_for", "swap_level"]


@checker
def levels_for(learner: Callable) -> str:
    """Checks levels_for(budget, frame_rate, V, K) -> levels that fit, 0 to K."""
    cases = (
        (3_000, 75.0, 1024, 32),  # exactly 4
        (1_000, 50.0, 512, 8),  # 2.2
        (5_000, 12.5, 2048, 32),  # more than there are
        (400, 50.0, 512, 8),  # not one
        (115, 5.0, 16, 30),  # 5.75
        (4_990, 50.0, 1000, 32),  # 10.01
        (1_120, 12.5, 512, 30),  # 9.96
    )
    budget, rate, size, most = np.array(cases).T
    fit = budget / (rate * np.log2(size))
    right = np.minimum(most, np.floor(fit + 1e-9))
    what = [f"levels_for{case}" for case in cases]
    got = [as_array(learner(*c), w) for c, w in zip(cases, what, strict=True)]
    for name, values, message in (
        (
            "more than there are",
            np.floor(fit + 1e-9),
            "You return more levels than the codec has: no budget buys more than K.",
        ),
        (
            "at least one",
            np.maximum(right, 1),
            "Where one level alone takes more than the budget, return 0.",
        ),
        (
            "rounded up",
            np.minimum(most, np.ceil(fit)),
            "You round up. A level that fits in part cannot be sent.",
        ),
        (
            "not whole",
            np.minimum(most, fit),
            "That is not a whole number of levels: round down.",
        ),
        (
            "nats",
            np.minimum(most, np.floor(budget / (rate * np.log(size)))),
            "You take the natural logarithm. Bits need log2.",
        ),
        (
            "entries as bits",
            np.minimum(most, np.floor(budget / (rate * size))),
            "A choice among V entries takes log2 V bits, not V.",
        ),
        (
            "all levels at once",
            np.minimum(most, np.floor(fit / most)),
            "You divide by what all K levels take. What does one take?",
        ),
        (
            "frame rate forgotten",
            np.minimum(most, np.floor(budget / np.log2(size))),
            "You forgot the frame rate: a level sends frame_rate codes a second.",
        ),
        (
            "bits cut off",
            np.minimum(most, np.floor(budget / (rate * np.floor(np.log2(size))))),
            "You round log2 V down before you multiply: keep its fraction.",
        ),
        (
            "bits rounded up",
            np.minimum(most, np.floor(budget / (rate * np.ceil(np.log2(size))))),
            "You round log2 V up before you multiply: keep its fraction.",
        ),
        (
            "frame rate cut off",
            np.minimum(most, np.floor(budget / (np.floor(rate) * np.log2(size)))),
            "A frame rate may have a fraction: keep it.",
        ),
        (
            "exact fit",
            np.minimum(most, np.ceil(fit - 1e-9) - 1),
            "A level that fits exactly can be sent, too: 3,000 bit/s pay for 4 levels "
            "of 750.",
        ),
    ):
        same = all(g.shape == () and g == v for g, v in zip(got, values, strict=True))
        require(not same, message, name)
    for g, r, w in zip(got, right, what, strict=True):
        equal(g, r, w)
    return "Whole levels only, and never more than there are."


@checker
def swap_level(learner: Callable) -> str:
    """Checks swap_level(codes_a [K, F_a], codes_b [K, F_b], k) -> [K, F]."""
    rng = np.random.default_rng(4)
    for frames_a, frames_b, k in ((7, 5, 2), (4, 6, 1), (5, 5, 3)):
        a = rng.integers(0, 100, (4, frames_a))
        b = rng.integers(100, 200, (4, frames_b))
        frames = min(frames_a, frames_b)
        a_cut, b_cut = a[:, :frames], b[:, :frames]
        rows = np.arange(1, 5)[:, None]  # levels, counted from 1
        got = learner(torch.from_numpy(a), torch.from_numpy(b), k)
        columns = np.arange(1, frames + 1) == k
        what = f"swap_level(codes_a, codes_b, {k})"
        whole_numbers(got)
        equal(
            got,
            np.where(rows == k, b_cut, a_cut),
            what,
            {
                "a frame": (
                    np.where(columns, b_cut, a_cut),
                    "You swapped a frame, a column. A level is a row.",
                ),
                "counted from 0": (
                    np.where(rows == k + 1, b_cut, a_cut),
                    f"You swapped row {k}, which is level {k + 1}: rows count from 0.",
                ),
                "the wrong way round": (
                    np.where(rows == k, a_cut, b_cut),
                    "You return B with a level of A. It should be A with a level of B.",
                ),
                "all levels up to k": (
                    np.where(rows <= k, b_cut, a_cut),
                    f"You took levels 1 to {k}. Take level {k} alone.",
                ),
                "not cut": (
                    np.where(
                        (rows == k) & (np.arange(frames_a) < frames),
                        np.resize(np.pad(b, ((0, 0), (0, 9)))[:, :frames_a], a.shape),
                        a,
                    ),
                    "Your result is as long as A. Cut both to the shorter one first.",
                ),
                "nothing swapped": (a_cut, "That is A as it was."),
            },
            tolerance=0,
        )
    return "One level borrowed, the others untouched."


@checker
def level_share(learner: Callable) -> str:
    """Checks level_share(K, p) -> [K], how probable it is that a level is used."""
    for levels, p in ((8, 0.5), (4, 1.0), (5, 0.2), (3, 0.0)):
        # counted: every outcome of the draw, one row each
        used = np.tril(np.ones((levels, levels)))  # row i: levels 1 to i + 1
        drawn = used.mean(0)
        fewer = np.vstack([np.zeros(levels), used]).mean(0)  # from 0 to K
        exactly = np.full(levels, 1 / levels)
        equal(
            learner(levels, p),
            1 - p + p * drawn,
            f"level_share({levels}, {p:g})",
            {
                "dropout always": (
                    drawn,
                    "That is right where dropout strikes. With probability 1 - p it "
                    "does not, and all levels are used.",
                ),
                "p and 1 - p": (
                    p + (1 - p) * drawn,
                    "You exchanged p and 1 - p: p is the probability that the number "
                    "of levels is drawn.",
                ),
                "without the rest": (
                    p * drawn,
                    "You forgot the items without dropout: they use all levels, with "
                    "probability 1 - p.",
                ),
                "exactly k": (
                    1 - p + p * exactly,
                    "You count the draws that give exactly k. Level k is used by every "
                    "draw of k or more.",
                ),
                "more than k": (
                    1 - p + p * (drawn - 1 / levels),
                    "You count the draws above k. A draw of k uses level k, too.",
                ),
                "number of levels": (
                    p * exactly + (1 - p) * (np.arange(1, levels + 1) == levels),
                    "That is how probable each number of levels is. Level k is used "
                    "whenever the number is k or more.",
                ),
                "reversed": (
                    (1 - p + p * drawn)[::-1],
                    "Level 1 is used always, the last one most seldom: you have it the "
                    "other way round.",
                ),
                "from 0": (
                    1 - p + p * fewer,
                    "The number is drawn from 1 to K, not from 0: level 1 is always "
                    "used.",
                ),
                "never the last": (
                    1 - p + p * (levels - np.arange(1, levels + 1)) / (levels - 1),
                    "You draw from 1 to K - 1. K itself can be drawn, too.",
                ),
                "each by itself": (
                    np.full(levels, 1 - p),
                    "You drop each level by itself. Dropout cuts off the end: fine "
                    "levels go first.",
                ),
            },
        )
    return "Level 1 always, the last one least."


@checker
def left_over(learner: Callable) -> str:
    """Checks left_over(latents [F, D], lists [K, V, D]) -> [K], mean squares."""
    rng = np.random.default_rng(2)
    latents = rng.standard_normal((50, 3)) + 0.3
    lists = rng.standard_normal((4, 6, 3)) * np.array([1, 0.5, 0.3, 0.2])[:, None, None]

    def encode(
        subtract: float = 1.0, book: Callable = lambda k: k, stale: bool = False
    ) -> list[np.ndarray]:
        residual, left = latents, []
        for k in range(len(lists)):
            entries = lists[book(k)]
            asked = latents if stale else residual
            chosen = scipy.spatial.distance.cdist(asked, entries).argmin(1)
            left.append(residual - entries[chosen])
            residual = residual - subtract * entries[chosen]
        return left

    left = encode()
    before = [latents, *left[:-1]]
    alone = encode(subtract=0.0)
    added = encode(subtract=-1.0)
    square = [np.mean(x**2) for x in left]
    equal(
        learner(_tensor(latents), _tensor(lists)),
        square,
        "left_over(latents, lists)",
        {
            "latents every time": (
                [np.mean(x**2) for x in alone],
                "Every level quantises the latents themselves. Level 2 gets what "
                "level 1 left over.",
            ),
            "added": (
                [np.mean((x + y) ** 2) for x, y in _steps(latents, added)],
                "You add the entry to the residual. Subtract it.",
            ),
            "chosen by the latents": (
                [np.mean(x**2) for x in encode(stale=True)],
                "You choose the entry nearest to the latents. From level 2 on, take "
                "the one nearest to the residual.",
            ),
            "before": (
                [np.mean(x**2) for x in before],
                "You measure what comes in at each level. Measure after the "
                "subtraction.",
            ),
            "root": (
                np.sqrt(square),
                "You took the root. Return the mean square.",
            ),
            "sum over numbers": (
                np.multiply(square, latents.shape[1]),
                "You sum over the D numbers of a latent. Take the mean over all F · D.",
            ),
            "sum": (
                np.multiply(square, latents.size),
                "That is the sum of squares. Take the mean.",
            ),
            "last only": (
                square[-1],
                "That is what is left at the end. Return it after each level, [K].",
            ),
            "first list every time": (
                [np.mean(x**2) for x in encode(book=lambda k: 0)],
                "You use list 1 at every level. Each level has its own.",
            ),
        },
    )
    return "Each level takes its part, and the rest goes on to the next."


def _steps(latents: np.ndarray, left: list[np.ndarray]) -> list:
    """Residuals and entries where each entry is added: (residual, entry) a level."""
    pairs, residual = [], latents
    for rest in left:
        entry = residual - rest
        pairs.append((residual, entry))
        residual = residual + entry
    return pairs


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
