"""How TinyVoices makes up a sentence: a small grammar, and looser text."""

import numpy as np

from .english import (
    past,
    pick,
    plural,
    progressive,
    pseudoword,
    third_person,
    with_article,
    words,
)


def make_sentence(rng: np.random.Generator) -> str:
    """A sentence of the grammar, or, one time in five, loose words. Begins small."""
    maker = _LooseText(rng) if rng.random() < 0.2 else _Grammar(rng)
    return maker.make()


class _Maker:
    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def pick(self, *options):
        return pick(self.rng, options)

    def word(self, name: str) -> str:
        return pick(self.rng, words(name))

    def number(self) -> str:
        """A number of one to five digits, small ones more often."""
        digits = self.rng.choice(5, p=[0.35, 0.3, 0.2, 0.1, 0.05]) + 1
        return str(self.rng.integers(2, 10**digits + 1))


class _Grammar(_Maker):
    """Every method named s_... makes a whole sentence."""

    def make(self) -> str:
        return getattr(self, pick(self.rng, _PATTERNS))()

    # parts of a sentence
    def noun(self) -> str:
        return self.word("nouns")

    def adjective(self) -> str:
        return self.word("adjectives")

    def name(self) -> str:
        return self.word("names")

    def described(self) -> str:
        noun = self.noun()
        return f"{self.adjective()} {noun}" if self.rng.random() < 0.5 else noun

    def one(self) -> str:
        """A singular noun phrase."""
        thing = self.described()
        article = self.pick(
            "the", "the", "a", "my", "your", "our", "his", "her", "this"
        )
        return with_article(thing) if article == "a" else f"{article} {thing}"

    def many(self) -> str:
        """A plural noun phrase."""
        count = self.pick("the", "some", "many", "two", "three", "five", "those", "all")
        adjective = f"{self.adjective()} " if self.rng.random() < 0.4 else ""
        return f"{count} {adjective}{plural(self.noun())}"

    def who(self) -> str:
        if self.rng.random() < 0.4:
            return self.name()
        article = self.pick("the", "a", "my", "our")
        person = self.word("people")
        return with_article(person) if article == "a" else f"{article} {person}"

    def thing(self) -> str:
        return self.one() if self.rng.random() < 0.65 else self.many()

    def place(self) -> str:
        if self.rng.random() < 0.35:
            return f"{self.pick('in', 'near', 'outside')} {self.word('places')}"
        preposition = self.pick(
            "in", "near", "behind", "under", "beside", "above", "on", "below", "from"
        )
        return f"{preposition} the {self.noun()}"

    def when(self) -> str:
        return pick(self.rng, _TIMES)

    def clock(self) -> str:
        hour = self.rng.integers(1, 13)
        if self.rng.random() < 0.4:
            return f"{hour} o'clock"
        return f"{hour} {self.pick(*range(10, 60))}"

    # sentences
    def s_past(self) -> str:
        return f"{self.who()} {past(self.word('verbs'))} {self.thing()} {self.place()}."

    def s_past_adverb(self) -> str:
        verb = past(self.word("verbs"))
        return f"{self.who()} {self.word('adverbs')} {verb} {self.thing()}."

    def s_present(self) -> str:
        verb = third_person(self.word("verbs"))
        return f"{self.who()} {verb} {self.thing()} {self.when()}."

    def s_progressive(self) -> str:
        verb = progressive(self.word("verbs"))
        return f"{self.who()} is {verb} {self.thing()} {self.place()}."

    def s_future(self) -> str:
        will = self.pick("will", "may", "should", "must", "cannot", "would")
        return f"{self.who()} {will} {self.word('verbs')} {self.thing()} {self.when()}."

    def s_is(self) -> str:
        degree = self.pick("", "very ", "quite ", "too ", "rather ", "almost ")
        return f"{self.one()} is {degree}{self.adjective()}."

    def s_are(self) -> str:
        return f"{self.many()} are {self.adjective()} and {self.adjective()}."

    def s_where(self) -> str:
        return f"{self.one()} is {self.place()}."

    def s_question(self) -> str:
        start = self.pick("did", "will", "can", "does", "could", "should")
        return f"{start} {self.who()} {self.word('verbs')} {self.thing()}?"

    def s_wh_question(self) -> str:
        start = self.pick("why did", "when will", "how can", "where does", "how did")
        return f"{start} {self.who()} {self.word('verbs')} {self.thing()}?"

    def s_where_question(self) -> str:
        return (
            f"{self.pick('where is', 'who has', 'what is', 'whose is')} {self.one()}?"
        )

    def s_command(self) -> str:
        please = self.pick("please ", "", "", "now ", "never ", "always ")
        return f"{please}{self.word('verbs')} {self.thing()} {self.place()}."

    def s_exclaim(self) -> str:
        return f"what {with_article(self.adjective())} {self.noun()}!"

    def s_count(self) -> str:
        count = self.rng.integers(2, 100) if self.rng.random() < 0.7 else self.number()
        return f"there are {count} {plural(self.noun())} {self.place()}."

    def s_bought(self) -> str:
        verb = self.pick("bought", "found", "counted", "sold", "needs", "ordered")
        return f"{self.who()} {verb} {self.number()} {plural(self.noun())}."

    def s_sum(self) -> str:
        a, b = self.rng.integers(1, 50, 2)
        if self.rng.random() < 0.5:
            return f"{a} plus {b} is {a + b}."
        return f"{a + b} minus {a} is {b}."

    def s_time(self) -> str:
        event = self.pick("the bus leaves", "we meet", "lunch is", "the show starts")
        return f"{event} at {self.clock()} {self.when()}."

    def s_year(self) -> str:
        year = self.rng.integers(1700, 2060)
        return f"in {year} {self.who()} {past(self.word('verbs'))} {self.one()}."

    def s_date(self) -> str:
        date = f"{pick(self.rng, _MONTHS)} {self.rng.integers(1, 31)}"
        return f"{self.pick('the meeting is on', 'call me on', 'it began on')} {date}."

    def s_digits(self) -> str:
        digits = " ".join(_DIGITS[d] for d in self.rng.integers(0, 10, 7))
        return f"{self.pick('the code is', 'call', 'my number is')} {digits}."

    def s_name(self) -> str:
        start = self.pick("my name is", "this is", "have you met", "ask for", "hello,")
        end = "?" if start.startswith("have") else "."
        return f"{start} {self.name()} {self.word('surnames')}{end}"

    def s_from(self) -> str:
        return (
            f"{self.name()} {self.word('surnames')} comes from {self.word('places')}."
        )

    def s_travel(self) -> str:
        a, b = self.word("places"), self.word("places")
        vehicle = self.pick("train", "road", "flight", "bus")
        return f"the {vehicle} from {a} to {b} is {self.pick('late', 'long', 'open')}."

    def s_list(self) -> str:
        start = self.pick("we need", "she packed", "I like", "he drew", "bring")
        a, b, c = (plural(self.noun()) for _ in range(3))
        return f"{start} {a}, {b} and {c}."

    def s_because(self) -> str:
        return f"{self.s_past()[:-1]}, because {self.s_is()}"

    def s_when(self) -> str:
        return f"when {self.s_is()[:-1]}, {self.s_present()}"

    def s_think(self) -> str:
        start = self.pick(
            "I think", "maybe", "we know", "they say", "I hope", "of course"
        )
        return f"{start} {self.s_is()}"

    def s_short(self) -> str:
        return pick(self.rng, _SHORT)

    def s_compare(self) -> str:
        return f"{self.one()} is as {self.adjective()} as {self.one()}."


