"""The grammar: sentences that end, vary, and stay inside the word lists."""

import numpy as np

from speechlm_lab.corpus import grammar


def made(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [grammar.make_sentence(rng) for _ in range(count)]


def test_sentences_end_once_and_hold_no_gap():
    for text in made(500):
        assert text[-1] in ".?!" and "  " not in text and text == text.strip()


def test_the_same_generator_makes_the_same_sentences():
    assert made(20, seed=3) == made(20, seed=3) != made(20, seed=4)


def test_sentences_seldom_repeat():
    assert len(set(made(1000))) > 900


def test_every_pattern_of_the_grammar_can_be_made():
    maker = grammar._Grammar(np.random.default_rng(0))
    for name in grammar._PATTERNS:
        assert getattr(maker, name)()[-1] in ".?!", name
