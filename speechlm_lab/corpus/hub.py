"""Four larger public data sets, by the same interface as the small ones.

| class | what | size | licence |
|---|---|---|---|
| `LJSpeech` | one reader, 24 h, 22.05 kHz, texts | 2.7 GB | public domain |
| `LibriTTSR` | many readers, 24 kHz, restored, texts | 1 GB and more | CC BY 4.0 |
| `CremaD` | 91 actors, 12 sentences, 6 emotions | 0.6 GB | ODbL 1.0 |
| `ESC50` | 50 kinds of everyday sounds, 5 s each | 0.6 GB | CC BY-NC 3.0 |

Each is fetched from where its authors publish it, to `<data folder>/ljspeech`,
`libritts_r`, `crema_d` and `esc_50`; a folder that is already there is used as it is.
All raise `DownloadError` if they cannot be had, `ValueError` for an unknown split.
Where the authors name no splits, the ones here are ours; they say so.
"""

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .download import Archive, Damaged, fingerprint, locked, obtain
from .recordings import Recordings, before_last_tenth, check_split
from .transfer import fetch, progress_of

LJSPEECH = Archive(
    url="https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    keep={"wavs/": "wavs/", "metadata.csv": "metadata.csv", "README": "README"},
    checksum="sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
)

LIBRITTS_R_URL = "https://www.openslr.org/resources/141"
# as several independent loaders of the corpus carry them
LIBRITTS_R_MD5 = {
    "dev-clean": "2c1f5312914890634cc2d15783032ff3",
    "dev-other": "62d3a80ad8a282b6f31b3904f0507e4f",
    "test-clean": "4d373d453eb96c0691e598061bbafab7",
    "test-other": "dbc0959d8bdb6d52200595cabc9995ae",
    "train-clean-100": "6df668d8f5f33e70876bfa33862ad02b",
    "train-clean-360": "382eb3e64394b3da6a559f864339b22c",
    "train-other-500": "a37a8e9f4fe79d20601639bf23d1add8",
}

CREMA_D_URL = "https://github.com/CheyneyComputerScience/CREMA-D"
CREMA_D_COMMIT = "1658cd342dff90010aa843eaeebd53610a08b1dc"
# The archive of a commit holds no sound, but for each recording a Git LFS pointer:
# a text of three lines, among them the recording's SHA-256.
CREMA_D_POINTERS = Archive(
    url=f"{CREMA_D_URL}/archive/{CREMA_D_COMMIT}.zip",
    keep={"AudioWAV/": "pointers/", "LICENSE.txt": "LICENSE.txt"},
)
CREMA_D_FINGERPRINT = "77474879d87b81823e1c71c8ee5931c17e60877daa469d0e5580915e8874f060"
CREMA_D_SILENT = "1076_MTI_SAD_XX"  # empty, says the data set's README
CREMA_D_SENTENCES = {
    "DFA": "Don't forget a jacket.",
    "IEO": "It's eleven o'clock.",
    "IOM": "I'm on my way to the meeting.",
    "ITH": "I think I have a doctor's appointment.",
    "ITS": "I think I've seen this before.",
    "IWL": "I would like a new alarm clock.",
    "IWW": "I wonder what this is about.",
    "MTI": "Maybe tomorrow it will be cold.",
    "TAI": "The airplane is almost full.",
    "TIE": "That is exactly what happened.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
CREMA_D_EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "afraid",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}

# The authors publish no checksum, and sums of this archive that are in use differ:
# GitHub has packed it anew. The files' number is checked, and their CRC by unpacking.
ESC_50 = Archive(
    url="https://github.com/karolpiczak/ESC-50"
    "/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
    keep={"audio/": "audio/", "meta/esc50.csv": "meta/esc50.csv", "LICENSE": "LICENSE"},
)
ESC_50_FILES = 2000


class LJSpeech(Recordings):
    """13,100 sentences, read by one woman. Item: text (numbers as words), speaker "LJ".

    split: "train", or "held_out", the last tenth by name. Ours.
    """

    def __init__(self, split: str = "train"):
        check_split(split, ("train", "held_out"))
        folder = obtain(
            "ljspeech", LJSPEECH, lambda folder: (folder / "metadata.csv").exists()
        )
        texts = {}
        for line in (folder / "metadata.csv").read_text("utf-8").splitlines():
            name, _, words = line.split("|")
            texts[name] = words
        files = sorted((folder / "wavs").glob("*.wav"))
        cut = before_last_tenth(files)
        files = files[:cut] if split == "train" else files[cut:]
        super().__init__(
            files, [{"text": texts[file.stem], "speaker": "LJ"} for file in files]
        )


