"""Chapter 02's checker of items that depend on (seed, index) and nothing else."""

import random
from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import checker, require
from speechlm_lab.corpus.emotions import EMOTIONS

SPEAKERS = 1_000


@checker
def draw_item(learner: Callable) -> str:
    """Checks the properties of draw_item(seed, index) -> (speaker, emotion)."""
    pairs = [(seed, index) for seed in range(3) for index in range(200)]
    before = _global_state()
    drawn = [_draw(learner, *pair) for pair in pairs]
    require(
        _global_state() == before,
        "You use a generator that the whole program shares. Its state depends on all "
        "that was drawn before: make an own one, np.random.default_rng(...).",
        "global generator",
    )
    again = [_draw(learner, *pair) for pair in reversed(pairs)][::-1]
    require(
        drawn == again,
        "Item (seed, index) is another one when asked for a second time, or in "
        "another order. It may depend on seed and index only.",
        "not repeatable",
    )
    by_seed = {seed: drawn[200 * seed : 200 * seed + 200] for seed in range(3)}
    require(
        len(set(by_seed[0])) > 100,
        "All items of a seed are alike: the index has to go into the generator.",
        "index ignored",
    )
    require(
        by_seed[0] != by_seed[1],
        "Two seeds give the same data set: the seed has to go into the generator.",
        "seed ignored",
    )
    for shift in (1, 2):
        require(
            by_seed[0][shift:] != by_seed[shift][:-shift],
            f"Item {shift} of seed 0 is item 0 of seed {shift}: you add seed and "
            "index, so data sets overlap. Give the generator both: [seed, index].",
            "seed plus index",
        )
    swapped = [_draw(learner, index, seed) for seed, index in pairs[1:40]]
    require(
        swapped != drawn[1:40],
        "Item (0, 5) is item (5, 0): seed and index must not be interchangeable. "
        "Give the generator both, in order: [seed, index].",
        "seed plus index",
    )
    for stride in (100, 1_000, 10_000, 100_000, 1_000_000, 2**16, 2**20):
        late = [_draw(learner, 0, stride + index) for index in range(12)]
        require(
            late != by_seed[1][:12],
            f"Item {stride} of seed 0 is item 0 of seed 1: long data sets run into "
            "each other. Give the generator both: [seed, index].",
            "seed times a number plus index",
        )
    glued = [_draw(learner, 1, 10 + index) for index in range(10)]
    require(
        glued != [_draw(learner, 11, index) for index in range(10)],
        'Item 10 of seed 1 is item 0 of seed 11: as text, "1" and "10" are "110", and '
        'so are "11" and "0". Give the generator both: [seed, index].',
        "digits glued together",
    )
    speakers, emotions = zip(*drawn, strict=True)
    follows = [
        EMOTIONS.index(emotion) == speaker * len(EMOTIONS) // SPEAKERS
        for speaker, emotion in drawn
    ]
    require(
        np.mean(follows) < 0.9,
        "The speaker decides the emotion: you start the same dice twice, once for "
        "each. Make one generator and draw from it twice.",
        "same dice twice",
    )
    rare = min(EMOTIONS, key=emotions.count)
    require(
        emotions.count(rare) > 50,
        f"Of 600 items {emotions.count(rare)} are {rare}; about 100 should be.",
    )
    require(
        len(set(speakers)) > 300 and np.mean(np.array(speakers) < SPEAKERS / 2) < 0.6,
        f"Draw speakers evenly from 0 to {SPEAKERS - 1}.",
    )
    return "600 items, the same in any order, and no two data sets overlap."


def _draw(learner: Callable, seed: int, index: int) -> tuple[int, str]:
    """One drawn item, after a check of its form."""
    drawn = learner(seed, index)
    require(
        isinstance(drawn, tuple | list) and len(drawn) == 2,
        "Return two things: the speaker, a number, and the emotion, a word.",
    )
    speaker, emotion = drawn
    require(
        isinstance(speaker, int | np.integer) and 0 <= speaker < SPEAKERS,
        f"The speaker is {speaker!r}; it should be a whole number from 0 to "
        f"{SPEAKERS - 1}.",
    )
    require(
        str(emotion) in EMOTIONS,
        f"The emotion is {emotion!r}; it should be one of {', '.join(EMOTIONS)}.",
    )
    return int(speaker), str(emotion)


def _global_state() -> tuple:
    """What the shared generators of Python, numpy and torch will draw next."""
    return (
        hash(random.getstate()),
        np.random.get_state()[1].tobytes(),
        np.random.get_state()[2],
        torch.get_rng_state().numpy().tobytes(),
    )
