"""Checkers for chapter 09, patterns of codes. References: index arithmetic in numpy."""

from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import checker, equal, require

__all__ = ["count_steps", "delay_levels", "depth_inputs", "undelay_levels"]

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
        equal(
            learner(torch.from_numpy(codes), BLANK),
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
    for delays, frames in (([0, 1, 2], 5), ([0, 3, 3, 5], 4), ([2, 0], 3), ([0], 3)):
        codes = _table(len(delays), frames, frames)
        steps = _delayed(codes, delays)
        usual = list(range(len(delays)))
        width = steps.shape[1] - max(delays)
        shifted = [k if k + width <= steps.shape[1] else 0 for k in usual]
        equal(
            learner(torch.from_numpy(steps), list(delays)),
            codes,
            f"undelay_levels(steps, {delays})",
            {
                "always 0, 1, 2": (
                    np.stack([steps[k, s : s + width] for k, s in enumerate(shifted)]),
                    f"You shift level k back by k. Here the delays are {delays}: use "
                    "them.",
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
            },
        )
    return "Whatever the delays are, each frame is whole again."


@checker
def count_steps(learner: Callable) -> str:
    """Checks count_steps(pattern, K, F) -> (all steps, steps to a whole frame)."""
    for levels, frames in ((4, 100), (8, 30), (1, 7)):
        right = {
            "parallel": (frames, 1),
            "delay": (frames + levels - 1, levels),
            "flatten": (levels * frames, levels),
            "coarse-to-fine": (levels * frames, (levels - 1) * frames + 1),
            "depth": (frames, 1),
        }
        for name, want in right.items():
            got = learner(name, levels, frames)
            require(
                isinstance(got, tuple | list) and len(got) == 2,
                "Return two numbers: all steps, and steps until the first frame is "
                "whole.",
            )
            mistakes = {
                "delay is free": (
                    name == "delay" and tuple(got) == (frames, levels),
                    "The last level begins K - 1 steps late, so delay takes K - 1 "
                    "steps more than there are frames.",
                ),
                "first level counts": (
                    name in ("delay", "flatten", "coarse-to-fine") and got[1] == 1,
                    f"{name}: after one step only level 1 of the first frame is "
                    "there. Without its other levels the frame is not whole.",
                ),
                "all before any": (
                    name == "coarse-to-fine" and got[1] == levels * frames,
                    "coarse-to-fine: you wait for the whole stretch. The first frame "
                    "is whole as soon as the last level begins: after (K - 1) F + 1 "
                    "steps.",
                ),
                "like flatten": (
                    name == "coarse-to-fine" and got[1] == levels,
                    "coarse-to-fine writes all F frames of a level before the next "
                    "level: the first frame waits for (K - 1) F + 1 steps.",
                ),
                "small steps counted": (
                    name == "depth" and got[0] == levels * frames,
                    "depth: count steps of the large model, the backbone. It takes "
                    "one a frame; the K small steps are those of the depth "
                    "Transformer.",
                ),
            }
            if tuple(got) != want:
                for mistake, (found, words) in mistakes.items():
                    require(not found, words, mistake)
            equal(list(got), list(want), f"count_steps({name!r}, {levels}, {frames})")
    return "Length and wait of all five."


@checker
def depth_inputs(learner: Callable) -> str:
    """Checks depth_inputs(h [D], tables [K][V, D], codes [K]) -> [K, D]."""
    rng = np.random.default_rng(3)
    for levels in (4, 2, 1):
        h, codes = rng.normal(size=5), rng.integers(0, 7, levels)
        tables = rng.normal(size=(levels, 7, 5))
        own = np.stack([tables[k, codes[k]] for k in range(levels)])
        before = np.vstack([np.zeros((1, 5)), own[:-1]])
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
                "no h": (before, "The hidden state h is missing: add it everywhere."),
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
