"""Codebooks after a codec's training: only they move, and evenly on clean speech."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.metrics import codebook_use
from speechlm_lab.recipes.pool import PoolConfig, make_pool
from speechlm_lab.recipes.refit import Refit, refit, told

CONFIG = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, semantic=4, codebooks=3, codebook_size=16,
)  # fmt: skip
SHORT = Refit(gammas=(2.0, 1.0), minutes=0.8, clip=1.0)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    config = PoolConfig(minutes=0.4, speakers=3, sounds=0, scenes=0)
    return make_pool(config, tmp_path_factory.mktemp("pool") / "pool.npz", workers=0)


@pytest.fixture(scope="module")
def codec(pool):
    torch.manual_seed(0)
    codec = Codec(CONFIG).eval()
    at = 1_600 * torch.arange(100)
    codec.start(pool.clips(at, 16_000), torch.Generator().manual_seed(0))
    return codec


def refitted(codec, pool, real=(), settings=SHORT, steps=None):
    other = copy.deepcopy(codec)
    seen = [] if steps is None else steps

    def rough(step):
        seen.append(step)
        generator = torch.Generator().manual_seed(step)
        at = torch.randint(len(pool.wave) - 8_000, (4,), generator=generator)
        return 0.3 * pool.clips(at, 8_000)

    refit(other, settings, pool, list(real), rough, seed=0, first=7)
    return other


def test_only_the_codebooks_move_and_a_seed_fixes_them(codec, pool):
    one, two = (refitted(codec, pool).state_dict() for _ in "ab")
    for name, before in codec.state_dict().items():
        assert torch.equal(one[name], two[name])
        mine = name.endswith((".codebook", ".use"))
        assert mine != torch.equal(one[name], before), name


def test_clean_speech_uses_the_codes_more_evenly(codec, pool):
    def use(codec):
        codes = codec.encode(pool.clips(16_000 * torch.arange(20), 16_000))
        return codebook_use(codes, 16).perplexity

    longer = replace(SHORT, gammas=(2.0,), passes=20)
    even = use(refitted(codec, pool, settings=longer))
    assert even[0] > use(codec)[0]
    assert even.mean() > use(codec).mean()


def test_recordings_and_rough_clips_are_in_it(codec, pool):
    noise = np.random.default_rng(0).integers(-9_000, 9_000, 64_000).astype(np.int16)
    steps = []
    without = refitted(codec, pool, steps=steps)
    # a quarter of 0.8 minutes is 12 s: six batches of 4 x 0.5 s, all of them new
    assert steps == list(range(7, 13))
    with_noise = refitted(codec, pool, [noise, noise])
    books = [c.quantizer.levels[2].codebook for c in (without, with_noise)]
    assert not torch.equal(*books)
    latents = codec.latents(torch.from_numpy(noise[None, :16_000]).float() / 32768)
    errors = [
        (c.quantizer.decode(c.quantizer.encode(latents)) - latents)[..., :8]
        for c in (without, with_noise)
    ]
    assert errors[1].square().mean() < errors[0].square().mean()


def test_a_card_can_tell_it():
    assert "gamma 2, 1 and so on, 0.8 minutes" in told(SHORT)
