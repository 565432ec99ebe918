"""What can be spoken, and a clear word about what cannot."""

import pytest

from speechlm_lab.corpus.text import TAGS, TextError, read_text


def test_tags_split_the_text():
    assert read_text("Well [Laugh], I see. [sigh]") == [
        ("speech", "Well "),
        ("laugh", ""),
        ("speech", ", I see. "),
        ("sigh", ""),
    ]


def test_typographic_signs_are_read():
    ((_, words),) = read_text("“Don’t” – he said…")
    assert words == '"Don\'t" - he said.'


@pytest.mark.parametrize("text", ["", "   ", "???", "...", "\n", "[", "- -"])
def test_nothing_to_speak(text):
    with pytest.raises(TextError, match=r"letter|bracket"):
        read_text(text)


@pytest.mark.parametrize(
    "text", ["你好", "hello 你", "hi 😀", "Привет", "\x01", "a\u200bb", "a_b", "<b>"]
)
def test_unspeakable_characters_are_named(text):
    with pytest.raises(TextError, match="cannot speak .*write it out"):
        read_text(text)


def test_unknown_tag_lists_the_tags():
    with pytest.raises(TextError) as error:
        read_text("Oh [sneeze] no")
    assert all(f"[{tag}]" in str(error.value) for tag in TAGS)
    for text in ("half [laugh", "half laugh]", "[[laugh]]"):
        with pytest.raises(TextError, match="tags"):
            read_text(text)


def test_not_a_string():
    with pytest.raises(TextError, match="str"):
        read_text(None)
