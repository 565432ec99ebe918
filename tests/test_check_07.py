"""The checkers of chapter 07: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests

from speechlm_lab import check
from speechlm_lab.check import chapter_07


def majority(train, test):
    return (test == train.mode().values).double().mean()


def split(speakers, share):
    names = sorted(set(speakers))
    chosen = set(names[: round(share * len(names))])
    return [s in chosen for s in speakers]


def lookup(codes, labels, V, unseen=None):
    overall = labels.mode().values if unseen is None else torch.tensor(unseen)
    return torch.stack(
        [labels[codes == v].mode().values if (codes == v).any() else overall
         for v in range(V)]
    )  # fmt: skip


def paired(a, b, groups, draws=4000, pair=True, share=0.95, part=1.0):
    torch.manual_seed(0)
    count = int(groups.max()) + 1
    left = torch.stack([a[groups == g].mean() for g in range(count)])
    right = torch.stack([b[groups == g].mean() for g in range(count)])
    gaps = []
    for _ in range(draws):
        one = torch.randint(count, (int(part * count),))
        two = one if pair else torch.randint(count, (int(part * count),))
        gaps.append(left[one].mean() - right[two].mean())
    ends = torch.tensor([(1 - share) / 2, (1 + share) / 2])
    return torch.stack(gaps).quantile(ends)


def by_frame(a, b, groups):
    torch.manual_seed(0)
    drawn = torch.randint(len(a), (2000, len(a)))
    gaps = (a - b)[drawn].mean(1)
    return gaps.quantile(torch.tensor([0.025, 0.975]))


def bits(train, test, V, more=1.0, joint=False):
    pairs = torch.full((V, V), more)
    for before, after in zip(train[:-1], train[1:], strict=True):
        pairs[before, after] += 1
    chance = pairs / (pairs.sum() if joint else pairs.sum(1, keepdim=True))
    return -chance[test[:-1], test[1:]].log2().mean()


def ends_apart(a, b, groups):
    return paired(a, 0 * a, groups) - paired(b, 0 * b, groups)


def once(codes, labels, rows, columns):
    table = torch.zeros(rows, columns)
    table[codes, labels] += 1  # duplicates count once
    return table


def bits_once(train, test, V):
    pairs = once(train[:-1], train[1:], V, V) + 1
    return -(pairs / pairs.sum(1, keepdim=True))[test[:-1], test[1:]].log2().mean()


def bits_above_one(train, test, V):
    pairs = torch.zeros(V, V)
    for before, after in zip(train[:-1], train[1:], strict=True):
        pairs[before, after] += 1
    chance = (pairs + 1) / pairs.sum(1, keepdim=True).clamp(min=1)
    return -chance[test[:-1], test[1:]].log2().mean()


def lookup_once(codes, labels, V):
    answers = once(codes, labels, V, int(labels.max()) + 1).argmax(1)
    seen = torch.bincount(codes, minlength=V) > 0
    return torch.where(seen, answers, labels.mode().values)


def split_up(speakers, share):
    names = sorted(set(speakers))
    return [s in names[: math.ceil(share * len(names))] for s in speakers]


def no_past(train, test, V):
    single = torch.bincount(train, minlength=V) + 1
    return -(single / single.sum()).log2()[test[1:]].mean()


RIGHT = {
    "majority_baseline": majority,
    "split_by_speaker": split,
    "lookup_probe": lookup,
    "paired_interval": paired,
    "bits_after": bits,
}
MISTAKES = [
    ("majority_baseline", lambda a, b: majority(b, b), "majority of the test"),
    ("majority_baseline", lambda a, b: majority(a, a), "share in training"),
    (
        "majority_baseline",
        lambda a, b: (b == a.median()).double().mean(),
        "another label",
    ),
    ("majority_baseline", lambda a, b: 1 / len(a.unique()), "chance"),
    ("majority_baseline", lambda a, b: a.mode().values, "the label itself"),
    (
        "split_by_speaker",
        lambda s, share: [i < share * len(s) for i in range(len(s))],
        "on both sides",
    ),
    ("split_by_speaker", lambda s, share: [not t for t in split(s, share)], "swapped"),
    (
        "split_by_speaker",
        lambda s, share: split(s, share / 2),
        "share of utterances",
    ),
    ("split_by_speaker", split_up, "share of utterances"),
    ("lookup_probe", lookup_once, "counted once"),
    ("lookup_probe", lambda c, y, V: lookup(c, y, V, unseen=0), "codes never seen"),
    (
        "lookup_probe",
        lambda c, y, V: torch.stack(
            [y[c == v].double().mean() if (c == v).any() else torch.tensor(0.0).double()
             for v in range(V)]
        ),
        "mean of labels",
    ),
    ("paired_interval", lambda a, b, g: paired(a, b, g, pair=False), "unpaired"),
    ("paired_interval", by_frame, "frames"),
    ("paired_interval", lambda a, b, g: paired(b, a, g), "sign"),
    ("paired_interval", lambda a, b, g: paired(a, b, g).flip(0), "high, low"),
    ("paired_interval", lambda a, b, g: paired(a, b, g, share=0.9), "90%"),
    ("paired_interval", lambda a, b, g: paired(a, b, g, share=0.68), "68%"),
    ("paired_interval", lambda a, b, g: paired(a, b, g, part=0.5), "too few drawn"),
    ("paired_interval", ends_apart, "ends"),
    ("paired_interval", lambda a, b, g: (a - b).mean() * torch.ones(2), "no width"),
    ("bits_after", lambda a, b, V: bits(a, b, V) * math.log(2), "nats"),
    ("bits_after", lambda a, b, V: bits(b, b, V), "counted on the test"),
    ("bits_after", lambda a, b, V: bits(a, b, V, more=0.0), "pairs never seen"),
    ("bits_after", bits_once, "counted once"),
    ("bits_after", bits_above_one, "rows without the ones"),
    ("bits_after", no_past, "no past"),
    (
        "bits_after",
        lambda a, b, V: bits(a, b, V) * (len(b) - 1) / len(b),
        "first code counted",
    ),
    ("bits_after", lambda a, b, V: bits(a, b, V, joint=True), "chance of the pair"),
    ("bits_after", lambda a, b, V: 2 ** bits(a, b, V), "perplexity"),
]  # fmt: skip


TestCheckers = checker_tests(chapter_07, RIGHT, MISTAKES)


def test_the_share_of_speakers_is_rounded():
    def floor(speakers, share):
        names = sorted(set(speakers))
        return [s in names[: int(share * len(names))] for s in speakers]

    report = check.split_by_speaker(floor)
    assert not report.passed and "rounded 3" in report.message


def test_the_largest_label_is_not_the_majority():
    wrong = check.majority_baseline(lambda a, b: (b == a.max()).double().mean())
    assert not wrong.passed
