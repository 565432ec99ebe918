"""How text and speech are laid out as one sequence of steps for the language model.

At each step the model has K + 1 slots, one for a text token and one for a code of each
level, and a role that says what the step is. To speak a text in a voice:

    role    listen ...   read ...              speak ...
    text    - - - - -    <happy> h ə l ˈoʊ .   <happy> · · h · ə · l · ˈoʊ · · . <end>
    codes   the voice    -                     - - - -  what is said, level by level

First the voice: frames of somebody's speech, whole frames, never predicted. Then the
text, all of it. Then speech, in which the text stream repeats the text, each token from
the step at which it begins to be spoken, held (·) as long as it lasts: the model says
to itself what it is saying (the inner monologue of Moshi: Défossez et al. 2024, arXiv
2410.00037). The codes follow `LEAD` steps behind, level k another k steps, so that
a sound is made when the next one is known.

A token is a phone, a punctuation mark, which stands for the pause it makes, a sound
such as [laugh], or the emotion, which opens the text and lasts as long as the silence
before the first phone.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.espeak import clauses
from speechlm_lab.corpus.items import Item, Span
from speechlm_lab.corpus.text import TAGS, TextError, says_something, spoken_parts

LISTEN, READ, SPEAK, WRITE = range(4)  # roles; WRITE is for models that transcribe
ROLES = 4
LONGEST = 100  # steps beyond which it is no longer counted how long a token lasts
LEAD = 5  # steps by which the text stream is ahead of the first level of codes
ANY = "any"  # an emotion that is left to the model
MOST = 55  # tokens of a text that is said in one piece, as long as those of training

_CONSONANTS = "p b t d k ɡ tʃ dʒ f v θ ð s z ʃ ʒ h m n ŋ l ɹ w j ɾ ʔ x r n̩".split()
_VOWELS = "ə ɐ ᵻ ɪ i iː ɛ æ ʌ ɑː ɔ ɔː oː ʊ uː ɚ ɜː eɪ aɪ ɔɪ oʊ aʊ".split()
_STRESSES = ("", "ˈ", "ˌ")
_MARKS = (".", ",", "?", "!")
END = "<end>"
TOKENS = (
    END,
    *(f"<{emotion}>" for emotion in (ANY, *EMOTIONS)),
    *(f"[{tag}]" for tag in TAGS),
    *_MARKS,
    *_CONSONANTS,
    *(stress + vowel for vowel in _VOWELS for stress in _STRESSES),
)
NO_TEXT = 0  # in the text slot: nothing
TEXTS = 1 + 2 * len(TOKENS)  # nothing, each token as it begins, each token as it lasts
_IDS = {token: 1 + i for i, token in enumerate(TOKENS)}
_PHONE = re.compile(r"[ˈˌ]?(?:tʃ|dʒ|[eaɔ]ɪ|[oa]ʊ|[^\sˈˌ])[ːʲ\u0329]*")
# phones that the synthesiser says in few words, by those that sound like them
_ALIKE = {
    "o": "oʊ", "e": "eɪ", "a": "æ", "u": "uː", "ɑ": "ɑː", "ɜ": "ɜː", "ɫ": "l",
    "ɬ": "l", "ɲ": "n", "ɒ": "ɔ", "g": "ɡ",
}  # fmt: skip


def begin(token: str) -> int:
    """The id of a token of TOKENS where it begins."""
    return _IDS[token]


def hold(token_id: int) -> int:
    """The id of a token where it lasts, from that where it begins."""
    return token_id + len(TOKENS)


def name(text_id: int) -> str:
    """The token of an id, whether it begins or lasts."""
    return TOKENS[(text_id - 1) % len(TOKENS)]


def begins(text_id: int) -> bool:
    """Whether an id of the text stream is a token that begins."""
    return NO_TEXT < text_id <= len(TOKENS)


def read(text: str, emotion: str = ANY) -> list[str]:
    """The tokens that say `text`: an emotion, then phones, marks and sounds.

    Raises TextError for a text that cannot be spoken, ValueError for an emotion that is
    neither of EMOTIONS nor "any".
    """
    if emotion not in (ANY, *EMOTIONS):
        raise ValueError(
            f"no emotion {emotion!r}: choose from {', '.join((ANY, *EMOTIONS))}"
        )
    tokens = [f"<{emotion}>"]
    for kind, words in spoken_parts(text):
        if kind != "speech":
            tokens.append(f"[{kind}]")
            continue
        for said, mark in clauses(words):
            for word in said.split():
                tokens += [_known(phone) for phone in _PHONE.findall(word)]
            if said and mark:
                tokens.append(mark if mark in _MARKS else ",")
    if tokens[-1] not in ".?!":
        tokens = tokens[:-1] if tokens[-1] == "," else tokens
        tokens.append(".")
    return tokens


def split(text: str, most: int = MOST) -> list[str]:
    """A long text as pieces of at most `most` tokens.

    It is cut after sentences, where one is too long after commas, then between words.
    Raises what `read` raises.
    """
    if len(read(text)) <= most:
        return [text]
    for cut in (r"(?<=[.!?;:])\s+", r"(?<=,)\s+", r"\s+"):
        pieces = [""]
        for piece in re.split(cut + r"(?![^\[\]]*\])", text.strip()):  # not in a tag
            if says_something(piece) and says_something(pieces[-1]):
                pieces.append(piece)
            else:  # a dash, say: nobody could say it by itself
                pieces[-1] = f"{pieces[-1]} {piece}".strip()
        if len(pieces) < 2:
            continue
        joined = [pieces[0]]
        for piece in pieces[1:]:
            together = f"{joined[-1]} {piece}"
            if len(read(together)) <= most:
                joined[-1] = together
            else:
                joined.append(piece)
        if len(joined) > 1:
            return [part for piece in joined for part in split(piece, most)]
    return [text]  # one long word


def _known(phone: str) -> str:
    bare = phone.lstrip("ˈˌ").rstrip("ʲ")
    stress = phone[: len(phone) - len(phone.lstrip("ˈˌ"))]
    bare = _ALIKE.get(bare, bare)
    for name in (stress + bare, bare, stress + bare.rstrip("ː"), bare.rstrip("ː")):
        if name in _IDS:
            return name
    raise TextError(f"no English sound {phone!r}: write the word in English letters")


def onsets(tokens: Sequence[str], item: Item, frames: int, frame_rate: float) -> Tensor:
    """The frame at which each token of an item's text begins: int64 `[S]`, rising.

    Raises ValueError when the item's phones are not those of `tokens` or when there are
    more tokens than frames.
    """
    phones = iter([part for span in item.phones for part in _parts(span)])
    events = iter(item.events)
    starts, last = [], Span("", 0.0, 0.0)
    for token in tokens:
        if token[0] == "<":
            starts.append(0.0)
        elif token in _MARKS:
            starts.append(last.end)
        else:
            last = next(events if token[0] == "[" else phones, None)
            if last is None or last.label not in (
                token.strip("[]"), token.lstrip("ˈˌ")
            ):  # fmt: skip
                raise ValueError(f"{item.text!r} is spoken otherwise than it is read")
            starts.append(last.start)
    if next(phones, None) or next(events, None):
        raise ValueError(f"{item.text!r} is spoken otherwise than it is read")
    first = np.rint(np.array(starts) * frame_rate).astype(np.int64)
    count = np.arange(len(first))
    if len(first) > frames:
        raise ValueError(f"{len(first)} tokens in {frames} frames")
    # each token has one frame at least, and none begins after the last one
    first = np.maximum.accumulate(first - count) + count
    return torch.from_numpy(np.minimum(first, frames - len(first) + count))


def _parts(span: Span) -> list[Span]:
    """A span of the synthesiser's as one span a phone: ɑːɹ is two."""
    names = [_known(name) for name in _PHONE.findall(span.label)]
    edges = np.linspace(span.start, span.end, len(names) + 1)
    return [Span(*part) for part in zip(names, edges, edges[1:], strict=False)]


