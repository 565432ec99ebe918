"""Sentences: many words, right English, test sentences kept apart."""

import numpy as np

from speechlm_lab.corpus import english
from speechlm_lab.corpus.sentences import (
    phone_counts,
    plain,
    sentence,
    test_sentences,
    vocabulary,
)


def some(count):
    return [sentence(np.random.default_rng([5, i])) for i in range(count)]


def test_vocabulary_is_wide():
    assert len(vocabulary()) > 4000
    seen = {w for s in some(6000) for w in plain(s).split()}
    assert len(seen) > 5000  # numbers and invented words come on top
    assert len(seen & vocabulary()) > 2500


def test_no_word_list_holds_a_word_twice():
    for name in ("nouns", "verbs", "adjectives", "adverbs", "people", "function"):
        words = english.words(name)
        assert len(words) == len(set(words)), name


def test_a_sentence_is_a_function_of_its_seed():
    assert some(50) == some(50)
    assert len(set(some(1000))) > 900


def test_sentences_look_like_sentences():
    for text in some(2000):
        assert text[0].isupper() or text[0].isdigit()
        assert text[-1] in ".?!"
        assert "  " not in text and "_" not in text
        assert text.isascii()


def test_test_sentences_are_never_generated():
    held_out = {plain(s) for s in test_sentences()}
    assert len(held_out) == len(test_sentences()) >= 100
    generated = {plain(s) for s in some(20_000)}
    assert not held_out & generated


def test_the_generator_draws_again_on_a_test_sentence(monkeypatch):
    from speechlm_lab.corpus import sentences

    text = sentence(np.random.default_rng(3))
    monkeypatch.setattr(sentences, "_held_out", lambda: frozenset([plain(text)]))
    assert sentence(np.random.default_rng(3)) != text


def test_test_sentences_cover_the_phones_of_the_grammar():
    generated = phone_counts(some(300))
    held_out = phone_counts(test_sentences())
    covered = sum(n for phone, n in generated.items() if phone in held_out)
    assert covered / generated.total() > 0.99
    # balanced: the share of each phone is much like in the grammar
    phones = sorted(generated | held_out)
    shares = [[c[p] / c.total() for p in phones] for c in (generated, held_out)]
    assert np.corrcoef(shares)[0, 1] > 0.75


def test_inflection():
    assert english.past("stop") == "stopped"
    assert english.past("carry") == "carried"
    assert english.past("see") == "saw"
    assert english.past("plow") == "plowed"
    assert english.progressive("tie") == "tying"
    assert english.progressive("see") == "seeing"
    assert english.progressive("swim") == "swimming"
    assert english.plural("box") == "boxes"
    assert english.plural("city") == "cities"
    assert english.plural("mouse") == "mice"
    assert english.third_person("watch") == "watches"
    assert english.with_article("hour") == "an hour"
    assert english.with_article("honey") == "a honey"
    assert english.with_article("uniform") == "a uniform"
    assert english.with_article("umbrella") == "an umbrella"


def test_irregular_verbs_are_verbs():
    listed = english.words("irregular_verbs")
    assert len(listed) % 2 == 0
    assert set(listed[::2]) <= set(english.words("verbs"))
