"""Checkers for chapter 09, patterns of codes. References: index arithmetic in numpy."""

from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import checker, equal, require, whole_numbers

__all__ = ["delay_levels", "depth_inputs", "two_prices", "undelay_levels"]

BLANK = 99


def _table(levels: int, frames: int, seed: int) -> np.ndarray:
    """Codes that are all different, so that a code out of place is seen."""
    numbers = np.random.default_rng(seed).permutation(levels * frames)
    return numbers.reshape(levels, frames)


def _delayed(codes: np.ndarray, delays: list[int], wrap: bool = False) -> np.ndarray:
    levels, frames = codes.shape
    steps = np.full((levels, frames + max(delays)), BLANK)
    for k, late in enumerate(delays):
        steps[k, late : late + frames] = codes[k]
        if wrap:
            steps[k] = np.roll(np.append(codes[k], [BLANK] * max(delays)), late)
    return steps


@checker
def delay_levels(learner: Callable) -> str:
    """Checks delay_levels(codes [K, F], blank) -> steps [K, F + K - 1]."""
    for levels, frames in ((3, 5), (4, 2), (1, 4)):
        codes = _table(levels, frames, levels)
        late = list(range(levels))
        right = _delayed(codes, late)
        early = right[::-1, ::-1][::-1] if levels > 1 else right
        short = np.stack([np.roll(row, k) for k, row in enumerate(codes)])
        cut = right[:, :frames]
        got = learner(torch.from_numpy(codes), BLANK)
        whole_numbers(got)
        equal(
            got,
            right,
            f"delay_levels(codes of {levels} levels and {frames} frames)",
            {
                "no room": (
                    cut,
                    "The last codes of the late levels fall off the end. The last "
                    "level begins K - 1 steps late and so ends K - 1 steps late: make "
                    "the table F + K - 1 wide.",
                ),
                "wrapped around": (
                    short,
                    "What goes out at the right comes in at the left (torch.roll "
                    "does that): the model would see the end of the sound at its "
                    "start. Make room, and fill it with blank.",
                ),
                "blank is 0": (
                    np.where(right == BLANK, 0, right),
                    "You fill the corners with 0, but 0 is a code like any other. "
                    "Fill them with blank.",
                ),
                "other way round": (
                    _delayed(codes, late[::-1]),
                    "Your first level waits longest. Level k waits k steps: it is the "
                    "fine levels that must know the coarse ones.",
                ),
                "one step more": (
                    _delayed(codes, [k + 1 for k in late]),
                    "All levels are a step too late: the first level does not wait.",
                ),
                "reversed in time": (early, "Your frames run backwards."),
            },
        )
    return "Level k waits k steps, and nothing is lost at the end."


@checker
def undelay_levels(learner: Callable) -> str:
    """Checks undelay_levels(steps [K, S], delays) -> codes [K, S - max(delays)]."""
    cases = (
        ([0, 1, 2], 5),
        ([0, 3, 3, 5], 4),
        ([2, 0, 1], 3),
        ([0], 3),
        ([1, 3], 4),
    )
    for delays, frames in cases:
        codes = _table(len(delays), frames, frames)
        steps = _delayed(codes, delays)
        usual = list(range(len(delays)))
        width = steps.shape[1] - max(delays)
        turned = [max(delays) - d for d in delays]
        shifted = [k if k + width <= steps.shape[1] else 0 for k in usual]
        first = [0, *delays[1:]]
        got = learner(torch.from_numpy(steps), list(delays))
        whole_numbers(got)
        equal(
            got,
            codes,
            f"undelay_levels(steps, {delays})",
            {
                "always 0, 1, 2": (
                    np.stack([steps[k, s : s + width] for k, s in enumerate(shifted)]),
                    f"You shift level k back by k. Here the delays are {delays}: use "
                    "them.",
                ),
                "level 0 waits too": (
                    np.stack([steps[k, s : s + width] for k, s in enumerate(first)]),
                    "Level 0 may wait, too: begin at delays[0].",
                ),
                "not shifted": (
                    steps[:, :width],
                    "You cut the table, but did not shift the levels back.",
                ),
                "corners kept": (
                    np.stack(
                        [np.roll(row, -d) for row, d in zip(steps, delays, strict=True)]
                    ),
                    "The levels are in place again, but the blank corners are still "
                    "there: keep S - max(delays) frames.",
                ),
                "K - 1 cut off": (
                    np.stack(
                        [
                            np.append(steps[k], [BLANK] * 9)[d:][
                                : steps.shape[1] - len(delays) + 1
                            ]
                            for k, d in enumerate(delays)
                        ]
                    ),
                    f"You keep S - (K - 1) frames. The longest delay is {max(delays)}, "
                    "not K - 1: keep S - max(delays).",
                ),
                "other way round": (
                    np.stack([steps[k, s : s + width] for k, s in enumerate(turned)]),
                    "You shift back the first levels most. Level k was shifted by "
                    "delays[k]: begin there.",
                ),
            },
        )
    return "Whatever the delays are, each frame is whole again."


