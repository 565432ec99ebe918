"""What a training leaves: weights, configuration, a card without paths."""

from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.train import LOG, Training


def test_a_checkpoint_can_be_loaded_and_its_card_tells_how_it_was_made(tmp_path):
    config = LMConfig(codebooks=2, codebook_size=8, width=8, layers=1, heads=1)
    model = LanguageModel(config)
    rows = "step,seconds,learning_rate,loss\n1,0.5,0.1,2.5\n2,1.0,0.1,2.25\n"
    (tmp_path / LOG).write_text(rows)
    training = Training(step=2, seconds=90.0, finished=True)
    metrics = {"loss, held-out voices": "2.2"}
    write_checkpoint(model, "lm", "a=1", "some data", metrics, training, tmp_path)

    again = LanguageModel.from_pretrained(tmp_path)
    assert again.config == config
    for name, value in model.state_dict().items():
        assert (again.state_dict()[name] == value).all()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for told in ("train lm", "some data", "1.5 minutes", "voices | 2.2", "a=1"):
        assert told in card
    assert "loss 2.25" in card
    assert str(tmp_path) not in card
