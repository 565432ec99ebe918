"""Captions: one sentence that says what is to be heard in a TinyVoices item."""

from collections.abc import Sequence

import numpy as np

from .scenes import scene_caption
from .voices import Voice

_WHO = {"low": "a low voice", "high": "a high voice", "child": "a child's voice"}
_HOW = {
    "neutral": ("speaks calmly", "speaks"),
    "happy": ("speaks happily", "sounds happy"),
    "sad": ("speaks sadly", "sounds sad"),
    "angry": ("speaks angrily", "sounds angry"),
    "surprised": ("speaks in surprise", "sounds surprised"),
    "whispered": ("whispers", "speaks in a whisper"),
}
_SOUND = {
    "laugh": "laughs",
    "sigh": "sighs",
    "cough": "coughs",
    "breath": "breathes in",
    "hesitation": "hesitates",
}


def describe(
    voice: Voice,
    emotion: str,
    parts: Sequence[str],
    scene: str | None,
    rng: np.random.Generator,
) -> str:
    """Such as "A low voice speaks sadly and sighs while rain is falling."

    parts: "speech" and the names of the non-verbal sounds, in order.
    """
    does = []
    for part in dict.fromkeys(parts):
        hows = _HOW[emotion]
        does.append(hows[rng.integers(len(hows))] if part == "speech" else _SOUND[part])
    doing = " and ".join(filter(None, [", ".join(does[:-1]), does[-1]]))
    if scene is None:
        where = (" in a quiet room", "")[rng.integers(2)]
    else:
        where = f" while {scene_caption(scene, rng)}"
    text = f"{_WHO[voice.kind]} {doing}{where}."
    return text[0].upper() + text[1:]
