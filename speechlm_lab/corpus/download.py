"""Get a data set once, whole or not at all, and find it again.

A data set lives in `<data folder>/<name>`. If it is there, nothing is downloaded and
nothing is asked of the network, so a folder filled by hand serves as well. If not, its
archive is fetched, checked, unpacked beside its place and moved there in one step:
whoever looks sees either the whole data set or none.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from .archives import BROKEN_ARCHIVE, UnsafeArchive, extract
from .transfer import DownloadError, fetch

MARKER = ".complete.json"  # lies in every folder that `obtain` has made


class Damaged(Exception):
    """What was unpacked is not what was expected. Only within this package."""


@dataclass(frozen=True)
class Archive:
    """Where a data set comes from, and which part of it is kept.

    url: pinned to a version, a tag or a commit.
    keep: path in the archive, below its single top folder -> path in the data set's
        folder. A path that ends in "/" stands for all that is below it.
    checksum: "sha256:<hex>" or "md5:<hex>", "" where none is known.
    """

    url: str
    keep: Mapping[str, str]
    checksum: str = ""

    @property
    def suffix(self) -> str:
        """How the archive's name ends: .zip, .tar.gz or .tar.bz2."""
        for suffix in (".zip", ".tar.gz", ".tar.bz2"):
            if self.url.endswith(suffix):
                return suffix
        raise ValueError(f"{self.url} is neither .zip nor .tar.gz nor .tar.bz2")


def data_dir() -> Path:
    """The folder that holds the data sets.

    `$SPEECHLM_LAB_DATA` if it is set, else the cache folder of the platform
    (`~/.cache/speechlm_lab` on Linux).
    """
    named = os.environ.get("SPEECHLM_LAB_DATA")
    if named:
        return Path(named).expanduser()
    return platformdirs.user_cache_path("speechlm_lab", appauthor=False)


def obtain(
    name: str,
    archive: Archive,
    present: Callable[[Path], bool],
    verify: Callable[[Path], None] | None = None,
) -> Path:
    """The folder of a data set, downloaded first if it is not there.

    name: the folder's name below `data_dir()`.
    present: tells whether a folder holds the data set.
    verify: raises `Damaged` if freshly unpacked files are not the expected ones.

    A folder that was put there by hand is used as it is. One that was downloaded is
    downloaded again if files have gone or shrunk since. Two processes that ask for
    the same data set at once download it once. Without a network, the archive can be
    saved beside the folder, as `<name>.zip` or `<name>.tar.gz`: it is checked, unpacked
    and then deleted, like a downloaded one. Raises `DownloadError`, `UnsafeArchive`.
    """
    folder = data_dir() / name
    if _intact(folder, present):
        return folder
    with locked(folder):
        if _intact(folder, present):  # another process has got it meanwhile
            return folder
        if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
            raise DownloadError(
                f"{folder} is there, but incomplete. Complete it, or move it away"
                f" and try again: then {archive.url} is downloaded."
            )
        file = folder.with_name(folder.name + archive.suffix)

        def finish(unpacked: Path) -> None:
            if not present(unpacked):
                raise Damaged("files are missing")
            if verify is not None:
                verify(unpacked)
            count, size = _contents(unpacked)
            record = {"url": archive.url, "files": count, "bytes": size}
            (unpacked / MARKER).write_text(json.dumps(record))

        for last in (False, True):
            fetch(archive.url, file, archive.checksum)
            try:
                extract(file, folder, archive.keep, finish)
                break
            except UnsafeArchive:
                file.unlink()
                raise
            except (Damaged, *BROKEN_ARCHIVE) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk is full, or the like: not the archive's fault
                file.unlink()
                if last:
                    raise DownloadError(
                        f"What {archive.url} gave is damaged ({error}), twice."
                        f" Nothing was kept; try again later."
                    ) from None
        file.unlink(missing_ok=True)
    return folder


def locked(folder: Path) -> FileLock:
    """A lock, held across processes, on a data set's folder; makes its parent.

    Raises `DownloadError` if nothing can be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise DownloadError(
            f"{folder} is not there and {folder.parent} cannot be written: set"
            " SPEECHLM_LAB_DATA to a folder that can."
        )
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def fingerprint(files: Iterable[Path]) -> str:
    """One SHA-256 (hex) over the names and contents of files.

    It is taken over the lines "<git blob id> <name>", sorted by name. A commit lists
    just these (`git ls-tree`), so that what to expect can be known without the files,
    and it does not change when a host packs the same files anew.
    """
    lines = []
    for file in sorted(files, key=lambda file: file.name.encode()):
        content = file.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        lines.append(f"{blob} {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _intact(folder: Path, present: Callable[[Path], bool]) -> bool:
    if not folder.is_dir() or not present(folder):
        return False
    marker = folder / MARKER
    if not marker.exists():
        return True
    record = json.loads(marker.read_text())
    count, size = _contents(folder)
    return count >= record["files"] and size >= record["bytes"]


def _contents(folder: Path) -> tuple[int, int]:
    """Number of files below a folder, and their bytes together."""
    sizes = [
        os.path.getsize(os.path.join(base, name))
        for base, _, names in os.walk(folder)
        for name in names
        if name != MARKER
    ]
    return len(sizes), sum(sizes)
