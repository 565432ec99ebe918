"""The texts of the benchmark of speaking, without any model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from speechlm_lab.corpus.sentences import plain, sentence, test_sentences
from speechlm_lab.layout import read

FILE = Path(__file__).parents[1] / "benchmarks" / "tts.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("tts", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated():
    return {plain(sentence(np.random.default_rng([9, i]))) for i in range(20_000)}


def test_the_sentences_are_different_ones_that_nothing_was_trained_or_tuned_on(
    bench, generated
):
    sentences = bench.unseen_sentences()
    assert len({plain(text) for text in sentences}) == len(sentences) == 200
    assert not {plain(text) for text in sentences} & generated
    assert not {plain(t) for t in sentences} & {plain(t) for t in test_sentences()}
    assert sorted(bench.texts("sentences", 500)) == sorted(sentences)


def test_the_sentences_can_be_read_and_spoken_in_one_piece(bench):
    for text in bench.unseen_sentences():
        assert text.isascii() and not any(c.isdigit() for c in text)
        assert text[0].isupper() and text[-1] in ".?!"
        assert 4 <= len(plain(text).split()) <= 11
        # 45 tokens last less than 4 s in the neutral voices of the benchmark
        assert len(read(text, "neutral")) <= 45


def test_the_words_are_in_no_sentence_of_training(bench, generated):
    words = bench.texts("words", 1_000)
    assert len(set(words)) == len(words) >= 100
    seen = {word for text in generated for word in text.split()}
    assert not {plain(word) for word in words} & seen


def test_a_smaller_set_is_part_of_a_larger_one(bench):
    for kind in ("sentences", "words", "tuning"):
        assert bench.texts(kind, 8) == bench.texts(kind, 100)[:8]
    assert len(bench.texts("words", 100)) == 100
    assert set(bench.texts("tuning", 1_000)) == set(test_sentences())
