"""Listening: the one audio player of the book.

A player is plain HTML with the sound inside it: lossless (16-bit FLAC), nothing to
fetch, no kernel needed, never started by itself. It shows a label and, where there
is one, a transcript.

Every clip is played with the same digital gain, 1 unless you ask for another, and
is never normalised: what is louder in the data is louder in the ear. A sample
beyond ±1 cannot be stored; it is clipped, and a note in the player says so.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from numpy.typing import ArrayLike

from speechlm_lab.assets import framed, script
from speechlm_lab.audio import SAMPLE_RATE, AudioError, check_rate

GAIN = 1.0  # factor, the same for the whole book
LARGEST = 2.0  # amplitude; beyond it the data are not a wave in [-1, 1] at all


@dataclass(frozen=True)
class Player:
    """Sound as HTML. `_repr_html_` shows it; `body` is the same without style."""

    body: str
    label: str

    def _repr_html_(self) -> str:
        return framed(self.body, "player.css")

    def __repr__(self) -> str:
        return f"<Player: {self.label}>"


def flac(wave: ArrayLike | torch.Tensor, sample_rate: int, gain: float = GAIN) -> bytes:
    """A wave [T] as a 16-bit FLAC file. Samples beyond ±1 are clipped."""
    out = io.BytesIO()
    samples = np.clip(_samples(wave) * gain, -1, 1)
    soundfile.write(out, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def _samples(wave: ArrayLike | torch.Tensor) -> np.ndarray:
    """float64 [T] of a wave [T] or [1, T]."""
    if isinstance(wave, torch.Tensor):
        wave = wave.detach().cpu().float().numpy()
    samples = np.asarray(wave, dtype=np.float64)
    while samples.ndim > 1 and samples.shape[0] == 1:
        samples = samples[0]
    if samples.ndim != 1:
        raise AudioError(
            f"player() plays one wave [T], but the shape is {list(samples.shape)}: "
            "pick one, for example wave[0]"
        )
    if not samples.size:
        raise AudioError("player() got an empty wave: is the slice out of range?")
    if not np.isfinite(samples).all():
        raise AudioError("the wave holds NaN or infinity: look where they start")
    return samples


def player(
    wave: ArrayLike | torch.Tensor,
    label: str,
    transcript: str = "",
    sample_rate: int = SAMPLE_RATE,
    gain: float = GAIN,
) -> Player:
    """An audio player with the sound inside it.

    wave: [T] (or [1, T]), in [-1, 1]; label: what it is, for eye and screen reader;
    transcript: the words that are spoken; sample_rate: Hz; gain: factor on the
    samples, shown when it is not 1. Raises AudioError for another shape, an empty
    wave, NaN, or amplitudes beyond 2, which would only be noise at full level.
    """
    if not label.strip():
        raise AudioError("a player needs a label: say what is to be heard")
    check_rate(sample_rate)
    samples = _samples(wave) * gain
    peak = float(np.abs(samples).max())
    if peak > LARGEST:
        raise AudioError(
            f"amplitudes reach {peak:.3g}, but a wave lies in [-1, 1]: divide "
            "integers of 16 bits by 32768, or the wave by its largest amplitude"
        )
    clipped = int((np.abs(samples) > 1).sum())
    notes = [f"Gain {gain:g}."] if gain != GAIN else []
    if clipped:
        notes.append(f"Clipped: {clipped} samples lie beyond ±1 (largest {peak:.3g}).")
    seconds = len(samples) / sample_rate
    # browsers count whole seconds: a shorter clip would read "0:00 / 0:00"
    short = seconds < 1
    length = f"{seconds:.2g}" if short else f"{seconds:.1f}"
    name = html.escape(f"{label}, {length} seconds")
    data = base64.b64encode(flac(wave, sample_rate, gain)).decode()
    said = f' <span class="slm-seconds">({length} s)</span>' if short else ""
    said += f" <q>{html.escape(transcript)}</q>" if transcript else ""
    body = (
        f'<figure class="slm-player"><figcaption><strong>{html.escape(label)}</strong>'
        f"{said}</figcaption>"
        + "".join(f'<p class="slm-note">{note}</p>' for note in notes)
        + f'<audio controls preload="metadata" aria-label="{name}" '
        f'src="data:audio/flac;base64,{data}"></audio></figure>'
    )
    return Player(body, label)


def players(sounds: Sequence[Player]) -> Player:
    """Players side by side, to compare: starting one stops the other, and a box
    lets the next one go on at the position of the last one.

    Without JavaScript they are ordinary players.
    """
    if not sounds:
        raise AudioError("players() needs at least one player(...)")
    body = (
        '<div><div class="slm-row">'
        + "".join(sound.body for sound in sounds)
        + '</div><label class="slm-keep" hidden><input type="checkbox"> '
        "switch without going back to the start</label></div>" + script("players.js")
    )
    return Player(body, " | ".join(sound.label for sound in sounds))
