"""The recogniser: what it takes, how its errors are counted, that it hears."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlm_lab.audio import AudioError
from speechlm_lab.corpus.sentences import test_sentences, vocabulary
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, phonemes, speak
from speechlm_lab.recipes import run
from speechlm_lab.recipes.recogniser import (
    Degradation,
    RecogniserRecipe,
    ctc_loss,
    degrade,
    degrade_features,
    loose_words,
    measure,
)
from speechlm_lab.recogniser import (
    PHONES,
    PhoneErrors,
    Recogniser,
    RecogniserConfig,
    fold,
    load_recogniser,
    phone_disagreement,
    phone_error_rate,
    phone_errors,
)
from speechlm_lab.train import TrainConfig, TrainError, train

SMALL = RecogniserConfig(width=48, layers=2)
phone_lists = st.lists(st.sampled_from(PHONES[:3]), max_size=7)


@pytest.fixture(scope="module")
def item():
    return speak("The brown dog barked at two loud boys.", "held-out:1")


# Phones


def test_marks_go_and_coloured_vowels_part():
    assert fold(["ˈiː", "ɑːɹ", "ɐ", "ᵻ", "aɪɚ"]) == ["i", "ɑ", "ɹ", "ə", "ɪ", "aɪ", "ɚ"]
    assert len(PHONES) == len(set(PHONES)) == 41
    assert fold(PHONES) == list(PHONES)


def test_every_word_of_tiny_voices_folds():
    words = " ".join(sorted(vocabulary()))
    texts = [words[i : i + 4000].partition(" ")[2] for i in range(0, len(words), 4000)]
    heard = [fold(speak(t).phones) for t in (*texts[:2], *test_sentences()[:20])]
    assert set(PHONES) - {p for row in heard for p in row} <= {"ʒ"}
    assert phonemes("x")  # the labels come from the same synthesiser


def test_an_unknown_phone_is_refused():
    with pytest.raises(ValueError, match="one a string"):
        fold(["hello"])


# Counting


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("k æ t", "k æ t", (0, 0, 0)),
        ("k æ t", "k ʌ t", (1, 0, 0)),
        ("k æ t", "k æ t s", (0, 1, 0)),
        ("k æ t", "æ t", (0, 0, 1)),
        ("k æ t", "", (0, 0, 3)),
        ("", "k æ", (0, 2, 0)),
        ("s p i tʃ", "p i t ʃ", (1, 1, 1)),
    ],
)
def test_known_errors_are_counted(reference, hypothesis, errors):
    counted = phone_errors(reference.split(), hypothesis.split())
    assert counted == PhoneErrors(*errors, length=len(reference.split()))


@given(phone_lists, phone_lists)
def test_the_fewest_errors_are_found(reference, hypothesis):
    def distance(a, b):  # by definition, without a table
        if not a or not b:
            return len(a) + len(b)
        if a[0] == b[0]:
            return distance(a[1:], b[1:])
        ways = ((a[1:], b[1:]), (a[1:], b), (a, b[1:]))
        return 1 + min(distance(*way) for way in ways)

    e = phone_errors(reference, hypothesis)
    assert e.substitutions + e.insertions + e.deletions == distance(
        reference, hypothesis
    )
    assert len(hypothesis) - len(reference) == e.insertions - e.deletions


def test_a_set_is_counted_as_one():
    one, other = (["k", "æ", "t"], ["k"]), (["h", "aɪ"], ["h", "aɪ"])
    pairs = list(zip(one, other, strict=True))
    assert phone_error_rate(*one) == pytest.approx(2 / 3)
    assert phone_error_rate(*other) == 0
    assert phone_error_rate(*map(list, pairs)) == pytest.approx(2 / 5)
    assert sum([phone_errors(*one), phone_errors(*other)], PhoneErrors()).rate == 2 / 5


@pytest.mark.parametrize(
    ("reference", "hypothesis", "told"),
    [
        ("kæt", "kæt", "lists of phones"),
        ([], ["k"], "at least one phone"),
        ([["k"]], ["k"], "pair up"),
        ([["k"], ["t"]], [["k"]], "pair up"),
    ],
)
def test_bad_lists_give_one_error(reference, hypothesis, told):
    with pytest.raises(ValueError, match=told):
        phone_error_rate(reference, hypothesis)


# Hearing


@pytest.mark.parametrize(
    ("wave", "told"),
    [
        (torch.zeros(SAMPLE_RATE), "silent"),
        (torch.rand(800), "shorter|longer recording"),
        (torch.rand(1, 2, SAMPLE_RATE), "shape"),
        (torch.stack([torch.rand(SAMPLE_RATE), torch.zeros(SAMPLE_RATE)]), "silent"),
        (2 * torch.rand(SAMPLE_RATE), "beyond"),
    ],
)
def test_bad_waves_give_one_error(wave, told):
    with pytest.raises(AudioError, match=told):
        Recogniser(SMALL).phones(wave)


def test_a_batch_is_heard_as_its_waves_are(item):
    model = load_recogniser()
    batch = torch.stack([item.wave, item.wave.flip(0), 0.01 * item.wave])
    heard = model.phones(batch)
    assert heard == [model.phones(wave) for wave in batch]
    assert heard[0] == heard[2]  # loudness counts for nothing
    assert phone_error_rate(heard[1], heard[0]) > 0.5


def test_the_shipped_one_hears_voices_it_never_heard():
    texts = test_sentences()[:6]
    items = [speak(t, f"held-out:{i}") for i, t in enumerate(texts, 7000)]
    assert measure(load_recogniser(), items).rate < 0.1


def test_disagreement_is_nothing_for_a_copy_and_grows_with_noise(item):
    noise = torch.randn(len(item.wave), generator=torch.Generator().manual_seed(0))
    level = item.wave.std()
    rates = [
        phone_disagreement((item.wave + x * level * noise).clamp(-1, 1), item.wave).rate
        for x in (0, 2.0)
    ]
    assert rates[0] == 0
    assert rates[1] > 0.3


# Training


def test_four_clips_are_learned_by_heart(tmp_path):
    items = [speak(text, i) for i, text in enumerate(("go", "my sheep", "two", "egg"))]
    model = Recogniser(SMALL)
    size = max(len(item.wave) for item in items)
    waves = [torch.nn.functional.pad(i.wave, (0, size - len(i.wave))) for i in items]
    lengths = torch.tensor([len(item.wave) for item in items])
    features = model.features(torch.stack(waves), lengths)
    phones = [fold(item.phones) for item in items]
    batch = features, model.frames(lengths), phones
    config = TrainConfig(steps=120, learning_rate=5e-3, warmup=5, threads=1)
    torch.manual_seed(0)
    train(model, lambda step: {"loss": ctc_loss(model, *batch)}, config, tmp_path)
    assert measure(model, items).rate == 0


def test_the_recipe_runs_and_a_batch_depends_on_its_step_alone(tmp_path):
    recipe = RecogniserRecipe(
        SMALL, TrainConfig(steps=2, threads=1), batch=2, test=1, speakers=5
    )
    recipe.run(tmp_path)
    model = Recogniser(SMALL)
    first, again = (recipe.sample_batch(model, 1) for _ in range(2))
    assert (first[0] == again[0]).all() and first[2] == again[2]
    assert Recogniser.from_pretrained(tmp_path).config == SMALL
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "phone error rate, unseen sentences, whispered" in card


def test_no_minutes_of_audio_to_choose(tmp_path):
    with pytest.raises(TrainError, match="leave minutes out"):
        run("recogniser", tmp_path, minutes=1)


def test_degraded_clips_differ_and_stay_finite(item):
    wave = item.wave.expand(6, -1)
    generator = torch.Generator().manual_seed(1)
    worse = degrade(wave, Degradation(), generator)
    assert worse.shape == wave.shape and worse.isfinite().all()
    assert (worse - worse[:1])[1:].abs().amax(1).min() > 0
    none = Degradation(noisy=0, tilt=0, ripple=0, narrow=0, echoing=0)
    same = degrade(wave, none, generator)
    assert torch.allclose(same, wave, atol=1e-5)
    features = Recogniser(SMALL).features(wave)
    none = replace(none, jitter=0, blur=0, masks=0)
    assert (degrade_features(features, none, generator) == features).all()
    assert (degrade_features(features, Degradation(), generator) == 0).any()


def test_loose_words_have_no_order():
    texts = {loose_words(np.random.default_rng(i), 0.5) for i in range(20)}
    assert len(texts) == 20
    assert all(1 <= len(text.split()) <= 7 for text in texts)
