"""Style and script that each output carries."""

import re

import pytest

from speechlm_lab import assets

SCRIPTS = ["players.js", "explorer.js", "quiz.js"]
STYLES = ["frame.css", "picture.css", "player.css", "widgets.css"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_calls_a_function_with_the_element_before_it(name):
    code = assets.script(name)
    assert re.match(r"<script>\(function \(\w+\) \{\n", code)
    assert code.endswith("(document.currentScript.previousElementSibling)</script>")
    assert code.count("<") - code.count(" < ") == 2  # nothing that closes the element
    assert code.count("{") == code.count("}")


@pytest.mark.parametrize("name", STYLES)
def test_a_style_touches_only_our_outputs(name):
    for selector in re.findall(r"(?:^|\})\s*([^{}]+)\{", assets.asset(name)):
        assert all(".slm" in part for part in selector.split(","))


@pytest.mark.parametrize("name", SCRIPTS + STYLES)
def test_nothing_is_fetched(name):
    assert not re.search(r"https?:|//cdn|@import|url\(|fetch\(", assets.asset(name))


def test_a_frame_holds_its_styles_once():
    shown = assets.framed("<p>hello</p>", "player.css")
    assert shown.count("<style>") == 1
    assert ".slm-player" in shown and ".slm-quiz" not in shown
    assert shown.endswith("<p>hello</p></div>")
    assert len(shown) < 2000  # carried by every output
