"""Checkers of chapter 08: attention, rotary, perplexity; the rest: `drawing_08`."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from speechlm_lab.check.core import Wrong, checker, equal, require
from speechlm_lab.check.drawing_08 import cache_bytes, nucleus

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


class _Calls(TorchFunctionMode):
    """The names of PyTorch's functions that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.add(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


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
    given = [torch.tensor(x) for x in (q, k, v)]
    with _Calls() as calls:
        got = learner(*given)
    require(
        "scaled_dot_product_attention" not in calls.names,
        "You call scaled_dot_product_attention, which is all of this ready-made. Write "
        "it without: the scores, the mask, the softmax, the mean of the values.",
        "ready-made",
    )
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
            "queries and keys swapped": (
                look(scores.T, later),
                "Queries and keys are swapped: row s of the scores belongs to query s.",
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
            "sees one ahead": (
                look(scores, np.triu(later, 2)),
                "Each step sees the next one, which it is to guess. Hide that one too: "
                "what is later begins one right of the diagonal, triu(1).",
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
    # other sizes, and scores in the hundreds
    q, k, v = 20 * rng.normal(size=(3, 4, 5))
    q[0] = -k[0]  # far below 0, so that the first step likes all others better
    later = np.triu(np.ones((4, 4), dtype=bool), 1)
    got = np.asarray(learner(*(torch.tensor(x) for x in (q, k, v))), dtype=float)
    right = look(q @ k.T / math.sqrt(5), later)
    require(
        bool(np.isfinite(got).all()),
        "It is right for small scores, but scores in the hundreds make it NaN or "
        "infinity: e to the score is too large, or all of a row are rounded to 0. Use "
        "PyTorch's softmax, which first subtracts the largest.",
        "overflow",
    )
    require(
        got.shape == right.shape and np.allclose(got, right, atol=1e-4),
        "It is right for small scores, not for scores in the hundreds. Is what you put "
        "in for later steps far below all of them? Minus infinity always is; a number "
        "such as -100 is not.",
        "large scores",
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
            "not turned": (x, "Nothing is turned: step s is what came in."),
            "base forgotten": (
                turn(rates=10_000.0 ** -(np.arange(half) / half)),
                "Your base is 10,000. Use the one that is given.",
            ),
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
            "no softmax": (
                math.exp(-logits[np.arange(steps), codes].mean()),
                "You take the scores for logarithms of chances. Those of a step must "
                "add up to 1 as chances: log_softmax first.",
            ),
            "softmax twice": (
                math.exp(-np.log(_softmax(shares)[np.arange(steps), codes]).mean()),
                "You take the softmax of a softmax. cross_entropy and log_softmax want "
                "the scores themselves.",
            ),
            "softmax over steps": (
                math.exp(-np.log(_softmax(logits, 0)[np.arange(steps), codes]).mean()),
                "Your softmax runs over the steps. At each step the codes share 1.",
            ),
            "all codes at each step": (
                math.exp(-np.log(shares[:, codes]).mean()),
                "[:, codes] takes all codes at each step. Take one a step: index the "
                "rows with torch.arange(S), too.",
            ),
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
    far = torch.tensor([[150.0, 0], [0, 150]]), torch.tensor([1, 1])
    impossible = (
        "A code came that was thought impossible, 150 nats away. Its chance is rounded "
        "to 0, or hidden by a small number that was added to it. torch.log_softmax "
        "takes the logarithm without that rounding."
    )
    try:
        sure = float(learner(*far))
    except Wrong as wrong:
        if "ValueError" not in str(wrong):  # which math.log stops with at 0
            raise
        raise Wrong(f"{wrong}\n{impossible}", "rounded to zero") from None
    require(
        abs(sure / math.exp(75) - 1) < 1e-3,
        f"Your perplexity is {sure:.3g}, and {math.exp(75):.3g} is right. {impossible}",
        "rounded to zero",
    )
    return "As unsure as a fair die with so many sides."
