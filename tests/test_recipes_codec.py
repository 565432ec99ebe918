"""The training of the codec: its batches, its loss, its start, its figures."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.recipes import codec as recipes
from speechlm_lab.recipes.codec import CodecRecipe, measure
from speechlm_lab.recipes.pool import PoolConfig, make_pool
from speechlm_lab.train import TrainConfig

STEPS = 40
RECIPE = CodecRecipe(
    codec=CodecConfig(
        width=24, fine_width=16, encoder_layers=1, decoder_layers=1, fine_layers=1,
        spectrum=8, semantic=4, codebooks=2, codebook_size=16,
    ),
    train=TrainConfig(STEPS, threads=1),
    batch=2, clip=0.3, real=0.0, start_batches=2,
)  # fmt: skip
# constant sounds, of which a clip's gain and noise can be read off
REAL = [np.full(9_000, level, np.int16) for level in (16_384, -16_384)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    speech = PoolConfig(minutes=0.2, speakers=2, sounds=0, scenes=0)
    return make_pool(speech, tmp_path_factory.mktemp("pool") / "pool.npz", workers=0)


def test_each_clip_has_its_gain_and_its_noise(pool):
    recipe = replace(RECIPE, batch=16, real=0.5, quietest=-20.0, noise=-60.0)
    wave, phones = recipe.sample_batch(pool, REAL, 0)
    assert wave.shape == (16, 4_800) and phones.shape == (8, 15)
    level = wave[8:].mean(1)  # of sounds of 0.5 or -0.5, by a gain of 0.1 to 1
    assert (level > 0).tolist() == [True, True, True, False] * 2
    assert (0.049 < level.abs()).all() and (level.abs() < 0.501).all()
    assert len(level.abs().unique()) == 8
    noise = (wave[8:] - level[:, None]).std(1)
    assert 0 < noise.min() and noise.max() < 1.05 * 10 ** (-60 / 20)


def test_without_recordings_every_clip_is_of_the_pool(pool):
    recipe = replace(RECIPE, batch=16, real=0.5)
    wave, phones = recipe.sample_batch(pool, [], 0)
    assert len(wave) == len(phones) == 16


def test_each_step_and_seed_has_clips_of_its_own(pool):
    other = replace(RECIPE, train=replace(RECIPE.train, seed=1))
    one, again, later, elsewhere = (
        recipe.sample_batch(pool, REAL, step).wave
        for recipe, step in ((RECIPE, 0), (RECIPE, 0), (RECIPE, 1), (other, 0))
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, later) and not torch.equal(one, elsewhere)


@pytest.fixture
def losses(pool, tmp_path, monkeypatch):
    """A function: the parts of a recipe's loss at some first steps."""
    monkeypatch.setattr(recipes, "make_pool", lambda *_: pool)

    def of(recipe, steps):
        found = []

        def train(model, loss, *_):
            for step in steps:
                found.append({name: x.item() for name, x in loss(step).items()})
            return SimpleNamespace(finished=False)

        monkeypatch.setattr(recipes, "train", train)
        recipe.run(tmp_path)
        return found

    return of


def test_the_loss_is_weighted(losses):
    (of,) = losses(replace(RECIPE, commitment=2.0, tuning=3.0, phones=5.0), [0])
    expected = of["mel"] + 2 * of["commitment"] + 3 * of["detuned"] + 5 * of["phones"]
    assert of["loss"] == pytest.approx(expected)


def test_the_quantizer_comes_at_its_step_started_from_clips_of_its_own(
    losses, monkeypatch
):
    asked, plain = [], CodecRecipe.sample_batch

    def noted(self, pool, real, step):
        asked.append(step)
        return plain(self, pool, real, step)

    monkeypatch.setattr(CodecRecipe, "sample_batch", noted)
    before, after = losses(replace(RECIPE, unquantized=1), [0, 1])
    assert before["commitment"] == 0 < after["commitment"]
    assert [step for step in asked if step >= STEPS] == [STEPS, STEPS + 1]


def test_fewer_levels_are_measured_apart(pool):
    torch.manual_seed(0)
    one, two, _ = measure(Codec(RECIPE.codec).eval(), pool, (1, 2)).values()
    assert one != two
