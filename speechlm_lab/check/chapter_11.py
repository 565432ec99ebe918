"""Checkers of chapter 11: enrolment, equal error rate; the rest is in `marks_11`."""

from collections.abc import Callable

import numpy as np
import torch

from speechlm_lab.check.core import as_array, checker, equal, require
from speechlm_lab.check.marks_11 import chance_of_best, mark_score

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
    got = learner(torch.tensor(raw))
    require(
        isinstance(got, torch.Tensor),
        f"You return a {type(got).__name__}. Return a tensor, as the function says.",
        "no tensor",
    )
    equal(
        got,
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
            "without abs": (
                (away + let_in)[(away - let_in).argmin()] / 2,
                "You take the smallest difference with its sign. Take abs first.",
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
                "That is the larger of the two shares, here that of `same` below the "
                "threshold. Return the mean of the two.",
            ),
            "others alone": (
                np.array(1 / 4),
                "That is the smaller of the two shares, here that of `other` at or "
                "above the threshold. Return the mean of the two.",
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
    # close together, below 0, and with ties: no grid finds the threshold
    owners, strangers = [-0.204, -0.202, -0.201, -0.2, -0.199], [-0.204, -0.202, -0.202]
    equal(
        learner(torch.tensor(owners).double(), torch.tensor(strangers).double()),
        np.array(0.2),
        f"equal_error_rate({owners}, {strangers})",
        {
            "at, not below": (
                np.array(8 / 15),
                "You count `same` at the threshold, too. Count those below it.",
            ),
            "thresholds of other alone": (
                np.array(13 / 30),
                "You try too few thresholds: try each value of `same` and of `other`.",
            ),
            "grid": (
                np.array(0.5),
                "Your thresholds miss the scores, which lie close together below 0. "
                "Try the scores themselves.",
            ),
        },
    )
    # the nearest threshold lies before the one where the shares have crossed
    owners = [0.61, 0.5, 0.33, 0.8, 0.9, 0.95]
    strangers = [0.85, 0.7, 0.1, 0.4, 0.45, 0.3, 0.07, 0.42, 0.44]
    equal(
        learner(torch.tensor(owners).double(), torch.tensor(strangers).double()),
        np.array((1 / 6 + 2 / 9) / 2),
        f"equal_error_rate({owners}, {strangers})",
        {
            "first crossing": (
                np.array((1 / 3 + 2 / 9) / 2),
                "You stop at the first threshold where as many owners are sent away as "
                "strangers let in. One step before, the shares were nearer: try all.",
            ),
        },
    )
    return "Owners sent away are as many, in a hundred, as strangers let in."
