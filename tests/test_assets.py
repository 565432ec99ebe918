"""Style and script that each output carries."""

import re

import pytest

from speechlm_lab import assets
from speechlm_lab.check import Report

SCRIPTS = ["players.js", "explorer.js", "quiz.js"]
STYLES = ["frame.css", "picture.css", "player.css", "widgets.css", "report.css"]


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


def test_all_styles_are_checked():
    files = assets.files(assets.__name__).iterdir()
    assert {file.name for file in files if file.name.endswith(".css")} == set(STYLES)


@pytest.mark.parametrize("passed", [True, False])
def test_a_report_takes_its_colours_from_the_page(passed):
    """In the dark theme a box with colours of its own glares."""
    shown = Report(passed, "in words")._repr_html_()
    assert shown.startswith(assets.framed("", "report.css").removesuffix("</div>"))
    assert "style=" not in shown and ".text_html:has(> .slm)" in shown
    for name in ("frame.css", "report.css"):
        assert not re.search(r"[^-](color|background): *#", assets.asset(name))
