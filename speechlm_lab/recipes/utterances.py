"""Training speech for the language model: utterances as codes, tokens and times."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from speechlm_lab import layout
from speechlm_lab.codec import Codec
from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.tiny_voices import TinyVoices, speak
from speechlm_lab.recipes.pool import read_arrays, write_arrays
from speechlm_lab.recipes.recogniser import loose_words


@dataclass(frozen=True)
class UtteranceConfig:
    """Which part of TinyVoices to speak and to encode."""

    split: str = "train"  # of TinyVoices
    count: int = 30_000  # utterances
    speakers: int = 2_000  # different voices
    neutral: float = 0.5  # share of neutral ones; the rest is of all emotions
    loose: float = 0.3  # share of texts that are unrelated words
    invented: float = 0.4  # share of invented words among these
    sounds: float = 0.1  # share of items with a laugh, a cough, ...
    longest: float = 5.0  # s; longer ones are left out
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """What a training sequence is made of; each share is one of sequences."""

    prompt: tuple[int, int] = (25, 125)  # frames of the voice, from, to
    places: int = 128  # where a text's places begin to count, from 0
    without_voice: float = 0.05  # share that hears no voice
    without_text: float = 0.05  # share that reads an empty text
    babbles: float = 0.05  # share that reads none
    without_next: float = 0.15  # share that is not told which token comes next
    any_emotion: float = 0.15  # share that is not told the emotion


class Utterances(NamedTuple):
    """Utterances one after another, those of one speaker together."""

    codes: np.ndarray  # int16 [K, N]
    frames: np.ndarray  # int64 [U + 1], where each utterance begins in codes; then N
    tokens: np.ndarray  # uint8 [M], ids of the texts' tokens
    first: np.ndarray  # int16 [M], frame of its utterance at which each token begins
    texts: np.ndarray  # int64 [U + 1], where each text begins in tokens; then M
    speakers: np.ndarray  # int64 [U], rising


class _Items(Dataset):
    """Endless utterances: speaker, codes, tokens, times; None for one left out."""

    def __init__(self, config: UtteranceConfig, codec: Codec, levels: int) -> None:
        self.config = config
        self.codec = codec
        self.levels = levels

    @cached_property
    def data(self) -> TinyVoices:
        c = self.config
        return TinyVoices(c.split, c.seed, 10**9, EMOTIONS, c.sounds, 0.0, c.speakers)

    def __len__(self) -> int:
        return 10**9

    @torch.no_grad()
    def __getitem__(self, index: int) -> tuple | None:
        c, rate = self.config, self.codec.frame_rate
        rng = np.random.default_rng([c.seed, index])
        request = self.data.request(index)
        if rng.random() < c.neutral:
            request["emotion"] = "neutral"
        if rng.random() < c.loose:
            request["text"] = loose_words(rng, c.invented)
        item = speak(**request)
        frames = -(-len(item.wave) // self.codec.hop)
        if frames > c.longest * rate:
            return None
        tokens = layout.read(item.text, item.emotion)
        try:
            first = layout.onsets(tokens, item, frames, rate)
        except ValueError:  # the synthesiser read it otherwise in the sentence
            return None
        codes = self.codec.encode(item.wave[None])[0, : self.levels]
        ids = np.array([layout.begin(t) for t in tokens], np.uint8)
        number = int(item.speaker.rpartition(":")[2])
        return number, codes.short().numpy(), ids, first.short().numpy()


def _as_it_is(item: tuple | None) -> tuple | None:
    return item


def make_utterances(
    config: UtteranceConfig, codec: Codec, levels: int, path: Path, key: str,
    workers: int = 2,
) -> Utterances:  # fmt: skip
    """Speak and encode utterances, or read them from `path` if they are there already.

    `key` says which codec it is.
    """
    key = json.dumps([key, levels, asdict(config)])
    kept = read_arrays(path, key)
    if kept is None:
        print(f"speaking and encoding {config.count:,} utterances ...", flush=True)
        kept = _make(config, codec, levels, workers)._asdict()
        write_arrays(path, key, **kept)
    return Utterances(**kept)


def _make(
    config: UtteranceConfig, codec: Codec, levels: int, workers: int
) -> Utterances:
    # a loader with batch_size None hands the items out in order, whatever `workers` is
    items = DataLoader(
        _Items(config, codec, levels), batch_size=None, sampler=range(10**9),
        num_workers=workers, collate_fn=_as_it_is,
    )  # fmt: skip
    made = []
    for item in items:
        if item is None:
            continue
        made.append(item)
        if len(made) % 5_000 == 0:
            print(f"{len(made):,} of {config.count:,}", flush=True)
        if len(made) == config.count:
            break
    made.sort(key=lambda row: row[0])  # stable: in their order within a speaker
    speakers, codes, ids, first = zip(*made, strict=True)
    return Utterances(
        codes=np.concatenate(codes, axis=1),
        frames=np.cumsum([0] + [c.shape[1] for c in codes]),
        tokens=np.concatenate(ids),
        first=np.concatenate(first),
        texts=np.cumsum([0] + [len(t) for t in ids]),
        speakers=np.array(speakers),
    )


def sample_steps(
    data: Utterances,
    batch: int,
    blank: int,
    choice: Choice,
    generator: torch.Generator,
    part: tuple[int, int] = (0, 1),
) -> layout.Steps:
    """A batch of utterances of like length, each with other speech of its speaker.

    `blank` is the code that stands for none. `part` is a number and a count of
    processes that divide the batch among them, all with the same `generator`: of like
    length too, so that none waits for another.
    """
    order = _by_length(data)
    rng = np.random.default_rng(
        int(torch.randint(2**62, (1,), generator=generator).item())
    )
    place = rng.integers(len(order) - 8 * batch + 1) if len(order) > 8 * batch else 0
    near = order[place : place + 8 * batch]
    chosen = rng.choice(near, batch, replace=len(near) < batch)
    longest = max(_length(data, u) for u in chosen)
    room = longest + rng.integers(choice.prompt[0], choice.prompt[1] + 1)
    number, count = part
    if number:  # what follows differs from process to process
        rng = np.random.default_rng([int(rng.integers(2**62)), number])
    chosen = chosen[number::count]
    rows = []
    for u in chosen:
        without = rng.random(5) < (
            choice.without_voice, choice.without_text, choice.any_emotion,
            choice.without_next, choice.babbles,
        )  # fmt: skip
        frames = 0 if without[0] else min(room - _length(data, u), choice.prompt[1])
        tokens = torch.from_numpy(data.tokens[slice(*data.texts[u : u + 2])]).long()
        if without[2]:
            tokens[0] = layout.begin(f"<{layout.ANY}>")
        rows.append(
            layout.lay_out(
                torch.from_numpy(_other_speech(data, u, frames, rng)).long(),
                tokens,
                torch.from_numpy(data.first[slice(*data.texts[u : u + 2])]).long(),
                torch.from_numpy(data.codes[:, slice(*data.frames[u : u + 2])]).long(),
                blank,
                with_text=not without[1],
                with_next=not without[3],
                babbles=bool(without[4]),
                place=int(rng.integers(choice.places)),
            )
        )
    return layout.stack(rows, blank)


_ORDERS: dict[int, np.ndarray] = {}


def _by_length(data: Utterances) -> np.ndarray:
    """Numbers of the utterances, shortest first; sorted once."""
    if id(data) not in _ORDERS:
        lengths = np.diff(data.frames) + np.diff(data.texts)
        _ORDERS[id(data)] = np.argsort(lengths, kind="stable")
    return _ORDERS[id(data)]


def _length(data: Utterances, u: int) -> int:
    """Frames and tokens of an utterance."""
    return int(data.frames[u + 1] - data.frames[u] + data.texts[u + 1] - data.texts[u])


def _other_speech(
    data: Utterances, u: int, frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Up to `frames` codes `[K, P]` that the speaker of `u` says elsewhere."""
    begin, end = np.searchsorted(data.speakers, data.speakers[u] + np.arange(2))
    first, last = data.frames[[begin, end]]
    here, there = data.frames[[u, u + 1]]
    codes = np.concatenate([data.codes[:, there:last], data.codes[:, first:here]], 1)
    start = rng.integers(max(1, codes.shape[1] - frames + 1))
    return codes[:, start : start + frames]
