"""The checkers of chapter 09: right answers pass, planted mistakes are named."""

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


def count(pattern, K, F):
    return {
        "parallel": (F, 1), "delay": (F + K - 1, K), "flatten": (K * F, K),
        "coarse-to-fine": (K * F, (K - 1) * F + 1), "depth": (F, 1),
    }[pattern]  # fmt: skip


def but(name, found):
    """`count` with another answer for one pattern."""
    return lambda p, K, F: found(K, F) if p == name else count(p, K, F)


def inputs(h, tables, codes):
    rows = [h] + [h + t[c] for t, c in zip(tables[:-1], codes[:-1], strict=True)]
    return torch.stack(rows)


def rolled(codes, blank):
    return torch.stack([row.roll(k) for k, row in enumerate(codes)])


RIGHT = {
    "delay_levels": late,
    "undelay_levels": back,
    "count_steps": count,
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
    ("count_steps", but("delay", lambda K, F: (F, K)), "delay is free"),
    ("count_steps", but("flatten", lambda K, F: (K * F, 1)), "first level counts"),
    (
        "count_steps",
        but("coarse-to-fine", lambda K, F: (K * F, K * F)),
        "all before any",
    ),
    ("count_steps", but("coarse-to-fine", lambda K, F: (K * F, K)), "like flatten"),
    ("count_steps", but("depth", lambda K, F: (K * F, 1)), "small steps counted"),
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
    assert "two numbers" in check.count_steps(lambda *a: 3).message
