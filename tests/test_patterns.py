"""Codebook patterns and their inverses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlm_lab.patterns import delay, flatten, undelay, unflatten

shapes = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(0, 9))


def codes_of(shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


@given(shapes)
def test_delay_is_undone(shape):
    codes = codes_of(shape)
    assert torch.equal(undelay(delay(codes, blank=-1)), codes)


@given(shapes)
def test_flatten_is_undone(shape):
    codes = codes_of(shape)
    assert torch.equal(unflatten(flatten(codes), shape[1]), codes)


@given(shapes)
def test_delay_loses_and_invents_nothing(shape):
    codes = codes_of(shape)
    steps = delay(codes, blank=-1)
    assert steps.shape[2] == shape[2] + shape[1] - 1
    assert torch.equal(steps[steps >= 0].sort().values, codes.flatten())


def test_delay_by_hand():
    codes = torch.tensor([[[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]])
    expected = [
        [0, 1, 2, 3, -1, -1],
        [-1, 10, 11, 12, 13, -1],
        [-1, -1, 20, 21, 22, 23],
    ]
    assert delay(codes, blank=-1)[0].tolist() == expected


def test_flatten_by_hand():
    codes = torch.tensor([[[0, 1], [10, 11], [20, 21]]])
    assert flatten(codes).tolist() == [[[0, 10, 20, 1, 11, 21]]]


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[B, K, steps\]"):
        delay(torch.zeros(3, 4), blank=0)
    with pytest.raises(ValueError, match="at least 3 steps"):
        undelay(torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match=r"F \* 3"):
        unflatten(torch.zeros(1, 1, 4), 3)
