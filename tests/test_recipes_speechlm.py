"""The training of the speech language model: it learns, and what it is taught."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from speechlm_lab import layout
from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.recipes import speechlm as recipes
from speechlm_lab.recipes.speechlm import SpeechLMRecipe, measure, steps_loss
from speechlm_lab.recipes.utterances import UtteranceConfig
from speechlm_lab.recogniser import PhoneErrors, fold
from speechlm_lab.speaking import SpeakConfig
from speechlm_lab.speechlm import SpeechLM
from speechlm_lab.train import TrainConfig

SMALL = LMConfig(
    codebooks=2, codebook_size=16, width=16, layers=1, heads=2, hidden=16,
    texts=layout.TEXTS, roles=layout.ROLES,
)  # fmt: skip
CODEC = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip


def steps():
    tokens = torch.tensor([layout.begin(t) for t in layout.read("hi, you.")])
    first = torch.arange(len(tokens)) * 3
    codes = torch.arange(2 * 40).reshape(2, 40) % 16
    rows = [
        layout.lay_out(codes[:, :n], tokens, first, codes, 16, with_text=n > 0)
        for n in (0, 7)
    ]
    return layout.stack(rows, 16)


def test_only_speech_is_learnt():
    torch.manual_seed(0)
    model = LanguageModel(SMALL)
    batch = steps()
    logits = model(batch.codes, None, batch.text, batch.roles)
    expected = []
    for k in range(2):
        wanted = batch.next_codes[:, k]
        known = wanted != 16
        scores = logits[:, k][known].log_softmax(-1)
        expected.append(-scores.gather(1, wanted[known][:, None]).mean())
    losses = steps_loss(model, batch)
    assert torch.allclose(losses[:2], torch.stack(expected), atol=1e-5)
    # the row without a text adds nothing to the loss of the text
    one = layout.Steps(*[part[1:] for part in batch])
    assert torch.allclose(steps_loss(model, one)[2], losses[2], atol=1e-5)
    none = layout.Steps(*[part[:1] for part in batch])
    assert steps_loss(model, none)[2] == 0


def test_masking_hides_codes_of_speech_alone(monkeypatch):
    torch.manual_seed(0)
    model = LanguageModel(SMALL)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    batch = steps()
    hidden = batch.codes.clone()
    hidden[(batch.roles == layout.SPEAK)[:, None].expand_as(hidden)] = 16
    expected = steps_loss(model, batch._replace(codes=hidden))
    # the sequences' shares are drawn first, then which steps are hidden
    draws = iter([torch.ones(2, 1), torch.zeros(batch.roles.shape)])
    monkeypatch.setattr(torch, "rand", lambda *size, **_: next(draws))
    assert torch.allclose(steps_loss(model, batch, mask=1.0), expected, atol=1e-5)


def test_a_mask_is_the_largest_share_that_is_hidden(monkeypatch):
    torch.manual_seed(0)
    model, batch = LanguageModel(SMALL), steps()
    plain = steps_loss(model, batch)
    draws = iter([torch.ones(2, 1), torch.full(batch.roles.shape, 0.5)])
    monkeypatch.setattr(torch, "rand", lambda *size, **_: next(draws))
    assert torch.equal(steps_loss(model, batch, mask=0.4), plain)


def test_it_learns_to_say_one_thing():
    torch.manual_seed(0)
    model = LanguageModel(replace(SMALL, width=48, hidden=96))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        losses = steps_loss(model, steps(), mask=0.1)
        losses.sum().backward()
        optimizer.step()
    assert steps_loss(model, steps()).max() < 0.5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    torch.manual_seed(0)
    codec = Codec(CODEC)
    codec.save_pretrained(tmp_path / "codec")
    measured = {"phone error rate, spoken": "none"}
    monkeypatch.setattr(recipes, "measure", lambda *_: measured)
    assert small(tmp_path).run(tmp_path / "lm").finished
    return tmp_path


def small(folder, **settings):
    return SpeechLMRecipe(
        codec=str(folder / "codec"),
        lm=SMALL,
        train=TrainConfig(steps=3, threads=1),
        data=UtteranceConfig(count=12, speakers=2),
        batch=2,
        weights=(2.0, 1.0),
        speak=SpeakConfig(sharpness=(1.0, 1.5), pace=0.2),
        **settings,
    )


def first_loss(recipe, folder, monkeypatch):
    """What the recipe's loss is at step 0."""
    found = {}

    def train(model, loss, *_):
        found.update(loss(0))
        return SimpleNamespace(finished=False)

    monkeypatch.setattr(recipes, "train", train)
    recipe.run(folder / "lm")  # where its utterances are already
    return found


