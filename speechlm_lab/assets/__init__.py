"""Style and script of what the book shows. Each output carries its own, so that it
works in JupyterLab, on a page from disk, and without a network."""

import re
from importlib.resources import files


def asset(name: str) -> str:
    """Text of a file of this folder."""
    return (files(__name__) / name).read_text(encoding="utf-8")


def framed(body: str, *styles: str) -> str:
    """The HTML of an output: style sheets and body.

    JupyterLab's own keys (arrows, space) stay off inside it, so that they reach
    sliders and players.
    """
    css = "".join(asset(name) for name in ("frame.css", *styles))
    return (
        f"<style>{css}</style>"
        '<div class="slm" data-lm-suppress-shortcuts="true" '
        f'onkeydown="event.stopPropagation()">{body}</div>'
    )


def script(name: str) -> str:
    """A script element that calls the function in file `name` with the element before
    it, so that no ids are needed and any number fit on a page."""
    code = re.sub(r"^//.*\n", "", asset(name), flags=re.MULTILINE).strip()
    return f"<script>({code})(document.currentScript.previousElementSibling)</script>"
