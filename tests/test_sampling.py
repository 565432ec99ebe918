"""Sampling from logits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from speechlm_lab.sampling import (
    Sampling,
    guide,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    sample,
)

ALL = dict(temperature=0.8, top_k=30, top_p=0.95, min_p=0.02, penalty=1.3)


def logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def codes(*shape, below=50, seed=0):
    return torch.randint(below, shape, generator=seeded(seed))


# agreement with transformers


@pytest.mark.parametrize("top_k", [1, 5, 50, 100])
def test_top_k_agrees_with_transformers(top_k):
    x = logits(20, 50)
    assert torch.equal(keep_top_k(x, top_k), TopKLogitsWarper(top_k)(None, x))


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_agrees_with_transformers(top_p):
    x = logits(20, 50)
    assert torch.equal(keep_top_p(x, top_p), TopPLogitsWarper(top_p)(None, x))


@pytest.mark.parametrize("min_p", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_min_p_agrees_with_transformers(min_p):
    x = logits(20, 50)
    assert torch.equal(keep_min_p(x, min_p), MinPLogitsWarper(min_p)(None, x))


@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.2, 3.0])
def test_the_penalty_agrees_with_transformers(penalty):
    x, recent = logits(20, 50), codes(20, 9)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(recent, x.clone())
    assert torch.equal(penalise_repetition(x, recent, penalty), theirs)


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_draw_agrees_with_transformers(seed):
    x, recent = logits(40, 50, seed=seed), codes(40, 9, seed=seed)
    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.8),
            TopKLogitsWarper(30),
            TopPLogitsWarper(0.95),
            MinPLogitsWarper(0.02),
        ]
    )(recent, x.clone())
    expected = torch.multinomial(theirs.softmax(-1), 1, generator=seeded())[:, 0]
    assert torch.equal(Sampling(**ALL).draw(x, seeded(), recent), expected)


# truncation


def test_min_p_by_hand():
    x = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert (keep_min_p(x, 0.25) > -torch.inf).tolist() == [True, True, True, False]
    assert (keep_min_p(x, 0.59) > -torch.inf).tolist() == [True, True, False, False]


def test_min_p_keeps_more_where_the_model_is_unsure():
    sure, unsure = torch.tensor([[9.0, 1.0, 1.0, 1.0], [1.1, 1.0, 1.0, 1.0]])
    assert (keep_min_p(sure, 0.1) > -torch.inf).sum() == 1
    assert (keep_min_p(unsure, 0.1) > -torch.inf).sum() == 4


@given(st.integers(0, 999), st.sampled_from([keep_top_p, keep_min_p]))
def test_a_stricter_setting_keeps_a_part_of_what_a_looser_one_keeps(seed, keep):
    x = logits(4, 20, seed=seed)
    tight, loose = sorted(torch.rand(2, generator=seeded(seed)).tolist())
    if keep is keep_min_p:
        tight, loose = loose, tight
    few, many = keep(x, tight) > -torch.inf, keep(x, loose) > -torch.inf
    assert (few <= many).all()
    assert few.gather(-1, x.argmax(-1, keepdim=True)).all()  # the likeliest stays


# repetition


@given(st.integers(0, 999), st.floats(1.01, 5))
def test_the_penalty_makes_heard_codes_less_likely_and_no_others(seed, penalty):
    x, recent = logits(3, 20, seed=seed), codes(3, 4, below=20, seed=seed)
    heard = torch.zeros_like(x, dtype=torch.bool).scatter(-1, recent, True)
    y = penalise_repetition(x, recent, penalty)
    assert (y < x)[heard].all()
    assert torch.equal(y[~heard], x[~heard])


def test_blanks_and_padding_are_no_repetition():
    x = logits(2, 20)
    for nothing in (
        torch.tensor([[20, -1], [-100, 999]]),
        torch.zeros(2, 0, dtype=torch.int64),
    ):
        assert torch.equal(penalise_repetition(x, nothing, 2.0), x)


def test_a_penalty_breaks_a_loop():
    x = torch.tensor([2.0, 1.5, -1.0])
    greedy = Sampling(temperature=0, penalty=1.5)
    assert greedy.draw(x, recent=torch.tensor([], dtype=torch.int64)) == 0
    assert greedy.draw(x, recent=torch.tensor([0])) == 1


# guidance


def test_guidance_by_its_formula():
    c, u = logits(4, 50), logits(4, 50, seed=1)
    p = c.softmax(-1) ** 2.5 * u.softmax(-1) ** -1.5
    expected = p / p.sum(-1, keepdim=True)
    assert torch.allclose(guide(c, u, 2.5).exp(), expected, atol=1e-6)
    # the constant of either row's logits does not matter
    assert torch.allclose(guide(c + 7, u - 3, 2.5).exp(), expected, atol=1e-5)


def test_guidance_at_one_and_zero():
    c, u = logits(4, 50), logits(4, 50, seed=1)
    c[:, 3] = u[:, 5] = -torch.inf
    assert torch.equal(guide(c, u, 1), c.log_softmax(-1))
    assert torch.equal(guide(c, u, 0), u.log_softmax(-1))
    for scale in (0.5, 3):
        p = guide(c, u, scale).exp()
        assert torch.allclose(p.sum(-1), torch.ones(4))
        assert (p[:, [3, 5]] == 0).all()


@given(st.integers(0, 999), st.floats(0, 4), st.floats(0.1, 4))
def test_guidance_favours_what_the_condition_favours(seed, scale, more):
    c, u = logits(1, 20, seed=seed), logits(1, 20, seed=seed + 1000)
    gain = (c.log_softmax(-1) - u.log_softmax(-1))[0]
    one, two = guide(c, u, scale)[0], guide(c, u, scale + more)[0]
    assert two.exp() @ gain >= one.exp() @ gain - 1e-4


# drawing


def test_frequencies_follow_the_softmax():
    x = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    drawn = sample(x, temperature=0.5, generator=seeded())
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    assert torch.allclose(share, (x[0] / 0.5).softmax(-1), atol=0.01)


def test_temperature_zero_takes_the_likeliest():
    x = logits(7, 5, 50)
    assert torch.equal(sample(x, temperature=0), x.argmax(-1))
    assert torch.equal(sample(x, top_k=1), x.argmax(-1))
    assert torch.equal(sample(x, min_p=1.0), x.argmax(-1))


def test_a_seed_fixes_the_codes():
    x, recent = logits(4, 8, 50), codes(4, 8, 3)
    for settings in (Sampling(), Sampling(**ALL)):
        one, two = (settings.draw(x, seeded(3), recent) for _ in "ab")
        assert torch.equal(one, two)
        assert not torch.equal(one, settings.draw(x, seeded(4), recent))
        assert one.shape == (4, 8)


def test_rows_do_not_touch_each_other():
    x, recent = logits(8, 50), codes(8, 5)
    other, other_recent = x.clone(), recent.clone()
    other[3], other_recent[3] = logits(50, seed=9), codes(5, seed=9)
    one = Sampling(**ALL).draw(x, seeded(), recent)
    two = Sampling(**ALL).draw(other, seeded(), other_recent)
    rest = torch.arange(8) != 3
    assert torch.equal(one[rest], two[rest])


def test_rows_that_are_alike_are_drawn_apart():
    x = logits(50).expand(2, 2000, 50)
    one, two = sample(x, generator=seeded())
    share = x[0, 0].softmax(-1)
    # two independent draws agree as often as the sum of squares says
    assert abs((one == two).float().mean() - (share**2).sum()) < 0.04


def test_sample_is_the_thin_form():
    x = logits(40, 50)
    for settings in (
        {},
        {"temperature": 0.7, "top_k": 9, "top_p": 0.8},
        {"min_p": 0.1},
    ):
        expected = Sampling(**settings).draw(x, seeded())
        assert torch.equal(sample(x, generator=seeded(), **settings), expected)


# refusals


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        sample(logits(2, 5), **options)


def test_bad_penalties_and_scales_are_refused():
    for penalty in (0, math.inf):
        with pytest.raises(ValueError, match="penalty must"):
            Sampling(penalty=penalty)
    with pytest.raises(ValueError, match="needs recent codes"):
        Sampling(penalty=1.2).draw(logits(2, 5))
    with pytest.raises(ValueError, match="in the rows of logits"):
        penalise_repetition(logits(2, 5), codes(3, 4, below=5), 1.2)
    for scale in (-1, math.inf):
        with pytest.raises(ValueError, match="scale must"):
            guide(logits(2, 5), logits(2, 5), scale)
    with pytest.raises(ValueError, match="one shape"):
        guide(logits(2, 5), logits(2, 6), 2)
