"""Text and speech as one sequence: what is read is what is spoken, and when."""

import pytest
import torch

from speechlm_lab import layout
from speechlm_lab.corpus.text import TextError
from speechlm_lab.corpus.tiny_voices import TinyVoices, speak
from speechlm_lab.patterns import undelay

BLANK = 512


def example(text="my dog [laugh] is here, too.", emotion="happy"):
    item = speak(text, 3, emotion, seed=1)
    tokens = layout.read(item.text, emotion)
    frames = -(-len(item.wave) // 320)
    return item, tokens, layout.onsets(tokens, item, frames, 50.0), frames


def test_reading_names_phones_marks_sounds_and_emotion():
    said = " ".join(layout.read("Hello, [laugh] my cat?", "sad"))
    assert said == "<sad> h ə l ˈoʊ , [laugh] m aɪ k ˈæ t ?"
    assert layout.read("hi")[0] == "<any>"
    assert layout.read("hi,")[-1] == "." and layout.read("hi!")[-1] == "!"
    assert " ".join(layout.read("hi; you")) == "<any> h ˈaɪ , j uː ."


def test_every_item_is_read_as_it_is_spoken():
    data = TinyVoices("train", seed=5, size=150, sounds=0.3, scenes=0)
    for i in range(150):
        item = data[i]
        tokens = layout.read(item.text, item.emotion)
        frames = -(-len(item.wave) // 320)
        first = layout.onsets(tokens, item, frames, 50.0)
        assert first[0] == 0 and (first.diff() >= 1).all() and first[-1] < frames


def test_tokens_begin_where_their_sounds_do():
    item, tokens, first, _ = example()
    phones = iter([phone for span in item.phones for phone in layout._parts(span)])
    laughs, last = iter(item.events), None
    for token, frame in zip(tokens[1:], first[1:].tolist(), strict=True):
        if token not in ".,":
            last = next(laughs if token[0] == "[" else phones)
        time = last.end if token in ".," else last.start  # a mark is the pause after it
        assert frame == pytest.approx(time * 50, abs=0.51), token


def test_a_crowded_text_still_gives_each_token_a_frame():
    item, tokens, first, frames = example()
    squeezed = layout.onsets(tokens, item, len(tokens), 50.0)
    assert squeezed.tolist() == list(range(len(tokens)))
    with pytest.raises(ValueError, match="tokens in"):
        layout.onsets(tokens, item, len(tokens) - 1, 50.0)
    with pytest.raises(ValueError, match="otherwise"):
        layout.onsets(layout.read("another text"), item, frames, 50.0)


def test_the_monologue_repeats_the_text_in_time():
    _, tokens, first, frames = example()
    ids = torch.tensor([layout.begin(t) for t in tokens])
    says = layout.monologue(ids, first, frames, frames + 9)
    starts = [s for s, i in enumerate(says.tolist()) if layout.begins(i)]
    assert starts == [*first.tolist(), frames]
    names = [layout.name(i) for i in says.tolist()]
    assert [names[s] for s in starts] == [*tokens, layout.END]
    assert names[frames + 1 :] == [layout.END] * 8
    held = says[first[3] + 1 : first[4]].tolist()
    assert held == [layout.hold(ids[3].item())] * len(held)


@pytest.mark.parametrize("with_text", [True, False])
def test_a_step_sees_what_the_step_before_it_predicts(with_text):
    _, tokens, first, frames = example()
    ids = torch.tensor([layout.begin(t) for t in tokens])
    codes = torch.randint(0, BLANK, (4, frames))
    prompt = torch.randint(0, BLANK, (4, 30))
    steps = layout.lay_out(prompt, ids, first, codes, BLANK, with_text, place=7)
    speech = steps.roles == layout.SPEAK
    count = frames + layout.LEAD + 3
    assert speech.sum() == count
    assert torch.equal(
        steps.codes[:, speech][:, 1:], steps.next_codes[:, speech][:, :-1]
    )
    said, then, now, place, lasted = steps.text[:, speech]
    assert torch.equal(said[1:], steps.next_text[speech][:-1])
    # what is to be heard in a step is what the first level of its codes says
    heard = steps.next_text[speech][: count - layout.LEAD]
    assert torch.equal(now[layout.LEAD :], heard) and not now[: layout.LEAD].any()
    if with_text:  # a step of speech names the place in the text of what it says
        assert lasted[0] == 0 and lasted[1] == 1
        assert ((lasted[2:] == 1) == (place[2:] > place[1:-1])).all()
        assert ((lasted[2:] == lasted[1:-1] + 1) | (lasted[2:] == 1)).all()
        following = dict(zip(place[1:].tolist(), then[1:].tolist(), strict=True))
        assert [following[8 + i] for i in range(len(ids) - 1)] == ids[1:].tolist()
        assert layout.name(following[7 + len(ids)]) == layout.END
        assert place[0] == 0 and place[1] == 8 and (place[1:].diff() >= 0).all()
        read_places = steps.text[3][steps.roles == layout.READ].tolist()
        assert read_places == list(range(8, 8 + len(ids)))
        token = {p: int(i) for p, i in zip(read_places, ids, strict=True)}
        for s, p in zip(said[1:].tolist(), place[1:].tolist(), strict=True):
            assert layout.name(s) == layout.name(token.get(p, 1))
    # the codes, LEAD steps late and delayed level by level
    spoken = steps.next_codes[:, speech][:, layout.LEAD :]
    assert torch.equal(undelay(spoken[None])[0], codes)
    assert (steps.next_codes[:, ~speech] == BLANK).all()
    assert torch.equal(steps.codes[:, :30], prompt)
    read = steps.text[0][steps.roles == layout.READ]
    assert torch.equal(read, ids * with_text)
    assert with_text or (steps.text == layout.NO_TEXT).all()
    babble = layout.lay_out(prompt, ids, first, codes, BLANK, babbles=True)
    assert not babble.text.any() and not babble.next_text.any()
    kept = steps.roles != layout.READ  # the rest is as it was
    assert torch.equal(babble.codes, steps.codes[:, kept])
    assert torch.equal(babble.roles, steps.roles[kept])


def test_the_next_token_may_be_left_unsaid():
    _, tokens, first, frames = example()
    ids = torch.tensor([layout.begin(t) for t in tokens])
    codes = torch.zeros(2, frames, dtype=torch.long)
    told, untold = (
        layout.lay_out(codes[:, :3], ids, first, codes, BLANK, with_next=named)
        for named in (True, False)
    )
    assert told.text[1].any() and not untold.text[1].any()
    rest = [0, 2, 3, 4]
    assert torch.equal(told.text[rest], untold.text[rest])


def test_how_long_a_token_lasts_is_counted_up_to_the_longest():
    ids = torch.tensor([layout.begin("<any>"), layout.begin("h")])
    codes = torch.zeros(2, 200, dtype=torch.long)
    steps = layout.lay_out(codes[:, :0], ids, torch.tensor([0, 150]), codes, BLANK)
    assert steps.text[4].max() == layout.LONGEST


def test_a_batch_is_filled_up_with_nothing():
    _, tokens, first, frames = example()
    ids = torch.tensor([layout.begin(t) for t in tokens])
    codes = torch.zeros(2, frames, dtype=torch.long)
    rows = [layout.lay_out(codes[:, :n], ids, first, codes, BLANK) for n in (3, 9)]
    batch = layout.stack(rows, BLANK)
    assert batch.codes.shape == (2, 2, len(rows[1].roles))
    assert (batch.next_codes[0, :, -6:] == BLANK).all()
    assert (batch.next_text[0, -6:] == layout.NO_TEXT).all()
    assert (batch.codes[0, :, -6:] == BLANK).all()
    assert (batch.text[0, :, -6:] == layout.NO_TEXT).all()
    assert (batch.roles[0, -6:] == layout.LISTEN).all()
    assert torch.equal(batch.text[1], rows[1].text)


def test_a_long_text_is_cut_where_it_pauses():
    text = "The dog is here. The cat, who is very old and very grey, is not here yet!"
    assert layout.split(text, 100) == [text]
    parts = layout.split(text, 30)
    assert all(len(layout.read(part)) <= 30 for part in parts)
    assert parts[0] == "The dog is here." and " ".join(parts) == text
    two = "The dog is here. The cat is not."  # as much as there is room for
    assert layout.split(f"{two} Where is it?", len(layout.read(two)))[0] == two
    assert layout.split("supercalifragilistic", 5) == ["supercalifragilistic"]
    assert len(layout.split("one two three four five six seven", 12)) > 1
    with pytest.raises(TextError):
        layout.split("[sing] " * 99)


@pytest.mark.parametrize(
    "text",
    [
        "salt & pepper + 5 % of the $ 7 - or so - he had = home, in his left pocket",
        "one [ laugh ] two [laugh] three [ sigh ] four five six seven eight",
        "- and so it began . . . with a dash and then it went on and on and on",
    ],
)
def test_nothing_is_lost_in_cutting(text):
    parts = layout.split(text, 16)
    assert len(parts) > 2 and " ".join(parts) == text
    assert all(len(layout.read(part)) <= 16 for part in parts)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="no emotion 'cheerful'"):
        layout.read("hello", "cheerful")
    with pytest.raises(TextError):
        layout.read("[dance]")
    with pytest.raises(TextError):
        layout.read("!?")
