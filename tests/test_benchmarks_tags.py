"""The judge of laughs and sighs in `benchmarks/tags.py`."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

FILE = Path(__file__).parents[1] / "benchmarks" / "tags.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("tags_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loudness_and_length_count_for_little(bench):
    torch.manual_seed(0)
    noise = 0.1 * torch.randn(16_000)
    found = bench.features(noise)
    assert found == pytest.approx(bench.features(noise / 2), abs=0.3)  # dB
    assert np.abs(found - bench.features(noise[:8_000])).mean() < 1
    assert np.isfinite(bench.features(noise[:100])).all()


def test_the_judge_tells_kinds_apart_along_their_differences(bench):
    rng = np.random.default_rng(0)
    spread = np.array([5.0, 0.2, 0.2])  # the first feature says nothing

    def sounds(centre, count):
        return list(np.array([0.0, *centre]) + spread * rng.normal(size=(count, 3)))

    judge = bench.judge_of({"laugh": sounds((0, 1), 50), "sigh": sounds((1, 0), 50)})
    named = judge.predict(sounds((0, 1), 20)).tolist()
    assert named.count("laugh") >= 18
    named = judge.predict(sounds((1, 0), 20)).tolist()
    assert named.count("sigh") >= 18


def test_it_knows_the_true_sounds_of_voices_it_has_not_heard(bench):
    tags = ("laugh", "hesitation")
    judge = bench.judge_of(
        {tag: [bench.true_sound(tag, i, i) for i in range(12)] for tag in tags}
    )
    for tag in tags:
        heard = [bench.true_sound(tag, f"held-out:{i}", i) for i in (0, 1)]
        assert judge.predict(heard).tolist() == [tag, tag]
