"""Training audio: TinyVoices, spoken once and kept."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from speechlm_lab.corpus.tiny_voices import EMOTIONS, SAMPLE_RATE, TinyVoices


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

    def clips(self, at: Tensor, length: int) -> Tensor:
        """Clips `[B, length]`, float32, that begin at the samples `at` `[B]`."""
        rows = [self.wave[i : i + length] for i in at.tolist()]
        return torch.from_numpy(np.stack(rows)).float() / 32768

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
        wave, starts = _speak(config, workers)
        write_arrays(path, key, wave=wave, starts=starts)
        return Pool(wave, starts)
    return Pool(kept["wave"], kept["starts"])


def _speak(config: PoolConfig, workers: int) -> tuple[np.ndarray, np.ndarray]:
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
    total = 0
    # a loader with batch_size None hands the items out in order, whatever `workers` is
    items = DataLoader(data, batch_size=None, sampler=range(10**9), num_workers=workers)
    for index, item in enumerate(items):
        pause = np.random.default_rng([config.seed, index]).uniform(*config.pause)
        piece = torch.nn.functional.pad(item.wave, (0, int(pause * SAMPLE_RATE)))
        said.setdefault(item.speaker, []).append(
            (piece * 32768).round().clamp(-32768, 32767).short().numpy()
        )
        total += len(piece)
        if total >= wanted:
            break
    streams = [np.concatenate(said[speaker]) for speaker in sorted(said)]
    starts = np.cumsum([0] + [len(s) for s in streams])
    return np.concatenate(streams), starts


def write_arrays(path: Path, key: str, **arrays: np.ndarray) -> None:
    """Save arrays under a key that says what they are; whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, key=np.array(key), **arrays)
    os.replace(part, path)


def read_arrays(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """Arrays saved by `write_arrays`; None when absent or under another key."""
    if not path.exists():
        return None
    with np.load(path) as kept:
        if str(kept["key"]) != key:
            return None
        return {name: kept[name] for name in kept.files if name != "key"}
