"""Checkers of chapter 08, the second part: the nucleus, the price of the cache."""

from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import as_array, checker, equal, require

__all__ = ["cache_bytes", "nucleus"]


@checker
def nucleus(learner: Callable) -> str:
    """Checks nucleus(probabilities [V], p) -> [V], the fewest that hold p, sum 1."""
    probabilities = np.array([2, 10, 1, 8, 5, 3, 2, 1]) / 32  # sums are exact
    order = np.argsort(-probabilities)
    few, many = (learner(torch.tensor(probabilities), p) for p in (0.2, 0.8))
    alike = (
        isinstance(few, torch.Tensor)
        and isinstance(many, torch.Tensor)
        and torch.equal(few, many)
        and 0 < int((few != 0).sum()) < few.numel()
    )
    require(
        not alike,
        "You keep the same for p = 0.2 and for p = 0.8. How many stay depends on p: as "
        "many as it takes to hold it.",
        "p unused",
    )
    for p, count in ((18 / 32, 2), (0.8, 4), (0.7, 3), (0.2, 1)):

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
                    "You begin with the unlikeliest. Begin with the likeliest: sort in "
                    "descending order.",
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
    same = torch.full((10,), 0.1, dtype=torch.float64)
    kept = as_array(learner(same, 0.35), "nucleus(ten equal chances, 0.35)")
    require(
        int((kept > 0).sum()) == 4,
        f"Of ten equal chances you keep {int((kept > 0).sum())} for p = 0.35; four "
        "hold it. Equal chances cannot be told apart by a threshold: cut by rank.",
        "ties kept",
    )
    nearly = torch.tensor([0.4, 0.3, 0.2, 0.0999999])  # as rounding leaves them
    kept = as_array(learner(nearly, 1.0), "nucleus(probabilities, 1)")
    require(
        bool((kept > 0).all()), "With p = 1 all stay, also where they add up to less."
    )
    return "The fewest that hold p: few where the model is sure, many where not."


def _reach(probabilities: np.ndarray, p: float) -> int:
    """How many, from the first on, until they hold p."""
    return int(np.searchsorted(probabilities.cumsum(), p - 1e-9)) + 1


@checker
def cache_bytes(learner: Callable) -> str:
    """Checks cache_bytes(steps, layers, kv_heads, d, each) -> bytes of a KV cache."""
    for steps, layers, heads, width, each in (
        (50, 6, 3, 64, 8),
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
