"""Sound files with labels, served as items: what every corpus of real speech is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from speechlm_lab import audio

from .items import Item


class Recordings(Dataset):
    """A map-style dataset over sound files.

    files: the sound files, at any sample rate.
    labels: for each file the fields of its item, but for wave and sample_rate.
    item: the class of the items.

    Item i has its wave at 16 kHz, mono, float32 [T] in [-1, 1]; `.files[i]` is the
    file it was read from. Files are read when they are asked for, so a dataset is
    small, and safe in worker processes. Raises `IndexError` beyond the end and
    `audio.AudioError` for a file that is not sound.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[Mapping[str, Any]],
        item: type[Item] = Item,
    ):
        self.files = list(files)
        self.labels = list(labels)
        self.item = item

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Item:
        wave = audio.load(self.files[index])
        return self.item(wave=wave, sample_rate=audio.SAMPLE_RATE, **self.labels[index])


def check_split(split: str, splits: Sequence[str]) -> None:
    """Raise `ValueError`, naming the choices, unless `split` is one of `splits`."""
    if split not in splits:
        raise ValueError(
            f"there is no split {split!r}: choose from {', '.join(splits)}"
        )


def before_last_tenth(files: Sequence[Path]) -> int:
    """Where the last tenth of files, sorted by name, begins: the held-out part."""
    return len(files) - len(files) // 10
