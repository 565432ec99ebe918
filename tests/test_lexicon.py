"""Words out of phones: they come back, and nothing comes from nothing."""

import numpy as np
import pytest
import torch

from speechlm_lab.audio import AudioError
from speechlm_lab.corpus.sentences import plain, sentence, vocabulary
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, speak
from speechlm_lab.lexicon import Lexicon, pronunciations
from speechlm_lab.recogniser import BLANK, PHONES, fold
from speechlm_lab.speech_metrics import word_error_rate

FEW = "the brown dog barked at two loud boys who ate a red plum"


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon(vocabulary())


def certain(phones, share=0.99, gaps=True):
    """Log-probabilities [F, 1 + phones] of a recogniser that hears these phones."""
    frames = [BLANK]
    for phone in phones:
        frames += [1 + PHONES.index(phone)] * 2 + [BLANK] * gaps
    rest = (1 - share) / len(PHONES)
    scores = torch.full((len(frames), 1 + len(PHONES)), rest)
    scores[torch.arange(len(frames)), frames] = share
    return scores.log()


def test_words_are_said_in_several_ways():
    at, a, mother = pronunciations(["at", "a", "mother"])
    assert at == {("æ", "t"), ("æ", "ɾ")}
    assert a == {("eɪ",), ("ə",)}
    assert ("m", "ʌ", "ð", "ɚ", "ɹ") in mother


def test_words_that_sound_alike_are_one(lexicon):
    assert lexicon.spelled("Two, NIGHT, too!") == "to knight to"
    for word, spelled in lexicon.spelling.items():
        assert lexicon.spelling[spelled] == spelled <= word


def test_the_phones_of_random_words_give_these_words_back(lexicon):
    known = sorted(vocabulary())
    rng = np.random.default_rng(0)
    asked, heard = [], []
    for _ in range(16):
        words = [known[i] for i in rng.integers(len(known), size=rng.integers(1, 8))]
        ways = [sorted(w)[rng.integers(len(w))] for w in pronunciations(words)]
        found = lexicon.decode(certain([p for way in ways for p in way]))
        assert len(found) <= len(words)
        asked.append(lexicon.spelled(" ".join(words)))
        heard.append(" ".join(found))
    assert word_error_rate(asked, heard) < 0.1
    assert np.mean([a == h for a, h in zip(asked, heard, strict=True)]) > 0.8


def test_whole_sentences_come_back_from_what_the_synthesiser_says():
    texts = [sentence(np.random.default_rng([3, i])) for i in range(12)]
    texts = [t for t in texts if set(plain(t).split()) <= vocabulary()]
    lexicon = Lexicon(texts)
    for text in texts:
        found = lexicon.decode(certain(fold(speak(text).phones)))
        assert " ".join(found) == lexicon.spelled(text)


def test_the_likeliest_sequence_is_found():
    """Against all sequences of up to three words, each scored by torch's own CTC."""
    lexicon = Lexicon(["a at ten net"])
    torch.manual_seed(0)
    scores = (2 * torch.randn(8, 1 + len(PHONES))).log_softmax(1)
    keep = [BLANK, *(1 + PHONES.index(p) for p in ("ə", "eɪ", "æ", "t", "ɛ", "n"))]
    scores[:, [c for c in range(1 + len(PHONES)) if c not in keep]] -= 20
    ways = {
        way: word
        for word in ("a", "at", "net", "ten")
        for way in pronunciations([word])[0]
    }
    best = (best_path(scores, []), [])
    rows = [()]
    for _ in range(3):
        rows = [row + (way,) for row in rows for way in ways]
        for row in rows:
            classes = [1 + PHONES.index(p) for way in row for p in way]
            score = best_path(scores, classes) - 1.5 * len(row)
            best = max(best, (score, [ways[way] for way in row]))
    assert lexicon.decode(scores, penalty=1.5) == best[1] != []


def best_path(scores, classes):
    """The likeliest path of CTC with these classes, by definition."""
    states = [BLANK]
    for c in classes:
        states += [c, BLANK]
    best = {0: 0.0}  # state: score; before the first frame only the first blank
    for t, row in enumerate(scores.tolist()):
        after = {}
        for s, c in enumerate(states):
            skip = s > 1 and c != BLANK and c != states[s - 2]
            ways = [s, s - 1, s - 2] if skip else [s, s - 1]
            ways = [w for w in ways if w in best] if t else [0] * (s < 2)
            if ways:
                after[s] = max(best[w] for w in ways) + row[c]
        best = after
    ends = [s for s in best if s >= len(states) - 2]
    return max((best[s] for s in ends), default=-float("inf"))


def test_equal_phones_need_a_blank_between_them():
    lexicon = Lexicon(["some more ore"])
    apart, joined = (certain("s ʌ m m ɔ ɹ".split(), gaps=gaps) for gaps in (1, 0))
    assert lexicon.decode(apart) == ["some", "more"]
    assert lexicon.decode(joined) == ["some", "ore"]


def test_a_dear_word_is_heard_less_often(lexicon):
    scores = torch.randn(
        80, 1 + len(PHONES), generator=torch.Generator().manual_seed(0)
    )
    counts = [len(lexicon.decode(scores.log_softmax(1), p)) for p in (-5, 0, 3, 1e3)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] and counts[3] == 0


def test_nothing_is_heard_where_nothing_is_said():
    lexicon = Lexicon([FEW])
    assert lexicon.decode(torch.zeros(0, 1 + len(PHONES))) == []
    assert lexicon.decode(certain([])) == []
    assert lexicon.hear(torch.zeros(3 * SAMPLE_RATE)) == ""
    with pytest.raises(AudioError, match="longer recording"):
        lexicon.hear(torch.zeros(100))


def test_silence_after_speech_adds_no_word():
    text = "The brown dog barked at two loud boys."
    lexicon = Lexicon([FEW])
    wave = speak(text, "held-out:1").wave
    assert lexicon.hear(wave) == lexicon.spelled(text)
    longer = torch.cat([wave, torch.zeros(3 * SAMPLE_RATE)])
    assert lexicon.hear(longer) == lexicon.spelled(text)


def test_what_is_not_known_gives_one_error():
    with pytest.raises(ValueError, match="no word 'zebra' in this lexicon"):
        Lexicon([FEW]).spelled("A zebra.")
    with pytest.raises(ValueError, match="one word at least"):
        Lexicon(["..."])
    with pytest.raises(ValueError, match="punctuation"):
        pronunciations(["go! stop"])
