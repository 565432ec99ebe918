"""Sentences for TinyVoices: a small grammar over large word lists, and looser text.

The grammar gives statements, questions, commands, exclamations, lists, dates, times and
sums. The looser text, about a fifth of all sentences, is strings of unrelated words and
of invented, pronounceable ones: a model that has seen only the grammar learns which
word to expect instead of how a word sounds.

`test_sentences` are a phonetically balanced set of our own. No generated sentence is
among them: the generator draws again when it hits one.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np

from .english import WORDS, past, plural, progressive, third_person, words
from .espeak import synthesize
from .grammar import FIXED, make_sentence


@cache
def test_sentences() -> tuple[str, ...]:
    """The sentences that are kept out of training, at least 100."""
    text = (WORDS / "test_sentences.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


test_sentences.__test__ = False  # not a test, whatever pytest thinks of its name


@cache
def _held_out() -> frozenset[str]:
    return frozenset(plain(s) for s in test_sentences())


def plain(text: str) -> str:
    """Lower case, tags and punctuation removed: to compare two sentences."""
    text = re.sub(r"\[[^\]]*\]", " ", text.lower())
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text))


def sentence(rng: np.random.Generator) -> str:
    """One sentence, never one of `test_sentences`."""
    while True:
        text = make_sentence(rng)
        text = text[0].upper() + text[1:]
        if plain(text) not in _held_out():
            return text


def phone_counts(texts: Iterable[str]) -> Counter[str]:
    """How often each phone (IPA) is spoken in the texts, for coverage and balance."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(phone.label for phone in synthesize(text, "").phones)
    return counts


def vocabulary() -> frozenset[str]:
    """Every listed word and its regular forms, without numbers and invented words."""
    nouns, verbs = words("nouns"), words("verbs")
    found = set(nouns) | {plural(n) for n in nouns}
    for form in (str, past, progressive, third_person):
        found |= {form(v) for v in verbs}
    for name in ("adjectives", "adverbs", "people", "function", "names", "surnames"):
        found |= set(words(name))
    found |= {w for place in words("places") for w in place.split()}
    for text in FIXED:
        found |= set(plain(text).split())
    return frozenset(w.lower() for w in found)
