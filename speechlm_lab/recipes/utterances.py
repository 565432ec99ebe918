"""Training speech for the language model: utterances as codes, tokens and times."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from speechlm_lab import layout, parallel
from speechlm_lab.codec import Codec
from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, TinyVoices, speak
from speechlm_lab.recipes.pool import read_arrays, write_arrays
from speechlm_lab.recipes.recogniser import loose_words


@dataclass(frozen=True)
class UtteranceConfig:
    """Which part of TinyVoices to speak and to encode."""

    split: str = "train"  # of TinyVoices
    count: int = 68_000  # utterances
    speakers: int = 10_000  # different voices
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


class _Said(NamedTuple):
    """An utterance on its way to codes."""

    index: int  # in TinyVoices
    speaker: int
    sound: np.ndarray  # float32 [T], a wave; later int16 [K, F], its codes
    tokens: np.ndarray  # as in `Utterances`
    first: np.ndarray


class _Items(Dataset):
    """Endless utterances; None for one left out. Without a codec they stay waves."""

    def __init__(
        self, config: UtteranceConfig, frame: int, codec: Codec | None, levels: int
    ) -> None:
        self.config = config
        self.frame = frame  # samples
        self.codec = codec
        self.levels = levels

    @cached_property
    def data(self) -> TinyVoices:
        c = self.config
        return TinyVoices(c.split, c.seed, 10**9, EMOTIONS, c.sounds, 0.0, c.speakers)

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> _Said | None:
        c = self.config
        rng = np.random.default_rng([c.seed, index])
        request = self.data.request(index)
        if rng.random() < c.neutral:
            request["emotion"] = "neutral"
        if rng.random() < c.loose:
            request["text"] = loose_words(rng, c.invented)
        item = speak(**request)
        frames = -(-len(item.wave) // self.frame)
        rate = SAMPLE_RATE / self.frame
        if frames > c.longest * rate:
            return None
        tokens = layout.read(item.text, item.emotion)
        try:
            first = layout.onsets(tokens, item, frames, rate)
        except ValueError:  # the synthesiser read it otherwise in the sentence
            return None
        ids = np.array([layout.begin(t) for t in tokens], np.uint8)
        number = int(item.speaker.rpartition(":")[2])
        said = _Said(index, number, item.wave.numpy(), ids, first.short().numpy())
        return _encode([said], self.codec, self.levels)[0] if self.codec else said


@torch.no_grad()
def _encode(rows: list[_Said], codec: Codec, levels: int) -> list[_Said]:
    """Waves of one length as codes."""
    waves = torch.from_numpy(np.stack([row.sound for row in rows]))
    codes = codec.encode(waves.to(next(codec.parameters()).device), levels)
    codes = codes.short().cpu().numpy()
    return [row._replace(sound=c) for row, c in zip(rows, codes, strict=True)]


def _encode_alike(
    items: Iterable[_Said], codec: Codec, levels: int, size: int = 32
) -> Iterator[_Said]:
    """Waves as codes, `size` of one number of frames at once; out of their order.

    All are filled up to whole frames, as the codec would do it.
    """
    alike: dict[int, list[_Said]] = {}
    with torch.backends.cudnn.flags(allow_tf32=False):  # the codes that a CPU finds
        for item in items:
            whole = np.pad(item.sound, (0, -len(item.sound) % codec.hop))
            rows = alike.setdefault(len(whole), [])
            rows.append(item._replace(sound=whole))
            if len(rows) == size:
                yield from _encode(alike.pop(len(whole)), codec, levels)
        for rows in alike.values():
            yield from _encode(rows, codec, levels)


def _as_it_is(item: _Said | None) -> _Said | None:
    return item


def make_utterances(
    config: UtteranceConfig, codec: Codec, levels: int, path: Path, key: str,
    workers: int | None = None,
) -> Utterances:  # fmt: skip
    """Speak and encode utterances, or read them from `path` if they are there already.

    `key` says which codec it is. `workers` processes speak, None: one a core; a GPU, if
    there is one, encodes.
    """
    key = json.dumps([key, levels, asdict(config)])
    kept = read_arrays(path, key)
    if kept is None:
        print(f"speaking and encoding {config.count:,} utterances ...", flush=True)
        kept = _make(config, codec, levels, workers)._asdict()
        write_arrays(path, key, **kept)
    return Utterances(**kept)


def _make(
    config: UtteranceConfig, codec: Codec, levels: int, workers: int | None
) -> Utterances:
    device = parallel.device()
    on_gpu = device.type != "cpu"
    if workers is None:
        workers = max(1, (os.cpu_count() or 1) - on_gpu)
    # a loader with batch_size None hands the items out in order, whatever their number
    loader = DataLoader(
        _Items(config, codec.hop, None if on_gpu else codec, levels),
        batch_size=None, sampler=range(10**9),
        num_workers=workers, collate_fn=_as_it_is,
    )  # fmt: skip
    items = islice((item for item in loader if item is not None), config.count)
    if on_gpu:
        items = _encode_alike(items, codec.to(device), levels)
    made = []
    for item in items:
        made.append(item)
        if len(made) % 5_000 == 0:
            print(f"{len(made):,} of {config.count:,}", flush=True)
    codec.cpu()
    made.sort(key=lambda row: (row.speaker, row.index))
    _, speakers, codes, ids, first = zip(*made, strict=True)
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
