"""The checkers of chapter 11: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests
from torch.nn.functional import normalize

from speechlm_lab import check
from speechlm_lab.check import chapter_11


def enrol(embeddings):
    return normalize(normalize(embeddings, dim=1).mean(0), dim=0)


def rates(same, other):
    tries = torch.cat([same, other]).sort().values
    away = (same[None] < tries[:, None]).double().mean(1)
    let_in = (other[None] >= tries[:, None]).double().mean(1)
    return tries, away, let_in


def eer(same, other):
    _, away, let_in = rates(same, other)
    best = (away - let_in).abs().argmin()
    return (away[best] + let_in[best]) / 2


def best_threshold(same, other):
    tries, away, let_in = rates(same, other)
    return tries[(away - let_in).abs().argmin()]


def fewest(same, other):
    _, away, let_in = rates(same, other)
    errors = away * len(same) + let_in * len(other)
    return errors.min() / (len(same) + len(other))


def smallest(same, other):
    _, away, let_in = rates(same, other)
    return ((away + let_in) / 2).min()


def mean_rate(same, other, at):
    return ((same < at).double().mean() + (other >= at).double().mean()) / 2


def at_one_half(same, other):
    return mean_rate(same, other, 0.5)


def middle(same, other):
    return mean_rate(same, other, (same.mean() + other.mean()) / 2)


def score(levels, signs):
    return (levels * signs).sum() / levels.square().sum().sqrt()


def over_deviation(levels, signs):
    products = levels * signs
    return products.mean() / products.std() * products.numel() ** 0.5


def above(value):
    return math.erfc(value / math.sqrt(2)) / 2


def best_of(value, tries):
    return -math.expm1(tries * math.log1p(-above(value)))


def shares(same, other, tries=None, over=False):
    """Both, where they are as near as can be."""
    tries = torch.cat([same, other]) if tries is None else tries
    away = (same[None] < tries[:, None]).double().mean(1)
    reach = other[None] > tries[:, None] if over else other[None] >= tries[:, None]
    let_in = reach.double().mean(1)
    best = (away - let_in).abs().argmin()
    return away[best], let_in[best]


def no_abs(same, other):
    _, away, let_in = rates(same, other)
    best = (away - let_in).argmin()
    return (away[best] + let_in[best]) / 2


def first_crossing(same, other):
    for at in torch.cat([same, other]).sort().values:
        away, let_in = (same < at).double().mean(), (other >= at).double().mean()
        if away >= let_in:
            return (away + let_in) / 2


def on_grid(same, other, steps):
    return sum(shares(same, other, tries=torch.linspace(0, 1, steps).double())) / 2


def at_not_below(same, other):
    tries = torch.cat([same, other]).sort().values
    away = (same[None] <= tries[:, None]).double().mean(1)
    let_in = (other[None] >= tries[:, None]).double().mean(1)
    best = (away - let_in).abs().argmin()
    return (away[best] + let_in[best]) / 2


RIGHT = {
    "enrol": enrol,
    "equal_error_rate": eer,
    "mark_score": score,
    "chance_of_best": best_of,
}
MISTAKES = [
    ("enrol", lambda e: normalize(e, dim=1).mean(0), "not of length 1"),
    ("enrol", lambda e: normalize(e.mean(0), dim=0), "lengths count"),
    ("enrol", lambda e: normalize(normalize(e, dim=0).mean(0), dim=0), "wrong axis"),
    ("enrol", lambda e: e.mean(0), "plain mean"),
    ("enrol", lambda e: normalize(e[0], dim=0), "the first one"),
    ("enrol", lambda e: e.mean(1), "mean over dimensions"),
    ("enrol", lambda e: enrol(e).tolist(), "no tensor"),
    ("equal_error_rate", lambda a, b: 100 * eer(a, b), "in percent"),
    ("equal_error_rate", best_threshold, "threshold"),
    ("equal_error_rate", lambda a, b: 2 * eer(a, b), "sum of the shares"),
    ("equal_error_rate", lambda a, b: eer(b, a), "accuracy"),
    ("equal_error_rate", fewest, "fewest errors"),
    ("equal_error_rate", smallest, "smallest mean"),
    ("equal_error_rate", at_one_half, "one half"),
    ("equal_error_rate", middle, "middle of the means"),
    ("equal_error_rate", lambda a, b: shares(a, b)[0], "owners alone"),
    ("equal_error_rate", lambda a, b: shares(a, b)[1], "others alone"),
    (
        "equal_error_rate",
        lambda a, b: sum(shares(a, b, tries=a)) / 2,
        "thresholds of same alone",
    ),
    (
        "equal_error_rate",
        lambda a, b: sum(shares(a, b, over=True)) / 2,
        "above, not at",
    ),
    ("equal_error_rate", no_abs, "without abs"),
    ("equal_error_rate", first_crossing, "first crossing"),
    ("equal_error_rate", lambda a, b: on_grid(a, b, 1001), "grid"),
    (
        "equal_error_rate",
        lambda a, b: sum(shares(a, b, tries=b)) / 2,
        "thresholds of other alone",
    ),
    ("equal_error_rate", at_not_below, "at, not below"),
    ("mark_score", lambda x, s: (x * s).sum(), "sum"),
    ("mark_score", lambda x, s: (x * s).mean(), "mean"),
    ("mark_score", lambda x, s: (x * s).sum() / x.square().sum(), "variance"),
    (
        "mark_score",
        lambda x, s: (x * s).sum() / x.numel() ** 0.5,
        "root of the number",
    ),
    (
        "mark_score",
        lambda x, s: (x * s).sum() / x.numel() ** 0.5 / x.std(),
        "levels, N - 1",
    ),
    ("mark_score", lambda x, s: (x * s).sum() / x.abs().sum(), "sum of sizes"),
    ("mark_score", over_deviation, "products, N - 1"),
    (
        "mark_score",
        lambda x, s: (x * s).sum() / x.numel() ** 0.5 / (x * s).std(correction=0),
        "products, N - 0",
    ),
    (
        "mark_score",
        lambda x, s: ((x * s).sum(1) / x.square().sum(1).sqrt()).sum(),
        "row by row",
    ),
    ("mark_score", lambda x, s: score(x, s).abs(), "sign lost"),
    (
        "mark_score",
        lambda x, s: torch.corrcoef(torch.stack([x.flatten(), s.flatten()]))[0, 1],
        "correlation",
    ),
    ("mark_score", lambda x, s: score(x, s) / x.numel() ** 0.5, "cosine"),
    ("mark_score", lambda x, s: (x.sign() == s).double().mean(), "agreement"),
    ("chance_of_best", lambda z, n: above(z), "one try"),
    ("chance_of_best", lambda z, n: 1 - (1 - 2 * above(z)) ** n, "two sides"),
    ("chance_of_best", lambda z, n: above(z) ** n, "all of them"),
    ("chance_of_best", lambda z, n: (1 - above(z)) ** n, "none of them"),
    ("chance_of_best", lambda z, n: 1 - above(z), "below"),
    ("chance_of_best", lambda z, n: 1 - above(z) ** n, "not all of them"),
    ("chance_of_best", lambda z, n: 1 - (1 - above(z)) ** (n - 1), "one fewer"),
    ("chance_of_best", lambda z, n: n * above(z), "above 1"),
    ("chance_of_best", lambda z, n: 1 - (1 - above(z)) ** n, "rounded to zero"),
    ("chance_of_best", lambda z, n: 1 - math.exp(-n * above(z)), "rounded to zero"),
]


TestCheckers = checker_tests(chapter_11, RIGHT, MISTAKES)


def test_a_string_is_no_number():
    report = check.chance_of_best(lambda z, n: str(min(1.0, n * above(z))))
    assert not report.passed and "str" in report.message


def test_the_chapter_s_float32_is_what_is_given():
    def product(levels, signs):
        return torch.tensordot(levels, signs.float(), 2) / levels.norm()

    assert check.mark_score(product).passed


def test_too_few_digits_are_called_that():
    report = check.enrol(lambda e: enrol(e).half())
    assert not report.passed and "precision" in report.message


def test_the_bound_of_the_chapter_passes_too():
    report = check.chance_of_best(lambda z, n: min(1.0, n * above(z)))
    assert report.passed, report


def test_an_answer_within_one_in_a_hundred_passes():
    report = check.chance_of_best(lambda z, n: -math.expm1(-n * above(z)))
    assert report.passed, report


def test_an_answer_that_is_farther_off_does_not_pass():
    report = check.chance_of_best(lambda z, n: 0.98 * best_of(z, n))
    assert not report.passed, report


def test_a_finer_search_for_the_threshold_passes():
    def finer(same, other):
        tries = torch.linspace(-6, 6, 20_001).double()
        away = torch.searchsorted(same.sort().values, tries) / len(same)
        let_in = 1 - torch.searchsorted(other.sort().values, tries) / len(other)
        best = (away - let_in).abs().argmin()
        return (away[best] + let_in[best]) / 2

    report = check.equal_error_rate(finer)
    assert report.passed, report
