"""Barista: 619 spoken coffee orders by more than 50 people, 89 minutes, 16 kHz.

The speech of Picovoice's public Speech-to-Intent benchmark, crowd-sourced; 171 MB as
WAV; Apache 2.0. https://github.com/Picovoice/speech-to-intent-benchmark.

Each recording is labelled with what is ordered, not with the words that were spoken
and not with who speaks; so `text` is empty, `speaker` None, and `caption` lists the
order's parts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .download import Archive, Damaged, fingerprint, obtain
from .items import Item
from .recordings import Recordings, before_last_tenth, check_split

SPLITS = ("train", "held_out", "test")

# A commit, not a tag: the repository has none. As with any GitHub archive the files
# are checked after unpacking, not the archive.
ARCHIVE = Archive(
    url="https://github.com/Picovoice/speech-to-intent-benchmark"
    "/archive/47b1ca63afe4f08cb83e1f70fec16764879bd130.zip",
    keep={
        "data/speech/clean/": "speech/",
        "data/label/label.json": "label.json",
        "LICENSE": "LICENSE",
    },
)
FINGERPRINT = "708968d49f93adcdb56448625d1caabb14b75351e0a23c92e494d61b0e73d22f"


@dataclass(frozen=True, eq=False)
class Order(Item):
    """An item that also carries what the speaker wants."""

    intent: str = ""  # "orderDrink" throughout
    # "coffeeDrink" always; "size", "roast", "numberOfShots", "milkAmount" and
    # "sugarAmount" where they are said. Values as spoken, such as "double shot".
    slots: Mapping[str, str] = field(default_factory=dict)


class Barista(Recordings):
    """Item: an `Order`, with intent, slots and caption; text "" and speaker None.

    split: "test" is the files whose names begin with a to f (224). The others, whose
        names begin with a digit, are the train split; of these "held_out" is the last
        tenth by name (39), for choosing models, and "train" the remaining 356. People
        are not labelled, so one may speak in several splits.

    Uses `<data folder>/barista/speech/*.wav` (or .flac) and `barista/label.json`,
    downloaded if absent. Raises `DownloadError` if that fails, `ValueError` for an
    unknown split or one of which a folder filled by hand has no files.
    """

    def __init__(self, split: str = "train"):
        check_split(split, SPLITS)
        folder = obtain("barista", ARCHIVE, _present, _verify)
        known = json.loads((folder / "label.json").read_text())
        digits, letters = [], []
        for file in _speech(folder):
            (digits if file.stem[0].isdigit() else letters).append(file)
        cut = before_last_tenth(digits)
        files = {"train": digits[:cut], "held_out": digits[cut:], "test": letters}[
            split
        ]
        if not files:
            raise ValueError(
                f"{folder} has no files of the split {split!r}. Move the folder away"
                " and try again: then all of Barista is downloaded."
            )
        super().__init__(
            files, [_label(known[file.stem + ".wav"]) for file in files], item=Order
        )


def _label(known: Mapping) -> dict:
    # a few values have a stray space in front
    slots = {name: value.strip() for name, value in known["slots"].items()}
    order = ", ".join(slots[name] for name in sorted(slots))
    return {
        "text": "",
        "caption": f"Someone orders coffee: {order}.",
        "intent": known["intent"],
        "slots": slots,
    }


def _speech(folder: Path) -> list[Path]:
    files = (folder / "speech").glob("*")
    return sorted(file for file in files if file.suffix in (".wav", ".flac"))


def _present(folder: Path) -> bool:
    return (folder / "label.json").exists() and bool(_speech(folder))


def _verify(folder: Path) -> None:
    if fingerprint(_speech(folder)) != FINGERPRINT:
        raise Damaged("these are not the recordings of that commit")
