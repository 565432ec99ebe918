"""The three sets of clips that benchmarks/codec.py judges codecs on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from codec_peers import level
from torch import Tensor

from speechlm_lab.audio import SAMPLE_RATE
from speechlm_lab.corpus.barista import Barista
from speechlm_lab.corpus.fsdd import DIGITS, FSDD
from speechlm_lab.corpus.tiny_voices import TinyVoices
from speechlm_lab.recogniser import fold

RMS = 0.1  # level of every clip
GAP = 0.1  # s of silence after each joined digit
FSDD_RATE = 8_000  # Hz
SHORTEST = 2.0  # s, of a TinyVoices clip


class Clip(NamedTuple):
    """A wave to code."""

    wave: Tensor  # [T], float32
    phones: list[str] | None = None  # spoken in it; None: not known
    rate: int = SAMPLE_RATE  # Hz, at which it was recorded


def tiny_voices(count: int) -> list[Clip]:
    """Sentences of voices kept out of training."""
    clips, number = [], 0
    data = TinyVoices("held-out", size=10**9, sounds=0, scenes=0)
    while len(clips) < count:
        item = data[number]
        if len(item.wave) >= SHORTEST * SAMPLE_RATE:
            clips.append(Clip(level(item.wave, RMS), fold(item.phones)))
        number += 1
    return clips


def barista(count: int) -> list[Clip]:
    """Recordings from the last tenth of Barista's train split, evenly spread."""
    data = Barista("held_out")
    count = min(count, len(data))
    chosen = [data[i * len(data) // count].wave for i in range(count)]
    return [Clip(level(wave, RMS)) for wave in chosen]


def fsdd(count: int) -> list[Clip]:
    """The test split, ten digits a clip; the first six clips are all six speakers."""
    data = FSDD("test")
    takes: dict[tuple[int, str], dict[str, Tensor]] = {}
    for i, file in enumerate(data.files):
        item = data[i]
        take = int(file.stem.rpartition("_")[2])
        takes.setdefault((take, item.speaker), {})[item.text] = item.wave
    chosen = sorted(takes)[:count]
    waves = [join([takes[key][digit] for digit in DIGITS]) for key in chosen]
    return [Clip(wave, rate=FSDD_RATE) for wave in waves]


def join(waves: Sequence[Tensor]) -> Tensor:
    """One clip at RMS of several waves `[T]`, at one level, with a gap after each."""
    gap = torch.zeros(round(GAP * SAMPLE_RATE))
    pieces = [piece for wave in waves for piece in (level(wave, RMS), gap)]
    return level(torch.cat(pieces), RMS)


SETS: dict[str, Callable[[int], list[Clip]]] = {
    "TinyVoices": tiny_voices,
    "Barista": barista,
    "FSDD": fsdd,
}
