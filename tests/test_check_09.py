"""The checkers of chapter 09: right answers pass, planted mistakes are named."""

import math

import torch
from elements import checker_tests

from speechlm_lab import check
from speechlm_lab.check import chapter_09


def late(codes, blank, delays=None):
    levels, frames = codes.shape
    delays = delays or list(range(levels))
    steps = codes.new_full((levels, frames + max(delays)), blank)
    for k, d in enumerate(delays):
        steps[k, d : d + frames] = codes[k]
    return steps


def back(steps, delays, frames=None):
    frames = steps.shape[1] - max(delays) if frames is None else frames
    return torch.stack([steps[k, d : d + frames] for k, d in enumerate(delays)])


def price(chances):
    return torch.special.entr(chances).sum()


def prices(joint):
    """By the chain rule: level 2 in each row, weighed by how often the row comes."""
    one, two = joint.sum(1), joint.sum(0)
    rows = [w * price(row / w) for w, row in zip(one, joint, strict=True) if w > 0]
    return price(one) + price(two), price(one) + sum(rows)


def unweighted(joint):
    rows = [price(row / row.sum()) for row in joint if row.sum() > 0]
    return prices(joint)[0], price(joint.sum(1)) + sum(rows) / len(rows)


def naive(joint):
    return prices(joint)[0], -(joint * joint.log()).sum()


def own_table(h, tables, codes):
    rows = [h] + [h + tables[k + 1][codes[k]] for k in range(len(codes) - 1)]
    return torch.stack(rows)


def in_place(h, tables, codes):
    rows = [h]
    for table, code in zip(tables[:-1], codes[:-1], strict=True):
        h += table[code]
        rows.append(h)
    return torch.stack(rows)


def inputs(h, tables, codes):
    rows = [h] + [h + t[c] for t, c in zip(tables[:-1], codes[:-1], strict=True)]
    return torch.stack(rows)


def rolled(codes, blank):
    return torch.stack([row.roll(k) for k, row in enumerate(codes)])


RIGHT = {
    "delay_levels": late,
    "undelay_levels": back,
    "two_prices": prices,
    "depth_inputs": inputs,
}
MISTAKES = [
    ("delay_levels", lambda c, b: late(c, b)[:, : c.shape[1]], "no room"),
    ("delay_levels", rolled, "wrapped around"),
    ("delay_levels", lambda c, b: late(c, 0), "blank is 0"),
    (
        "delay_levels",
        lambda c, b: late(c, b, list(range(len(c)))[::-1]),
        "other way round",
    ),
    (
        "delay_levels",
        lambda c, b: late(c, b, [k + 1 for k in range(len(c))]),
        "one step more",
    ),
    ("delay_levels", lambda c, b: late(c, b).float(), "no whole numbers"),
    ("undelay_levels", lambda s, d: back(s, d).float(), "no whole numbers"),
    (
        "undelay_levels",
        lambda s, d: back(s, [0, *d[1:]], s.shape[1] - max(d)),
        "level 0 waits too",
    ),
    (
        "undelay_levels",
        lambda s, d: back(s, list(range(len(d))), s.shape[1] - max(d)),
        "always 0, 1, 2",
    ),
    ("undelay_levels", lambda s, d: s[:, : s.shape[1] - max(d)], "not shifted"),
    (
        "undelay_levels",
        lambda s, d: torch.stack([r.roll(-n) for r, n in zip(s, d, strict=True)]),
        "corners kept",
    ),
    (
        "undelay_levels",
        lambda s, d: torch.stack(
            [torch.cat([r[n:], torch.full((9,), 99)])[: s.shape[1] - len(d) + 1]
             for r, n in zip(s, d, strict=True)]
        ),
        "K - 1 cut off",
    ),
    (
        "undelay_levels",
        lambda s, d: back(s, [max(d) - n for n in d], s.shape[1] - max(d)),
        "other way round",
    ),
    ("two_prices", lambda p: [x / math.log(2) for x in prices(p)], "in bits"),
    ("two_prices", lambda p: [prices(p)[1]] * 2, "no difference"),
    ("two_prices", lambda p: [prices(p)[0]] * 2, "nothing gained"),
    (
        "two_prices",
        lambda p: (prices(p)[0], prices(p)[1] - price(p.sum(1))),
        "level 2 alone",
    ),
    (
        "two_prices",
        lambda p: (price(p.sum(1)), price(p.sum(0))),
        "a price for each level",
    ),
    (
        "two_prices",
        lambda p: (prices(p)[0], price(p.sum(1)) + price(p) - price(p.sum(0))),
        "wrong axis",
    ),
    (
        "two_prices",
        lambda p: (prices(p)[0], price(p.sum(0)) + price(p) - price(p.sum(1))),
        "level 2 twice",
    ),
    ("two_prices", lambda p: (2 * price(p.sum(1)), price(p)), "level 1 for both"),
    ("two_prices", lambda p: (2 * price(p.sum(0)), price(p)), "level 2 for both"),
    ("two_prices", unweighted, "rows not weighted"),
    ("two_prices", lambda p: prices(p)[::-1], "other way round"),
    ("two_prices", lambda p: [-x for x in prices(p)], "log is negative"),
    ("two_prices", naive, "log of 0"),
    (
        "depth_inputs",
        lambda h, t, c: torch.stack(
            [h + t[k - 1][c[k - 1]] for k in range(len(c))]
        ),
        "last level at first",
    ),
    ("depth_inputs", own_table, "table of its own level"),
    ("depth_inputs", in_place, "changed in place"),
    (
        "depth_inputs",
        lambda h, t, c: inputs(h, [t[0]] * len(t), c),
        "one table for all",
    ),
    (
        "depth_inputs",
        lambda h, t, c: inputs(h, t, torch.cat([c[1:], c[:1]])),
        "code of its own level",
    ),
    (
        "depth_inputs",
        lambda h, t, c: inputs(h, t, c) * (torch.arange(len(c)) > 0)[:, None],
        "nothing at first",
    ),
    (
        "depth_inputs",
        lambda h, t, c: torch.stack([h + e[v] for e, v in zip(t, c, strict=True)]),
        "the answer itself",
    ),
    (
        "depth_inputs",
        lambda h, t, c: torch.stack([h] + [t[k][c[k]] for k in range(len(c) - 1)]),
        "h only at first",
    ),
    ("depth_inputs", lambda h, t, c: inputs(h, t, c) - h, "no h"),
    (
        "depth_inputs",
        lambda h, t, c: h + (inputs(h, t, c) - h).cumsum(0),
        "all below",
    ),
    (
        "depth_inputs",
        lambda h, t, c: inputs(h, [*t, t[0]], torch.cat([c, c[:1]])),
        "one position too many",
    ),
]  # fmt: skip


TestCheckers = checker_tests(chapter_09, RIGHT, MISTAKES)


def test_one_number_is_not_two():
    assert "two numbers" in check.two_prices(lambda *a: 3).message


def test_level_by_level_is_as_right_as_the_whole_table():
    whole = lambda p: torch.stack([prices(p)[0], price(p)])  # noqa: E731
    assert check.two_prices(whole).passed


def test_a_crash_names_what_was_given():
    wrong = lambda s, d: back(s, d, s.shape[1] - len(d) + 1)  # noqa: E731
    message = check.undelay_levels(wrong).message
    assert "[0, 3, 3, 5]" in message and "a tensor [4, 9]" in message
