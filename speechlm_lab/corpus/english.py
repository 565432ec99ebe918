"""English words for TinyVoices: the lists, their inflection, and invented words."""

import re
from functools import cache
from importlib import resources

import numpy as np

WORDS = resources.files(__package__) / "words"
_IRREGULAR_PLURALS = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "wolf": "wolves",
    "leaf": "leaves",
    "knife": "knives",
    "shelf": "shelves",
    "loaf": "loaves",
    "scarf": "scarves",
    "calf": "calves",
    "thief": "thieves",
    "wife": "wives",
    "half": "halves",
    "ox": "oxen",
}
_VOWELS = "aeiou"


@cache
def words(name: str) -> tuple[str, ...]:
    """One of the word lists beside this module: "nouns", "verbs", "names" ..."""
    lines = (WORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    listed = " ".join(line for line in lines if not line.startswith("#")).split()
    return tuple(w.replace("_", " ") for w in listed)


def plural(noun: str) -> str:
    """The plural of an English noun: box, boxes."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in _VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def third_person(verb: str) -> str:
    """He, she, it: carry, carries."""
    return "goes" if verb == "go" else plural(verb)


@cache
def _irregular_pasts() -> dict[str, str]:
    pairs = words("irregular_verbs")
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def past(verb: str) -> str:
    """The past tense: carry, carried; see, saw."""
    if verb in _irregular_pasts():
        return _irregular_pasts()[verb]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return verb[:-1] + "ied"
    if _doubles(verb):
        return verb + verb[-1] + "ed"
    return verb + "ed"


def progressive(verb: str) -> str:
    """The -ing form: make, making."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    if _doubles(verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def _doubles(verb: str) -> bool:
    """stop, stopping: one syllable that ends consonant, vowel, consonant."""
    syllables = re.findall("[aeiou]+", verb)
    return (
        len(syllables) == 1
        and len(verb) > 2
        and verb[-1] not in "aeiouwxyh"
        and verb[-2] in _VOWELS
        and verb[-3] not in _VOWELS
    )


def with_article(text: str) -> str:
    """a or an before the text: a house, an hour, a uniform."""
    silent_h = text.startswith(("honest", "honor", "hour"))
    vowel = text[0].lower() in _VOWELS and not text.startswith(("uni", "use", "usu"))
    return f"{'an' if vowel or silent_h else 'a'} {text}"


def pseudoword(rng: np.random.Generator) -> str:
    """An invented word of one to three syllables that English could have."""
    parts = []
    for _ in range(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])):
        parts += [pick(rng, _ONSETS), pick(rng, _NUCLEI)]
        if rng.random() < 0.5:
            parts.append(pick(rng, _CODAS))
    return "".join(parts)


_ONSETS = (
    "b br bl ch d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn "
    "sp st str sw t th tr tw v w y z"
).split()
_NUCLEI = "a e i o u ee oo ai oy ar or er ow ea".split()
_CODAS = (
    "b ck d ft g k l lp m mp n nd ng nk nt p r rk rm rn sh sk st t th v x z".split()
)


def pick(rng: np.random.Generator, options):
    """One of the options, each as likely as the others."""
    return options[rng.integers(len(options))]
