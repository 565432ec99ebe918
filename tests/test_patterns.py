"""Codebook patterns and their inverses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlm_lab.patterns import (
    PATTERNS,
    coarse_to_fine,
    delay,
    flatten,
    parallel,
    uncoarse_to_fine,
    undelay,
    unflatten,
)

shapes = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(0, 9))
patterns = st.sampled_from(list(PATTERNS.values()))


def codes_of(shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


# the functions


@given(shapes)
def test_delay_is_undone(shape):
    codes = codes_of(shape)
    assert torch.equal(undelay(delay(codes, blank=-1)), codes)


@given(shapes)
def test_flatten_is_undone(shape):
    codes = codes_of(shape)
    assert torch.equal(unflatten(flatten(codes), shape[1]), codes)


@given(shapes)
def test_coarse_to_fine_is_undone(shape):
    codes = codes_of(shape)
    assert torch.equal(uncoarse_to_fine(coarse_to_fine(codes), shape[1]), codes)


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


def test_one_code_a_step_by_hand():
    codes = torch.tensor([[[0, 1], [10, 11], [20, 21]]])
    assert flatten(codes).tolist() == [[[0, 10, 20, 1, 11, 21]]]
    assert coarse_to_fine(codes).tolist() == [[[0, 1, 10, 11, 20, 21]]]
    assert torch.equal(parallel(codes), codes)


# the common form


def test_the_names():
    assert set(PATTERNS) == {"parallel", "delay", "flatten", "coarse-to-fine"}
    assert all(pattern.name == name for name, pattern in PATTERNS.items())


@given(patterns, shapes)
def test_picking_undoes_laying(pattern, shape):
    codes = codes_of(shape).to(torch.int16)
    steps = pattern.lay(codes, -1)
    assert torch.equal(pattern.pick(steps, shape[1]), codes)
    assert steps.dtype == codes.dtype


@given(patterns, shapes)
def test_the_sizes_are_those_announced(pattern, shape):
    batch, codebooks, frames = shape
    steps = pattern.lay(codes_of(shape), -1)
    size = (pattern.streams(codebooks), pattern.steps(codebooks, frames))
    assert steps.shape == (batch, *size)
    assert pattern.levels(codebooks, frames).shape == size
    assert pattern.frames(codebooks, frames).shape == size


@given(patterns, shapes)
def test_levels_and_frames_say_where_each_code_comes_from(pattern, shape):
    codes = codes_of(shape)
    steps = pattern.lay(codes, -1)
    levels = pattern.levels(*shape[1:])
    frames = pattern.frames(*shape[1:])
    assert torch.equal(steps < 0, (frames < 0).expand_as(steps))
    held = frames >= 0
    assert torch.equal(steps[:, held], codes[:, levels[held], frames[held]])
    if len(levels) > 1:
        stream = torch.arange(shape[1])[:, None].expand_as(levels)
        assert torch.equal(levels, stream)


@given(patterns, shapes)
def test_examples_do_not_mix(pattern, shape):
    codes = codes_of(shape)
    steps = pattern.lay(codes, -1)
    for b in range(shape[0]):
        assert torch.equal(pattern.lay(codes[b : b + 1], -1)[0], steps[b])


KNOWN = {  # the table at the top of the module: is level j of frame g known?
    "parallel": lambda k, f, j, g: g < f,
    "delay": lambda k, f, j, g: j < k + f - g,
    "flatten": lambda k, f, j, g: g < f or (g == f and j < k),
    "coarse-to-fine": lambda k, f, j, g: j < k or (j == k and g < f),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("codebooks, frames", [(1, 5), (4, 6)])
def test_a_code_knows_what_the_table_says(name, codebooks, frames):
    levels = PATTERNS[name].levels(codebooks, frames)
    held = PATTERNS[name].frames(codebooks, frames)
    step = {
        (levels[i, s].item(), held[i, s].item()): s
        for i, s in (held >= 0).nonzero().tolist()
    }
    for (k, f), now in step.items():
        for (j, g), then in step.items():
            assert (then < now) == KNOWN[name](k, f, j, g), (k, f, j, g)


# refusals


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[B, K, steps\]"):
        delay(torch.zeros(3, 4), blank=0)
    with pytest.raises(ValueError, match="at least 3 steps"):
        undelay(torch.zeros(1, 4, 2))
    for undo in (unflatten, uncoarse_to_fine):
        with pytest.raises(ValueError, match=r"F \* 3"):
            undo(torch.zeros(1, 1, 4), 3)
        with pytest.raises(ValueError, match="at least 1"):
            undo(torch.zeros(1, 1, 4), 0)


@pytest.mark.parametrize("name", PATTERNS)
def test_steps_of_another_pattern_are_refused(name):
    with pytest.raises(ValueError, match=r"steps must be \[B, "):
        PATTERNS[name].pick(torch.zeros(1, 2, 9), 3)
    with pytest.raises(ValueError, match=r"must be \[B, K, steps\]"):
        PATTERNS[name].lay(torch.zeros(2, 9), 0)