class LibriTTSR(Recordings):
    """LibriTTS-R (SLR 141). Item: text (numbers as words), speaker (a number).

    split: the authors' own, with disjoint readers: "train-clean-100",
        "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean",
        "test-other". Each is downloaded by itself; dev and test are the small ones.
    """

    def __init__(self, split: str = "train-clean-100"):
        check_split(split, list(LIBRITTS_R_MD5))
        archive = Archive(
            url=f"{LIBRITTS_R_URL}/{split.replace('-', '_')}.tar.gz",
            keep={f"{split}/": ""},
            checksum=f"md5:{LIBRITTS_R_MD5[split]}",
        )
        folder = obtain(
            f"libritts_r/{split}", archive, lambda folder: any(folder.glob("*/*/*.wav"))
        )
        files, labels = [], []
        for file in sorted(folder.glob("*/*/*.wav")):
            text = file.with_suffix(".normalized.txt")
            if text.exists():  # a few recordings come without
                words = text.read_text("utf-8").strip()
                files.append(file)
                labels.append({"text": words, "speaker": file.parts[-3]})
        super().__init__(files, labels)


class CremaD(Recordings):
    """7,441 acted sentences. Item: text, speaker ("1001" to "1091"), emotion.

    split: "train" is actors 1001 to 1073, "held_out" 1074 to 1082, "test" 1083 to
        1091. Ours; no actor is in two of them.

    The sound files are downloaded one by one, those of the split only, each checked
    against its SHA-256; broken off, it goes on with those that are missing.
    """

    def __init__(self, split: str = "train"):
        check_split(split, ("train", "held_out", "test"))
        folder = obtain("crema_d", CREMA_D_POINTERS, _crema_d_there, _crema_d_verify)
        names = {file.name for file in (folder / "AudioWAV").glob("*.wav")}
        pointers = folder / "pointers"
        if pointers.is_dir():
            names = {file.name for file in pointers.glob("*.wav")}
        names.discard(f"{CREMA_D_SILENT}.wav")
        files = [
            folder / "AudioWAV" / name
            for name in sorted(names)
            if _crema_d_split(int(name[:4])) == split
        ]
        if any(not file.exists() for file in files):
            with locked(folder):
                missing = [file for file in files if not file.exists()]
                _fetch_crema_d(missing, pointers)
        super().__init__(files, [_crema_d_label(file.stem) for file in files])


class ESC50(Recordings):
    """2,000 sounds. Item: text "", scene (such as "crying baby"), caption.

    split: "train" is folds 1 to 3 of the authors, "held_out" fold 4, "test" fold 5.
        Published results are means over all five folds, so not comparable.
    """

    def __init__(self, split: str = "train"):
        folds = {"train": "123", "held_out": "4", "test": "5"}
        check_split(split, list(folds))
        folder = obtain("esc_50", ESC_50, _esc_50_there, _esc_50_verify)
        files, labels = [], []
        with open(folder / "meta" / "esc50.csv", newline="") as table:
            for row in sorted(csv.DictReader(table), key=lambda row: row["filename"]):
                if row["fold"] in folds[split]:
                    scene = row["category"].replace("_", " ")
                    files.append(folder / "audio" / row["filename"])
                    labels.append(
                        {"text": "", "scene": scene, "caption": f"A sound: {scene}."}
                    )
        super().__init__(files, labels)


def _crema_d_split(actor: int) -> str:
    if actor <= 1073:
        return "train"
    return "held_out" if actor <= 1082 else "test"


def _crema_d_label(name: str) -> dict:
    actor, sentence, emotion, _ = name.split("_")
    return {
        "text": CREMA_D_SENTENCES[sentence],
        "speaker": actor,
        "emotion": CREMA_D_EMOTIONS[emotion],
    }


def _crema_d_there(folder: Path) -> bool:
    return (folder / "pointers").is_dir() or any((folder / "AudioWAV").glob("*.wav"))


def _crema_d_verify(folder: Path) -> None:
    if fingerprint((folder / "pointers").glob("*.wav")) != CREMA_D_FINGERPRINT:
        raise Damaged("this is not the list of recordings of that commit")


def _fetch_crema_d(files: Sequence[Path], pointers: Path) -> None:
    def one(file: Path) -> int:
        pointer = (pointers / file.name).read_text()
        sha256 = pointer.partition("oid sha256:")[2].split()[0]
        url = f"{CREMA_D_URL}/raw/{CREMA_D_COMMIT}/AudioWAV/{file.name}"
        return fetch(url, file, f"sha256:{sha256}", progress=False).stat().st_size

    pool = ThreadPoolExecutor(8)
    try:
        with progress_of(f"crema_d, {len(files)} files", total=None) as report:
            for size in pool.map(one, files):
                report(size)
    finally:
        pool.shutdown(cancel_futures=True)


def _esc_50_there(folder: Path) -> bool:
    return (folder / "meta" / "esc50.csv").exists()


def _esc_50_verify(folder: Path) -> None:
    count = sum(1 for _ in (folder / "audio").glob("*.wav"))
    if count != ESC_50_FILES:
        raise Damaged(f"{count} sounds instead of {ESC_50_FILES}")
