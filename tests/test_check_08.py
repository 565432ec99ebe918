"""The checkers of chapter 08: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests
from torch.nn import functional as nnf

from speechlm_lab import check
from speechlm_lab.check import chapter_08
from speechlm_lab.lm import rotate, rotations
from speechlm_lab.sampling import keep_top_p


def attention(diagonal=1, up=False, power=0.5, axis=-1):
    def attend(q, k, v):
        scores = q @ k.T / q.shape[1] ** power
        later = torch.ones(len(q), len(q)).triu(diagonal).bool()
        later = later.T if up else later
        return scores.masked_fill(later, -torch.inf).softmax(axis) @ v

    return attend


def masked_late(q, k, v):
    return (q @ k.T / q.shape[1] ** 0.5).softmax(-1).tril() @ v


def plain(q, k, v):
    return (q @ k.T).softmax(-1) @ v


def masked_with_0(q, k, v):
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(scores.triu(1) != 0, 0).softmax(-1) @ v


def turn(x, base, start=0):
    return rotate(x, rotations(start, *x.shape, base))


def neighbours(x, base):
    order = [*range(0, x.shape[1], 2), *range(1, x.shape[1], 2)]
    return turn(x[:, order], base)[:, torch.tensor(order).argsort()]


def perplexity(logits, codes):
    return nnf.cross_entropy(logits, codes).exp()


def nats(logits, codes):
    return nnf.cross_entropy(logits, codes)


def one_by_one(logits, codes):
    chances = [row.softmax(-1)[c].item() for row, c in zip(logits, codes, strict=True)]
    return math.exp(-sum(math.log(chance) for chance in chances) / len(chances))


def nucleus(probabilities, p):
    return keep_top_p(probabilities.log(), p).softmax(-1)


def short(probabilities, p):
    """Without the code that reaches p."""
    ordered, order = probabilities.sort(descending=True)
    kept = torch.where(ordered.cumsum(0) <= p, ordered, 0)
    out = torch.zeros_like(kept)
    out[order] = kept
    return out / out.sum().clamp(min=1e-9)


def misplaced(probabilities, p):
    """Its mask is in sorted order."""
    count = (nucleus(probabilities, p) > 0).sum()
    kept = torch.where(torch.arange(len(probabilities)) < count, probabilities, 0)
    return kept / kept.sum()


def one_more(probabilities, p):
    """Keeps one too many where the others hold p exactly."""
    ordered, order = probabilities.sort(descending=True)
    kept = torch.where(ordered.cumsum(0) - ordered <= p, ordered, 0)
    out = torch.zeros_like(kept)
    out[order] = kept
    return out / out.sum()


def two(probabilities, p):
    """Always the two likeliest."""
    kept = torch.where(
        probabilities >= probabilities.topk(2).values[1], probabilities, 0
    )
    return kept / kept.sum()


def ascending(probabilities, p):
    """Begins with the unlikeliest."""
    ordered, order = probabilities.sort()
    kept = torch.zeros_like(ordered)
    kept[order] = torch.where(ordered.cumsum(0) - ordered < p, ordered, 0)
    return kept / kept.sum()


def memory(steps, layers, heads, width, each):
    return 2 * steps * layers * heads * width * each


def barely_masked(q, k, v):
    scores = q @ k.T / q.shape[1] ** 0.5
    later = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(later, -50.0).softmax(-1) @ v


def by_hand(q, k, v):
    weights = (q @ k.T / q.shape[1] ** 0.5).exp().tril()
    return weights / weights.sum(1, keepdim=True) @ v


def with_ties(probabilities, p):
    least = probabilities[nucleus(probabilities, p) > 0].min()
    kept = torch.where(probabilities >= least, probabilities, 0)
    return kept / kept.sum()


def first_that_reaches(probabilities, p):
    ordered, order = probabilities.sort(descending=True)
    count = int((ordered.cumsum(0) >= p).nonzero()[0]) + 1
    kept = torch.zeros_like(probabilities)
    kept[order[:count]] = ordered[:count] / ordered[:count].sum()
    return kept


RIGHT = {
    "causal_attention": attention(),
    "rotary": turn,
    "code_perplexity": perplexity,
    "nucleus": nucleus,
    "cache_bytes": memory,
}
MISTAKES = [
    ("causal_attention", attention(diagonal=9), "no mask"),
    ("causal_attention", attention(diagonal=2), "sees one ahead"),
    (
        "causal_attention",
        lambda *a: nnf.scaled_dot_product_attention(*a, is_causal=True),
        "ready-made",
    ),
    (
        "causal_attention",
        lambda q, k, v: nnf.scaled_dot_product_attention(
            q[None], k[None], v[None], is_causal=True
        )[0],
        "ready-made",
    ),
    ("causal_attention", attention(diagonal=0), "hides itself"),
    ("causal_attention", attention(up=True), "mask upside down"),
    ("causal_attention", attention(up=True, diagonal=0), "mask upside down"),
    ("causal_attention", plain, "no mask, no scale"),
    ("causal_attention", masked_with_0, "zeros for the mask"),
    ("causal_attention", attention(power=0), "no scale"),
    ("causal_attention", attention(power=1), "divided by d"),
    ("causal_attention", attention(axis=0), "softmax over queries"),
    ("causal_attention", masked_late, "masked after the softmax"),
    (
        "causal_attention",
        lambda q, k, v: attention()(k, q, v),
        "queries and keys swapped",
    ),
    ("causal_attention", barely_masked, "large scores"),
    ("causal_attention", by_hand, "overflow"),
    ("rotary", lambda x, base: x.clone(), "not turned"),
    ("rotary", lambda x, base: turn(x, 10_000.0), "base forgotten"),
    ("rotary", neighbours, "neighbours as pairs"),
    ("rotary", lambda x, base: turn(x, base, 1), "counts from 1"),
    ("rotary", lambda x, base: turn(x, 1.0), "one speed"),
    ("rotary", lambda x, base: turn(x, base**0.5), "i/d"),
    (
        "rotary",
        lambda x, base: turn(x.roll(4, 1), base).roll(4, 1),
        "turned backwards",
    ),
    (
        "code_perplexity",
        lambda x, y: (-x.softmax(-1)[range(len(y)), y].log().mean()).exp(),
        "rounded to zero",
    ),
    (
        "code_perplexity",
        lambda x, y: (-(x.softmax(-1)[range(len(y)), y] + 1e-8).log().mean()).exp(),
        "rounded to zero",
    ),
    ("code_perplexity", one_by_one, "rounded to zero"),
    (
        "code_perplexity",
        lambda x, y: (-x[range(len(y)), y].mean()).exp(),
        "no softmax",
    ),
    ("code_perplexity", lambda x, y: perplexity(x.softmax(-1), y), "softmax twice"),
    (
        "code_perplexity",
        lambda x, y: (-x.log_softmax(0)[range(len(y)), y].mean()).exp(),
        "softmax over steps",
    ),
    (
        "code_perplexity",
        lambda x, y: (-x.log_softmax(-1)[:, y].mean()).exp(),
        "all codes at each step",
    ),
    ("code_perplexity", nats, "nats"),
    ("code_perplexity", lambda x, y: 2 ** nats(x, y), "2 to the nats"),
    (
        "code_perplexity",
        lambda x, y: 1 / x.softmax(-1)[range(len(y)), y].mean(),
        "mean of chances",
    ),
    ("code_perplexity", lambda x, y: (-nats(x, y)).exp(), "upside down"),
    (
        "code_perplexity",
        lambda x, y: nnf.cross_entropy(x, y, reduction="sum").exp(),
        "sum",
    ),
    (
        "code_perplexity",
        lambda x, y: perplexity(x, x.argmax(-1)),
        "best guess",
    ),
    (
        "code_perplexity",
        lambda x, y: torch.distributions.Categorical(logits=x).entropy().mean().exp(),
        "entropy",
    ),
    ("nucleus", lambda x, p: x, "nothing cut"),
    ("nucleus", two, "p unused"),
    ("nucleus", ascending, "from the unlikeliest"),
    ("nucleus", with_ties, "ties kept"),
    ("nucleus", first_that_reaches, None),
    ("nucleus", one_more, "one too many"),
    ("nucleus", short, "one too few"),
    (
        "nucleus",
        lambda q, p: torch.where(nucleus(q, p) > 0, q, 0),
        "sum below 1",
    ),
    ("nucleus", lambda q, p: nucleus(q, p).sort(descending=True).values, "sorted"),
    ("nucleus", lambda q, p: short(q, p) if p > 0.5 else 0 * q, "one too few"),
    ("nucleus", lambda q, p: 0 * q, "nothing left"),
    (
        "nucleus",
        lambda q, p: (r := torch.where(q >= p, q, 0)) / r.sum(),
        "nothing left",
    ),
    ("nucleus", misplaced, "mask in sorted order"),
    (
        "nucleus",
        lambda q, p: (r := torch.where(q >= p * q.max(), q, 0)) / r.sum(),
        "a threshold",
    ),
    ("cache_bytes", lambda *a: math.prod(a), "keys alone"),
    ("cache_bytes", lambda s, n, h, d, e: memory(s, 1, h, d, e), "one layer"),
    ("cache_bytes", lambda s, n, h, d, e: memory(s, n, 1, d, e), "one head"),
    ("cache_bytes", lambda s, n, h, d, e: memory(s, n, h, d, 1), "numbers"),
    ("cache_bytes", lambda *a: 8 * memory(*a), "bits"),
    ("cache_bytes", lambda *a: 3 * math.prod(a), "queries too"),
    ("cache_bytes", lambda *a: a[0] * memory(*a), "steps squared"),
]  # fmt: skip


TestCheckers = checker_tests(chapter_08, RIGHT, MISTAKES)


def test_the_likeliest_code_stays_even_if_it_holds_more_than_p():
    report = check.nucleus(lambda q, p: nucleus(q, p) if p > 0.5 else short(q, p))
    assert not report.passed and report.mistake == "nothing left"


def test_attention_may_be_written_step_by_step():
    def slow(q, k, v):
        rows = []
        for s in range(len(q)):
            scores = k[: s + 1] @ q[s] / math.sqrt(q.shape[1])
            rows.append(scores.softmax(0) @ v[: s + 1])
        return torch.stack(rows)

    assert check.causal_attention(slow).passed


def test_a_mask_of_a_large_negative_number_will_do():
    def masked(q, k, v):
        scores = q @ k.T / math.sqrt(q.shape[1])
        later = torch.ones_like(scores).triu(1).bool()
        return scores.masked_fill(later, -1e9).softmax(-1) @ v

    assert check.causal_attention(masked).passed


def test_a_logarithm_of_zero_is_told_what_helps():
    report = check.code_perplexity(one_by_one)
    assert "log_softmax" in report.message
    sized = check.code_perplexity(  # stops for another reason
        lambda x, y: (-x.log_softmax(-1)[range(11), y].mean()).exp()
    )
    assert not sized.passed and sized.mistake is None
    added = check.code_perplexity(
        lambda x, y: (-(x.softmax(-1)[range(len(y)), y] + 1e-8).log().mean()).exp()
    )
    assert "infinity" not in added.message