_PATTERNS = sorted(name for name in vars(_Grammar) if name.startswith("s_"))


class _LooseText(_Maker):
    """Strings of words with no sense to guess from."""

    def make(self) -> str:
        count = int(self.rng.integers(3, 9))
        invented = self.pick(0.0, 0.0, 0.3, 1.0)
        picked = [self.any_word(invented) for _ in range(count)]
        for i in range(1, count - 1):
            if self.rng.random() < 0.08:
                picked[i] += ","
        return " ".join(picked) + self.pick(".", ".", ".", "?", "!")

    def any_word(self, invented: float) -> str:
        draw = self.rng.random()
        if draw < invented:
            return pseudoword(self.rng)
        kind = self.pick("nouns", "nouns", "verbs", "adjectives", "function", "other")
        if kind == "verbs":
            form = self.pick(str, past, progressive, third_person)
            return form(self.word(kind))
        if kind == "other":
            return self.pick(
                self.word("adverbs"), self.word("names"), self.word("places"),
                self.word("surnames"), self.word("people"), self.number(),
            )  # fmt: skip
        return self.word(kind)


_DIGITS = "zero one two three four five six seven eight nine".split()
_MONTHS = (
    "January February March April May June July August September October November "
    "December"
).split()
_TIMES = (
    "today",
    "tomorrow",
    "every day",
    "after lunch",
    "before noon",
    "at night",
    "in the morning",
    "on Monday",
    "on Tuesday",
    "on Wednesday",
    "on Friday",
    "on Saturday",
    "on Sunday",
    "this evening",
    "next week",
    "once a year",
    "all summer",
    "during the winter",
    "now and then",
    "for an hour",
)
_SHORT = (
    "yes, of course.",
    "no, thank you.",
    "good morning!",
    "see you later.",
    "how are you?",
    "I am fine.",
    "not today.",
    "come in, please.",
    "wait a minute.",
    "that is enough.",
    "well done!",
    "I do not know.",
    "are you sure?",
    "it is raining again.",
    "happy birthday!",
    "excuse me.",
    "let me think.",
    "what happened?",
    "good night.",
    "you are welcome.",
)


# every text that stands in the grammar itself
FIXED = tuple(_MONTHS) + tuple(_DIGITS) + _TIMES + _SHORT
