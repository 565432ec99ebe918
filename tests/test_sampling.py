"""Sampling from logits."""

import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from speechlm_lab.sampling import keep_top_k, keep_top_p, sample


def logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("top_k", [1, 5, 50, 100])
def test_top_k_agrees_with_transformers(top_k):
    x = logits(20, 50)
    assert torch.equal(keep_top_k(x, top_k), TopKLogitsWarper(top_k)(None, x))


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_agrees_with_transformers(top_p):
    x = logits(20, 50)
    assert torch.equal(keep_top_p(x, top_p), TopPLogitsWarper(top_p)(None, x))


def test_frequencies_follow_the_softmax():
    x = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    drawn = sample(x, temperature=0.5, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    assert torch.allclose(share, (x[0] / 0.5).softmax(-1), atol=0.01)


def test_temperature_zero_takes_the_likeliest():
    x = logits(7, 5, 50)
    assert torch.equal(sample(x, temperature=0), x.argmax(-1))
    assert torch.equal(sample(x, top_k=1), x.argmax(-1))


def test_a_seed_fixes_the_codes():
    x = logits(4, 8, 50)
    one, two = (sample(x, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    other = sample(x, generator=torch.Generator().manual_seed(4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.shape == (4, 8)


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        sample(logits(2, 5), **options)
