"""Checkers of chapter 08: attention, rotary positions, perplexity, nucleus, cache."""

import math
from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import as_array, checker, equal, require

__all__ = [
    "cache_bytes",
    "causal_attention",
    "code_perplexity",
    "nucleus",
    "rotary",
]


def _softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    scores = np.exp(scores - scores.max(axis, keepdims=True))
    return scores / scores.sum(axis, keepdims=True)


@checker
def causal_attention(learner: Callable) -> str:
    """Checks causal_attention(queries, keys, values [S, d]) -> [S, d]."""
    rng = np.random.default_rng(3)
    steps, width = 6, 9
    q, k, v = rng.normal(size=(3, steps, width))
    scores = q @ k.T / math.sqrt(width)
    later = np.triu(np.ones((steps, steps), dtype=bool), 1)

    def look(scores: np.ndarray, hidden: np.ndarray, axis: int = -1) -> np.ndarray:
        return _softmax(np.where(hidden, -1e30, scores), axis) @ v

    right = look(scores, later)
    got = learner(*(torch.tensor(x) for x in (q, k, v)))
    present = later | np.eye(steps, dtype=bool)
    if isinstance(got, torch.Tensor) and got.shape == right.shape:
        require(
            not bool(got[0].isnan().any())
            or not np.allclose(got[1:].numpy(), look(scores, present)[1:]),
            "The first row is NaN: you hide the present step as well, so the first one "
            "has nothing to look at. A step sees itself: hide only what is later.",
            "hides itself",
        )
        require(
            not bool(got[-1].isnan().any()) or bool(got[0].isnan().any()),
            "The last row is NaN: your mask is upside down and hides what came before. "
            "Row s may see columns 0 to s.",
            "mask upside down",
        )
    equal(
        got,
        right,
        "causal_attention(q, k, v)",
        {
            "no mask, no scale": (
                look(scores * math.sqrt(width), later & False),
                "Two things are missing: the division by the square root of d, and the "
                "mask. Later steps must not be seen.",
            ),
            "zeros for the mask": (
                look(np.where(later, 0, scores), later & False),
                "You set the scores of later steps to 0, and e^0 is 1: they are still "
                "seen. Set them to minus infinity.",
            ),
            "no mask": (
                look(scores, later & False),
                "Every step sees all others, later ones too. Hide them: their scores "
                "become minus infinity before the softmax.",
            ),
            "mask upside down": (
                look(scores, later.T),
                "Each step sees the later ones and not the earlier: your mask is "
                "upside down. Row s may see columns 0 to s.",
            ),
            "hides itself": (
                look(scores, present),
                "You hide the present step as well. A step sees itself and those "
                "before: hide only what is later.",
            ),
            "no scale": (
                look(scores * math.sqrt(width), later),
                "Divide the scores by the square root of d, or they grow with the "
                "width and the softmax looks at one step alone.",
            ),
            "divided by d": (
                look(scores / math.sqrt(width), later),
                "You divide by d. Divide by its square root.",
            ),
            "softmax over queries": (
                look(scores, later, axis=0),
                "Your softmax runs over the queries. For each query, a row, the "
                "weights of the keys add up to 1.",
            ),
            "masked after the softmax": (
                np.where(later, 0, _softmax(scores)) @ v,
                "You set weights to 0 after the softmax, and the rest no longer add "
                "up to 1. Put minus infinity into the scores before it.",
            ),
        },
    )
    return "Each step looks at itself and at those before it."


@checker
def rotary(learner: Callable) -> str:
    """Checks rotary(x [S, d], base) -> [S, d], pairs (i, i + d/2), step s turned."""
    rng = np.random.default_rng(6)
    steps, width, base = 7, 8, 50.0
    half = width // 2
    x = rng.normal(size=(steps, width))
    rates = base ** -(np.arange(half) / half)

    def turn(
        rates: np.ndarray = rates, start: int = 0, step: int = 1, sign: int = 1
    ) -> np.ndarray:
        """Pairs as complex numbers, turned by multiplication."""
        if step == 1:
            pairs = x[:, :half] + 1j * x[:, half:]
        else:
            pairs = x[:, ::2] + 1j * x[:, 1::2]
        at = np.arange(start, start + steps)[:, None]
        turned = pairs * np.exp(sign * 1j * at * rates)
        if step == 1:
            return np.concatenate([turned.real, turned.imag], axis=1)
        return np.stack([turned.real, turned.imag], axis=2).reshape(steps, width)

    equal(
        learner(torch.tensor(x), base),
        turn(),
        f"rotary(x, {base:g})",
        {
            "neighbours as pairs": (
                turn(step=2),
                "You pair channels 0 and 1, 2 and 3. That is the layout of the paper, "
                "and as good; but here, as in Llama, channel i goes with i + d/2.",
            ),
            "turned backwards": (
                turn(sign=-1),
                "You turn the other way: the first of a pair becomes "
                "first * cos - second * sin.",
            ),
            "counts from 1": (
                turn(start=1),
                "You begin with step 1. The first step is 0 and is not turned. (The "
                "scores would be the same. Why?)",
            ),
            "one speed": (
                turn(rates=np.ones(half)),
                "All pairs turn equally fast. Pair i turns by s / base^(2i/d).",
            ),
            "i/d": (
                turn(rates=base ** -(np.arange(half) / width)),
                "Your speeds fall too slowly: the exponent is 2i/d, with i from 0 to "
                "d/2 - 1.",
            ),
        },
    )
    return "Turned by their position: now a score knows how far apart two steps are."


