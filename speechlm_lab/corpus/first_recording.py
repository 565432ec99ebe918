"""The recording that a reader begins with: their own, or one of a real person."""

import os
from pathlib import Path

import torch

from speechlm_lab import audio

from .download import DownloadError
from .fsdd import FSDD
from .items import Item
from .tiny_voices import speak

SPEAKER = "theo"
DIGITS = ("three", "one", "four", "one", "five", "nine")
PAUSE = 0.12  # s between two digits
LEVEL = -23.0  # LUFS, for every source alike


def first_recording(path: str | os.PathLike | None = None) -> Item:
    """A recording to start with, mono at 16 kHz, at -23 LUFS.

    Args:
        path: a sound file of yours, at least 0.4 s of sound. None: digits spoken by a
            person, from the Free Spoken Digit Dataset (downloaded on first use). With
            neither network nor cache a TinyVoice says the digits, and one printed
            line says so.

    Returns:
        An `Item`; `speaker` tells the source ("theo", "17", or None for your file).

    Raises:
        AudioError: your file cannot be used; the message says why.
    """
    if path is not None:
        wave = audio.load(path)
        item = Item(wave, audio.SAMPLE_RATE, text="", caption=Path(path).name)
    else:
        item = _digits()
    wave = audio.normalize_loudness(item.wave, LEVEL)
    return Item(
        wave, item.sample_rate, item.text, speaker=item.speaker, caption=item.caption
    )


def _digits() -> Item:
    text = " ".join(DIGITS)
    try:
        recordings = FSDD("test")
    except DownloadError:
        print("No network and no cached recordings: a TinyVoice speaks instead.")
        item = speak(text, speaker="held-out:3")
        return Item(
            item.wave,
            item.sample_rate,
            text,
            speaker=item.speaker,
            caption="a TinyVoice, synthesised here",
        )
    by_label = {
        (label["speaker"], label["text"]): index
        for index, label in enumerate(recordings.labels)
    }
    pause = torch.zeros(int(PAUSE * audio.SAMPLE_RATE))
    parts = []
    for digit in DIGITS:
        parts += [recordings[by_label[SPEAKER, digit]].wave, pause]
    return Item(
        torch.cat(parts[:-1]),
        audio.SAMPLE_RATE,
        text,
        speaker=SPEAKER,
        caption="a person, from the Free Spoken Digit Dataset (8 kHz recordings)",
    )
