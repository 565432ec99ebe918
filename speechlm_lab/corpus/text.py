"""Reading the text that TinyVoices is asked to speak: its tags and its characters."""

import re
import unicodedata

TAGS = ("laugh", "sigh", "cough", "breath", "hesitation")

_TAG = re.compile(r"\[([^\[\]]*)\]")
# typographic signs and the plain ones that the synthesiser knows, one for one, so that
# positions in the text stay as they are
_PLAIN = str.maketrans("‘’‚“”„«»–—…\u00a0", '\'\',"""""--. ')
_PUNCTUATION = set(".,;:!?'\"()-/ \t\n\r")
_SPOKEN_SIGNS = set("&%$#+=@*£€°")


class TextError(ValueError):
    """The text cannot be spoken; the message says why and what to do."""


def read_text(text: str) -> list[tuple[str, str]]:
    """Split a text at its tags.

    Returns ("speech", words) and ("laugh", "") pairs in order; a stretch between two
    tags that holds only punctuation is left out. The words are in Unicode's composed
    form (NFC) with plain quotation marks and dashes.
    Raises TextError where there is nothing to say, a tag is unknown or unclosed, or a
    character is not one that an English voice can read.
    """
    if not isinstance(text, str):
        raise TextError(f"the text must be a str, not {type(text).__name__}")
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    parts: list[tuple[str, str]] = []
    end = 0
    for match in _TAG.finditer(text):
        tag = match[1].strip().lower()
        if tag not in TAGS:
            raise TextError(f"unknown tag [{match[1]}]: the tags are {_list_tags()}")
        parts += [("speech", text[end : match.start()]), (tag, "")]
        end = match.end()
    parts.append(("speech", text[end:]))
    for _, words in parts:
        _check_characters(words)
    parts = [p for p in parts if p[0] != "speech" or says_something(p[1])]
    if not parts:
        raise TextError(
            f"nothing to speak in {_short(text)!r}: write at least one letter, digit "
            f"or tag ({_list_tags()})"
        )
    return parts


def spoken_parts(text: str) -> list[tuple[str, str]]:
    """`read_text`, with a comma before each tag that interrupts a clause."""
    parts = read_text(text)
    said = []
    for i, (kind, words) in enumerate(parts):
        words = words.rstrip()
        if kind == "speech" and i + 1 < len(parts) and words[-1].isalnum():
            words += ","  # the sentence goes on after the sound
        said.append((kind, words))
    return said


def _check_characters(words: str) -> None:
    for char in words:
        if char in "[]":
            raise TextError(
                f"a single {char!r}: brackets are for tags only ({_list_tags()})"
            )
        letter = char.isalpha() and unicodedata.name(char, "").startswith("LATIN")
        # those of other blocks eSpeak cannot read
        letter = letter and (ord(char) < 0x250 or 0x1E00 <= ord(char) < 0x1F00)
        digit = char in "0123456789"
        if not (letter or digit or char in _PUNCTUATION or char in _SPOKEN_SIGNS):
            name = unicodedata.name(char, f"U+{ord(char):04X}")
            raise TextError(
                f"cannot speak {char!r} ({name}): write it out in English words; "
                "Latin letters, digits and the usual punctuation can be spoken"
            )


def says_something(words: str) -> bool:
    """Whether there is a letter, a digit or a sign that is spoken, such as &."""
    return any(c.isalnum() or c in _SPOKEN_SIGNS for c in words)


def _list_tags() -> str:
    return " ".join(f"[{tag}]" for tag in TAGS)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