@checker
def code_perplexity(learner: Callable) -> str:
    """Checks code_perplexity(logits [S, V], codes [S]) -> e to the mean nats."""
    rng = np.random.default_rng(8)
    steps, size = 11, 6
    logits = rng.normal(0, 2, (steps, size)) + 1.5
    codes = rng.integers(0, size, steps)
    shares = _softmax(logits)
    chance = shares[np.arange(steps), codes]
    nats = float(-np.log(chance).mean())
    equal(
        learner(torch.tensor(logits), torch.tensor(codes)),
        math.exp(nats),
        "code_perplexity(logits, codes)",
        {
            "nats": (nats, "That is the loss in nats. Raise e to it."),
            "2 to the nats": (
                2**nats,
                "You raise 2 to a loss in nats. With natural logarithms the base is e.",
            ),
            "mean of chances": (
                1 / chance.mean(),
                "You average the chances. One code with chance 0 would then hardly "
                "count. Average their logarithms.",
            ),
            "best guess": (
                math.exp(-np.log(shares.max(1)).mean()),
                "You look at the likeliest code of each step. Look at the one that "
                "came.",
            ),
            "sum": (
                math.exp(nats * steps),
                "You add the nats of all steps up. Take their mean.",
            ),
            "entropy": (
                math.exp(-(shares * np.log(shares)).sum(1).mean()),
                "That is how unsure the model says it is. Whether it is right is not "
                "in it: you never look at the codes.",
            ),
            "upside down": (
                math.exp(-nats),
                "That is below 1: the sign. Nats are minus the logarithm.",
            ),
        },
    )
    return "As unsure as a fair dice with so many sides."


@checker
def nucleus(learner: Callable) -> str:
    """Checks nucleus(probabilities [V], p) -> [V], the fewest that hold p, sum 1."""
    probabilities = np.array([2, 10, 1, 8, 5, 3, 2, 1]) / 32  # sums are exact
    order = np.argsort(-probabilities)
    for p, count in ((0.8, 4), (0.7, 3), (0.2, 1), (18 / 32, 2)):

        def keep(chosen: np.ndarray, again: bool = True) -> np.ndarray:
            kept = np.zeros_like(probabilities)
            kept[chosen] = probabilities[chosen]
            return kept / kept.sum() if again and kept.sum() else kept

        got = learner(torch.tensor(probabilities), p)
        divided = isinstance(got, torch.Tensor) and bool(got.isnan().all())
        got = 0 * probabilities if divided else got
        got = as_array(got, f"nucleus(probabilities, {p})")
        require(
            bool((got != 0).any()),
            f"With p = {p} nothing is left. Do not compare single codes with p: add "
            "them up. The likeliest stays, always.",
            "nothing left",
        )
        equal(
            got,
            keep(order[:count]),
            f"nucleus(probabilities, {p})",
            {
                "nothing cut": (probabilities, "All are left: set some to 0."),
                "one too few": (
                    keep(order[: count - 1]),
                    f"What you keep holds less than {p}. The code with which the sum "
                    "reaches p stays.",
                ),
                "one too many": (
                    keep(order[: count + 1]),
                    f"You keep one too many: without it the rest holds {p} already.",
                ),
                "sum below 1": (
                    keep(order[:count], again=False),
                    "The right ones are left, but they no longer add up to 1. Divide "
                    "by their sum.",
                ),
                "from the unlikeliest": (
                    keep(order[::-1][: _reach(probabilities[order[::-1]], p)]),
                    "You begin with the unlikeliest. Sort in descending order.",
                ),
                "in the order of codes": (
                    keep(np.arange(_reach(probabilities, p))),
                    "You add up in the order of the codes' numbers, which means "
                    "nothing. Sort by probability first.",
                ),
                "mask in sorted order": (
                    keep(np.arange(count)),
                    "Your mask is in sorted order, the codes are not: carry it back "
                    "with the order that sort gives.",
                ),
                "sorted": (
                    -np.sort(-keep(order[:count])),
                    "You return them sorted. Each must stay in its own place, or code "
                    "0 gets the chance of another.",
                ),
                "a threshold": (
                    keep(probabilities >= p * probabilities.max()),
                    "You keep what is at least p times as likely as the likeliest. "
                    "That is min-p. Add up.",
                ),
            },
        )
    return "The fewest that hold p: few where the model is sure, many where not."


def _reach(probabilities: np.ndarray, p: float) -> int:
    """How many, from the first on, until they hold p."""
    return int(np.searchsorted(probabilities.cumsum(), p - 1e-9)) + 1


@checker
def cache_bytes(learner: Callable) -> str:
    """Checks cache_bytes(steps, layers, kv_heads, d, each) -> bytes of a KV cache."""
    for steps, layers, heads, width, each in (
        (50, 6, 3, 64, 4),
        (3000, 32, 8, 128, 2),
        (1, 2, 1, 16, 4),
    ):
        half = steps * layers * heads * width * each
        equal(
            learner(steps, layers, heads, width, each),
            2 * half,
            f"cache_bytes({steps}, {layers}, {heads}, {width}, {each})",
            {
                "keys alone": (half, "Twice that: keys and values are both kept."),
                "one layer": (
                    2 * half / layers,
                    "That is one layer. Each layer has a cache of its own.",
                ),
                "one head": (
                    2 * half / heads,
                    "That is one head. Each head of keys and values keeps its own.",
                ),
                "numbers": (
                    2 * half / each,
                    "That is how many numbers. Each takes `each` bytes.",
                ),
                "bits": (16 * half, "That is in bits."),
                "queries too": (
                    3 * half,
                    "You keep the queries too. A query is used once, by its own step, "
                    "and never again.",
                ),
                "steps squared": (
                    2 * half * steps,
                    "The scores, steps times steps, are not kept. The cache grows with "
                    "the steps, not with their square.",
                ),
            },
            tolerance=1e-9,
        )
    return "Keys and values, for each step, layer and head."
