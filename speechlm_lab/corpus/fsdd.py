"""The Free Spoken Digit Dataset: 3,000 recordings of "zero" to "nine", 6 speakers.

8 kHz, telephone quality, a fraction of a second each, 27 MB; CC BY-SA 4.0.
https://github.com/Jakobovski/free-spoken-digit-dataset
"""

from pathlib import Path

from .download import Archive, Damaged, fingerprint, obtain
from .recordings import Recordings, check_split

DIGITS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)
SPLITS = ("train", "held_out", "test")

# GitHub packs an archive anew when it likes, so its bytes have no lasting checksum;
# the recordings at this tag have: all 3,000 are checked after unpacking.
ARCHIVE = Archive(
    url="https://github.com/Jakobovski/free-spoken-digit-dataset"
    "/archive/refs/tags/v1.0.10.zip",
    keep={"recordings/": "recordings/", "README.md": "README.md"},
)
FINGERPRINT = "524c5f464b975c26f0cae6fb938ae3d3dbbdfb0f1540f958d9822f643cffcabb"


class FSDD(Recordings):
    """Item: text is the digit's word, speaker the first name ("jackson").

    split: "test" is recordings 0 to 4 of each digit and speaker (300), as the authors
        have it. The others, 5 to 49, are their train split; of these "held_out" is 45
        to 49 (300), for choosing models, and "train" the remaining 2,400.

    Uses `<data folder>/fsdd/recordings/*.wav`, downloaded if absent. Raises
    `DownloadError` if that fails and `ValueError` for an unknown split.
    """

    def __init__(self, split: str = "train"):
        check_split(split, SPLITS)
        folder = obtain("fsdd", ARCHIVE, _present, _verify)
        files, labels = [], []
        for file in sorted((folder / "recordings").glob("*.wav")):
            digit, speaker, number = file.stem.split("_")
            if _split(int(number)) == split:
                files.append(file)
                labels.append({"text": DIGITS[int(digit)], "speaker": speaker})
        super().__init__(files, labels)


def _split(number: int) -> str:
    # The last tenth by name would be the digit nine; by number every digit and
    # speaker stays in every split.
    if number < 5:
        return "test"
    return "held_out" if number >= 45 else "train"


def _present(folder: Path) -> bool:
    return any((folder / "recordings").glob("*.wav"))


def _verify(folder: Path) -> None:
    if fingerprint((folder / "recordings").glob("*.wav")) != FINGERPRINT:
        raise Damaged("these are not the recordings of version 1.0.10")
