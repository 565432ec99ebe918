"""The checkers of chapter 10: right answers pass, planted mistakes are named."""

import pytest
import torch
from elements import checker_tests

from speechlm_lab import check
from speechlm_lab.check import chapter_10


def monologue(tokens, first, length, N):
    stream = torch.zeros(length, dtype=torch.long)
    ends = [*first.tolist()[1:], length]
    for token, begin, end in zip(tokens, first.tolist(), ends, strict=True):
        stream[begin:end] = token + N
        stream[begin] = token
    return stream


def held_wrongly(tokens, first, length, N):
    stream = monologue(tokens, first, length, N)
    held = torch.searchsorted(first, torch.arange(length), right=True) % len(tokens)
    return torch.where(stream > N, tokens[held] + N, stream)


def by_change(tokens, first, length, N):
    bare = (monologue(tokens, first, length, N) - 1) % N + 1
    same = torch.zeros(length, dtype=torch.bool)
    same[1:] = bare[1:] == bare[:-1]
    return bare + N * same


def left_sided(wrap, held):
    """The token is looked up with the left side of searchsorted."""

    def answer(tokens, first, length, N):
        steps = torch.arange(length)
        place = torch.searchsorted(first, steps) - 1
        stream = tokens[place if wrap else place.clamp(min=0)] + N
        if not held:
            stream[first] -= N
        return stream

    return answer


def last_cut(begins):
    """The stream is filled between neighbours in `first`: none follows the last."""

    def answer(tokens, first, length, N):
        stream = monologue(tokens, first, length, N)
        stream[int(first[-1]) + begins :] = 0
        return stream

    return answer


def early(tokens, first, length, N):
    stream = monologue(tokens, first, length, N)
    return torch.cat([stream[1:], stream[-1:]])


def start(logits, N):
    return logits[:, 1 : 1 + N].logsumexp(1)


def take(logits, ids):
    return logits.gather(1, ids[:, None])[:, 0]


def go_on(logits, tokens, N):
    return torch.sigmoid(start(logits, N) - take(logits, tokens + N))


def any_lasts(logits, tokens, N):
    return torch.sigmoid(start(logits, N) - logits[:, 1 + N :].logsumexp(1))


def unstable(logits, tokens, N):
    begins, lasts = logits[:, 1 : 1 + N].exp().sum(1), take(logits, tokens + N).exp()
    return begins / (begins + lasts)


def where(found):
    return int(found.nonzero()[0]) + 1 if found.any() else len(found)


def lasted(going_on, threshold):
    return where((1 - going_on).cumprod(0) <= threshold)


def faults(places, S):
    visits = places.unique_consecutive()
    different = len(visits.unique())
    return torch.tensor([S - different, len(visits) - different])


def no_cap(going_on, threshold):
    return int(((1 - going_on).cumprod(0) > threshold).sum()) + 1


def tokens_again(places, S):
    visits = places.unique_consecutive().bincount(minlength=S)
    return torch.tensor([(visits == 0).sum(), (visits > 1).sum()])


def every_step(places, S):
    different = len(places.unique())
    return torch.tensor([S - different, len(places) - different])


def jumps(places, S):
    step = places.unique_consecutive().diff()
    return torch.tensor([(step > 1).sum(), (step < 0).sum()])


def no_end(places, S):
    return faults(places, int(places.max()) + 1)


def left_out(places, S):
    step = places.unique_consecutive().diff()
    return torch.tensor([(step - 1).clamp(min=0).sum(), faults(places, S)[1]])


def times_back(places, S):
    step = places.unique_consecutive().diff()
    return torch.tensor([faults(places, S)[0], (step < 0).sum()])


def how_far_back(places, S):
    step = places.unique_consecutive().diff()
    return torch.tensor([faults(places, S)[0], -step[step < 0].sum()])


def lead(c, u, scale):
    c, u = c.log_softmax(0), u.log_softmax(0)
    return (u + scale * (c - u)).log_softmax(0)