def test_the_loss_is_weighted(folder, monkeypatch):
    found = first_loss(small(folder), folder, monkeypatch)
    expected = (2 * found["level_0"] + found["level_1"] + found["text"]) / 4
    assert torch.allclose(found["loss"], expected)


def test_it_trains_with_its_mask_on_batches_of_its_seed(folder, monkeypatch):
    asked = []

    def noted(model, batch, mask=0.0):
        asked.append((batch.codes, mask))
        return steps_loss(model, batch, mask)

    monkeypatch.setattr(recipes, "steps_loss", noted)
    recipe = small(folder, mask=0.7)
    other = replace(recipe, train=replace(recipe.train, seed=1))
    for each in (recipe, recipe, other):
        first_loss(each, folder, monkeypatch)
    (one, again, two), masks = zip(*asked, strict=True)
    assert masks == (0.7, 0.7, 0.7)
    assert torch.equal(one, again)
    assert one.shape != two.shape or not torch.equal(one, two)


def test_speech_is_measured_beside_the_original_and_what_the_codec_makes_of_it(
    monkeypatch,
):
    torch.manual_seed(0)
    codec = Codec(CODEC).eval()
    truth = recipes.speak(recipes.test_sentences()[0], "held-out:0", seed=0)
    through = codec.decode(codec.encode(truth.wave[None]), 2)[0]  # levels of the model
    right, said = fold(truth.phones), torch.zeros(9)
    heard = [(said, []), (through, right[1:]), (truth.wave, right)]

    def phones(wave):
        return next(found for known, found in heard if torch.equal(known, wave))

    monkeypatch.setattr(
        recipes, "load_recogniser", lambda: SimpleNamespace(phones=phones)
    )
    utterance = SimpleNamespace(wave=said, ended=False)
    model = SimpleNamespace(
        codec=codec, lm=LanguageModel(SMALL), speak=lambda *_, **__: utterance
    )
    assert list(measure(model, 1).values()) == [
        "100.0%", f"{1 / len(right):.1%}", "0.0%", "1 of 1"
    ]  # fmt: skip


def test_looking_on_the_way_changes_nothing(folder, monkeypatch, capsys):
    def spoken_errors(model, count):
        torch.rand(3)  # whatever it draws
        return PhoneErrors(substitutions=1, length=8)

    monkeypatch.setattr(recipes, "spoken_errors", spoken_errors)
    assert small(folder, checks=2).run(folder / "watched").finished
    printed = [line for line in capsys.readouterr().out.splitlines() if "rate" in line]
    assert [line.split(", ")[1] for line in printed] == [
        "1 steps: phone error rate 12.5%", "2 steps: phone error rate 12.5%"
    ]  # fmt: skip
    one, two = ((folder / f / "model.safetensors").read_bytes()
                for f in ("lm", "watched"))  # fmt: skip
    assert one == two


def test_a_training_leaves_a_model_that_speaks(folder):
    card = (folder / "lm" / "README.md").read_text(encoding="utf-8")
    assert "phone error rate, spoken | none" in card
    assert json.loads((folder / "lm" / "config.json").read_text())
    size = (folder / "lm" / "model.safetensors").stat().st_size
    model = SpeechLM.from_folders(folder / "codec", folder / "lm")
    assert model.config == small(folder).speak, "as its recipe found best for it"
    count = sum(p.numel() for p in model.lm.parameters())
    assert size < 2.2 * count + 20_000, "two bytes a number"
    said = model.speak("hi.", voice=3, emotion="sad", seed=1)
    assert said.ended and len(said.wave) == said.codes.shape[2] * 320
    assert [s.label for s in said.tokens][:2] == ["<sad>", "h"]
    own = model.speak("hi.", voice=3, emotion="sad", seed=1, config=model.config)
    assert torch.equal(said.wave, own.wave)
    other = model.speak("hi.", 3, "sad", 1, replace(model.config, guidance=3.0))
    assert not torch.equal(said.latents, other.latents)


def test_a_codec_of_its_own_is_found_beside_the_model(folder, capsys):
    """As `speechlm-laptop` leaves it, and `say --model` loads it."""
    shutil.copytree(folder / "codec", folder / "lm" / "codec")
    model = SpeechLM.from_pretrained(folder / "lm")
    assert model.codec.config.codebook_size == 16, "not the shipped one"
    assert model.config == small(folder).speak
    assert not capsys.readouterr().out.count("Loading")


def test_the_laptop_recipe_brings_its_own_codec():
    recipe = recipes.speechlm_laptop()
    assert recipe.codec_recipe.name == "codec-laptop"
    assert recipe.train.processes == recipe.codec_recipe.train.processes == 2
