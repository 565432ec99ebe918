"""Trying out on a page without a kernel: panels behind a slider, and questions.

All that can be seen or heard is computed when the cell runs and stored in the
page; a few lines of JavaScript without any library switch between it. With
JavaScript off, every panel and every answer is still there. Each widget is a
fieldset or form of its own without ids, so that any number fit on a page.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechlm_lab.assets import framed, script


class WidgetError(ValueError):
    """What was given makes no widget; the message names the remedy."""


@dataclass(frozen=True)
class Widget:
    """A component as HTML; `name` is what it is about."""

    body: str
    name: str

    def _repr_html_(self) -> str:
        return framed(self.body, "picture.css", "player.css", "widgets.css")

    def __repr__(self) -> str:
        return f"<Widget: {self.name}>"


def _html(content: object) -> str:
    """HTML of anything a notebook would show; the rest as preformatted text."""
    if hasattr(content, "body"):  # a picture, a player, a widget
        return content.body
    if hasattr(content, "_repr_html_"):
        return content._repr_html_()
    return f"<pre>{html.escape(str(content))}</pre>"


def explorer(frames: Mapping[str, object], control: str, start: int = 0) -> Widget:
    """A slider that swaps pictures and sounds made beforehand.

    frames: label -> what to show: a picture, a player, text, or a list of these;
    control: what the slider changes, with its unit, for example "bits a sample";
    start: index of the panel that is shown first. Raises WidgetError for fewer than
    two frames or a start out of range.
    """
    if len(frames) < 2:
        raise WidgetError("explorer() needs two frames or more to switch between")
    if not 0 <= start < len(frames):
        raise WidgetError(f"start is the index of a frame: 0 to {len(frames) - 1}")
    control = html.escape(control)
    room = max(len(str(label)) for label in frames)  # letters, so that nothing moves
    panels = []
    for label, content in frames.items():
        parts = content if isinstance(content, list | tuple) else [content]
        shown = html.escape(str(label))
        panels.append(
            f'<div class="slm-panel" data-label="{shown}">'
            f'<p class="slm-name">{control}: {shown}</p>'
            + "".join(f"<div>{_html(part)}</div>" for part in parts)
            + "</div>"
        )
    body = (
        f'<div class="slm-explorer" role="group" aria-label="{control}">'
        f'<label class="slm-control" hidden><span>{control}</span>'
        f'<input type="range" min="0" max="{len(frames) - 1}" step="1" value="{start}"'
        f' autocomplete="off"><output style="width:{room}ch"></output></label>'
        + "".join(panels)
        + "</div>"
        + script("explorer.js")
    )
    return Widget(body, control)


def _prose(text: str) -> str:
    """Escaped text, with `code` between backticks and $formulas$ for MathJax."""

    def mark(match: re.Match) -> str:
        code, formula = match.groups()
        return f"<code>{code}</code>" if code else rf"\({formula}\)"

    text = html.escape(text, quote=False)
    return re.sub(r"`([^`]+)`|\$(\S|\S[^$]*\S)\$", mark, text)


def quiz(question: str, choices: Sequence[str], answer: int, why: str) -> Widget:
    """A question with one right choice, which says at once whether it was found.

    answer: index of the right choice, from 0; why: the reason, shown with the
    answer. Text may hold `code` and $formulas$. Raises WidgetError for fewer than
    two choices, two equal ones, or an answer that is none of them.
    """
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise WidgetError("quiz() needs two different choices or more")
    if not 0 <= answer < len(choices):
        raise WidgetError(f"answer is the index of a choice: 0 to {len(choices) - 1}")
    options = "".join(
        f'<label><input type="radio" name="choice" value="{i}" autocomplete="off">'
        f"{_prose(choice)}</label>"
        for i, choice in enumerate(choices)
    )
    body = (
        f'<form class="slm-quiz tex2jax_process mathjax_process" '
        f'data-answer="{answer}"><fieldset><legend>{_prose(question)}</legend>'
        f'{options}</fieldset><output aria-live="polite"></output>'
        f"<details><summary>Show the answer</summary><p><strong>"
        f"{_prose(choices[answer])}</strong></p><p>{_prose(why)}</p></details></form>"
        + script("quiz.js")
    )
    return Widget(body, question)
