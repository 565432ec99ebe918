"""Checkers of chapter 10: the monologue, durations; the rest is in `failures_10`."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import expit, logsumexp, softmax

from speechlm_lab.check.core import as_array, checker, equal, require, whole_numbers
from speechlm_lab.check.failures_10 import lead_away, skips_and_loops

__all__ = [
    "frames_lasted",
    "going_on",
    "inner_monologue",
    "lead_away",
    "skips_and_loops",
]


@checker
def inner_monologue(learner: Callable) -> str:
    """Checks inner_monologue(tokens [S], first [S], length, N) -> ids [length]."""
    rng = np.random.default_rng(10)
    for count, size in ((4, 40), (6, 100)):
        tokens = rng.permutation(size)[:count] + 1
        tokens[2] = tokens[1]  # the same token twice: it begins twice
        lasts = np.array([3, 2, 1, 4, 2, 3][:count])
        first = np.concatenate([[0], lasts.cumsum()[:-1]])
        length = int(lasts.sum())
        owner = np.repeat(np.arange(count), lasts)
        begins = np.isin(np.arange(length), first)
        right = tokens[owner] + size * ~begins
        after = np.concatenate([owner[1:], owner[-1:]])
        changed = np.r_[True, tokens[owner][1:] != tokens[owner][:-1]]
        sparse = np.where(begins, right, 0)
        given = (torch.from_numpy(tokens), torch.from_numpy(first), length, size)
        what = f"inner_monologue({tokens}, {first}, length={length}, N={size})"
        got = learner(*given)
        whole_numbers(got)
        got = as_array(got, what)
        if got.shape == right.shape:
            late, last = first[1:], np.arange(length) >= first[-1]
            stale = (got[late] - tokens[:-1]) % size == 0  # begins or is held
            require(
                not (stale.all() and (got == right)[~begins].all()),
                "At a token's first step you still say the one before. With "
                "searchsorted, take right=True: what begins at a step counts there.",
                "the token before",
            )
            require(
                not ((got == right)[~last].all() and (got[last][1:] == 0).all()),
                "The last token is not held: no other begins after it, so it lasts "
                "to the end of the stream.",
                "the last is not held",
            )
        equal(
            got,
            right,
            what,
            {
                "begins at every step": (
                    tokens[owner],
                    "Every step says that its token begins. Only the step in `first` "
                    "does; at the others add N, so that the token is held.",
                ),
                "never begins": (
                    tokens[owner] + size,
                    "No token ever begins: at the step in `first` it is the id itself, "
                    "without N.",
                ),
                "silence between": (
                    sparse,
                    "Between two beginnings you say 0. The token lasts until the next "
                    "one begins: its id plus N.",
                ),
                "one step early": (
                    (tokens[after] + size * ~np.r_[begins[1:], False]),
                    "Your stream is one step early: token i begins at step first[i].",
                ),
                "a repetition is lost": (
                    tokens[owner] + size * ~changed,
                    "Where the same token comes twice in a row, it must begin twice: "
                    "look at `first`, not at whether the token changed.",
                ),
                "the next token is held": (
                    np.where(begins, right, tokens[(owner + 1) % count] + size),
                    "You hold the token that comes next. Hold the one that began last.",
                ),
            },
        )
    return "Each token begins once and is held until the next begins."


@checker
def going_on(learner: Callable) -> str:
    """Checks going_on(logits [n, 1 + 2 N], tokens [n], N) -> probabilities [n]."""
    rng = np.random.default_rng(3)
    size = 9
    for steps in (5, 8):
        tokens = rng.permutation(size)[:steps] + 1
        each = np.arange(steps)
        logits = rng.normal(0, 1, (steps, 1 + 2 * size))
        logits[each, tokens + size] = 2.5  # so that neither side is sure
        begins, lasts = logits[:, 1 : 1 + size], logits[:, 1 + size :]
        hold, begin = lasts[each, tokens - 1], logsumexp(begins, axis=1)
        right = expit(begin - hold)
        odds = softmax(logits, axis=1)
        mistakes = {
            "one beginning too many": (
                expit(logsumexp(logits[:, 1 : 2 + size], axis=1) - hold),
                "Column 1 + N is token 1 as it lasts. Those that begin are 1 to N.",
            ),
            "one beginning too few": (
                expit(logsumexp(logits[:, 1:size], axis=1) - hold),
                "You leave out token N. A slice ends before its second number.",
            ),
            "the id before": (
                expit(logsumexp(begins, axis=1) - logits[each, tokens + size - 1]),
                "Token i lasts in column i + N; you take the one before.",
            ),
            "no sigmoid": (
                logsumexp(begins, axis=1) - hold,
                "That is a logit. Make it a probability: torch.sigmoid.",
            ),
            "all ids": (
                odds[:, 1 : 1 + size].sum(1),
                "You share the probability among all ids. There are two choices: that "
                "this token lasts, and that one begins. Make the two add up to 1.",
            ),
            "all ids, from the other side": (
                1 - odds[each, tokens + size],
                "You share the probability among all ids: what is not this token's "
                "lasting is not yet a beginning. Only the two choices add up to 1.",
            ),
            "lasting": (
                1 - right,
                "That is the probability that the token lasts. Return the other one.",
            ),
            "the likeliest beginning": (
                expit(begins.max(1) - hold),
                "You take the largest logit of the beginnings. Whatever begins, it is "
                "time to go on: add up the probabilities of all of them (logsumexp).",
            ),
            "logits added": (
                expit(begins.sum(1) - hold),
                "You add up logits. Add up probabilities: the logarithm of the sum of "
                "the exponentials (logsumexp).",
            ),
            "anything lasts": (
                expit(begin - logsumexp(lasts, axis=1)),
                "You let any token last. Only one has begun: its id plus N.",
            ),
            "begins again": (
                expit(begin - begins[each, tokens - 1]),
                "On the side of lasting you take the id at which the token begins. "
                "Where it lasts, its id is N higher.",
            ),
            "one id too far": (
                expit(logsumexp(logits[:, :size], axis=1) - hold),
                "Id 0 is no token. Those that begin are 1 to N, N included.",
            ),
            "one token for all steps": (
                expit(begin - lasts[:, tokens[0] - 1]),
                "You ask for the first token at every step. At step i it is tokens[i] "
                "that has begun.",
            ),
            "every token at every step": (
                expit(begin - lasts[:, tokens - 1]),
                "You look up all tokens at each step. Take one a step: index the rows "
                "with torch.arange(n), or use gather.",
            ),
        }
        got = learner(torch.from_numpy(logits).float(), torch.from_numpy(tokens), size)
        equal(got, right, "going_on(logits, tokens, N)", mistakes)
    large = torch.tensor([[0.0, 800.0, 790.0, 799.0, 0.0]])
    got = learner(large, torch.tensor([1]), 2)
    require(
        bool(abs(np.asarray(got, dtype=float).item() - np.e / (1 + np.e)) < 1e-3),
        "Exponentials of logits near 800 overflow. Only their difference counts: use "
        "torch.logsumexp, and torch.softmax or torch.sigmoid.",
        "overflow",
    )
    return "Whether it is time, not what comes: that the text knows."


@checker
def frames_lasted(learner: Callable) -> str:
    """Checks frames_lasted(going_on [n], threshold) -> frames that a token lasts."""
    cases = (
        ([0.05, 0.1, 0.2, 0.35, 0.45, 0.6, 0.3, 0.3], 0.5),
        ([0.02, 0.05, 0.3, 0.6, 0.9, 0.3, 0.1, 0.1], 0.8),
        ([0.6, 0.2, 0.1, 0.1], 0.5),
        ([0.1, 0.15, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3], 0.3),
        ([0.01, 0.02, 0.02, 0.01, 0.01], 0.5),
        ([0.5, 0.5, 0.3, 0.3], 0.5),  # met exactly
    )
    for chances, threshold in cases:
        chance = np.array(chances)
        never = len(chance)

        def first(found: np.ndarray, count: int = never) -> int:
            return int(found.argmax()) + 1 if found.any() else count

        lasting = (1 - chance).cumprod()
        right = first(lasting <= threshold)
        never_falls = {"beyond the last chance": never + 1, "nothing found": 1}
        message = (
            "Here the chance that it still lasts never falls to `threshold`. Then the "
            "token lasts as many frames as there are chances."
        )
        got = learner(torch.tensor(chances, dtype=torch.float64), threshold)
        require(
            not isinstance(got, float),
            f"You return {got}, a float. Frames are counted: return an int.",
            "no whole number",
        )
        equal(
            got,
            right,
            f"frames_lasted({chances}, {threshold})",
            {n: (v, message) for n, v in never_falls.items() if lasting[-1] > threshold}
            | {
                "the last time": (
                    never,
                    "You take the last place where it is below `threshold`. Take the "
                    "first.",
                ),
                "below, not at": (
                    first(lasting < threshold),
                    "Here the chance that it still lasts is exactly `threshold`. It "
                    "has fallen far enough: the token ends at `threshold` or below.",
                ),
                "a threshold of one's own": (
                    first(lasting <= 0.5),
                    "You multiply rightly, but compare with a half. Compare with "
                    "`threshold`: the package moves it.",
                ),
                "likelier than not": (
                    first(chance > 0.5),
                    "You wait until the chance to go on is above a half. It may never "
                    "be, and the token would last for ever. Multiply the chances to "
                    "stay, and stop where the product falls to `threshold`.",
                ),
                "chances added": (
                    first(chance.cumsum() >= 1 - threshold),
                    "You add up the chances to go on. The second counts only if the "
                    "token has survived the first: multiply the chances to stay.",
                ),
                "chances to go on multiplied": (
                    first(chance.cumprod() <= threshold),
                    "You multiply the chances to go on. That the token still lasts "
                    "means that it stayed each time: multiply 1 - chance.",
                ),
                "threshold from the other side": (
                    first(lasting <= 1 - threshold),
                    "You stop where the chance that it has ended is `threshold`. Stop "
                    "where the chance that it still lasts has fallen to `threshold`.",
                ),
                "one frame short": (
                    right - 1,
                    "One frame short: a token that ends at the first chance has "
                    "lasted one frame, not none.",
                ),
                "one frame long": (
                    right + 1,
                    "One frame long: where the product falls to `threshold`, the next "
                    "token begins. At the first chance this one has lasted one frame.",
                ),
            },
        )
    return "At a threshold of a half that is the median of the possible durations."