@checker
def two_prices(learner: Callable) -> str:
    """Checks two_prices(joint [V, V]) -> nats (both at once, one after another)."""
    rng = np.random.default_rng(5)
    for joint in (
        rng.dirichlet(np.full(20, 0.4)).reshape(5, 4),
        np.array([[0.5, 0.0], [0.0, 0.5]]),  # the same code twice
        np.outer([0.2, 0.8], [0.5, 0.5]),  # nothing in common
        np.array([[0.3, 0.1, 0.0], [0.0, 0.0, 0.0], [0.2, 0.2, 0.2]]),
    ):
        a, b = joint.sum(1), joint.sum(0)
        one, two, both = (_price(chances) for chances in (a, b, joint.ravel()))
        rows = [_price(row / row.sum()) for row in joint if row.sum()]
        found = learner(torch.from_numpy(joint.copy()))
        require(
            isinstance(found, tuple | list | torch.Tensor | np.ndarray)
            and np.shape(found) == (2,),
            "Return two numbers: the price of both at once, and of one after another.",
        )
        require(
            not np.isnan([float(price) for price in found]).any(),
            "Your price is NaN: 0 * log(0), or 0 / 0 where a code of level 1 never "
            "comes. A chance of 0 adds nothing, so leave it out.",
            "log of 0",
        )
        what = f"two_prices of {list(joint.shape)} chances"
        equal(
            [float(price) for price in found],
            [one + two, both],
            what,
            {
                "in bits": (
                    np.array([one + two, both]) / np.log(2),
                    "These are bits (log2). Nats come from the natural logarithm.",
                ),
                "no difference": (
                    [both, both],
                    "Both your prices are those of one after another. At once, level "
                    "2 is guessed from joint.sum(0) alone.",
                ),
                "nothing gained": (
                    [one + two, one + two],
                    "Both your prices are those of both at once. One after another, "
                    "level 2 is guessed from its row of the table, joint[a].",
                ),
                "a price for each level": (
                    [one, two],
                    "These are the prices of level 1 and of level 2. Their sum is the "
                    "first answer: both at once.",
                ),
                "level 2 alone": (
                    [one + two, both - one],
                    "Your second price is that of level 2 alone. Level 1 is written "
                    "too, and costs something.",
                ),
                "wrong axis": (
                    [one + two, one + both - two],
                    "You add the price of level 1 knowing level 2. It should be level "
                    "2 knowing level 1: divide each row by joint.sum(1).",
                ),
                "level 2 twice": (
                    [one + two, two + both - one],
                    "You count level 2 twice: first level 1, joint.sum(1), then level "
                    "2 in its row.",
                ),
                "level 1 for both": (
                    [2 * one, both],
                    "At once, level 2 is guessed from joint.sum(0).",
                ),
                "level 2 for both": (
                    [2 * two, both],
                    "At once, level 1 is guessed from joint.sum(1).",
                ),
                "rows not weighted": (
                    [one + two, one + sum(rows) / len(rows)],
                    "You take each row as equally frequent. Weigh the price of level "
                    "2 in a row by how often that row comes: joint.sum(1).",
                ),
                "other way round": ([both, one + two], "Your two prices are swapped."),
                "log is negative": (
                    [-one - two, -both],
                    "A price is minus the logarithm of the chance.",
                ),
            },
        )
    return (
        "The difference is the mutual information of the levels: what parallel pays "
        "for ever, however well it is trained."
    )


def _price(chances: np.ndarray) -> float:
    """Mean of -log of chances, in nats."""
    chances = chances[chances > 0]
    return float(-(chances * np.log(chances)).sum())


@checker
def depth_inputs(learner: Callable) -> str:
    """Checks depth_inputs(h [D], tables [K][V, D], codes [K]) -> [K, D]."""
    rng = np.random.default_rng(3)
    for levels in (4, 2, 1):
        h, codes = rng.normal(size=5), rng.integers(0, 7, levels)
        tables = rng.normal(size=(levels, 7, 5))
        own = np.stack([tables[k, codes[k]] for k in range(levels)])
        before = np.vstack([np.zeros((1, 5)), own[:-1]])
        one_table = [tables[0, codes[k]] for k in range(levels - 1)]
        own_code = [tables[k, codes[k + 1]] for k in range(levels - 1)]
        next_table = [tables[k + 1, codes[k]] for k in range(levels - 1)]
        equal(
            learner(
                torch.from_numpy(h),
                [torch.from_numpy(t) for t in tables],
                torch.from_numpy(codes),
            ),
            h + before,
            f"depth_inputs of {levels} levels",
            {
                "the answer itself": (
                    h + own,
                    "Position k holds the code of level k, which it is to predict: "
                    "the model would read the answer. Give it level k - 1.",
                ),
                "h only at first": (
                    np.vstack([h[None], own[:-1]]),
                    "Only position 0 has h. Add it at every position: all levels "
                    "need to know what comes before the frame.",
                ),
                "nothing at first": (
                    np.vstack([np.zeros((1, 5)), h + own[:-1]]),
                    "Position 0 is empty. No code stands below level 0, but h does "
                    "know what comes before the frame: it reads h alone.",
                ),
                "table of its own level": (
                    h + np.vstack([np.zeros((1, 5)), *next_table]),
                    "You look the code of level k - 1 up in the table of level k. A "
                    "code means something only in the table of its own level.",
                ),
                "one table for all": (
                    h + np.vstack([np.zeros((1, 5)), *[t[None] for t in one_table]]),
                    "You look every code up in the table of level 0.",
                ),
                "code of its own level": (
                    h + np.vstack([np.zeros((1, 5)), *[t[None] for t in own_code]]),
                    "You look the code of level k up in the table of level k - 1.",
                ),
                "last level at first": (
                    h + np.roll(own, 1, axis=0),
                    "Position 0 reads the last level: the index -1 wraps around. "
                    "Nothing stands below level 0, so it reads h alone.",
                ),
                "no h": (before, "The backbone's h is missing: add it everywhere."),
                "all below": (
                    h + np.cumsum(before, 0),
                    "You add up the codes of all levels below. One is enough: the "
                    "depth Transformer looks at the earlier positions itself.",
                ),
                "one position too many": (
                    np.vstack([h[None], h + own]),
                    "K + 1 positions. Nothing follows the last level: its code is "
                    "not read.",
                ),
            },
        )
    return "Each level reads h and the level below it, never itself."
