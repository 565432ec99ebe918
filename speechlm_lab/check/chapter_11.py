"""Checkers of chapter 11: enrolment, equal error rate, a mark's score, its chance."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import norm

from speechlm_lab.check.core import as_array, checker, equal, require

__all__ = ["chance_of_best", "enrol", "equal_error_rate", "mark_score"]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@checker
def enrol(learner: Callable) -> str:
    """Checks enrol(embeddings [N, D]) -> one embedding [D] of length 1."""
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(5, 8)) + np.array([2.0] + [0.0] * 7)
    raw[0] *= 9  # of another length: only its direction may count
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    mean = unit.mean(0)
    long_one = raw.mean(0)
    equal(
        learner(torch.tensor(raw)),
        _unit(mean),
        "enrol(embeddings)",
        {
            "not of length 1": (
                mean,
                "The mean of unit vectors is shorter than 1. Divide it by its length.",
            ),
            "lengths count": (
                _unit(long_one),
                "One embedding is nine times as long as the others and decides alone. "
                "Bring each to length 1 before you take the mean.",
            ),
            "wrong axis": (
                _unit((raw / np.linalg.norm(raw, axis=0)).mean(0)),
                "You bring each of the D numbers to length 1 over the recordings. "
                "Bring each recording to length 1: dim=1.",
            ),
            "plain mean": (
                long_one,
                "That is the plain mean. Bring each embedding to length 1 first, and "
                "the mean in the end.",
            ),
            "the first one": (
                unit[0],
                "You return one recording's embedding. Use all of them.",
            ),
            "mean over dimensions": (
                raw.mean(1),
                "You take the mean over the D numbers. Take it over the N recordings.",
            ),
        },
    )
    return "Directions are averaged, and the result is a direction again."


@checker
def equal_error_rate(learner: Callable) -> str:
    """Checks equal_error_rate(same [N], other [M]) -> a rate from 0 to 1."""
    rng = np.random.default_rng(8)
    # shifted, so that a threshold fixed beforehand is far from the right one
    for count, level, spread, shift in ((200, 0.7, 0.1, 0.3), (300, 0.75, 0.25, 0.25)):
        same = rng.normal(level, spread, count) - shift
        # some of the others are alike, most are not
        alike = rng.random(5 * count) < 0.4
        other = rng.normal(np.where(alike, 0.5, -0.3), np.where(alike, 0.1, 0.05))
        other -= shift
        tries = np.sort(np.concatenate([same, other]))
        away = np.searchsorted(np.sort(same), tries) / len(same)
        let_in = 1 - np.searchsorted(np.sort(other), tries) / len(other)
        best = np.abs(away - let_in).argmin()
        right = (away[best] + let_in[best]) / 2
        together = (away * len(same) + let_in * len(other)) / (len(same) + len(other))
        middle = (same.mean() + other.mean()) / 2
        got = as_array(
            learner(torch.tensor(same), torch.tensor(other)),
            "equal_error_rate(same, other)",
        )
        require(got.shape == (), "Return one number.")
        value = float(got)
        near = 0.02
        wrongs = {
            "in percent": (100 * right, "That is in percent. Return a share, 0 to 1."),
            "threshold": (
                tries[best],
                "You return the threshold. Return the error rate that it leads to.",
            ),
            "sum of the shares": (
                2 * right,
                "That is the sum; return the mean of the two shares.",
            ),
            "accuracy": (
                1 - right,
                "That is the share of right answers, or your two sides are swapped: "
                "pairs of one voice should score high.",
            ),
            "fewest errors": (
                together.min(),
                "You made the number of all errors smallest. There are five times as "
                "many pairs of other voices, so these decide. Make the two *rates* "
                "equal.",
            ),
            "smallest mean": (
                ((away + let_in) / 2).min(),
                "You return the smallest mean of the two shares. Take their mean where "
                "they are *equal*, which may be at another threshold.",
            ),
            "one half": (
                ((same < 0.5).mean() + (other >= 0.5).mean()) / 2,
                "You put the threshold at 0.5. The data say where it belongs: try each "
                "of the similarities.",
            ),
            "middle of the means": (
                ((same < middle).mean() + (other >= middle).mean()) / 2,
                "You put the threshold halfway between the means. The two groups do "
                "not spread alike: look for the threshold where the rates are equal.",
            ),
        }
        if abs(value - right) <= 0.005:
            continue
        for name, (wrong, message) in wrongs.items():
            scale = max(1.0, abs(wrong))
            hit = abs(value - wrong) <= 0.002 * scale
            require(not hit or abs(wrong - right) <= 0.005, message, name)
        require(
            abs(value - right) <= near,
            f"You return {value:.3f}; {right:.3f} is right.",
        )
    # few of them, so that the two shares are never quite equal, and a tie
    few, fewer = [0.1, 0.3, 0.5, 0.6], [0.5, 0.7, 0.9]
    equal(
        learner(torch.tensor(fewer).double(), torch.tensor(few).double()),
        np.array((1 / 3 + 1 / 4) / 2),
        f"equal_error_rate({fewer}, {few})",
        {
            "owners alone": (
                np.array(1 / 3),
                "That is the share of `same` below the threshold. Return the mean of "
                "the two shares.",
            ),
            "others alone": (
                np.array(1 / 4),
                "That is the share of `other` at or above the threshold. Return the "
                "mean of the two shares.",
            ),
            "above, not at": (
                np.array(1 / 8),
                "You count `other` above the threshold. Count those at it, too.",
            ),
            "thresholds of same alone": (
                np.array(1 / 6),
                "You try only the values of `same` as thresholds. Try those of "
                "`other`, too.",
            ),
        },
    )
    return "Owners sent away are as many, in a hundred, as strangers let in."


@checker
def mark_score(learner: Callable) -> str:
    """Checks mark_score(levels [B, N], signs [B, N]) -> a score of variance 1."""
    rng = np.random.default_rng(6)
    signs = rng.choice([-1.0, 1.0], (12, 30))
    levels = rng.normal(0.7, 3.0, signs.shape) + 0.8 * signs
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
            "one deviation": (
                total / math.sqrt(levels.size) / levels.std(ddof=1),
                "You divide by the standard deviation of the levels, which takes their "
                "mean out. A level times a random sign has the variance level squared.",
            ),
            **{
                name: (
                    total / math.sqrt(levels.size) / (levels * signs).std(ddof=ddof),
                    "You divide by the standard deviation of the products, which takes "
                    "their mean out. Random signs give mean 0: subtract no mean.",
                )
                for ddof, name in enumerate(("deviation by N", "deviation by N - 1"))
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
    for score, tries in ((2.5, 20), (3.0, 192), (1.0, 192), (9.0, 192)):
        one = norm.sf(score)
        right = -math.expm1(tries * math.log1p(-one))
        got = float(as_array(learner(score, tries), "chance_of_best(score, tries)"))
        what = f"chance_of_best({score}, {tries})"
        if score == 9.0:  # only here do ways of computing it differ
            require(
                got != 0.0,
                f"{what} comes out as 0: 1 - p is rounded to 1 for a p below 1e-16. "
                "Use expm1 and log1p, or n * p, which is never too small.",
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
                "other tail": (
                    1 - (1 - norm.cdf(score)) ** tries,
                    "Your p is the chance of a score *below* this one. The upper tail "
                    "is ndtr(-score).",
                ),
                "below": (
                    norm.cdf(score),
                    "You return the share of scores below. Which share is above?",
                ),
            },
        )
    return "The more places are tried, the less one good score says."