class TextSlots(NamedTuple):
    """What a step sees of the text, each int64 `[L]`, 0 where there is nothing."""

    said: Tensor  # the token that is read, or that the model says to itself
    next: Tensor  # in speech: the token after that one
    now: Tensor  # in speech: the token to be heard in this step, said LEAD steps ago
    place: Tensor  # the place in the text of `said`, from 1
    lasted: Tensor  # in speech: steps for which `said` has been said, from 1


class Steps(NamedTuple):
    """A sequence of L steps, or several of them, `[B, ...]`."""

    codes: Tensor  # int64 [K, L], what the model sees; the codec's V is blank
    text: Tensor  # int64 [5, L], see `TextSlots`; 0: nothing
    roles: Tensor  # int64 [L]
    next_codes: Tensor  # int64 [K, L], what it is to predict; V: nothing
    next_text: Tensor  # int64 [L]; NO_TEXT: nothing


def lay_out(
    prompt: Tensor,
    tokens: Tensor,
    first: Tensor,
    codes: Tensor,
    blank: int,
    with_text: bool = True,
    with_next: bool = True,
    babbles: bool = False,
    place: int = 0,
) -> Steps:
    """A voice, a text and its speech as the steps of a training sequence.

    prompt: int64 `[K, P]`, codes of the voice, P >= 0.
    tokens: int64 `[S]`, ids of the text, as `begin` gives them.
    first: int64 `[S]`, the frame of `codes` at which each token begins.
    codes: int64 `[K, F]`, the speech.
    blank: the code that stands for none, V.
    with_text: without it the steps of the text and all text slots are empty, which
        teaches guidance what to lead away from.
    with_next: without it the next token is not named: the model must find it.
    babbles: leaves out the text and its steps, which teaches the model to babble.
    place: where the text's places begin to count. All are learnt by moving it about.
    """
    levels, frames = codes.shape
    length = frames + LEAD + levels - 1
    spoken = codes.new_full((levels, length), blank)
    for k in range(levels):
        spoken[k, LEAD + k : LEAD + k + frames] = codes[k]
    says = monologue(tokens, first, frames, length)
    at = begun(says)
    ends = torch.cat([tokens, tokens.new_tensor([begin(END)] * 2)])
    step = torch.arange(length)
    spoken_text = TextSlots(
        said=says,
        next=ends[at + 1] if with_next else torch.zeros_like(says),
        now=says,
        place=place + 1 + at,
        lasted=(step - torch.cat([first, first.new_tensor([frames])])[at] + 1).clamp(
            max=LONGEST
        ),
    )
    places = place + 1 + torch.arange(len(tokens))
    if babbles:
        tokens, places = tokens[:0], places[:0]
    if babbles or not with_text:
        tokens, places = torch.zeros_like(tokens), torch.zeros_like(places)
        says = torch.zeros_like(says)
        spoken_text = TextSlots(*[says] * 5)
    before = prompt.shape[1] + len(tokens)
    nothing = codes.new_full((levels, len(tokens) + 1), blank)
    # a step of speech sees the one before it, and what is to be heard in its own
    late = TextSlots(said=1, next=1, now=LEAD, place=1, lasted=1)
    speech = [
        nnf.pad(r, (by, 0))[:length] for r, by in zip(spoken_text, late, strict=True)
    ]
    none = torch.zeros_like(tokens)
    read = torch.stack(TextSlots(tokens, none, none, places, none))
    said = torch.stack(speech)
    roles = [(LISTEN, prompt.shape[1]), (READ, len(tokens)), (SPEAK, length)]
    return Steps(
        codes=torch.cat([prompt, nothing, spoken[:, :-1]], dim=1),
        text=torch.cat([codes.new_zeros(5, prompt.shape[1]), read, said], dim=1),
        roles=torch.cat([torch.full((n,), role) for role, n in roles]),
        next_codes=nnf.pad(spoken, (before, 0), value=blank),
        next_text=nnf.pad(says, (before, 0), value=NO_TEXT),
    )