def mix(c, u, scale):
    c, u = c.softmax(0), u.softmax(0)
    return (u + scale * (c - u)).clamp(min=1e-12).log()


RIGHT = {
    "inner_monologue": monologue,
    "frames_lasted": lasted,
    "going_on": go_on,
    "skips_and_loops": faults,
    "lead_away": lead,
}
MISTAKES = [
    (
        "inner_monologue",
        lambda t, f, n, N: (monologue(t, f, n, N) - 1) % N + 1,
        "begins at every step",
    ),
    (
        "inner_monologue",
        lambda t, f, n, N: (monologue(t, f, n, N) - 1) % N + 1 + N,
        "never begins",
    ),
    (
        "inner_monologue",
        lambda t, f, n, N: torch.zeros(n, dtype=torch.long).scatter(0, f, t),
        "silence between",
    ),
    ("inner_monologue", early, "one step early"),
    ("inner_monologue", left_sided(True, False), "the token before"),
    ("inner_monologue", left_sided(True, True), "the token before"),
    ("inner_monologue", left_sided(False, False), "the token before"),
    ("inner_monologue", last_cut(True), "the last is not held"),
    ("inner_monologue", last_cut(False), "the last is not held"),
    ("inner_monologue", by_change, "a repetition is lost"),
    ("inner_monologue", held_wrongly, "the next token is held"),
    ("inner_monologue", lambda t, f, n, N: monologue(t, f, n, N)[:-1], None),
    ("going_on", lambda s, i, N: s.softmax(1)[:, 1 : 1 + N].sum(1), "all ids"),
    (
        "going_on",
        lambda s, i, N: 1 - take(s.softmax(1), i + N),
        "all ids, from the other side",
    ),
    ("going_on", lambda *a: 1 - go_on(*a), "lasting"),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(s[:, 1 : 1 + N].amax(1) - take(s, i + N)),
        "the likeliest beginning",
    ),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(s[:, 1 : 1 + N].sum(1) - take(s, i + N)),
        "logits added",
    ),
    ("going_on", any_lasts, "anything lasts"),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(start(s, N) - take(s, i)),
        "begins again",
    ),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(s[:, :N].logsumexp(1) - take(s, i + N)),
        "one id too far",
    ),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(start(s, N) - s[:, i[0] + N]),
        "one token for all steps",
    ),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(start(s, N) - s[:, i + N]),
        "every token at every step",
    ),
    ("going_on", lambda s, i, N: go_on(s, i, N)[:-1], None),
    ("going_on", unstable, "overflow"),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(
            s[:, 1 : N + 2].logsumexp(1) - s[range(len(i)), i + N]
        ),
        "one beginning too many",
    ),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(s[:, 1:N].logsumexp(1) - s[range(len(i)), i + N]),
        "one beginning too few",
    ),
    (
        "going_on",
        lambda s, i, N: torch.sigmoid(start(s, N) - s[range(len(i)), i + N - 1]),
        "the id before",
    ),
    (
        "going_on",
        lambda s, i, N: start(s, N) - s[range(len(i)), i + N],
        "no sigmoid",
    ),
    (
        "frames_lasted",
        lambda h, x: (
            int(((1 - h).cumprod(0) <= x).nonzero()[-1]) + 1
            if ((1 - h).cumprod(0) <= x).any()
            else len(h)
        ),
        "the last time",
    ),
    (
        "frames_lasted",
        lambda h, x: lasted(h, x) if (1 - h).prod() <= x else None,
        "no return",
    ),
    (
        "lead_away",
        lambda w, o, s: (s * (w.log_softmax(0) - o.log_softmax(0))).log_softmax(0),
        "nothing to start from",
    ),
    (
        "lead_away",
        lambda w, o, s: (
            (1 - s) * o.softmax(0).log() + s * w.softmax(0).log()
        ).log_softmax(0),
        "overflow",
    ),
    ("frames_lasted", lambda h, x: where(h > 0.5), "likelier than not"),
    (
        "frames_lasted",
        lambda h, x: where((1 - h).cumprod(0) < x),
        "below, not at",
    ),
    ("frames_lasted", lambda h, x: lasted(h, 0.5), "a threshold of one's own"),
    ("frames_lasted", lambda h, x: where(h.cumsum(0) >= 1 - x), "chances added"),
    (
        "frames_lasted",
        lambda h, x: where(h.cumprod(0) <= x),
        "chances to go on multiplied",
    ),
    (
        "frames_lasted",
        lambda h, x: lasted(h, 1 - x),
        "threshold from the other side",
    ),
    ("frames_lasted", lambda h, x: lasted(h, x) - 1, "one frame short"),
    ("frames_lasted", lambda h, x: lasted(h, x) + 1, "one frame long"),
    ("frames_lasted", no_cap, "beyond the last chance"),
    (
        "frames_lasted",
        lambda h, x: ((1 - h).cumprod(0) <= x).int().argmax() + 1,
        "nothing found",
    ),
    ("skips_and_loops", tokens_again, "tokens, not times"),
    (
        "skips_and_loops",
        lambda p, S: faults(p, S) - torch.tensor([faults(p, S)[1], 0]),
        "visits for tokens",
    ),
    ("skips_and_loops", every_step, "every step counted"),
    ("skips_and_loops", jumps, "jumps counted"),
    ("skips_and_loops", no_end, "the end forgotten"),
    ("skips_and_loops", lambda p, S: faults(p, S).flip(0), "the wrong way round"),
    ("skips_and_loops", left_out, "left out at a jump"),
    ("skips_and_loops", times_back, "times back"),
    ("skips_and_loops", how_far_back, "how far back"),
    ("frames_lasted", lambda p, t: float(lasted(p, t)), "no whole number"),
    ("inner_monologue", lambda *a: monologue(*a).float(), "no whole numbers"),
    (
        "lead_away",
        lambda c, u, w: u.log_softmax(0) + w * (c.log_softmax(0) - u.log_softmax(0)),
        "not normalised",
    ),
    ("lead_away", lambda c, u, w: u + w * (c - u), "logits not normalised"),
    ("lead_away", lambda c, u, w: lead(u, c, w), "the wrong way round"),
    ("lead_away", lambda c, u, w: lead(c, u, 1 + w), "one more"),
    (
        "lead_away",
        lambda c, u, w: (w * c.log_softmax(0)).log_softmax(0),
        "with_text multiplied",
    ),
    ("lead_away", mix, "probabilities mixed"),
    (
        "lead_away",
        lambda c, u, w: (u.softmax(0) + w * (c.softmax(0) - u.softmax(0))).log(),
        "below zero",
    ),
    ("lead_away", lambda *a: lead(*a).exp(), "no logarithm"),
]


TestCheckers = checker_tests(chapter_10, RIGHT, MISTAKES)


@pytest.mark.parametrize(
    "answer",
    [
        lambda c, u, w: (u + w * (c - u)).log_softmax(0),
        lambda c, u, w: torch.log_softmax(w * c + (1 - w) * u, -1),
    ],
)
def test_guidance_may_go_along_logits(answer):
    """Constants of a row do not matter once all adds up to 1 again."""
    assert check.lead_away(answer).passed


def test_the_checkers_agree_with_the_package():
    from speechlm_lab import layout
    from speechlm_lab.sampling import guide

    def package(tokens, first, length, N):
        # END of the package is put where the last token of the exercise begins
        got = layout.monologue(tokens[:-1], first[:-1], int(first[-1]), length)
        own = len(layout.TOKENS)
        held = got > own
        bare = torch.where(held, got - own, got)
        end = torch.arange(length) >= first[-1]
        return torch.where(end, tokens[-1], bare) + N * held

    assert check.inner_monologue(package).passed
    assert check.lead_away(guide).passed
