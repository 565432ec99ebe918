"""Training audio, kept: TinyVoices, spoken once, and recordings of real speech."""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor
from torch.utils.data import DataLoader

from speechlm_lab import parallel
from speechlm_lab.corpus.barista import Barista
from speechlm_lab.corpus.fsdd import FSDD
from speechlm_lab.corpus.items import Span
from speechlm_lab.corpus.tiny_voices import EMOTIONS, SAMPLE_RATE, TinyVoices
from speechlm_lab.recogniser import PHONES, fold

LABEL_HOP = 160  # samples from one label to the next


@dataclass(frozen=True)
class PoolConfig:
    """Which part of TinyVoices to speak."""

    split: str = "train"  # of TinyVoices
    minutes: float = 90.0  # of audio
    speakers: int = 300  # different voices
    emotions: tuple[str, ...] = tuple(EMOTIONS)
    sounds: float = 0.1  # share of items with a laugh, a cough, ...
    scenes: float = 0.1  # share of items with a background
    seed: int = 0  # of TinyVoices
    pause: tuple[float, float] = (0.15, 0.5)  # s of silence after each item, from, to


class Pool(NamedTuple):
    """Audio of several speakers, one after another."""

    wave: np.ndarray  # int16 [N], at 16 kHz, sorted by speaker
    starts: np.ndarray  # int64 [speakers + 1], first sample of each speaker, then N
    # uint8 [N / LABEL_HOP], phones: 0 is silence, i + 1 is recogniser.PHONES[i]
    labels: np.ndarray

    def clips(self, at: Tensor, length: int) -> Tensor:
        """Clips `[B, length]`, float32, that begin at the samples `at` `[B]`."""
        rows = [self.wave[i : i + length] for i in at.tolist()]
        return torch.from_numpy(np.stack(rows)).float() / 32768

    def phones(self, at: Tensor, frames: int, hop: int) -> Tensor:
        """Labels `[B, frames]` in the middle of each frame of clips from `at` `[B]`."""
        middle = at[:, None] + hop * torch.arange(frames) + hop // 2
        return torch.from_numpy(self.labels[(middle // LABEL_HOP).numpy()]).long()

    def speaker(self, number: int) -> Tensor:
        """All that one speaker says, float32 `[T]`."""
        begin, end = self.starts[number : number + 2]
        return torch.from_numpy(self.wave[begin:end]).float() / 32768


def make_pool(config: PoolConfig, path: Path, workers: int = 2) -> Pool:
    """Speak a pool, or read it from `path` if the same one is there already."""
    key = json.dumps(asdict(config))
    kept = read_arrays(path, key)
    if kept is None:
        print(f"speaking {config.minutes:g} minutes of TinyVoices ...", flush=True)
        pool = _speak(config, workers)
        write_arrays(path, key, **pool._asdict())
        return pool
    return Pool(**kept)


def _speak(config: PoolConfig, workers: int) -> Pool:
    data = TinyVoices(
        config.split,
        config.seed,
        size=10**9,  # without end; the minutes decide
        emotions=config.emotions,
        sounds=config.sounds,
        scenes=config.scenes,
        speakers=config.speakers,
    )
    wanted = config.minutes * 60 * SAMPLE_RATE
    said: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[np.ndarray]] = {}
    total = 0
    # a loader with batch_size None hands the items out in order, whatever `workers` is
    items = DataLoader(data, batch_size=None, sampler=range(10**9), num_workers=workers)
    for index, item in enumerate(items):
        pause = np.random.default_rng([config.seed, index]).uniform(*config.pause)
        length = len(item.wave) + int(pause * SAMPLE_RATE)
        length += -length % LABEL_HOP
        piece = torch.nn.functional.pad(item.wave, (0, length - len(item.wave)))
        said.setdefault(item.speaker, []).append(_sixteen_bits(piece.numpy()))
        labels.setdefault(item.speaker, []).append(
            label_phones(item.phones, length // LABEL_HOP)
        )
        total += len(piece)
        if total >= wanted:
            break
    streams = [np.concatenate(said[speaker]) for speaker in sorted(said)]
    starts = np.cumsum([0] + [len(s) for s in streams])
    phones = [piece for speaker in sorted(said) for piece in labels[speaker]]
    return Pool(np.concatenate(streams), starts, np.concatenate(phones))


def _sixteen_bits(wave: np.ndarray) -> np.ndarray:
    return (wave * 32768).round().clip(-32768, 32767).astype(np.int16)


def label_phones(spans: Sequence[Span], count: int) -> np.ndarray:
    """Labels uint8 `[count]`, one each LABEL_HOP samples: `Pool.labels` of one item."""
    labels = np.zeros(count, np.uint8)
    rate = SAMPLE_RATE / LABEL_HOP
    for span in spans:
        names = fold([span])
        # a phone that is two of the recogniser's gets half the time for each
        edges = np.linspace(span.start * rate, span.end * rate, len(names) + 1)
        edges = edges.round().astype(int)
        for name, begin, end in zip(names, edges, edges[1:], strict=False):
            labels[begin:end] = 1 + PHONES.index(name)
    return labels


def real_speech(speeds: tuple[float, ...] = (1.0, 0.9, 10 / 9)) -> list[np.ndarray]:
    """The train splits of Barista and FSDD, each one long int16 `[N]` at 16 kHz.

    Every recording is brought to one level, and there once at each of `speeds`, which
    also moves pitch and formants: so there are more voices. 50 ms of silence lie
    between recordings. Raises `DownloadError` where they are not and cannot be had.
    """
    streams = []
    for data in (Barista("train"), FSDD("train")):
        pieces = []
        for number in range(len(data)):
            wave = data[number].wave.numpy()
            gain = 0.1 / np.sqrt(np.square(wave).mean() + 1e-12)
            wave = wave * min(gain, 0.98 / (np.abs(wave).max() + 1e-9))
            pieces += [wave, np.zeros(SAMPLE_RATE // 20, np.float32)]
        whole = np.concatenate(pieces)
        faster = [Fraction(speed).limit_denominator(20) for speed in speeds]
        faster = [resample_poly(whole, f.denominator, f.numerator) for f in faster]
        streams.append(np.concatenate([_sixteen_bits(wave) for wave in faster]))
    return streams


def write_arrays(path: Path, key: str, **arrays: np.ndarray) -> None:
    """Save arrays under a key that says what they are; whole or not at all."""
    part = path.with_suffix(f".part{parallel.rank()}")  # processes may write at once
    with part.open("wb") as file:
        np.savez(file, key=np.array(key), **arrays)
    os.replace(part, path)


def read_arrays(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """Arrays saved by `write_arrays`; None when absent, damaged, or of another key."""
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            if str(kept["key"]) != key:
                return None
            return {name: kept[name] for name in kept.files if name != "key"}
    except (BadZipFile, EOFError, KeyError, ValueError, zlib.error):
        print(f"{path} is damaged and will be made again", flush=True)
        return None
