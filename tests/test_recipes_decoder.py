"""A codec's decoder trained on: only it moves, and it may look ahead less."""

from dataclasses import replace

import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.recipes.codec import CodecRecipe
from speechlm_lab.recipes.decoder import DecoderRecipe, heard, with_causal_decoder
from speechlm_lab.recipes.pool import PoolConfig
from speechlm_lab.train import TrainConfig

CONFIG = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, semantic=4, codebooks=3, codebook_size=16,
)  # fmt: skip
POOL = PoolConfig(minutes=0.1, speakers=2, sounds=0, scenes=0)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return Codec(CONFIG).eval()


def test_what_does_not_look_ahead_stays_as_it_is(codec):
    for name, weights in codec.state_dict().items():
        if name.startswith("decoder.") and name.endswith("depthwise.weight"):
            weights[..., 4:] = 0  # of 7 taps, those of later frames
    latents = torch.randn(1, 50, codec.config.latent)
    before = codec.decoder.controls(latents)
    after = with_causal_decoder(codec).decoder.controls(latents)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_only_the_decoder_learns(codec, tmp_path):
    codec.save_pretrained(tmp_path / "before")
    recipe = DecoderRecipe(
        codec=str(tmp_path / "before"),
        train=TrainConfig(steps=3, threads=1),
        clips=CodecRecipe(pool=POOL, test=replace(POOL, split="held-out"), real=0),
    )
    assert recipe.run(tmp_path / "after").finished
    after = Codec.from_pretrained(tmp_path / "after")
    assert after.config.causal
    started = with_causal_decoder(codec).state_dict()
    moved = {n for n, w in after.state_dict().items() if not torch.equal(w, started[n])}
    assert moved and all(name.startswith("decoder.") for name in moved)
    wave = 0.1 * torch.randn(1, 16_000)
    assert torch.equal(after.eval().encode(wave), codec.encode(wave))


def test_the_decoder_hears_some_first_levels(codec):
    wave = 0.1 * torch.randn(64, 3_200)
    whole = codec.quantizer.decode(codec.encode(wave))
    vectors, _ = heard(codec, wave)
    assert torch.allclose(vectors, whole, atol=1e-6), "all, outside training"
    vectors, voice = heard(codec.train(), wave)
    codes = codec.encode(wave)
    ways = [codec.quantizer.decode(codes, k) for k in (1, 2, 3)]
    fits = [(vectors - way).abs().amax((1, 2)) < 1e-6 for way in ways]
    assert all(fit.any() for fit in fits) and sum(f.int() for f in fits).min() > 0
    assert voice.octaves.shape == (64, 20)
