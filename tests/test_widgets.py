"""Widgets: everything is on the page, nothing clashes, nothing is fetched."""

import re

import pytest
import torch
from elements import Elements

from speechlm_lab import plot
from speechlm_lab.assets import asset
from speechlm_lab.player import player
from speechlm_lab.widgets import WidgetError, explorer, quiz

WAVE = torch.linspace(-0.5, 0.5, 1600)


def page(widget):
    return Elements(widget._repr_html_())


def panels(widget):
    return [a for a in page(widget).all("div") if a.get("class") == "slm-panel"]


def test_explorer_holds_every_frame():
    frames = {
        f"{bits} bit": [plot.waveform(WAVE, title="a ramp"), player(WAVE, "ramp")]
        for bits in (2, 4, 8)
    }
    found = page(explorer(frames, "bits a sample", start=1))
    assert [a["data-label"] for a in panels(explorer(frames, "bits a sample"))] == list(
        frames
    )
    assert len(found.all("audio")) == len(found.all("img")) == 3
    assert all(a["alt"] for a in found.all("img"))
    (slider,) = [a for a in found.all("input") if a["type"] == "range"]
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    assert "bits a sample" in found.text


def test_without_script_all_panels_show_and_the_slider_does_not():
    shown = explorer({"a": "first", "b": "second"}, "which")
    assert not any("hidden" in attributes for attributes in panels(shown))
    (control,) = page(shown).all("label")
    assert "hidden" in control
    assert "which: a" in page(shown).text and "second" in page(shown).text


def test_the_slider_keeps_its_length_and_the_panel_its_place():
    shown = explorer({"off": 1, "a long label": 2, 3: 3}, "what")
    (label,) = page(shown).all("output")
    assert label["style"] == "width:12ch"
    css = asset("widgets.css")
    assert "flex: none" in re.search(r"\.slm-control output \{([^}]*)\}", css)[1]
    moved = css.index(".slm-panel + .slm-panel {")
    kept = css.index(".slm-control:not([hidden]) ~ .slm-panel { margin-top: 0 }")
    assert moved < kept


def test_frames_may_be_numbers_and_anything_with_html():
    class Table:
        def _repr_html_(self):
            return "<table></table>"

    shown = explorer({1: Table(), 2: torch.tensor([1])}, "n")
    assert len(page(shown).all("table")) == 1
    assert "tensor([1])" in page(shown).text


@pytest.mark.parametrize(
    "widget",
    [
        explorer({"a": 1, "b": 2}, "n"),
        quiz("Which?", ["this", "that"], 0, "because"),
    ],
)
def test_many_fit_on_a_page_and_fetch_nothing(widget):
    found = page(widget)
    assert not any("id" in a or "for" in a for _, a in found.found)
    assert not any("src" in a or "href" in a for _, a in found.found)
    assert not re.search(r"https?:|@import|url\(", widget._repr_html_())
    assert len(found.all("script")) == 1


def test_quiz_marks_one_choice():
    shown = page(quiz("How many?", ["one", "two", "three"], 2, "I counted."))
    (form,) = shown.all("form")
    radios = shown.all("input")
    assert form["data-answer"] == "2"
    assert [r["value"] for r in radios] == ["0", "1", "2"]
    assert len({r["name"] for r in radios}) == 1  # one form, one group
    assert not any("checked" in r for r in radios)
    assert "I counted." in shown.text
    assert shown.all("details") and "open" not in shown.all("details")[0]


def test_quiz_text_is_escaped_and_marked_up():
    shown = quiz("Is `a < b` at $f_s < 2$?", ["<b>", "$5"], 0, "$x$ and $y$")
    assert "<code>a &lt; b</code>" in shown.body
    assert r"\(f_s &lt; 2\)" in shown.body
    assert r"\(x\) and \(y\)" in shown.body
    assert "<b>" not in shown.body and ">$5<" in shown.body


def test_labels_are_escaped():
    shown = explorer({"<i>": "<u>", '"': 2}, "<b>")
    found = page(shown)
    assert not found.all("i") + found.all("u") + found.all("b")
    assert [a["data-label"] for a in panels(shown)] == ["<i>", '"']


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: explorer({"a": 1}, "n"), "two frames"),
        (lambda: explorer({"a": 1, "b": 2}, "n", start=2), "0 to 1"),
        (lambda: quiz("?", ["a"], 0, ""), "two different"),
        (lambda: quiz("?", ["a", "a"], 0, ""), "two different"),
        (lambda: quiz("?", ["a", "b"], 2, ""), "0 to 1"),
    ],
)
def test_bad_input_is_one_clear_error(call, says):
    with pytest.raises(WidgetError, match=says):
        call()
