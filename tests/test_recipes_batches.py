"""Batches that are made ahead of their steps."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from speechlm_lab.recipes.batches import Batches


class Pair(NamedTuple):
    number: Tensor
    draw: Tensor


def make(step: int) -> Pair:
    generator = torch.Generator().manual_seed(step)
    return Pair(torch.tensor(step), torch.rand(3, generator=generator))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_has_its_own_batch_also_where_a_training_is_taken_up(workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches = Batches(make, 12)
    batches.workers = workers
    for step in [*range(5), *range(3, 9)]:
        got = batches(step)
        assert isinstance(got, Pair) and int(got.number) == step
        assert torch.equal(got.draw.cpu(), make(step).draw)
    # what the training draws for itself stays the same
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_gpu_nothing_is_made_before_it_is_asked_for():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    asked = []
    batches = Batches(lambda step: asked.append(step) or make(step), 5)
    batches(3)
    assert asked == [3]
