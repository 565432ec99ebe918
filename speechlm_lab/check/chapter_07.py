"""Checkers of chapter 07: baselines, splits, tables, paired intervals, bits."""

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import as_array, checker, equal, require

__all__ = [
    "bits_after",
    "lookup_probe",
    "majority_baseline",
    "paired_interval",
    "split_by_speaker",
]


@checker
def majority_baseline(learner: Callable) -> str:
    """Checks majority_baseline(train [N], test [M]) -> accuracy."""
    test = [2, 2, 2, 1, 0, 1, 2, 2]
    # the most frequent label is neither the middle nor the largest one
    for train in ([0, 0, 1, 1, 1, 1, 2, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]):
        _majority_of(learner, train, test)
    return "Chosen in training, measured in the test."


def _majority_of(learner: Callable, train: list[int], test: list[int]) -> None:
    answer = Counter(train).most_common(1)[0][0]
    equal(
        learner(torch.tensor(train), torch.tensor(test)),
        test.count(answer) / len(test),
        "majority_baseline(train, test)",
        {
            "majority of the test": (
                max(Counter(test).values()) / len(test),
                "That is label 2: the most frequent one of the test, and the largest. "
                "Take the most frequent one of training, before the test is seen.",
            ),
            "share in training": (
                train.count(answer) / len(train),
                "That is how often the answer is right in training. Measure it on "
                "the test labels.",
            ),
            "another label": (
                test.count(sorted(train)[len(train) // 2]) / len(test),
                "Labels are names: their middle means nothing. Take the most frequent.",
            ),
            "chance": (
                1 / 3,
                "One over the number of classes is blind guessing. The majority is "
                "often far better, and a probe has to beat it.",
            ),
            "the label itself": (
                answer,
                "You return the label. How often is it right?",
            ),
        },
    )


@checker
def split_by_speaker(learner: Callable) -> str:
    """Checks split_by_speaker(speakers, share) -> True for test, one an utterance."""
    rng = np.random.default_rng(7)
    for people, share in ((10, 0.3), (8, 0.25), (7, 0.4), (7, 0.3)):
        # some speak much, some little: utterances and speakers are not the same count
        weights = np.arange(1, people + 1.0) ** 2
        drawn = rng.choice(people, 120, p=weights / weights.sum())
        speakers = [f"{n}" for n in [*range(people), *drawn]]
        got = as_array(learner(list(speakers), share), "split_by_speaker(...)")
        require(
            got.shape == (len(speakers),),
            f"Return one True or False for each of the {len(speakers)} utterances.",
        )
        sides = defaultdict(set)
        for name, test in zip(speakers, got.astype(bool), strict=True):
            sides[name].add(bool(test))
        both = [name for name, side in sides.items() if len(side) == 2]
        require(
            not both,
            f"{len(both)} speakers are on both sides: the probe meets in the test whom "
            "it knows. Choose speakers, then give all of their utterances to one side.",
            "on both sides",
        )
        chosen = sum(True in side for side in sides.values())
        want = round(share * people)
        told = abs(got.mean() - share) < 0.1  # near a share of the utterances
        require(
            chosen != people - want or chosen == want or told,
            "The sides are swapped: True marks the test, which gets the share.",
            "swapped",
        )
        require(
            chosen == want,
            f"{chosen} of {people} speakers are in the test; a share of {share} of the "
            f"speakers is {share * people:.3g}, rounded {want}. Count speakers, not "
            "utterances.",
            "share of utterances",
        )
    return "No speaker is on both sides, and the share is one of speakers."


@checker
def lookup_probe(learner: Callable) -> str:
    """Checks lookup_probe(codes [N], labels [N], V) -> the answer for each code [V]."""
    rng = np.random.default_rng(2)
    for size in (9, 4):  # more codes than labels, and fewer
        _lookup_of(learner, rng, size)
    return "For each code the label that it was seen with most: the whole probe."


def _lookup_of(learner: Callable, rng: np.random.Generator, size: int) -> None:
    codes = rng.integers(0, size - 2, 300)  # the last two never occur
    labels = (codes * 5 + rng.choice(4, 300, p=[0.6, 0.2, 0.1, 0.1])) % 6
    labels[rng.random(300) < 0.4] = 4
    overall = Counter(labels.tolist()).most_common(1)[0][0]
    table = np.zeros((size, 6))
    np.add.at(table, (codes, labels), 1)
    right = np.where(table.sum(1) > 0, table.argmax(1), overall)
    share = (table + 1e-9) / (table.sum(0) + 1e-9)
    equal(
        learner(torch.from_numpy(codes), torch.from_numpy(labels), size),
        right,
        f"lookup_probe(codes, labels, {size})",
        {
            "codes never seen": (
                table.argmax(1),
                "For a code that never occurs you answer 0. Nothing is known about "
                "it, so answer with the most frequent label of all.",
            ),
            "counted once": (
                np.where(table.sum(1) > 0, (table > 0).argmax(1), overall),
                "`table[codes, labels] += 1` adds 1 where a pair comes, however often. "
                "Use index_put_ with accumulate=True, bincount, or a loop.",
            ),
            "mean of labels": (
                [labels[codes == v].mean() if v in codes else 0 for v in range(size)],
                "You average the numbers of the labels. Labels are names: take the "
                "most frequent.",
            ),
            "the wrong way round": (
                np.where(table.sum(1) > 0, share.argmax(1), overall),
                "You ask which label gives this code most readily. Ask which label is "
                "the most frequent one among the frames with this code.",
            ),
            "counts": (table.max(1), "You return how often. Return which label."),
        },
    )


@checker
def paired_interval(learner: Callable) -> str:
    """Checks paired_interval(a [N], b [N], groups [N]) -> (low, high) of a - b."""
    rng = np.random.default_rng(5)
    people, each = 24, 15
    groups = np.repeat(np.arange(people), each)
    level = rng.uniform(0.2, 0.8, people)[groups]  # some are easy, some are hard
    gain = rng.normal(0.05, 0.08, people)[groups]
    noise = rng.normal(0, 0.01, (2, len(groups)))
    a, b = level + gain + noise[0], level + noise[1]

    def bounds(gaps: np.ndarray, share: float = 0.95) -> np.ndarray:
        return np.quantile(gaps, [(1 - share) / 2, (1 + share) / 2])

    def means(x: np.ndarray) -> np.ndarray:
        return np.array([x[groups == g].mean() for g in range(people)])

    one, two = rng.integers(0, people, (2, 40_000, people))
    some = rng.integers(0, len(groups), (4000, len(groups)))
    gap = means(a - b)
    right = bounds(gap[one].mean(1))
    given = [torch.tensor(x, dtype=torch.float32) for x in (a, b)]
    calls = [learner(*given, torch.tensor(groups)) for _ in range(5)]
    calls = [as_array(call, "paired_interval(...)") for call in calls]
    require(calls[0].shape == (2,), "Return two numbers: (low, high).")
    got = np.mean(calls, axis=0)  # the luck of the draws evens out
    width = right[1] - right[0]
    require(
        abs(got[1] - got[0]) > 0.05 * width,
        "Your interval has hardly any width: draw speakers with replacement, so that "
        "some come twice and others not at all.",
        "no width",
    )

    narrow = "Narrower than the right one: it is that of "
    unpaired = bounds(means(a)[one].mean(1) - means(b)[two].mean(1))
    ends = bounds(means(a)[one].mean(1)) - bounds(means(b)[one].mean(1))
    known = (
        (right, "", "right"),
        (right[::-1], "The bounds are swapped: return (low, high).", "high, low"),
        (
            bounds(gap[one].mean(1), 0.9),
            narrow + "90%. Cut 2.5% off at each end; draw a thousand times or more; "
            "and whoever is drawn twice counts twice.",
            "90%",
        ),
        (
            bounds(gap[one].mean(1), 0.68),
            narrow + "68%, one standard error each way.",
            "68%",
        ),
        (
            bounds(gap[one[:, : people // 2]].mean(1)),
            "Wider than the right one: draw as many speakers as there are.",
            "too few drawn",
        ),
        (
            unpaired,
            "You draw the speakers anew for b. Some speakers are easy and some are "
            "hard, for both probes alike: use the same draw for a and b, and that "
            "cancels.",
            "unpaired",
        ),
        (
            ends,
            "You take the ends of two intervals from each other. Take the means of one "
            "draw from each other, draw after draw, and then the ends.",
            "ends",
        ),
        (
            bounds((a - b)[some].mean(1)),
            "You draw frames. Frames of one speaker are alike, so your interval is too "
            "narrow: draw speakers, each with all of their frames.",
            "frames",
        ),
        (-right[::-1], "The sign: it is a minus b.", "sign"),
        (
            np.quantile(gap, [0.025, 0.975]),
            "That is how far speakers differ from one another. The interval is for the "
            "mean: draw as many speakers as there are, take the mean, and do it often.",
            "spread of speakers",
        ),
        (bounds(means(a)[one].mean(1)), "That is a alone. Subtract b.", "a alone"),
    )
    off = [np.abs(got - found).max() / width for found, _, _ in known]
    _, message, mistake = known[int(np.argmin(off))]
    require(
        min(off) < 0.1,
        f"You return {got[0]:.3f} to {got[1]:.3f}; about {right[0]:.3f} to "
        f"{right[1]:.3f} is right.",
    )
    require(mistake == "right", message, mistake)
    return "Drawn by speaker, and both probes are measured on the same draw."


@checker
def bits_after(learner: Callable) -> str:
    """Checks bits_after(train [F], test [F], V) -> mean bits of a code after one."""
    rng = np.random.default_rng(4)
    size = 5
    step = rng.dirichlet(np.full(size, 0.4), size)

    def stream(length: int) -> np.ndarray:
        codes = [0]
        for _ in range(length - 1):
            codes.append(int(rng.choice(size, p=step[codes[-1]])))
        return np.array(codes)

    train, test = stream(80), stream(60)
    pairs, own = np.zeros((2, size, size))
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    np.add.at(own, (test[:-1], test[1:]), 1)

    def price(counts: np.ndarray, more: float = 1.0) -> float:
        chance = (counts + more) / (counts.sum(1, keepdims=True) + more * size)
        return float(-np.log2(chance[test[:-1], test[1:]]).mean())

    single = np.bincount(train, minlength=size) + 1
    back = (pairs + 1) / (pairs + 1).sum(0, keepdims=True)
    right = price(pairs)
    got = learner(torch.from_numpy(train), torch.from_numpy(test), size)
    require(
        bool(np.isfinite(float(got))),
        "You get infinity: a pair that was never seen has chance 0. Add 1 to the count "
        "of every pair.",
        "pairs never seen",
    )
    equal(
        float(got),
        right,
        f"bits_after(train, test, {size})",
        {
            "nats": (right * np.log(2), "That is in nats: use log2."),
            "counted on the test": (
                price(own),
                "You counted the pairs of the test itself. Count in training.",
            ),
            "no past": (
                -np.log2(single / single.sum())[test[1:]].mean(),
                "You use how often a code occurs, not what came before it.",
            ),
            "counted once": (
                price(np.minimum(pairs, 1)),
                "`counts[before, after] += 1` counts a pair once, however often it "
                "comes. Use index_put_ with accumulate=True, bincount, or a loop.",
            ),
            "rows without the ones": (
                -np.log2(
                    ((pairs + 1) / pairs.sum(1, keepdims=True).clip(1))[
                        test[:-1], test[1:]
                    ]
                ).mean(),
                "You add 1 to each count and divide by the sum without them: the "
                "chances then add up to more than 1.",
            ),
            "backwards": (
                -np.log2(back[test[:-1], test[1:]]).mean(),
                "Your rows and columns are swapped: for each code before, the chances "
                "of the codes that follow add up to 1.",
            ),
            "sum": (right * (len(test) - 1), "That is the sum. Take the mean."),
            "first code counted": (
                right * (len(test) - 1) / len(test),
                "You divide by the number of codes. The first has no code before it, "
                "so there is one price fewer.",
            ),
            "chance of the pair": (
                -np.log2(((pairs + 1) / (pairs + 1).sum())[test[:-1], test[1:]]).mean(),
                "You divide by the number of all pairs. Given the code before, the "
                "chances of the codes that follow add up to 1: divide each row by its "
                "own sum.",
            ),
            "perplexity": (2**right, "That is 2 to the bits. Stop one step before."),
        },
    )
    return "The price of a code, given the one before."
