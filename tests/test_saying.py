"""Texts from an argument, a file or standard input."""

import io
from pathlib import Path

import pytest

from speechlm_lab.saying import texts_to_say


def test_a_byte_order_mark_is_no_text(tmp_path, monkeypatch):
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffone\r\n\r\ntwo\r\n".encode())
    assert texts_to_say(None, file, None, "x.wav") == [(Path("x.wav"), "one two")]
    found = texts_to_say(None, file, Path("d"), "x.wav")
    assert found == [(Path("d/1.wav"), "one"), (Path("d/2.wav"), "two")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffone\n"))
    assert texts_to_say(None, None, None, "x.wav") == [(Path("x.wav"), "one")]


def test_numbers_have_equal_width(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("hello\n" * 10)
    names = [path.name for path, _ in texts_to_say(None, file, tmp_path, "x.wav")]
    assert names[0] == "01.wav" and names[-1] == "10.wav"


def test_no_text_is_said_to_be_none(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)  # closed
    with pytest.raises(ValueError, match="give a text"):
        texts_to_say(None, None, None, "x.wav")
    with pytest.raises(ValueError, match="name a text"):
        texts_to_say(None, tmp_path, None, "x.wav")
