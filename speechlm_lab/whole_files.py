"""Files that are read, and files that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from speechlm_lab.waveform import AudioError


def check_source(path: Path) -> None:
    """Raise AudioError, with the remedy, for what is no file with something in it."""
    if path.is_dir():
        raise AudioError(f"{path} is a folder: name one sound file in it")
    if not path.exists():
        raise AudioError(f"there is no file {path}: check the path")
    if not path.is_file():
        raise AudioError(
            f"{path} is no regular file (a device or a pipe): write its sound to a "
            "file first, and name that"
        )
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes): record or download it again")


def check_apart(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Raise AudioError where `target` is the file `source`."""
    if Path(source).exists() and Path(target).exists():
        if os.path.samefile(source, target):
            raise AudioError(f"{target} is the input itself: choose another output")


def check_target(path: Path) -> None:
    """Raise AudioError, with the remedy, where no file can be written."""
    if not path.parent.is_dir():
        raise AudioError(f"there is no folder {path.parent}: create it first")
    if path.is_dir():
        raise AudioError(f"{path} is a folder: choose another name for the file")
    if path.exists() and not path.is_file():
        raise AudioError(
            f"{path} is no regular file (a device or a pipe): "
            "choose another name for the file"
        )
    if not os.access(path.parent, os.W_OK):
        raise AudioError(f"nothing may be written in {path.parent}: choose another")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that is to appear at `path` whole or not at all.

    Gives a place beside `path`; what is there when the block ends is moved to `path`,
    unless the block ends in an error. A link stays one, and the file that it names is
    replaced; a file keeps its permissions. Raises what `check_target` raises.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    check_target(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        part = Path(folder) / path.name
        yield part
        if path.exists():
            shutil.copymode(path, part)
        os.replace(part, path)
