"""Checkers of chapter 10, the second part: skips and loops, guidance."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import log_softmax

from speechlm_lab.check.core import checker, equal, require

__all__ = ["lead_away", "skips_and_loops"]


@checker
def skips_and_loops(learner: Callable) -> str:
    """Checks skips_and_loops(places [steps], S) -> (skipped, said again)."""
    cases = (
        ([0, 0, 1, 1, 1, 2, 3, 3, 4], 5),  # well said
        ([0, 1, 1, 4, 4, 5, 5, 6, 7], 8),  # two skipped
        ([0, 0, 1, 2, 3, 3, 1, 2, 3, 1, 1, 2, 3, 4, 5], 6),  # loops
        ([0, 1, 2, 2, 5, 5, 3, 3, 5, 6], 10),  # all of it, and no end
    )
    for places, count in cases:
        visits = [p for i, p in enumerate(places) if i == 0 or places[i - 1] != p]
        skipped = count - len(set(places))
        again = len(visits) - len(set(visits))
        jumps = np.diff(visits)
        reached = max(places) + 1
        back = int((jumps < 0).sum())
        length = int(-jumps[jumps < 0].sum())
        twice = sum(visits.count(place) > 1 for place in set(visits))
        equal(
            learner(torch.tensor(places), count),
            [skipped, again],
            f"skips_and_loops({places}, {count})",
            {
                "every step counted": (
                    [skipped, len(places) - len(set(places))],
                    "A token that is held for several steps is said once. Count how "
                    "often it is come to, not how many steps it lasts.",
                ),
                "tokens, not times": (
                    [skipped, twice],
                    "You count the tokens that come again. One that is said three "
                    "times is said again twice: count the times.",
                ),
                "times back": (
                    [skipped, back],
                    "You count how often it goes back. Going back once can repeat "
                    "several tokens: count those that are said again.",
                ),
                "how far back": (
                    [skipped, length],
                    "You count how far it goes back, or only what lies before the "
                    "last token reached. That one comes again, too.",
                ),
                "jumps counted": (
                    [int((jumps > 1).sum()), back],
                    "You count jumps. One jump can leave out several tokens: count the "
                    "tokens that were never said, and those said again.",
                ),
                "the end forgotten": (
                    [reached - len(set(places)), again],
                    "Tokens after the last one that was reached are skipped too: there "
                    "are S of them in all.",
                ),
                "the wrong way round": (
                    [again, skipped],
                    "The two are swapped: first what was skipped, then what was said "
                    "again.",
                ),
                "left out at a jump": (
                    [int((jumps[jumps > 1] - 1).sum()), again],
                    "You add up what each jump forwards leaves out. It may be said "
                    "later: count the tokens that are never said at all.",
                ),
                "visits for tokens": (
                    [count - len(visits), again],
                    "You take all that was said off S. What was said again fills no "
                    "gap: count each token once.",
                ),
            },
        )
    return "Nothing but the text and the path through it is needed to find both."


@checker
def lead_away(learner: Callable) -> str:
    """Checks lead_away(with_text [V], without [V], scale) -> log-probabilities [V]."""
    rng = np.random.default_rng(8)
    given, free = rng.normal(0, 1.5, (2, 6))
    for scale in (2.0, 1.0, 0.5, 3.0):
        c, u = log_softmax(given), log_softmax(free)
        raw = u + scale * (c - u)
        right = log_softmax(raw)
        mixed = np.exp(u) + scale * (np.exp(c) - np.exp(u))
        got = learner(
            torch.from_numpy(given).float(), torch.from_numpy(free).float(), scale
        )
        require(
            not (isinstance(got, torch.Tensor) and bool(got.isnan().any())),
            "Your result holds NaN: a probability has turned negative, and has no "
            "logarithm. Go along logarithms of probabilities from the start.",
            "below zero",
        )
        equal(
            got,
            right,
            f"lead_away(with_text, without, {scale:g})",
            {
                "not normalised": (
                    raw,
                    "The probabilities do not add up to 1: end in log_softmax.",
                ),
                "logits not normalised": (
                    free + scale * (given - free),
                    "The probabilities do not add up to 1: end in log_softmax.",
                ),
                "the wrong way round": (
                    log_softmax(c + scale * (u - c)),
                    "You lead away from the text. Start from `without` and go `scale` "
                    "times the way to `with_text`.",
                ),
                "one more": (
                    log_softmax(c + scale * (c - u)),
                    "You start from `with_text`, so your scale is one less than ours: "
                    "at 1 the result should be `with_text` itself.",
                ),
                "nothing to start from": (
                    log_softmax(scale * (c - u)),
                    "You go `scale` times the way, but from nowhere: add `without`.",
                ),
                "with_text multiplied": (
                    log_softmax(scale * c),
                    "You only sharpen `with_text`. What is likely without a text, too, "
                    "should gain nothing: use both rows.",
                ),
                "probabilities mixed": (
                    np.log(np.maximum(mixed, 1e-12)),
                    "You go along probabilities, which can turn negative. Go along "
                    "their logarithms.",
                ),
                "no logarithm": (
                    np.exp(right),
                    "Those are probabilities. Return their logarithms.",
                ),
            },
        )
    loud = torch.tensor([800.0, 0.0, -800.0])
    got = np.asarray(learner(loud, torch.zeros(3), 1.0), dtype=float)
    require(
        np.allclose(got, [0, -800, -1600]),
        "Exponentials of logits near 800 overflow, and odds near 0 have no logarithm. "
        "Use torch.log_softmax, which takes neither.",
        "overflow",
    )
    return "At 1 it is the model as learnt; beyond, what the text adds counts more."
