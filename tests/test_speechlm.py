"""Wave to codes to more codes to wave."""

import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.speechlm import SpeechLM

CODEC = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip
LM = LMConfig(codebooks=2, codebook_size=16, width=16, layers=1, heads=2, hidden=16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpeechLM(Codec(CODEC), LanguageModel(LM))


@pytest.fixture
def wave():
    return 0.1 * torch.randn(8_100, generator=torch.Generator().manual_seed(0))


def test_it_keeps_the_prompt_and_adds_what_was_asked(model, wave):
    out = model.continue_(wave, seconds=0.5)
    assert out.start == 25 * 320
    assert out.wave.shape == (out.start + 8_000,)
    assert out.codes.shape == (1, 2, 50)
    prompt = model.codec.encode(wave[None, : out.start])[:, :2]
    assert torch.equal(out.codes[..., :25], prompt)
    assert torch.equal(out.wave, model.codec.decode(out.codes)[0])


def test_a_seed_fixes_the_continuation(model, wave):
    one, two = (model.continue_(wave, 0.5, seed=3) for _ in "ab")
    assert torch.equal(one.wave, two.wave)
    other = model.continue_(wave, 0.5, seed=4)
    assert not torch.equal(one.codes, other.codes)


def test_it_loads_from_folders(model, wave, tmp_path):
    model.codec.save_pretrained(tmp_path / "codec")
    model.lm.save_pretrained(tmp_path / "lm")
    loaded = SpeechLM.from_folders(tmp_path / "codec", tmp_path / "lm")
    assert torch.equal(loaded.continue_(wave).wave, model.continue_(wave).wave)


def test_bad_input_is_refused(model, wave):
    with pytest.raises(ValueError, match="at least 320 samples"):
        model.continue_(wave[:300])
    with pytest.raises(ValueError, match=r"\[T\]"):
        model.continue_(wave[None])
    with pytest.raises(ValueError, match="seconds"):
        model.continue_(wave, seconds=-1)
    with pytest.raises(ValueError, match="do not belong"):
        SpeechLM(Codec(CODEC), LanguageModel(LMConfig()))
