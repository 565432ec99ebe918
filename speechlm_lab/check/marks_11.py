"""Checkers of chapter 11, the second part: a mark's score and its chance."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import norm

from speechlm_lab.check.core import as_array, checker, equal, require

__all__ = ["chance_of_best", "mark_score"]


@checker
def mark_score(learner: Callable) -> str:
    """Checks mark_score(levels [B, N], signs [B, N]) -> a score of variance 1."""
    rng = np.random.default_rng(6)
    signs = rng.choice(np.float32([-1.0, 1.0]), (12, 30))
    # float32, as the chapter's levels and signs are
    levels = np.float32(rng.normal(0.7, 3.0, signs.shape) + 0.8 * signs)
    total = (levels * signs).sum()
    root = math.sqrt((levels**2).sum())

    def score(signs: np.ndarray) -> float:
        got = as_array(learner(torch.tensor(levels), torch.tensor(signs)), "score")
        require(got.shape == (), "Return one number, the score of all cells together.")
        return float(got)

    equal(
        score(signs),
        total / root,
        "mark_score(levels, signs)",
        {
            "sum": (total, "That is the sum alone. Divide by its deviation."),
            "mean": (
                total / levels.size,
                "You divide by the number of cells. The score should have variance 1 "
                "when the signs are random.",
            ),
            "root of the number": (
                total / math.sqrt(levels.size),
                "You divide by the root of the number of cells. That is right for "
                "levels of variance 1; then louder ones have a larger variance.",
            ),
            "sum of sizes": (
                total / np.abs(levels).sum(),
                "You divide by the sum of the levels' sizes. Variances add up, sizes "
                "do not.",
            ),
            **{
                f"{what}, N - {ddof}": (
                    total / math.sqrt(levels.size) / values.std(ddof=ddof),
                    f"You divide by the standard deviation of the {what}, which takes "
                    "their mean out. A level times a random sign has mean 0 and the "
                    "variance level squared.",
                )
                for what, values in (("levels", levels), ("products", levels * signs))
                for ddof in (0, 1)
            },
            "row by row": (
                ((levels * signs).sum(1) / np.sqrt((levels**2).sum(1))).sum(),
                "You divide row by row and add up: each row then has variance 1. Add "
                "up all cells first, and divide once.",
            ),
            "variance": (
                total / root**2,
                "You divide by the sum of squares, which is the variance of the sum. "
                "Divide by its root.",
            ),
            "correlation": (
                np.corrcoef(levels.ravel(), signs.ravel())[0, 1],
                "That is a correlation, at most 1, which does not grow with the number "
                "of cells. The score should.",
            ),
            "cosine": (
                total / root / math.sqrt(levels.size),
                "That is a cosine, at most 1. Each sign has the square 1, so the "
                "variance of the sum is the sum of squares of the levels alone.",
            ),
            "agreement": (
                (np.sign(levels) == signs).mean(),
                "You count agreeing signs. Large levels should count for more.",
            ),
        },
    )
    equal(
        score(-signs),
        -total / root,
        "mark_score(levels, -signs)",
        {
            "sign lost": (
                total / root,
                "With all signs turned round the score should be negative. You lose "
                "its sign: take no abs and no square.",
            )
        },
    )
    return "Variance 1 under any wrong key, whatever the levels are."


@checker
def chance_of_best(learner: Callable) -> str:
    """Checks chance_of_best(score, tries) -> probability that the best reaches it."""
    # where p is large the upper tail and the lower one lead to different numbers
    got = float(as_array(learner(0.5, 3), "chance_of_best(0.5, 3)"))
    require(
        abs(got - (1 - norm.sf(0.5) ** 3)) > 1e-6,
        "You return 1 - p**n, the chance that not *all* reach the score (or your p is "
        "that of a score below; the upper tail is ndtr(-score)). Ask that not *none* "
        "does.",
        "not all of them",
    )
    for score, tries in ((2.5, 20), (3.0, 192), (1.0, 192), (9.0, 192)):
        one = norm.sf(score)
        right = -math.expm1(tries * math.log1p(-one))
        got = float(as_array(learner(score, tries), "chance_of_best(score, tries)"))
        what = f"chance_of_best({score}, {tries})"
        if score == 9.0:  # only here do ways of computing it differ
            require(
                got != 0.0,
                f"{what} comes out as 0: 1 - p is rounded to 1 for a p below 1e-16. "
                "Use expm1 and log1p in float64, or n * p, which is never too small. "
                "(And take scipy's ndtr, or torch.special.log_ndtr(...).exp(): "
                "torch.special.ndtr itself gives 0 for such scores.)",
                "rounded to zero",
            )
            require(abs(got / right - 1) < 0.01, f"{what} is {right:.3g}, not {got}.")
            continue
        require(
            got <= 1 or abs(got - tries * one) > 1e-9,
            f"{what} comes out as {got:.3g}, and no probability is above 1. Return the "
            "smaller of tries * p and 1.",
            "above 1",
        )
        if abs(got - min(1.0, tries * one)) < 1e-9:
            continue  # the bound that the chapter uses
        if abs(got / right - 1) < 0.01:
            continue  # near enough, 1 - exp(-n * p) for one
        equal(
            got,
            right,
            what,
            {
                "one try": (
                    one,
                    "That is the chance for one place. With many places, the best of "
                    "them is large more often.",
                ),
                "one fewer": (
                    1 - (1 - one) ** (tries - 1),
                    "You leave one try out: none of all `tries` may reach it.",
                ),
                "two sides": (
                    1 - (1 - 2 * one) ** tries,
                    "You count low scores too. Only high ones are taken for a mark.",
                ),
                "all of them": (
                    one**tries,
                    "p**n is the chance that *all* reach the score. One is enough.",
                ),
                "none of them": (
                    (1 - one) ** tries,
                    "That is the chance that none reaches it.",
                ),
                "below": (
                    norm.cdf(score),
                    "You return the share of scores below. Which share is above?",
                ),
            },
        )
    return "The more places are tried, the less one good score says."