def begun(says: Tensor) -> Tensor:
    """How many tokens have begun before that of each step `[L]` of a text stream."""
    starts = (says > NO_TEXT) & (says <= len(TOKENS))
    return starts.long().cumsum(0) - 1


def monologue(tokens: Tensor, first: Tensor, frames: int, length: int) -> Tensor:
    """The text stream of speech, int64 `[length]`: tokens as they begin and last.

    After `frames` steps it says that all is said, END.
    """
    tokens = torch.cat([tokens, tokens.new_tensor([begin(END)])])
    first = torch.cat([first, first.new_tensor([frames])])
    at = torch.searchsorted(first, torch.arange(length), right=True) - 1
    says = tokens[at] + len(TOKENS)
    says[first] -= len(TOKENS)
    return says


def stack(rows: Sequence[Steps], blank: int) -> Steps:
    """Several sequences as one batch, filled up at their ends with nothing."""
    length = max(len(row.roles) for row in rows)
    fill = (blank, NO_TEXT, LISTEN, blank, NO_TEXT)

    def pad(part: Tensor, value: int) -> Tensor:
        missing = length - part.shape[-1]
        return nnf.pad(part, (0, missing), value=value)

    return Steps(
        *[
            torch.stack([pad(row[i], value) for row in rows])
            for i, value in enumerate(fill)
        ]
    )
