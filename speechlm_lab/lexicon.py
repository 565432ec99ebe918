"""Which words are heard in a wave: the recogniser's phones, fitted to known words.

    CTC log-probabilities [F, 1 + phones] -> the likeliest sequence of words

The recogniser tells phones; error rates of words need words. A `Lexicon` holds how the
synthesiser pronounces each of its words, alone and between others, and finds the
sequence of words whose phones the recogniser holds for likeliest, by token passing
(Young, Russell & Thornton 1989) over CTC's classes (Graves et al. 2006). Every word
costs `PENALTY`. There is no language model: nothing is heard because it makes sense.

What this hides: the vocabulary is closed. What is said badly, or is no word at all,
becomes the likeliest known word, often the right one. So the rates lie below those of
a listener who may write anything, and a smaller lexicon makes them smaller: compare
rates in the same lexicon, and read the phone error rate, which has no such help, beside
them. Words that sound alike are one word with one spelling (`Lexicon.spelled`). A cut
between words that cannot be heard (a head, ahead) may be heard wrongly.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from speechlm_lab.audio import check_wave
from speechlm_lab.corpus.espeak import clauses
from speechlm_lab.corpus.sentences import plain
from speechlm_lab.recogniser import (
    BLANK,
    PHONES,
    SHORTEST,
    Recogniser,
    fold,
    load_recogniser,
)

PENALTY = 3.0  # nats a word; on training speakers and sentences 1 to 4 serve as well
# a word alone, before a vowel, before a consonant: r links, t flaps, "a" is weak
_CONTEXTS = ("{}", "go {} up", "it {} so")
# words that the synthesiser says as one, each weaker than alone
_PAIRS = (
    "at once", "at will", "could have", "for a", "for an", "for the", "had been",
    "has been", "have been", "have not", "many of", "may have", "might have",
    "must have", "not a", "not have", "of a", "of an", "out of", "should have",
    "than a", "than an", "that a", "that it", "we shall", "would have",
)  # fmt: skip
_PHONE = re.compile("tʃ|dʒ|[eaɔ]ɪ|[oa]ʊ|n\u0329|[^\\sˈˌːʲ]")

Phones = tuple[str, ...]


def pronunciations(words: Sequence[str]) -> list[set[Phones]]:
    """How each word is said, alone and between others, in phones of PHONES.

    Raises ValueError for punctuation, and for what is no English word.
    """
    found: list[set[Phones]] = [set() for _ in words]
    for context in _CONTEXTS if words else ():
        around = len(context.split()) - 1
        said = [clause for clause, _ in clauses("! ".join(map(context.format, words)))]
        if len(said) != len(words):
            raise ValueError("give words without punctuation, as `plain` leaves them")
        for ways, clause in zip(found, said, strict=True):
            parts = clause.split()
            own = parts[1:-1] if around else parts
            # the synthesiser may run a word into its neighbours
            if own and len(parts) > around:
                ways.add(tuple(fold(_PHONE.findall("".join(own)))))
    for word, ways in zip(words, found, strict=True):
        if not all(ways) or not ways:
            raise ValueError(f"{word!r} is not pronounced: give English words")
    return found


class Lexicon:
    """Words that can be heard, and their pronunciations.

    Args:
        texts: words or sentences; every word in them is known then.

    Attributes:
        spelling: for each word the first by the alphabet that can sound like it.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        words = sorted({word for text in texts for word in plain(text).split()})
        if not words:
            raise ValueError("a lexicon needs one word at least")
        first: dict[Phones, str] = {}  # for each pronunciation, a word that has it
        self.spelling = {word: word for word in words}
        for word, ways in zip(words, pronunciations(words), strict=True):
            alike = {self.spelling[first.setdefault(way, word)] for way in sorted(ways)}
            if alike != {word}:
                for known, spelled in self.spelling.items():
                    if spelled in alike | {word}:
                        self.spelling[known] = min(alike)
        pairs = [pair for pair in _PAIRS if set(pair.split()) <= set(words)]
        for pair, ways in zip(pairs, pronunciations(pairs), strict=True):
            for way in sorted(ways):
                first.setdefault(way, pair)
        self._words = [self.spelled(text) for text in first.values()]
        rows = [[1 + PHONES.index(phone) for phone in way] for way in first]
        # states, one a phone of every pronunciation, one after the other: [S]
        self._class = np.concatenate(rows)
        lengths = np.array([len(row) for row in rows])
        self._last = lengths.cumsum() - 1
        self._first = self._last + 1 - lengths
        self._again = np.r_[False, self._class[1:] == self._class[:-1]]

    def spelled(self, text: str) -> str:
        """A text in lower case, each word spelled as `hear` spells it.

        Raises ValueError for a word that is not in the lexicon.
        """
        words = plain(text).split()
        for word in words:
            if word not in self.spelling:
                raise ValueError(
                    f"no word {word!r} in this lexicon: make it of all texts that are "
                    "to be compared"
                )
        return " ".join(self.spelling[word] for word in words)

    @torch.no_grad()
    def hear(self, wave: Tensor, recogniser: Recogniser | None = None) -> str:
        """The words heard in a wave, "" where there are none.

        Args:
            wave: [T], float32 in [-1, 1] at 16 kHz, at least 0.1 s.
            recogniser: the shipped one when None.

        Raises:
            AudioError: not such a wave.
        """
        check_wave(wave, min_seconds=SHORTEST, allow_silent=True)
        if not wave.any():
            return ""
        recogniser = recogniser or load_recogniser()
        scores = recogniser(recogniser.features(wave[None]))[0]
        return " ".join(self.decode(scores))

    def decode(self, scores: Tensor, penalty: float = PENALTY) -> list[str]:
        """The words with the likeliest path through log-probabilities.

        Args:
            scores: [F, 1 + phones], as `Recogniser.forward` gives them.
            penalty: nats that every word costs.
        """
        table = scores.double().cpu().numpy()
        # the best path that ends in each state's phone, or in a blank after it, and the
        # word before its own: a row of `heard`, which are (word, the row before it)
        none = np.full(len(self._class), -np.inf)
        phone, blank = none, none
        phone_after = blank_after = np.zeros(len(self._class), dtype=np.int64)
        heard = [(-1, -1)]
        quiet = 0.0  # the path on which no word began
        exits = [(quiet, 0, BLANK)]  # score, row of `heard`, class of the last phone
        ends = self._class[self._last]
        starts = self._class[self._first]
        for row in table:
            # into a word's first phone, or on to the next one. CTC parts two equal
            # phones by a blank, in a word and between words.
            come, come_after = np.roll(blank, 1), np.roll(blank_after, 1)
            by_phone = np.where(self._again, -np.inf, np.roll(phone, 1))
            on = by_phone > come
            come = np.where(on, by_phone, come)
            come_after = np.where(on, np.roll(phone_after, 1), come_after)
            come[self._first] = -np.inf
            for score, after, last in sorted(exits):  # the best comes last
                open_to = self._first[starts != last]
                come[open_to], come_after[open_to] = score - penalty, after
            # a blank after the phone, or the blank goes on
            on = phone > blank
            blank_after = np.where(on, phone_after, blank_after)
            blank = np.where(on, phone, blank) + row[BLANK]
            on = come > phone
            phone_after = np.where(on, come_after, phone_after)
            phone = np.where(on, come, phone) + row[self._class]
            quiet += row[BLANK]
            # out of a word: after a blank, or from its last phone. The second best
            # phone is for words that begin with the best one.
            exits = [(quiet, 0, BLANK)]
            inside, rest = phone[self._last], blank[self._last]
            at = int(inside.argmax())
            other = int(np.where(ends == ends[at], -np.inf, inside).argmax())
            ways = (
                (rest, blank_after, int(rest.argmax()), BLANK),
                (inside, phone_after, at, ends[at]),
                (inside, phone_after, other, ends[other]),
            )
            for values, after, word, last in ways:
                heard.append((word, int(after[self._last[word]])))
                exits.append((float(values[word]), len(heard) - 1, int(last)))
        _, at, _ = max(exits)
        words = []
        while at > 0:
            word, at = heard[at]
            words.append(self._words[word])
        return " ".join(words[::-1]).split()
