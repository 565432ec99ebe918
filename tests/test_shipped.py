"""The checkpoints that come with the package: they load silently, or say what to do."""

import pytest

from speechlm_lab import shipped
from speechlm_lab.codec import Codec
from speechlm_lab.lm import LanguageModel
from speechlm_lab.recogniser import Recogniser
from speechlm_lab.speaker import SpeakerEncoder

KINDS = {
    "codec": Codec, "lm": LanguageModel, "recogniser": Recogniser,
    "speaker": SpeakerEncoder,
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_each_loads_and_prints_nothing(name, capsys):
    model = shipped.load_shipped(KINDS[name], name)
    assert isinstance(model, KINDS[name]) and not model.training
    assert capsys.readouterr().out == ""


def test_one_that_is_missing_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "CHECKPOINTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="lm checkpoint.*train speechlm`"):
        shipped.load_shipped(LanguageModel, "lm", "speechlm")
    with pytest.raises(FileNotFoundError, match="train codec`"):
        shipped.load_shipped(Codec, "codec")
